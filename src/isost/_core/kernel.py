"""Gaussian kernel regression over the nearest cells."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

# Beyond so many cells of a section the Gaussian weights are cut off.
NEIGHBOURS = 128


def kernel_weights(
    places: np.ndarray, coords: np.ndarray, width: float, *, neighbours: int = NEIGHBOURS
) -> sparse.csr_matrix:
    """Gaussian weights exp(-d^2 / 2 width^2) of the nearest cells of each place, each row summing to one.

    Distances count from the nearest cell's on, which leaves the normalised weights as they are and never underflows:
    far from every cell the nearest one takes all the weight.

    Parameters
    ----------
    places
        (m, 2) where to predict.
    coords
        (n, 2) cells.
    width
        Standard deviation of the Gaussian.
    neighbours
        Cells that count for a place, at most.

    Returns
    -------
    (m, n) sparse matrix.
    """
    k = min(neighbours, len(coords))
    distance, index = cKDTree(coords).query(places, k=k)
    distance, index = distance.reshape(len(places), k), index.reshape(len(places), k)
    weight = np.exp(-(distance**2 - distance[:, :1] ** 2) / (2 * width**2))
    weight /= weight.sum(axis=1, keepdims=True)
    starts = np.arange(len(places) + 1) * k
    return sparse.csr_matrix((weight.ravel(), index.ravel(), starts), shape=(len(places), len(coords)))


def kernel_field(
    places: np.ndarray, coords: np.ndarray, values: np.ndarray, width: float, weight: np.ndarray | None = None
) -> np.ndarray:
    """Gaussian kernel regression (m, G) of values (n, G) of cells at (n, 2), which may count unlike (n,)."""
    near = kernel_weights(places, coords, width)
    if weight is not None:
        near = near.multiply(weight).tocsr()
        near = near.multiply(1.0 / near.sum(axis=1)).tocsr()
    return np.asarray(near @ values)


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
