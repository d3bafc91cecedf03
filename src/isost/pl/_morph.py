from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isost._core.folder import check_target, written_beside
from isost._core.random import Rng, torch_generator
from isost.pl._color import Coloring, coloring
from isost.pl._panels import Cloud, Shade, bounds, dot_size, draw_clouds, draw_points, explain, given_axes, panel_grid
from isost.pl._style import finish, position_labels, style, unit_label

if TYPE_CHECKING:
    from isost.reconstruction import Reconstruction

_GIF_SIDE = 4.2
_GIF_DPI = 100


def morph(
    fitted: Reconstruction,
    *,
    n_frames: int = 6,
    depths: Sequence[float] | np.ndarray | None = None,
    color: str | None = None,
    path: str | Path | None = None,
    overwrite: bool = False,
    fps: int = 4,
    rng: Rng = None,
    ncols: int = 6,
    size: float | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = None,
    vmax: float | str | None = "p99",
    invert_y: bool = False,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot how one section turns into the next: reconstructed sections at equally spaced depths.

    All frames are drawn with the same noise, so that a cell moves from frame to frame on one path. Stages of a growing
    tissue (`isost.pp.align_stages`) are drawn at their own size.

    Parameters
    ----------
    fitted
        What `isost.tl.fit` returns.
    n_frames
        Number of depths from the first section to the last, both included.
    depths
        Depths in the input's unit, in place of `n_frames`.
    color
        A gene, ``"PC1"`` or ``"section_of_origin"``; None draws the cells in one colour.
    path
        File to write an animation to, a GIF with one frame a depth; written whole or not at all.
    overwrite
        Replace a file that exists at `path`.
    fps
        Frames a second of the animation.
    rng
        Seed or generator of the sampled cells.
    ncols
        Most panels in a row.
    size
        Area of a dot in points squared; None lets the cells fill their tissue.
    cmap
        Colour map of numbers.
    vmin, vmax
        Limits of the colour scale, common to all frames: a number, a percentile such as ``"p99"``, or None for the
        extreme.
    invert_y
        Let y grow downwards, as in images.
    axes
        Axes to draw into, one a depth; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure of the panels to; its ending chooses the format.

    Returns
    -------
    (n_frames,) array of Axes, in order of `depths`.

    Raises
    ------
    FileExistsError
        If there is a file at `path` and `overwrite` is not set.
    KeyError
        If `color` is not found.
    TypeError
        If `fitted` cannot give sections.
    ValueError
        If there are fewer than two frames, or a depth lies outside the stack.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> isost.pp.embed(adata, n_comps=5)
    >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
    >>> axes = isost.pl.morph(fitted, n_frames=3, color="gene_1", path="morph.gif", rng=0)
    >>> [ax.get_title().split(chr(10))[-1] for ax in axes]
    ['z = 0 µm', 'z = 50 µm', 'z = 100 µm']
    """
    wanted = _depths(fitted, n_frames, depths)
    if path is not None:
        _check_path(path, overwrite)
    clouds, shade = _frames(fitted, wanted, color, rng, cmap, vmin, vmax)
    limits, unit = bounds(clouds), unit_label(fitted.stack.unit)
    with style():
        if path is not None:
            with written_beside(path, overwrite=overwrite) as part:
                _write_gif(part, clouds, shade, size, fps, unit, invert_y)
        if axes is None:
            figure, panels = panel_grid(len(clouds), limits, ncols)
        else:
            figure, panels = given_axes(axes, len(clouds))
        draw_clouds(panels, clouds, limits, shade=shade, size=size, unit=unit, invert_y=invert_y)
        if shade is not None:
            explain(figure, panels, shade, outside=axes is None)
        finish(figure, save, show)
    return panels


def _check_path(path: str | Path, overwrite: bool) -> None:
    """Say at once what stands in the way of the animation, before cells are carried for it."""
    if Path(path).suffix.lower() != ".gif":
        raise ValueError(f"path: expected a name that ends in .gif, found {Path(path).name!r}. Next: change it.")
    check_target(path, overwrite=overwrite)


def _depths(fitted: Reconstruction, n_frames: int, depths: Sequence[float] | np.ndarray | None) -> np.ndarray:
    if not hasattr(fitted, "section") or not hasattr(fitted, "stack"):
        raise TypeError(
            f"fitted: expected what isost.tl.fit returns, found {type(fitted).__name__}. "
            "Next: isost.pl.morph(isost.tl.fit(adata))."
        )
    measured = fitted.stack.depths
    wanted = np.linspace(measured[0], measured[-1], max(int(n_frames), 0)) if depths is None else np.asarray(depths)
    if wanted.ndim != 1 or len(wanted) < 2:
        raise ValueError(f"n_frames, depths: expected two depths or more, found {wanted.size}. Next: n_frames=6, say.")
    return wanted.astype(np.float64)


def _frames(
    fitted: Reconstruction,
    depths: np.ndarray,
    color: str | None,
    rng: Rng,
    cmap: str,
    vmin: float | str | None,
    vmax: float | str | None,
) -> tuple[list[Cloud], Shade | None]:
    """Draw the cells of every depth, all from one noise path, and the scale of their colours."""
    seed = int(torch.randint(2**62, (), generator=torch_generator(rng)))
    drawn = [fitted.section(float(z), rng=seed) for z in depths]
    unit = unit_label(fitted.stack.unit)
    measured = np.isin(depths, fitted.stack.depths)
    grown = "spatial_grown" in drawn[0].obsm  # stages of a growing tissue, whose depth is age
    titles = [
        ("measured\n" if known else "") + (label if grown else f"z = {label} {unit}")
        for label, known in zip(position_labels(depths), measured, strict=True)
    ]
    places = [np.asarray(adata.obsm["spatial_grown" if grown else "spatial"])[:, :2] for adata in drawn]
    if color is None:
        return [Cloud(xy, title) for xy, title in zip(places, titles, strict=True)], None
    use_rep = fitted.stack.use_rep
    joined = Coloring.joined([coloring(adata, color, layer=None, use_rep=use_rep) for adata in drawn])
    ends = np.cumsum([len(xy) for xy in places])
    values = np.split(joined.values, ends[:-1])
    clouds = [Cloud(xy, title, shown) for xy, title, shown in zip(places, titles, values, strict=True)]
    return clouds, Shade.of(joined, cmap, vmin, vmax)


def _write_gif(
    path: Path, clouds: list[Cloud], shade: Shade | None, size: float | None, fps: int, unit: str, invert_y: bool
) -> None:
    """One panel whose cells and title change; the layout of the first frame stays."""
    limits = bounds(clouds)
    across, along = np.ptp(limits, axis=1) * _GIF_SIDE / np.ptp(limits, axis=1).max()
    figure = Figure(figsize=(across + 0.4 + 1.1 * (shade is not None), along + 0.7), layout="compressed")
    ax = figure.add_subplot()
    panel = np.array([ax])
    draw_clouds(panel, clouds[:1], limits, shade=shade, size=size, unit=unit, invert_y=invert_y)
    points = size if size is not None else dot_size(ax, clouds, limits)
    if shade is not None:
        explain(figure, panel, shade, outside=True)
    writer = PillowWriter(fps=fps)
    with writer.saving(figure, str(path), _GIF_DPI):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for cloud in clouds:
            for old in list(ax.collections):
                old.remove()
            draw_points(ax, cloud, shade, points)
            ax.set_title(cloud.title)
            writer.grab_frame()
