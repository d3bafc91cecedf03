"""Small multiples of cells in the plane: one scale of length and one of colour for all panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import cKDTree

from isost.pl._color import Coloring
from isost.pl._style import MISSING, PLAIN, bare, contrast, extend, root_figure, scale_bar

# Diameter of a dot in median distances between neighbours: cells scattered at random fill their tissue without hiding.
_SPOT = 1.5


@dataclass(frozen=True)
class Cloud:
    """Cells of one panel: positions (m, 2), and their values (m,) or None for one plain colour."""

    xy: np.ndarray
    title: str
    values: np.ndarray | None = None


@dataclass(frozen=True)
class Shade:
    """The colour scale that all panels share."""

    cmap: Colormap
    norm: Normalize
    label: str
    ends: str
    categories: tuple[str, ...] = ()

    @classmethod
    def of(cls, coloring: Coloring, cmap: str, vmin: float | str | None, vmax: float | str | None) -> Shade:
        if coloring.categories:
            n = len(coloring.categories)
            colors = ListedColormap(list(coloring.colors))
            return cls(colors, Normalize(-0.5, n - 0.5), coloring.label, "neither", coloring.categories)
        limits = contrast(coloring.values, vmin, vmax)
        return cls(plt.get_cmap(cmap), Normalize(*limits), coloring.label, extend(coloring.values, limits))


def bounds(clouds: Sequence[Cloud]) -> np.ndarray:
    """((x low, x high), (y low, y high)) around all clouds, with a margin of 2 % of the larger side."""
    xy = np.concatenate([cloud.xy for cloud in clouds])
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.02 * (float((high - low).max()) or 1.0)
    return np.stack([low - margin, high + margin], axis=1)


def panel_grid(n: int, limits: np.ndarray, ncols: int) -> tuple[Figure, np.ndarray]:
    """Figure with `n` panels in the proportions of the data, in rows of about equal length and at most `ncols`."""
    if ncols < 1:
        raise ValueError(f"ncols: expected 1 or more, found {ncols}. Next: leave it out.")
    nrows = -(-n // ncols)
    ncols = -(-n // nrows)
    width = float(np.clip(9.0 / ncols, 1.3, 2.8))
    across, along = np.ptp(limits, axis=1)
    height = float(np.clip(width * along / across, 0.35 * width, 2.5 * width))
    figure, grid = plt.subplots(
        nrows, ncols, figsize=(ncols * width + 1.2, nrows * (height + 0.35) + 0.25), squeeze=False, layout="compressed"
    )
    for unused in grid.ravel()[n:]:
        unused.remove()
    return figure, grid.ravel()[:n]


def given_axes(axes: Axes | Sequence[Axes] | np.ndarray, n: int) -> tuple[Figure, np.ndarray]:
    """Take the user's own axes, one a panel, and their figure."""
    flat = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(flat) < n:
        raise ValueError(f"axes: expected one for each of {n} sections, found {len(flat)}. Next: plt.subplots(1, {n}).")
    return root_figure(flat[0]), flat[:n]


def draw_clouds(
    axes: np.ndarray,
    clouds: Sequence[Cloud],
    limits: np.ndarray,
    *,
    shade: Shade | None,
    size: float | None,
    unit: str,
    invert_y: bool,
) -> None:
    """Draw each cloud in its axes, with common limits, equal aspect and a scale bar in the first."""
    for ax, cloud in zip(axes, clouds, strict=True):
        ax.set(xlim=limits[0], ylim=limits[1][::-1] if invert_y else limits[1], title=cloud.title)
        ax.set_aspect("equal", adjustable="box")
        bare(ax)
    points = size if size is not None else dot_size(axes[0], clouds, limits)
    for ax, cloud in zip(axes, clouds, strict=True):
        draw_points(ax, cloud, shade, points)
    scale_bar(axes[0], unit)


def draw_points(ax: Axes, cloud: Cloud, shade: Shade | None, size: float) -> None:
    """Draw one cloud of dots: high values lie over low ones, missing values under all."""
    x, y = cloud.xy.T
    if cloud.values is None or shade is None:
        ax.scatter(x, y, s=size, color=PLAIN, linewidths=0, rasterized=True)
        return
    missing = ~np.isfinite(cloud.values)
    if missing.any():
        ax.scatter(x[missing], y[missing], s=size, color=MISSING, linewidths=0, rasterized=True)
    order = np.flatnonzero(~missing)
    if not shade.categories:
        order = order[np.argsort(cloud.values[order], kind="stable")]
    colors = cloud.values[order]
    ax.scatter(x[order], y[order], s=size, c=colors, cmap=shade.cmap, norm=shade.norm, linewidths=0, rasterized=True)


def dot_size(ax: Axes, clouds: Sequence[Cloud], limits: np.ndarray) -> float:
    """Area of a dot in points squared at which cells of the densest panel fill their tissue."""
    distances = [_neighbour_distance(cloud.xy) for cloud in clouds if len(cloud.xy) > 1]
    box = ax.get_window_extent()
    across, along = np.ptp(limits, axis=1)
    per_unit = 72 / ax.figure.dpi * min(box.width / across, box.height / along)
    return float(np.clip(_SPOT * min(distances, default=np.inf) * per_unit, 0.7, 12.0) ** 2)


def _neighbour_distance(xy: np.ndarray) -> float:
    asked = xy[:: max(1, len(xy) // 2000)]
    distance = cKDTree(xy).query(asked, k=2)[0][:, 1]
    return float(np.median(distance))


def explain(figure: Figure, axes: np.ndarray, shade: Shade, *, outside: bool) -> None:
    """Draw the colour bar, or the legend of categories, beside the figure or the last of the axes that were given."""
    if not shade.categories:
        mappable = ScalarMappable(norm=shade.norm, cmap=shade.cmap)
        width, height = figure.get_size_inches()
        shrink = 1.0 if width > 2 * height else 0.75
        bar = figure.colorbar(
            mappable, ax=list(axes), label=shade.label, extend=shade.ends, shrink=shrink, aspect=25, pad=0.02
        )
        bar.outline.set_visible(False)
        return
    handles = [
        Line2D([], [], marker="o", ls="", ms=6, color=shade.cmap(k), label=name)
        for k, name in enumerate(shade.categories)
    ]
    look: dict[str, Any] = {
        "title": shade.label,
        "ncols": -(-len(handles) // 20),
        "frameon": False,
        "handletextpad": 0.2,
    }
    if outside:
        figure.legend(handles=handles, loc="outside right center", **look)
    else:
        axes[-1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), **look)
