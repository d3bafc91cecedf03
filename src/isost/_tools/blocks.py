"""Coarse blocks of places: few enough that the covariance between all of them can be written down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Blocks:
    """Cubes of one grid that hold places.

    Attributes
    ----------
    low
        (3,) corner of the grid.
    edge
        Of a cube.
    shape
        Cubes along x, y, z.
    """

    low: np.ndarray
    edge: float
    shape: tuple[int, ...]

    def of(self, places: np.ndarray) -> np.ndarray:
        """Find the number of the cube that each place (n, 3) is in: (n,) int, -1 outside the grid."""
        index = np.floor((places - self.low) / self.edge).astype(np.int64)
        inside = ((index >= 0) & (index < self.shape)).all(axis=1)
        return np.where(inside, np.ravel_multi_index(tuple(index.T), self.shape, mode="clip"), -1)


def cover(places: np.ndarray, most: int) -> Blocks:
    """Choose the smallest cubes of which at most `most` hold places (n, 3)."""
    low, high = places.min(axis=0), places.max(axis=0)
    extent = high - low
    small, large = float(extent.max()) / most, float(extent.max()) * 1.001 or 1.0

    def made(edge: float) -> Blocks:
        # a margin on both sides, so that tissue is in the middle of the cubes at its border
        shape = np.floor(extent / edge).astype(np.int64) + 1
        return Blocks(low - (shape * edge - extent) / 2.0, edge, tuple(shape.tolist()))

    some = places[:: max(1, len(places) // 100_000)]
    for _ in range(14):
        edge = float(np.sqrt(small * large))
        if len(np.unique(made(edge).of(some))) > most:
            small = edge
        else:
            large = edge
    return made(large)


def compact(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (k,) of the groups that occur in (n,), and the places' positions among them; negative ones stay -1."""
    used, position = np.unique(groups, return_inverse=True)
    outside = int((used < 0).sum())
    return used[outside:], np.where(groups < 0, -1, position - outside)
