"""What of expression changes slowly through the tissue, and what lies around cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from isost._domains.components import components
from isost._domains.features import Features
from isost._domains.graph import mean_around, mean_of_neighbours

_SAMPLE, _ROWS = 20_000, 50_000  # cells of a principal component analysis, and at a time
_WHITENED = 50  # principal components that slow features are made of
_AROUND = 30  # principal components of the surroundings
_STEPS = 3  # that surroundings reach


def slow_axes(features: Features, graph: sparse.csr_matrix, n_slow: int, rng: np.random.Generator) -> np.ndarray:
    """Find the combinations of genes that are most alike between neighbours.

    Of whitened principal components y, the eigenvectors with the largest eigenvalues of the mean of y_i ybar_i^T, made
    symmetric, ybar_i the mean over the neighbours of cell i: maximum autocorrelation factors (Switzer & Green 1984).

    Returns
    -------
    (p, <= n_slow) float64; features times these have no correlation with each other and a variance of one.
    """
    axes, scores = _principal(features, _WHITENED, rng)
    spread = np.maximum(scores.std(axis=0), 1e-12)
    y = (scores - scores.mean(axis=0)) / spread
    alike = y.T @ (mean_of_neighbours(graph) @ y) / len(y)
    value, vector = np.linalg.eigh((alike + alike.T) / 2)
    chosen = np.argsort(-value, kind="stable")[:n_slow]
    return axes / spread @ vector[:, chosen]


def surroundings(features: Features, graph: sparse.csr_matrix, rng: np.random.Generator) -> np.ndarray:
    """(n, <= 30) principal components of expression, three times averaged over each cell and its neighbours."""
    _, around = _principal(features, _AROUND, rng)
    steps = mean_around(graph)
    for _ in range(_STEPS):
        around = steps @ around
    return np.asarray(around)


def _principal(features: Features, n_comps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(p, q) axes and (n, q) scores, the axes of some of the cells where there are many."""
    n = len(features)
    some = np.sort(rng.choice(n, min(n, _SAMPLE), replace=False))
    found = components(features.rows(some).astype(np.float64), n_comps, rng)
    return found.axes, by_parts(features, found.scores)


def by_parts(features: Features, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(n, ...) what is made of the features of all cells (n, p) float64, some rows at a time."""
    parts = np.array_split(np.arange(len(features)), -(-len(features) // _ROWS))
    return np.concatenate([of(features.rows(rows).astype(np.float64)) for rows in parts])
