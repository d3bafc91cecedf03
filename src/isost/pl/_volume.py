"""One quantity of a reconstructed volume, lazily, with its place in physical space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np
from spatialdata import SpatialData

from isost._core.voxels import AXES, full_resolution, read_voxels
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
    unit = unit_label(voxels.unit)
    if color == "density":
        per_volume = voxels.run.get("density", {}).get("unit", "cells / um^3").replace("um", "µm").replace("^3", "³")
        values = full_resolution(sdata, "images", "isost_density").data[0]
        label = f"{called or 'cell density'} ({per_volume})"
    elif color == "uncertainty":
        # Variances of the channels add up: the expected distance of a place's expression from its estimate.
        std = full_resolution(sdata, "images", "isost_uncertainty").data
        values, label = da.sqrt((std**2).sum(axis=0)), f"{called or 'uncertainty'} (standard deviation)"
    else:
        values = voxels.gene(color)
        score = color in voxels.channels and voxels.run.get("channels") == "features"
        label = f"{called or color} ({'score' if score else 'log-normalised expression'})"
    mask = full_resolution(sdata, "labels", "isost_mask").data
    return Volume(values, mask, voxels.origin, voxels.size, label, unit, voxels.section_depths)
