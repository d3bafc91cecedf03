"""Three orthogonal planes through a volume that share one scale of length, and their axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from isost._core.voxels import AXES
from isost.pl._quantity import Volume
from isost.pl._style import INK, OUTSIDE, Limit, contrast, extend, position_labels, root_figure

_SIDE = 5.4  # inches that the large panel and the strip beside it share
_LEAST = 2.6  # inches of the large panel's longer side, where depth is the longest side of the block
_THINNEST = 0.11  # smallest strip that can still be read, in units of the large panel's longer side
_GAP = 0.34
_ROOM = 0.025  # about the volume in the plane, of its longer side: tissue that fills it is not cut by the frame
_MARGINS = {"left": 0.8, "right": 1.05, "bottom": 0.62, "top": 0.42}
# Across z, y and x: the axes drawn to the right and upwards.
PANELS = ((2, 0, 1), (1, 0, 2), (0, 2, 1))


@dataclass(frozen=True, eq=False)
class Cut:
    """Three planes through a volume, at the voxels x, y, z of `indices`, and their colour scale."""

    volume: Volume
    indices: tuple[int, int, int]
    planes: list[np.ndarray]
    limits: tuple[float, float]
    cmap: str


def planes_of(volume: Volume, indices: tuple[int, int, int]) -> list[np.ndarray]:
    """Read three planes, no more."""
    return [volume.plane(across, indices[across]) for across, _, _ in PANELS]


def cut(volume: Volume, indices: tuple[int, int, int], cmap: str, vmin: Limit, vmax: Limit) -> Cut:
    """Read three planes, and choose the limits of their colours."""
    planes = planes_of(volume, indices)
    drawn = np.concatenate([plane.ravel() for plane in planes])
    return Cut(volume, indices, planes, contrast(drawn, vmin, vmax), cmap)


def depth_scale_of(volume: Volume, asked: float | None) -> float:
    """Find how many times longer depth is drawn: as asked for, or so that a thin volume can be read."""
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


def lay_out(volume: Volume, stretch: float, sets: int = 1) -> tuple[Figure, list[tuple[np.ndarray, Axes]]]:
    """Place axes by inches, so that the panels share one scale and their borders line up.

    Returns
    -------
    The figure, and for each set from left to right the panels across z, y and x, and the axes of their colour bar.
    """
    across, along, deep = (high - low for low, high in (_frame(volume, axis) for axis in range(3)))
    deep *= stretch
    inch = max(_SIDE / (max(across, along) + deep), _LEAST / max(across, along))
    across, along, deep = across * inch, along * inch, deep * inch
    left, bottom = _MARGINS["left"], _MARGINS["bottom"]
    width = left + across + _GAP + deep + _GAP + 0.15 + _MARGINS["right"]
    height = bottom + deep + _GAP + along + _MARGINS["top"]
    figure = plt.figure(figsize=(sets * width, height))
    tall = min(max(along, _LEAST), bottom + deep + _GAP + along - 0.2)
    made: list[tuple[np.ndarray, Axes]] = []
    for number in range(sets):

        def place(x: float, y: float, w: float, h: float, start: float = number * width) -> Axes:
            return figure.add_axes(((start + x) / (sets * width), y / height, w / (sets * width), h / height))

        main = place(left, bottom + deep + _GAP, across, along)
        under = place(left, bottom, across, deep)
        beside = place(left + across + _GAP, bottom + deep + _GAP, deep, along)
        bar = place(left + across + 2 * _GAP + deep, bottom + deep + _GAP + along - tall, 0.15, tall)
        under.sharex(main)
        beside.sharey(main)
        made.append((np.array([main, under, beside]), bar))
    return figure, made


def draw_cut(cut: Cut, axes: np.ndarray, bar: Axes, stretch: float, *, invert_y: bool) -> None:
    """Draw the planes, with depth drawn `stretch` times longer, where they cut each other, and the colour bar."""
    norm = Normalize(*cut.limits)
    draw_planes(cut.volume, cut.indices, axes, cut.planes, norm, cut.cmap, stretch, invert_y=invert_y)
    drawn = np.concatenate([plane.ravel() for plane in cut.planes])
    _explain(bar, ScalarMappable(norm, cut.cmap), cut.volume.label, extend(drawn, cut.limits))


def draw_planes(
    volume: Volume, indices: tuple[int, int, int], axes: np.ndarray, planes: list[np.ndarray], norm: Normalize,
    cmap: str | Colormap, stretch: float, *, invert_y: bool,
) -> None:  # fmt: skip
    """Draw three planes through the voxels x, y, z of `indices`, and where they cut each other."""
    for ax, plane, panel in zip(axes, planes, PANELS, strict=True):
        _draw_plane(ax, volume, indices, plane, panel, norm, cmap, stretch)
    _label(axes, volume, indices, stretch)
    if invert_y:
        axes[0].yaxis.set_inverted(True)


def _draw_plane(
    ax: Axes, volume: Volume, indices: tuple[int, int, int], plane: np.ndarray, panel: tuple[int, int, int],
    norm: Normalize, cmap: str | Colormap, stretch: float,
) -> None:  # fmt: skip
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
    for ax, (across, _, _) in zip(axes, PANELS, strict=True):
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
    _mark_sections(under, volume.sections_inside)
    long = max(len(f"{depth:.0f}") for depth in volume.edges(2))
    for axis, inches, apart in (
        (main.xaxis, _inches(main)[0], 0.7),
        (main.yaxis, _inches(main)[1], 0.7),
        (under.yaxis, _inches(under)[1], 0.2),
        (beside.xaxis, _inches(beside)[0], 0.12 * (1 + long)),
    ):
        axis.set_major_locator(MaxNLocator(int(np.clip(inches / apart, 1, 7)), min_n_ticks=2))


def _inches(ax: Axes) -> np.ndarray:
    return np.array(ax.get_position().size) * root_figure(ax).get_size_inches()


def mark_depths(axes: np.ndarray, volume: Volume) -> None:
    """Draw dashed lines at the depths of the measured sections across the panels that run along depth."""
    look: dict[str, Any] = {"color": "white", "lw": 0.6, "ls": (0, (2, 3)), "alpha": 0.9, "label": "_section"}
    for depth in volume.sections_inside:
        axes[1].axhline(depth, **look)
        axes[2].axvline(depth, **look)


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


def _explain(bar: Axes, mappable: ScalarMappable, label: str, ends: str) -> None:
    number = ScalarFormatter(useMathText=True)
    number.set_powerlimits((-2, 4))
    drawn = root_figure(bar).colorbar(mappable, cax=bar, label=label, extend=ends, format=number)
    drawn.outline.set_visible(False)
    bar.yaxis.get_offset_text().set_horizontalalignment("left")
