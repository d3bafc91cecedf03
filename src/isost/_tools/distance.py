"""Distances of places from a line, a point or a region, one object for each: places in, distances out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from isost._tools.axis import Line

Distances = tuple[np.ndarray, np.ndarray]
DistanceFrom = Callable[[np.ndarray], Distances]


@dataclass(frozen=True, eq=False)
class FromLine:
    """Distances from a line, and the positions along it."""

    line: Line

    def __call__(self, places: np.ndarray) -> Distances:
        return self.line.project(places)


@dataclass(frozen=True, eq=False)
class FromPoint:
    """Distances from a point (3,); nothing lies along it."""

    point: np.ndarray

    def __call__(self, places: np.ndarray) -> Distances:
        return np.linalg.norm(places - self.point, axis=1), np.zeros(len(places))


@dataclass(frozen=True, eq=False)
class FromRegion:
    """Distances from the nearest of some places, such as the centres of a lesion's voxels; NaN within the region.

    Attributes
    ----------
    region
        (m, 3).
    size
        (3,) edges of the boxes about them that are the region; 0 for the places alone.
    """

    region: np.ndarray
    size: np.ndarray

    def __call__(self, places: np.ndarray) -> Distances:
        distance = cKDTree(self.region).query(places)[0]
        inside = distance == 0
        if self.size.all():
            apart = cKDTree(self.region / self.size).query(places / self.size, p=np.inf)[0]
            inside = apart <= 0.5 + 1e-9
        return np.where(inside, np.nan, distance), np.zeros(len(places))


@dataclass(frozen=True, eq=False)
class Within:
    """Distances of the places that a tissue holds; NaN for others, which lie beyond what the distances are from.

    Attributes
    ----------
    distances
        Of places in the tissue.
    holds
        Places (n, 3) in, (n,) bool out.
    """

    distances: DistanceFrom
    holds: Callable[[np.ndarray], np.ndarray]

    def __call__(self, places: np.ndarray) -> Distances:
        distance, along = self.distances(places)
        return np.where(self.holds(places), distance, np.nan), along


def rim(region: np.ndarray) -> np.ndarray:
    """Voxels (z, y, x) of a region that touch others: those alone decide how far others are from it."""
    return region & ~ndimage.binary_erosion(region, border_value=1)
