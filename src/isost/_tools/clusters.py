"""Clusters of many places through landmarks: found among some of them, and carried over to all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph

from isost._logging import logger
from isost._tools.mixture import choose_number, fit_mixture, refit

_CHOOSING = 5000  # landmarks that starts are tried on, and by which the number of clusters is chosen
_ROWS = 2**18


def draw_landmarks(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted rows, at most that many, at random without replacement; all of them where there are no more."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def mixture_clusters(
    x: np.ndarray, *, n_clusters: int | None, n_landmarks: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[int, float]]:
    """Clusters of (n, q) rows by a mixture of Gaussians fitted to landmarks; see `isost._tools.mixture`.

    Returns
    -------
    (n,) int clusters, the largest first, and the valley between clusters for each number that was tried.
    """
    # components alike: the likelihood does not depend on their units, but where it is climbed from does
    spread = x.std(axis=0, dtype=np.float64)
    x = ((x - x.mean(axis=0, dtype=np.float64)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    few = x[draw_landmarks(len(x), min(n_landmarks, _CHOOSING), rng)].astype(np.float64)
    valleys: dict[int, float] = {}
    if n_clusters is None:
        n_clusters, valleys = choose_number(few, rng, spread)
    model = fit_mixture(few, n_clusters, rng, spread)
    model = refit(model, x[draw_landmarks(len(x), n_landmarks, rng)].astype(np.float64))
    return by_size(_in_blocks(model.predict, x)), valleys


def leiden_clusters(
    x: np.ndarray, *, resolution: float, n_iterations: int, n_neighbors: int, n_landmarks: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Leiden communities of the graph of nearest landmarks; other rows follow the landmarks nearest to them.

    Returns
    -------
    (n,) int clusters, the largest first.
    """
    rows = draw_landmarks(len(x), n_landmarks, rng)
    found = _communities(x[rows], resolution, n_iterations, n_neighbors, int(rng.integers(2**31)))
    if len(rows) < len(x):
        nearest = KNeighborsClassifier(min(n_neighbors, len(rows))).fit(x[rows], found)
        logger.info("spatial_clusters: %d landmarks for %d places", len(rows), len(x))
        found = _in_blocks(nearest.predict, x)
    return by_size(found)


def by_size(codes: np.ndarray) -> np.ndarray:
    """Count clusters from the largest, which is 0."""
    numbers, inverse, size = np.unique(codes, return_inverse=True, return_counts=True)
    rank = np.empty(len(numbers), dtype=np.int64)
    rank[np.argsort(-size, kind="stable")] = np.arange(len(numbers))
    return rank[inverse]


def load_igraph() -> Any:
    """Import igraph, which only an extra brings.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import igraph
    except ImportError:
        raise ImportError(
            "method: expected igraph for 'leiden', found none. Next: pip install 'isost[leiden]' (igraph is licensed "
            "under the GPL), or method='mixture'."
        ) from None
    return igraph


def _communities(x: np.ndarray, resolution: float, n_iterations: int, n_neighbors: int, seed: int) -> np.ndarray:
    import random

    igraph = load_igraph()
    near = kneighbors_graph(x, min(n_neighbors, len(x) - 1))
    edges = near.maximum(near.T).tocoo()
    once = edges.row < edges.col
    graph = igraph.Graph(len(x), np.column_stack([edges.row[once], edges.col[once]]))
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = graph.community_leiden("modularity", resolution=resolution, n_iterations=n_iterations)
    finally:
        igraph.set_random_number_generator(random)
    return np.asarray(found.membership)


def _in_blocks(predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.concatenate([predict(x[start : start + _ROWS]) for start in range(0, len(x), _ROWS)])
