"""One quantity of a reconstructed volume, lazily, with its place in physical space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np
from spatialdata import SpatialData

from isost._core.voxels import AXES, Voxels, full_resolution, read_voxels
from isost._logging import logger
from isost.pl._style import unit_label


@dataclass(frozen=True, eq=False)
class Volume:
    """A quantity on the grid.

    Attributes
    ----------
    values, mask
        Lazy (z, y, x).
    origin, voxel
        (3,) x, y, z of the outer corner of the first voxel, and of the edges of a voxel.
    label
        What the values are, with their unit.
    unit
        Of lengths.
    sections
        Depths of the measured sections.
    """

    values: da.Array
    mask: da.Array
    origin: np.ndarray
    voxel: np.ndarray
    label: str
    unit: str
    sections: np.ndarray

    @property
    def tissue(self) -> da.Array:
        """Lazy (z, y, x), NaN outside the tissue."""
        return da.where(self.mask > 0, self.values, np.float32(np.nan))

    @property
    def sections_inside(self) -> np.ndarray:
        """Depths of the measured sections that lie in the volume."""
        low, high = self.edges(2)
        return self.sections[(self.sections >= low) & (self.sections <= high)]

    def size(self, axis: int) -> int:
        """Voxels along x (0), y (1) or z (2)."""
        return self.values.shape[2 - axis]

    def edges(self, axis: int) -> tuple[float, float]:
        """Where the volume begins and ends along an axis."""
        return float(self.origin[axis]), float(self.origin[axis] + self.voxel[axis] * self.size(axis))

    def extents(self) -> tuple[float, float, float]:
        """Lengths along x, y and z."""
        across, along, deep = (high - low for low, high in map(self.edges, range(3)))
        return across, along, deep

    def centre(self, axis: int, index: int) -> float:
        """Physical position of the middle of a plane."""
        return float(self.origin[axis] + (index + 0.5) * self.voxel[axis])

    def plane(self, axis: int, index: int) -> np.ndarray:
        """Take the plane across an axis, NaN outside the tissue; what is left of (z, y, x) are its rows and columns."""
        at = tuple(index if place == 2 - axis else slice(None) for place in range(3))
        values, mask = da.compute(self.values[at], self.mask[at])
        return np.where(mask > 0, values, np.nan).astype(np.float64)

    def at(self, plane: np.ndarray, xy: np.ndarray) -> np.ndarray:
        """Read a plane (y, x) across z at places (n, 2), NaN beyond it."""
        column, row = np.floor((np.asarray(xy) - self.origin[:2]) / self.voxel[:2]).astype(np.int64).T
        within = (column >= 0) & (column < plane.shape[1]) & (row >= 0) & (row < plane.shape[0])
        values = np.full(len(column), np.nan)
        values[within] = plane[row[within], column[within]]
        return values

    def indices(self, position: Sequence[float | None] | None) -> tuple[int, int, int]:
        """Find the voxel that holds a position; a coordinate that is None falls in the middle of the tissue."""
        wanted = (None, None, None) if position is None else tuple(position)
        if len(wanted) != 3:
            raise ValueError(
                f"position: expected (x, y, z), found {len(wanted)} numbers. Next: None stands for the middle."
            )
        x, y, z = (self._middle(axis) if at is None else self._index(axis, at) for axis, at in enumerate(wanted))
        return x, y, z

    def _index(self, axis: int, at: float) -> int:
        low, high = self.edges(axis)
        if not low <= at <= high:
            raise ValueError(
                f"position: expected {AXES[axis]} between {low:g} and {high:g} {self.unit}, found {at:g}. "
                "Next: choose a plane inside the volume, or None for the middle of the tissue."
            )
        return min(int((at - low) / self.voxel[axis]), self.size(axis) - 1)

    def _middle(self, axis: int) -> int:
        others = tuple(place for place in range(3) if place != 2 - axis)
        tissue = np.cumsum(np.asarray((self.mask > 0).sum(axis=others)))
        if tissue[-1] == 0:
            return self.size(axis) // 2
        return int(np.searchsorted(tissue, tissue[-1] / 2))


def read_volume(sdata: SpatialData, color: str, called: str | None = None) -> Volume:
    """Find a gene or channel, the density or the uncertainty of a reconstruction, and where its voxels lie.

    `called` names it in the label, in place of `color`.
    """
    voxels = read_voxels(sdata)
    if color == "density":
        per_volume = voxels.run.get("density", {}).get("unit", "cells / um^3").replace("um", "µm").replace("^3", "³")
        values = full_resolution(sdata, "images", "isost_density").data[0]
        label = f"{called or 'cell density'} ({per_volume})"
    elif color == "uncertainty":
        # Variances of the channels add up: the expected distance of a place's expression from its estimate.
        std = full_resolution(sdata, "images", "isost_uncertainty").data
        values, label = da.sqrt((std**2).sum(axis=0)), f"{called or 'uncertainty'} (standard deviation)"
    else:
        values, label = voxels.gene(color), f"{called or color} ({voxels.kind(color)})"
    return _on_grid(sdata, voxels, values, label)


def cells_of(sdata: SpatialData, color: str, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the reconstructed cells between two depths, x and y (n, 2), and a gene or channel of theirs (n,)."""
    if "isost_cells" not in sdata.tables:
        raise KeyError("sdata: expected the table 'isost_cells', found none. Next: isost.tl.reconstruct(adata).")
    table, voxels = sdata.tables["isost_cells"], read_voxels(sdata)
    places = np.asarray(table.obsm["spatial"])
    here = np.flatnonzero((places[:, 2] >= low) & (places[:, 2] <= high))
    scores = np.asarray(table.obsm[str(voxels.run.get("use_rep", "X_pca"))][here])
    if table.X is not None and color in table.var_names:
        values = np.asarray(table.X[here][:, int(table.var_names.get_loc(color))])
    elif color in voxels.channels:
        values = scores[:, voxels.channels.index(color)]
    else:
        values = scores @ voxels.loadings(color) + voxels.gene_mean(color)
    return places[here, :2], values.astype(np.float64).ravel()


def read_deviation(sdata: SpatialData, color: str, called: str | None = None) -> Volume:
    """Find the standard deviation of the estimate of a gene or channel.

    That of a gene whose volume is decoded is sqrt(sum over components of (loading x their standard deviation)^2).
    """
    voxels = read_voxels(sdata)
    if color in ("density", "uncertainty"):
        raise ValueError(
            f"color: expected a gene or a channel of the volume, found {color!r}, of which no standard deviation is "
            f"known. Next: isost.pl.orthoviews(sdata, {color!r})."
        )
    std = full_resolution(sdata, "images", "isost_uncertainty").data
    if color in voxels.channels:
        values = std[voxels.channels.index(color)]
    else:
        values = da.sqrt(da.tensordot(voxels.loadings(color) ** 2, std**2, axes=(0, 0)))
        logger.info(
            "the standard deviation of %s is that of its components alone; a volume made by genes=[%r] has its own",
            color, color,
        )  # fmt: skip
    return _on_grid(sdata, voxels, values, f"standard deviation of {called or color}\n({voxels.kind(color)})")


def _on_grid(sdata: SpatialData, voxels: Voxels, values: da.Array, label: str) -> Volume:
    mask = full_resolution(sdata, "labels", "isost_mask").data
    return Volume(values, mask, voxels.origin, voxels.size, label, unit_label(voxels.unit), voxels.section_depths)
