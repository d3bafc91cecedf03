"""Compare clouds of cells: by energy distance, and by how varied cells are beside their neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

MOST_CELLS = 1500  # of a cloud that is compared
_ABOUT = 20  # cells that a cell is compared with


def energy_of(a: np.ndarray, weight: np.ndarray, b: np.ndarray) -> float:
    """Unbiased energy distance of weighted points to others."""
    m = len(b)
    within = weight @ cdist(a, a) @ weight / (1 - (weight**2).sum())
    return float(2 * (weight @ cdist(a, b)).mean() - within - cdist(b, b).sum() / (m * (m - 1)))


def variance_about(place: np.ndarray, features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean over cells of the unbiased variance ``(P,)`` of the features of a cell and those nearest to it."""
    near = cKDTree(place).query(place, k=np.arange(1, min(_ABOUT, len(place)) + 1))[1]
    share = weight[near] / weight[near].sum(axis=1, keepdims=True)
    mean, square = np.zeros_like(features), np.zeros_like(features)
    for column in range(near.shape[1]):
        part = share[:, [column]] * features[near[:, column]]
        mean += part
        square += part * features[near[:, column]]
    unbiased = np.maximum(1 - (share**2).sum(axis=1), 1e-12)
    return weight @ ((square - mean**2) / unbiased[:, None])


def some(place: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take a subset of the cells that is small enough to be compared, the same each time."""
    chosen = np.random.default_rng(0).permutation(len(place))[:MOST_CELLS]
    return place[chosen].astype(np.float64), features[chosen].astype(np.float64)
