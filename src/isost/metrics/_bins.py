"""Square bins over the plane."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

NEIGHBOURS_ACROSS = 2.5


def bin_side(sections: list[np.ndarray]) -> float:
    """Side h of a bin: 2.5 x the median distance of nearest neighbours in the plane, median over sections.

    Where most cells of a section share their place with another, distances are between places that hold cells.

    Parameters
    ----------
    sections
        Positions (n_k, 2 or more) of each section's cells; only x and y count.

    Returns
    -------
    float
        h in the unit of the positions.

    Raises
    ------
    ValueError
        If no section has cells at two places.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    >>> isost.metrics.bin_side([grid, 10 * grid, grid])
    2.5
    """
    distances = []
    for coords in sections:
        plane = np.asarray(coords, dtype=np.float64)[:, :2]
        places = np.unique(plane, axis=0)
        if len(places) > 1:
            distances.append(_spacing(plane) or _spacing(places))
    if not distances:
        raise ValueError(
            "sections: expected a section with cells at two places or more, found none. "
            "Next: pass an array of positions a section."
        )
    return float(NEIGHBOURS_ACROSS * np.median(distances))


def _spacing(plane: np.ndarray) -> float:
    return float(np.median(cKDTree(plane).query(plane, k=2)[0][:, 1]))


def bin_of(coords: np.ndarray, side: float, origin: np.ndarray) -> np.ndarray:
    """Bin (n, 2) int64 of each place: floor((coords - origin) / side)."""
    return np.floor((np.asarray(coords, dtype=np.float64)[:, :2] - origin) / side).astype(np.int64)


def bin_means(coords: np.ndarray, side: float, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean of each (n, G) array over the bins that hold cells, float64 (bins, G); bins start at the least x and y."""
    plane = np.asarray(coords, dtype=np.float64)[:, :2]
    _, index, count = np.unique(bin_of(plane, side, plane.min(axis=0)), axis=0, return_inverse=True, return_counts=True)
    rows = np.arange(len(plane))
    mean = sparse.csr_matrix((1 / count[index.ravel()], (index.ravel(), rows)), shape=(len(count), len(plane)))
    return tuple(np.asarray(mean @ np.asarray(value, dtype=np.float64)) for value in values)


def bin_counts(coords: np.ndarray, side: float) -> np.ndarray:
    """Cells (bins,) of the bins of `bin_means`, in the same order."""
    plane = np.asarray(coords, dtype=np.float64)[:, :2]
    return np.unique(bin_of(plane, side, plane.min(axis=0)), axis=0, return_counts=True)[1]


def joint_counts(first: np.ndarray, second: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of cells of two clouds in the bins that hold a cell of either; bins start at the least x, y of both."""
    origin = np.minimum(np.asarray(first)[:, :2].min(axis=0), np.asarray(second)[:, :2].min(axis=0))
    bins = np.concatenate([bin_of(first, side, origin), bin_of(second, side, origin)])
    names, index = np.unique(bins, axis=0, return_inverse=True)
    index = index.ravel()
    n = len(first)
    return np.bincount(index[:n], minlength=len(names)), np.bincount(index[n:], minlength=len(names))
