from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from spatialdata import SpatialData

from isost.pl._style import INK, OUTSIDE, contrast, extend, finish, position_labels, root_figure, style
from isost.pl._volume import AXES, Volume, read_volume

_SIDE = 5.4  # inches that the large panel and the strip beside it share
_LEAST = 2.6  # inches of the large panel's longer side, where depth is the longest side of the block
_THINNEST = 0.11  # smallest strip that can still be read, in units of the large panel's longer side
_GAP = 0.34
_ROOM = 0.025  # about the volume in the plane, of its longer side: tissue that fills it is not cut by the frame
_MARGINS = {"left": 0.8, "right": 1.05, "bottom": 0.62, "top": 0.42}
# Across z, y and x: the axes drawn to the right and upwards.
_PANELS = ((2, 0, 1), (1, 0, 2), (0, 2, 1))


def orthoviews(
    sdata: SpatialData,
    color: str,
    *,
    label: str | None = None,
    position: Sequence[float | None] | None = None,
    depth_scale: float | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot three orthogonal planes through a reconstructed volume.

    The plane across depth is large, the planes across y and x lie under it and beside it and share its axes. Lines mark
    where the planes cut each other, triangles point at the measured sections, and places outside the tissue are grey.
    Only the three planes are read, also from a volume on disk.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns.
    color
        A gene (log-normalised expression, decoded from the components), a channel of the volume such as ``"PC1"``,
        ``"density"`` or ``"uncertainty"``.
    label
        What the colour bar calls it, for instance the symbol of a gene that is named by an identifier.
    position
        (x, y, z) of the planes in the unit of the volume; None, or None in a place, is the middle of the tissue.
    depth_scale
        How many times depth is drawn longer than x and y. None is 1, or the least whole number at which a thin
        volume can be read; the axis says so.
    cmap
        Colour map.
    vmin, vmax
        Limits of the colour scale: a number, a percentile of the tissue in the three planes, or None for the extreme.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (3,) array of Axes: the planes (x, y), (x, z) and (z, y).

    Raises
    ------
    KeyError
        If an element of the volume, the gene or the channel is not found.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If `position` lies outside the volume, or `depth_scale` is not positive.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> axes = isost.pl.orthoviews(sdata, "gene_1", position=(0, None, 50))
    >>> axes[0].get_xlabel(), axes[1].get_xlabel()
    ('', 'x (µm)')
    """
    volume = read_volume(sdata, color, label)
    indices = volume.indices(position)
    planes = [volume.plane(across, indices[across]) for across, _, _ in _PANELS]
    drawn = np.concatenate([plane.ravel() for plane in planes])
    limits = contrast(drawn, vmin, vmax)
    stretch = _depth_scale(volume, depth_scale)
    with style():
        figure, axes, bar = _layout(volume, stretch)
        norm = Normalize(*limits)
        for ax, plane, panel in zip(axes, planes, _PANELS, strict=True):
            _draw_plane(ax, volume, plane, panel, indices, cmap, norm, stretch)
        _label(axes, volume, indices, stretch)
        if invert_y:
            axes[0].yaxis.set_inverted(True)
        _explain(figure, bar, ScalarMappable(norm, cmap), volume.label, extend(drawn, limits))
        finish(figure, save, show)
    return axes


def _depth_scale(volume: Volume, asked: float | None) -> float:
    if asked is not None:
        if not asked > 0:
            raise ValueError(f"depth_scale: expected a number above 0, found {asked}. Next: leave it out.")
        return float(asked)
    across, along, deep = volume.extents()
    return max(1.0, float(np.ceil(_THINNEST * max(across, along) / deep)))


def _frame(volume: Volume, axis: int) -> tuple[float, float]:
    """Limits of an axis of the panels."""
    low, high = volume.edges(axis)
    room = _ROOM * max(volume.extents()[:2]) if axis < 2 else 0.0
    return low - room, high + room


def _layout(volume: Volume, stretch: float) -> tuple[Figure, np.ndarray, Axes]:
    """Place axes by inches, so that the panels share one scale and their borders line up."""
    across, along, deep = (high - low for low, high in (_frame(volume, axis) for axis in range(3)))
    deep *= stretch
    inch = max(_SIDE / (max(across, along) + deep), _LEAST / max(across, along))
    across, along, deep = across * inch, along * inch, deep * inch
    left, bottom = _MARGINS["left"], _MARGINS["bottom"]
    width = left + across + _GAP + deep + _GAP + 0.15 + _MARGINS["right"]
    height = bottom + deep + _GAP + along + _MARGINS["top"]
    figure = plt.figure(figsize=(width, height))

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    main = place(left, bottom + deep + _GAP, across, along)
    under = place(left, bottom, across, deep)
    beside = place(left + across + _GAP, bottom + deep + _GAP, deep, along)
    tall = min(max(along, _LEAST), bottom + deep + _GAP + along - 0.2)
    bar = place(left + across + 2 * _GAP + deep, bottom + deep + _GAP + along - tall, 0.15, tall)
    under.sharex(main)
    beside.sharey(main)
    return figure, np.array([main, under, beside]), bar


def _draw_plane(
    ax: Axes,
    volume: Volume,
    plane: np.ndarray,
    panel: tuple[int, int, int],
    indices: tuple[int, int, int],
    cmap: str | Colormap,
    norm: Normalize,
    stretch: float,
) -> None:
    across, right, up = panel
    ax.set_facecolor(OUTSIDE)
    ax.imshow(
        plane.T if across == 0 else plane,
        extent=(*volume.edges(right), *volume.edges(up)),
        origin="lower",
        cmap=cmap,
        norm=norm,
        interpolation="nearest",
        aspect={2: 1.0, 1: stretch, 0: 1.0 / stretch}[across],
    )
    ax.set(xlim=_frame(volume, right), ylim=_frame(volume, up))
    outline = [effects.withStroke(linewidth=1.6, foreground="black", alpha=0.45)]
    line: dict[str, Any] = {"color": "white", "lw": 0.7, "path_effects": outline}
    ax.axvline(volume.centre(right, indices[right]), **line)
    ax.axhline(volume.centre(up, indices[up]), **line)


def _label(axes: np.ndarray, volume: Volume, indices: tuple[int, int, int], stretch: float) -> None:
    main, under, beside = axes
    for ax, (across, _, _) in zip(axes, _PANELS, strict=True):
        ax.spines[:].set_visible(False)
        at = position_labels(np.array([volume.centre(across, indices[across])]), volume.voxel[across])[0]
        ax.set_title(f"{AXES[across]} = {at} {volume.unit}", loc="left", pad=4)
    depth = f"z ({volume.unit})" if stretch == 1 else f"z ({volume.unit}), ×{stretch:g}"
    main.set_ylabel(f"y ({volume.unit})")
    main.tick_params(labelbottom=False)
    # Depth grows away from the large panel on both sides of it.
    under.yaxis.set_inverted(True)
    under.set(xlabel=f"x ({volume.unit})", ylabel=depth)
    beside.set_xlabel(depth)
    beside.tick_params(labelleft=False)
    low, high = volume.edges(2)
    _mark_sections(under, volume.sections[(volume.sections >= low) & (volume.sections <= high)])
    long = max(len(f"{depth:.0f}") for depth in (low, high))
    for axis, inches, apart in (
        (main.xaxis, _inches(main)[0], 0.7),
        (main.yaxis, _inches(main)[1], 0.7),
        (under.yaxis, _inches(under)[1], 0.2),
        (beside.xaxis, _inches(beside)[0], 0.12 * (1 + long)),
    ):
        axis.set_major_locator(MaxNLocator(int(np.clip(inches / apart, 1, 7)), min_n_ticks=2))


def _inches(ax: Axes) -> np.ndarray:
    return np.array(ax.get_position().size) * root_figure(ax).get_size_inches()


def _mark_sections(under: Axes, depths: np.ndarray) -> None:
    """Point at the measured sections from the right of the strip under the large panel."""
    look: dict[str, Any] = {"ls": "", "ms": 3.5, "color": INK, "clip_on": False, "mew": 0}
    edge = np.full(len(depths), 1.012)
    pointers = under.plot(edge, depths, "<", transform=under.get_yaxis_transform(), label="measured section", **look)
    if len(depths):
        under.legend(
            handles=pointers,
            loc="lower left",
            bbox_to_anchor=(1.02, 0.0),
            borderaxespad=0.3,
            borderpad=0.0,
            frameon=False,
            handlelength=0.8,
            handletextpad=0.3,
        )


def _explain(figure: Figure, bar: Axes, mappable: ScalarMappable, label: str, ends: str) -> None:
    number = ScalarFormatter(useMathText=True)
    number.set_powerlimits((-2, 4))
    drawn = figure.colorbar(mappable, cax=bar, label=label, extend=ends, format=number)
    drawn.outline.set_visible(False)
    bar.yaxis.get_offset_text().set_horizontalalignment("left")
