"""Gaussian kernel regression over the nearest cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

# Beyond so many cells of a section the Gaussian weights are cut off.
NEIGHBOURS = 128


@dataclass(frozen=True, eq=False)
class Near:
    """The nearest cells of places.

    Attributes
    ----------
    distance, index
        (m, k) of each place's k nearest cells, the nearest first.
    n_cells
        Number of all cells.
    """

    distance: np.ndarray
    index: np.ndarray
    n_cells: int

    @classmethod
    def find(cls, places: np.ndarray, coords: np.ndarray, *, neighbours: int = NEIGHBOURS) -> Near:
        """Find the cells (n, 2) nearest to places (m, 2), at most so many a place."""
        k = min(neighbours, len(coords))
        distance, index = cKDTree(coords).query(places, k=k)
        return cls(distance.reshape(len(places), k), index.reshape(len(places), k), len(coords))

    def weights(self, width: float, weight: np.ndarray | None = None) -> sparse.csr_matrix:
        """Gaussian weights exp(-d^2 / 2 width^2) (m, n), each row summing to one.

        Distances count from the nearest cell's on, which leaves the normalised weights as they are and never
        underflows: far from every cell the nearest one takes all the weight.

        Parameters
        ----------
        width
            Standard deviation of the Gaussian.
        weight
            (n,) where cells count unlike.
        """
        near = np.exp(-(self.distance**2 - self.distance[:, :1] ** 2) / (2 * width**2))
        if weight is not None:
            near *= weight[self.index]
        near /= near.sum(axis=1, keepdims=True)
        starts = np.arange(len(near) + 1) * near.shape[1]
        return sparse.csr_matrix((near.ravel(), self.index.ravel(), starts), shape=(len(near), self.n_cells))


def kernel_fields(
    places: np.ndarray,
    coords: np.ndarray,
    values: np.ndarray,
    widths: Iterable[float],
    weight: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Gaussian kernel regression (m, G), of one width after the other, of values (n, G) of cells at (n, 2).

    Cells may count unlike: `weight` (n,).
    """
    near = Near.find(places, coords)
    return (np.asarray(near.weights(width, weight) @ values) for width in widths)


def own_section_field(coords: np.ndarray, values: np.ndarray, width: float, bins: np.ndarray) -> np.ndarray:
    """Predict each cell (n, G) by kernel regression over the cells of its own section that lie in other bins.

    What a method reaches that has the section's own cells at hand, but not those of the place: about the best to be
    asked for, unless other sections know more than the section's own few cells.

    Parameters
    ----------
    coords, values
        (n, 2) and (n, G) of the section.
    width
        Standard deviation of the Gaussian.
    bins
        (n, 2) bin of each cell.
    """
    label = np.unique(bins, axis=0, return_inverse=True)[1].ravel()
    predicted = np.empty(values.shape)
    for start in range(0, len(coords), 2000):
        rows = slice(start, start + 2000)
        square = ((coords[rows, None] - coords) ** 2).sum(axis=2)
        square[label[rows, None] == label] = np.inf
        weight = np.exp(-(square - square.min(axis=1, keepdims=True)) / (2 * width**2))
        predicted[rows] = weight @ values / weight.sum(axis=1, keepdims=True)
    return predicted
