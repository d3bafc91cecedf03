"""One quantity of a reconstructed volume, lazily, with its place in physical space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np
from spatialdata import SpatialData, get_pyramid_levels
from xarray import DataArray

from isost.get import gene
from isost.pl._style import unit_label

AXES = ("x", "y", "z")


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
    if not isinstance(sdata, SpatialData):
        raise TypeError(
            f"sdata: expected a SpatialData, found {type(sdata).__name__}. Next: isost.tl.reconstruct(adata) makes "
            "one; sections in an AnnData are plotted by isost.pl.sections(adata)."
        )
    run = sdata.attrs.get("isost", {})
    unit = unit_label(str(run.get("unit", "um")))
    per_volume = run.get("density", {}).get("unit", "cells / um^3").replace("um", "µm").replace("^3", "³")
    channels = _full(sdata, "images", "isost_volume").coords["c"].values.tolist()
    if color == "density":
        values, label = _full(sdata, "images", "isost_density").data[0], f"{called or 'cell density'} ({per_volume})"
    elif color == "uncertainty":
        # Variances of the channels add up: the expected distance of a place's expression from its estimate.
        std = _full(sdata, "images", "isost_uncertainty").data
        values, label = da.sqrt((std**2).sum(axis=0)), f"{called or 'uncertainty'} (standard deviation)"
    else:
        values = gene(sdata, color).data
        score = color in channels and run.get("channels") == "features"
        label = f"{called or color} ({'score' if score else 'log-normalised expression'})"
    origin, voxel = _place(gene(sdata, channels[0]))
    depths = np.asarray(run.get("sections", {}).get("depth", []), dtype=np.float64)
    return Volume(values, _full(sdata, "labels", "isost_mask").data, origin, voxel, label, unit, depths)


def _full(sdata: SpatialData, kind: str, name: str) -> DataArray:
    """Look an element up, at its full resolution."""
    elements = getattr(sdata, kind)
    if name not in elements:
        raise KeyError(
            f"sdata: expected {name!r} among its {kind}, found {', '.join(map(repr, elements)) or 'none'}. "
            "Next: isost.tl.reconstruct(adata) writes it."
        )
    element = elements[name]
    return next(iter(get_pyramid_levels(element))) if hasattr(element, "children") else element


def _place(image: DataArray) -> tuple[np.ndarray, np.ndarray]:
    centres = [np.asarray(image.coords[axis].values, dtype=np.float64) for axis in AXES]
    # An axis of one voxel does not tell its length: the voxels of a reconstruction are cubes.
    edge = next((points[1] - points[0] for points in centres if len(points) > 1), 1.0)
    voxel = np.array([points[1] - points[0] if len(points) > 1 else edge for points in centres])
    return np.array([points[0] for points in centres]) - voxel / 2, voxel
