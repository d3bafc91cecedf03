"""A scene drawn by pyvista, to be turned in a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isost._core.folder import absolute_path, written_beside
from isost._core.optional import load_extra
from isost.pl._budget import Drawn
from isost.pl._scene import Scene
from isost.pl._style import INK

_WINDOW = (1000, 850)
_ENDINGS = (".png", ".jpg", ".tif", ".html")


def pyvista_plotter(scene: Scene, *, tissue: bool, sections: bool, show: bool) -> Any:
    """Make the plotter: the quantity, the outline of the tissue and the measured sections, each an actor."""
    pv = load_extra("pyvista", "pyvista")
    plotter = pv.Plotter(off_screen=not show, window_size=list(_WINDOW))
    plotter.set_background("white")
    _draw(pv, plotter, scene)
    if tissue:
        outline = _points_at_centres(pv, scene.outline(), "tissue").contour([0.5], scalars="tissue")
        plotter.add_mesh(outline, color="#888888", opacity=0.12, name="tissue", show_scalar_bar=False)
    for number, frame in enumerate(scene.frames() if sections else []):
        line = pv.lines_from_points(frame)
        plotter.add_mesh(line, color=INK, opacity=0.6, line_width=1.5, name=f"measured section {number + 1}")
    # the font of VTK has no µ
    titles = {f"{name}title": f"{name} ({scene.unit.replace('µ', 'u')})" for name in "xyz"}
    plotter.show_bounds(**titles, color=INK, grid=False, location="outer", font_size=10, fmt="%.0f")
    plotter.add_text(f"{scene.title}\n{scene.label}", position="upper_left", font_size=9, color=INK)
    plotter.view_isometric()
    return plotter


def save_pyvista(plotter: Any, path: str | Path) -> None:
    """Write a picture, or a page where trame is installed; whole or not at all."""
    target = absolute_path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise ValueError(
            f"save: expected a name with an ending among {', '.join(_ENDINGS)}, found {target.name!r}. "
            f"Next: '{target.with_suffix('.png').name}', say."
        )
    with written_beside(target, overwrite=True) as part:
        if target.suffix.lower() != ".html":
            plotter.screenshot(str(part))
            return
        try:
            plotter.export_html(str(part))
        except ImportError as error:
            raise ImportError(
                f"save: expected trame, which pyvista writes pages with, found none ({error}). "
                "Next: pip install 'pyvista[jupyter]', or backend='plotly'."
            ) from error


def _draw(pv: Any, plotter: Any, scene: Scene) -> None:
    bar = {"title": scene.label.partition(" (")[0], "color": INK, "vertical": True, "title_font_size": 16,
           "label_font_size": 14, "position_x": 0.88, "position_y": 0.2, "height": 0.6, "width": 0.06}  # fmt: skip
    look: dict[str, Any] = {
        "cmap": scene.cmap, "clim": list(scene.limits), "scalar_bar_args": bar, "name": "quantity",
        "scalars": scene.label,
    }  # fmt: skip
    if scene.kind == "points":
        drawn = scene.drawn
        voxels = pv.ImageData(
            dimensions=np.array(drawn.values.shape[::-1]) + 1, spacing=drawn.voxel, origin=drawn.origin
        )
        voxels.cell_data[scene.label] = np.nan_to_num(drawn.values, nan=-np.inf).ravel()
        mesh = voxels.threshold(scene.level, scalars=scene.label)
        plotter.add_mesh(mesh, opacity=scene.opacity, **look)
        return
    grid = _points_at_centres(pv, scene.closed, scene.label)
    if scene.kind == "isosurface":
        levels = np.linspace(scene.level, scene.top, 4)[:-1]
        plotter.add_mesh(grid.contour(levels, scalars=scene.label), opacity=scene.opacity, **look)
        return
    low, high = scene.limits
    ramp = np.clip((np.linspace(low, high, 256) - scene.level) / (scene.top - scene.level), 0.0, 1.0)
    opacity = (255 * min(1.0, 4 * scene.opacity) * ramp).astype(np.uint8)
    thickness = 0.1 * float((scene.drawn.voxel * np.array(scene.drawn.values.shape[::-1])).max())
    plotter.add_volume(grid, opacity=opacity, opacity_unit_distance=thickness, **look)


def _points_at_centres(pv: Any, drawn: Drawn, name: str) -> Any:
    origin = drawn.origin + drawn.voxel / 2
    grid = pv.ImageData(dimensions=drawn.values.shape[::-1], spacing=drawn.voxel, origin=origin)
    grid.point_data[name] = drawn.values.ravel()
    return grid
