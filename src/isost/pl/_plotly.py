"""A scene drawn by plotly, to be turned in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isost._core.folder import absolute_path, written_beside
from isost._core.optional import load_extra
from isost.pl._budget import Drawn
from isost.pl._scene import Scene
from isost.pl._style import INK

_WIDTH, _HEIGHT = 900, 760
_ACROSS = 430  # pixels that the longest side of the volume takes, about
_ENDINGS = (".html", ".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")


def plotly_figure(scene: Scene, *, tissue: bool, sections: bool) -> Any:
    """Make the figure: the quantity, the outline of the tissue and the measured sections, each a trace."""
    go = load_extra("plotly.graph_objects", "plotly")
    figure = go.Figure({"points": _points, "isosurface": _surfaces, "volume": _surfaces}[scene.kind](go, scene))
    if tissue:
        figure.add_trace(_outline(go, scene))
    if sections and scene.frames():
        figure.add_trace(_frames(go, scene))
    axes = {
        f"{name}axis": {"title": {"text": f"{name} ({scene.unit})"}, "backgroundcolor": "white", "gridcolor": "#dddddd"}
        for name in "xyz"
    }
    figure.update_layout(
        title={"text": scene.title, "x": 0.02, "font": {"size": 15}},
        scene={**axes, "aspectmode": "data", "camera": {"eye": _eye(scene)}},
        font={"color": INK},
        width=_WIDTH,
        height=_HEIGHT,
        margin={"l": 0, "r": 0, "t": 50, "b": 0},
        legend={"x": 0.02, "y": 0.98},
        paper_bgcolor="white",
    )
    return figure


def save_plotly(figure: Any, path: str | Path) -> None:
    """Write a page that needs no network, or a picture where kaleido is installed; whole or not at all."""
    target = absolute_path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise ValueError(
            f"save: expected a name with an ending among {', '.join(_ENDINGS)}, found {target.name!r}. "
            f"Next: '{target.with_suffix('.html').name}', say."
        )
    with written_beside(target, overwrite=True) as part:
        if target.suffix.lower() == ".html":
            figure.write_html(part, include_plotlyjs=True)
            return
        try:
            figure.write_image(part, scale=2)
        except (RuntimeError, ValueError, OSError, ImportError) as error:
            raise RuntimeError(
                f"save: expected kaleido and a Chrome that plotly can draw {target.name!r} with, found: "
                f"{' '.join(str(error).split())[:200]}. Next: save {target.with_suffix('.html').name!r}, which needs "
                "neither, or pip install kaleido."
            ) from error


def _shades(scene: Scene) -> dict[str, Any]:
    low, high = scene.limits
    bar = {"title": {"text": scene.label, "side": "right"}, "thickness": 14, "len": 0.7, "outlinewidth": 0}
    return {"colorscale": scene.colors(), "cmin": low, "cmax": high, "colorbar": bar, "showscale": True}


def _points(go: Any, scene: Scene) -> Any:
    drawn = scene.drawn
    x, y, z = drawn.centres(scene.shown).T.astype(np.float32)
    values = drawn.values[tuple(scene.shown.T)]
    longest = float((drawn.voxel * np.array(drawn.values.shape[::-1])).max())
    size = float(np.clip(_ACROSS * drawn.voxel.max() / longest, 1.5, 12.0))
    marker = {"size": size, "symbol": "square", "color": values, "opacity": scene.opacity, **_shades(scene)}
    return go.Scatter3d(
        x=x, y=y, z=z, mode="markers", marker=marker, name=scene.label, customdata=values,
        hovertemplate="x %{x:.5g}, y %{y:.5g}, z %{z:.5g}<br>%{customdata:.4g}<extra></extra>", showlegend=False,
    )  # fmt: skip


def _surfaces(go: Any, scene: Scene) -> Any:
    make, count = (go.Volume, 14) if scene.kind == "volume" else (go.Isosurface, 3)
    none = {"show": False}
    return make(
        **_lattice(scene.closed), isomin=scene.level, isomax=scene.top, surface={"count": count}, opacity=scene.opacity,
        caps={"x": none, "y": none, "z": none}, name=scene.label, **_shades(scene),
    )  # fmt: skip


def _outline(go: Any, scene: Scene) -> Any:
    none, outline = {"show": False}, scene.outline()
    return go.Isosurface(
        **_lattice(outline), isomin=0.5, isomax=0.5, surface={"count": 1}, opacity=0.12, showscale=False,
        colorscale=[[0, "#888888"], [1, "#888888"]], caps={"x": none, "y": none, "z": none}, hoverinfo="skip",
        name="tissue", showlegend=True,
    )  # fmt: skip


def _frames(go: Any, scene: Scene) -> Any:
    gap = np.full((1, 3), np.nan)
    lines = np.concatenate([part for frame in scene.frames() for part in (frame, gap)])[:-1]
    x, y, z = lines.T
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", line={"color": INK, "width": 1.5}, opacity=0.6, name="measured sections",
        hovertemplate="measured section, z %{z:.5g}<extra></extra>", showlegend=True,
    )  # fmt: skip


def _eye(scene: Scene) -> dict[str, float]:
    """Look from far enough to see all of a flat volume too: axes are drawn in units of their geometric mean."""
    lengths = np.array(scene.drawn.of.extents())
    far = 0.95 * float(np.linalg.norm(lengths) / np.prod(lengths) ** (1 / 3))
    return {"x": far, "y": far, "z": 0.75 * far}


def _lattice(drawn: Drawn) -> dict[str, np.ndarray]:
    places = drawn.centres(np.argwhere(np.ones_like(drawn.values, dtype=bool))).astype(np.float32)
    return {**dict(zip("xyz", places.T, strict=True)), "value": drawn.values.ravel()}
