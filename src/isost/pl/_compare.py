from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from spatialdata import SpatialData

from isost.metrics import bin_side
from isost.pl._measured import Bins, Section, compared, measured_sections
from isost.pl._panels import Cloud, Shade, bounds, dot_size, draw_clouds, draw_points, explain, panel_grid
from isost.pl._planes import read_planes
from isost.pl._quantity import Volume, cells_of, read_volume
from isost.pl._style import OUTSIDE, Limit, bare, contrast, extend, finish, position_labels, style


def compare(
    adata: AnnData,
    sdata: SpatialData,
    color: str,
    *,
    sections: Sequence[str] | None = None,
    kind: Literal["field", "cells"] = "field",
    side: float | None = None,
    section_key: str = "section",
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    label: str | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = "p1",
    vmax: float | str | None = "p99",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot measured sections above what the reconstruction says at their depths, on one colour scale.

    A column is a section: its cells, their means over square bins, and the reconstruction in the plane of voxels at its
    depth. The title has Pearson's correlation of the two over the bins. Of a section that was fitted it says how
    closely the reconstruction follows its data; how good it is between sections only one that was held out tells.

    Parameters
    ----------
    adata
        Measured sections, in the frame and unit of `sdata`; counts or log-normalised expression, which is
        log-normalised as `isost.pp.embed` recorded it, or as its values suggest. Left as it is.
    sdata
        What `isost.tl.reconstruct` returns.
    color
        A gene, or a component such as ``"PC1"`` of the same ``obsm["X_pca"]`` that was fitted.
    sections
        Names of sections; None takes up to four that are spread over the depth of the volume, of those that were held
        out where there are any.
    kind
        What is drawn of the reconstruction: ``"field"``, its estimate of mean expression, or ``"cells"``, the cells
        that it has drawn in this plane of voxels.
    side
        Side of a bin in the unit of the positions; None for `isost.metrics.bin_side` of the sections.
    section_key
        Column of `obs` that names the section of a cell; without such a column each distinct depth is a section.
    spatial_key
        Key of `obsm` with the positions, (n_cells, 3), or (n_cells, 2) together with `depth_key`.
    depth_key
        Column of `obs` with the depth; None takes the third column of the positions.
    label
        What the colour bar calls `color`.
    cmap
        Colour map.
    vmin, vmax
        Limits of the colour scale: a number, a percentile of the means over bins and of the reconstruction, or None for
        their extreme. Single cells lie beyond them, as they are no means.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (3, n_sections) array of Axes: cells, means over bins, reconstruction; from the lowest depth to the highest.

    Raises
    ------
    KeyError
        If `color`, positions or an element of the volume are not found.
    TypeError
        If `adata` is not an AnnData, or `sdata` not a SpatialData.
    ValueError
        If a section is unknown or lies outside the volume, or an option is none of its values.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> isost.pp.embed(adata, n_comps=5)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> axes = isost.pl.compare(adata, sdata, "gene_1")
    >>> axes.shape
    (3, 2)
    """
    if kind not in ("field", "cells"):
        raise ValueError(f"kind: expected 'field' or 'cells', found {kind!r}. Next: kind='field'.")
    if side is not None and not side > 0:
        raise ValueError(f"side: expected a length above 0, found {side!r}. Next: leave it out.")
    planes = read_planes(adata, section_key=section_key, spatial_key=spatial_key, depth_key=depth_key)
    volume = read_volume(sdata, color, label)
    chosen = measured_sections(adata, color, planes, volume, sections, section_key)
    width = bin_side([section.xy for section in chosen]) if side is None else float(side)
    columns = [_Column(section, sdata, color, volume, kind, width) for section in chosen]
    shade = _shade(columns, volume.label, cmap, vmin, vmax)
    limits = bounds([Cloud(column.section.xy, "") for column in columns])
    with style():
        figure, flat = panel_grid(3 * len(columns), limits, len(columns))
        axes = flat.reshape(3, len(columns))
        clouds = [column.cloud(volume.unit) for column in columns]
        draw_clouds(axes[0], clouds, limits, shade=shade, size=None, unit=volume.unit, invert_y=invert_y)
        points = dot_size(axes[0, 0], clouds, limits)
        for column, (_, middle, last) in zip(columns, axes.T, strict=True):
            _draw_image(middle, *column.bins.image, limits, shade, invert_y)
            column.draw(last, limits, shade, points, invert_y)
        for ax, name in zip(axes[:, 0], ("measured", f"means of {width:.3g} {volume.unit}", kind), strict=True):
            ax.set_ylabel(name)
        explain(figure, flat, shade, outside=True)
        finish(figure, save, show)
    return axes


class _Column:
    """A measured section, the reconstruction at its depth, and both on bins."""

    def __init__(
        self, section: Section, sdata: SpatialData, color: str, volume: Volume, kind: str, side: float
    ) -> None:
        at = volume.indices((None, None, section.depth))[2]
        self.section, self.depth = section, volume.centre(2, at)
        self.plane, self.volume = volume.plane(2, at), volume
        if kind == "field":
            self.cells = None
            values = volume.at(self.plane, section.xy)
            self.bins: Bins = compared(section, side, section.xy, values)
            self.drawn = self.plane[np.isfinite(self.plane)]
        else:
            xy, values = cells_of(sdata, color, self.depth - volume.voxel[2] / 2, self.depth + volume.voxel[2] / 2)
            self.cells = Cloud(xy, "", values)
            self.bins = compared(section, side, xy, values)
            self.drawn = self.bins.reconstructed

    def cloud(self, unit: str) -> Cloud:
        title = f"{self.section.name}, z = {position_labels(np.array([self.section.depth]), 1.0)[0]} {unit}"
        return Cloud(self.section.xy, title, self.section.values)

    def draw(self, ax: Axes, limits: np.ndarray, shade: Shade, points: float, invert_y: bool) -> None:
        """Draw the reconstruction, under the correlation and whether the section was held out."""
        if self.cells is None:
            volume = self.volume
            _draw_image(ax, self.plane, (*volume.edges(0), *volume.edges(1)), limits, shade, invert_y)
        else:
            _frame(ax, limits, invert_y)
            draw_points(ax, self.cells, shade, points)
        seen = "fitted" if self.section.fitted else "held out"
        ax.set_title(f"r = {self.bins.correlation:.2f} ({seen})".replace("-", "−"))


def _shade(columns: list[_Column], label: str, cmap: str, vmin: Limit, vmax: Limit) -> Shade:
    values = np.concatenate([part for column in columns for part in (column.bins.measured, column.drawn)])
    limits = contrast(values, vmin, vmax)
    everything = np.concatenate([values, *(column.section.values for column in columns)])
    return Shade(plt.get_cmap(cmap), Normalize(*limits), label, extend(everything, limits))


def _draw_image(
    ax: Axes,
    image: np.ndarray,
    extent: tuple[float, float, float, float],
    limits: np.ndarray,
    shade: Shade,
    invert_y: bool,
) -> None:
    ax.imshow(image, extent=extent, origin="lower", cmap=shade.cmap, norm=shade.norm, interpolation="nearest")
    _frame(ax, limits, invert_y)
    ax.set_facecolor(OUTSIDE)


def _frame(ax: Axes, limits: np.ndarray, invert_y: bool) -> None:
    bare(ax)
    ax.set(xlim=limits[0], ylim=limits[1][::-1] if invert_y else limits[1])
    ax.set_aspect("equal", adjustable="box")
