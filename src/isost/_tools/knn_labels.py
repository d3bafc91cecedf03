"""Labels by the nearest labelled cells, and labels that neighbours share."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.neighbors import KNeighborsClassifier

_ROWS = 2**16
_ERROR = 1e-3  # of a probability, at most, that propagation leaves
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)  # of position beside expression, that are tried
_TRIED = 4000


class Space:
    """Where cells are near to each other: expression, and positions times a weight beside it.

    Both are in units of how far labelled cells differ (root mean square distance from their mean), so that at weight
    1 they count alike over the whole tissue.
    """

    def __init__(self, values: np.ndarray, coords: np.ndarray, weight: float) -> None:
        self._centre, self._weight = coords.mean(axis=0), weight
        self._per_value, self._per_length = 1 / _spread(values), 1 / _spread(coords)

    def place(self, values: np.ndarray, coords: np.ndarray) -> np.ndarray:
        """(n, P + 3) float32, or (n, P) where positions have no weight."""
        expression = np.asarray(values, dtype=np.float32) * np.float32(self._per_value)
        if not self._weight:
            return expression
        position = (coords - self._centre) * (self._weight * self._per_length)
        return np.column_stack([expression, position.astype(np.float32)])


def knn_probabilities(
    known: np.ndarray, codes: np.ndarray, asked: np.ndarray, n_classes: int, *, n_neighbors: int,
    weights: Literal["uniform", "distance"],
) -> np.ndarray:  # fmt: skip
    """(m, n_classes) float32, share of each class among the labelled neighbours of each row; rows sum to 1."""
    classifier = KNeighborsClassifier(min(n_neighbors, len(known)), weights=weights)
    classifier.fit(known, codes)
    found = np.zeros((len(asked), n_classes), dtype=np.float32)
    for rows in _blocks(len(asked)):
        found[rows, classifier.classes_] = classifier.predict_proba(asked[rows])
    return found


def choose_weight(
    values: np.ndarray, coords: np.ndarray, codes: np.ndarray, fold: np.ndarray, n_classes: int, *,
    n_neighbors: int, weights: Literal["uniform", "distance"], rng: np.random.Generator,
) -> tuple[float, dict[float, float]]:  # fmt: skip
    """Choose the weight of positions at which cells of left-out sections are told best from those of the others.

    Parameters
    ----------
    fold
        (n,) bool: cells to be told; the others are known.

    Returns
    -------
    The weight, and the share of left-out cells (at most 4000 of them) that each weight tells rightly.
    """
    asked = np.flatnonzero(fold)
    asked = rng.choice(asked, _TRIED, replace=False) if len(asked) > _TRIED else asked
    known = np.flatnonzero(~fold)
    right = {}
    for weight in WEIGHTS:
        place = Space(values, coords, weight).place(values, coords)
        found = knn_probabilities(place[known], codes[known], place[asked], n_classes,
                                  n_neighbors=n_neighbors, weights=weights)  # fmt: skip
        right[weight] = float((found.argmax(axis=1) == codes[asked]).mean())
    return max(right, key=lambda weight: right[weight]), right


def neighbour_graph(coords: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    """(n, n) CSR whose rows hold the nearest neighbours in three dimensions, other than itself, and sum to 1."""
    n, k = len(coords), min(n_neighbors, len(coords) - 1)
    near = cKDTree(coords).query(coords, k=np.arange(2, k + 2), workers=-1)[1]
    weights = np.full(n * k, 1 / max(k, 1), dtype=np.float32)
    return sparse.csr_matrix((weights, near.ravel(), np.arange(0, n * k + 1, max(k, 1))[: n + 1]), shape=(n, n))


def propagate_labels(probabilities: np.ndarray, graph: sparse.csr_matrix, share: float) -> np.ndarray:
    """Solve p = (1 - share) p0 + share (graph @ p) by iteration (Zhou et al. 2004), to 0.001 of a probability.

    Parameters
    ----------
    probabilities
        p0, (n, C) whose rows sum to 1; those of the result do too.
    graph
        (n, n) whose rows sum to 1.
    share
        0: nothing is changed; towards 1 neighbours decide.
    """
    if not share:
        return probabilities
    # each step is at most `share` of the one before: all that follow a step of d are d * share / (1 - share) together
    least = _ERROR * (1 - share) / share
    current = probabilities
    for _ in range(max(1, ceil(log(least) / log(share)))):
        following = (1 - share) * probabilities + share * (graph @ current)
        settled = np.abs(following - current).max(initial=0.0) < least
        current = following
        if settled:
            break
    return (current / current.sum(axis=1, keepdims=True)).astype(np.float32)


def local_means(values: np.ndarray, coords: np.ndarray, section: np.ndarray, n_neighbors: int) -> np.ndarray:
    """(n, P) float32, mean over each cell and its nearest in its own section: a mean as a voxel holds it."""
    found = np.empty(values.shape, dtype=np.float32)
    for one in np.unique(section):
        rows = np.flatnonzero(section == one)
        k = min(n_neighbors, len(rows))
        near = cKDTree(coords[rows, :2]).query(coords[rows, :2], k=np.arange(1, k + 1), workers=-1)[1]
        for part in _blocks(len(rows)):
            found[rows[part]] = values[rows][near[part]].mean(axis=1)
    return found


def _spread(values: np.ndarray) -> float:
    return float(np.sqrt(np.var(values, axis=0, dtype=np.float64).sum())) or 1.0


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS))
