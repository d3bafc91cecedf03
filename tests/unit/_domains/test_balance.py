"""Weights of neighbours that are centred on the cell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from isost._domains.balance import balanced


def near(place: np.ndarray, k: int) -> sparse.csr_matrix:
    found = cKDTree(place).query(place, k=k)[1]
    n = len(place)
    return sparse.csr_matrix((np.ones(n * k, dtype=bool), found.ravel(), np.arange(n + 1) * k), shape=(n, n))


@pytest.mark.parametrize("dims", [2, 3])
def test_linear_functions_are_kept(dims: int) -> None:
    """To a tenth of what a plain mean moves them by, wherever no weight had to be held at 0."""
    place = np.random.default_rng(0).uniform(0, 100, (500, dims))
    graph = near(place, 15)
    found = balanced(graph, place)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.data.min() >= 0
    free = np.array([found[row].data.min() > 1e-9 for row in range(500)])
    assert free.mean() > 0.3
    moved = np.linalg.norm(found @ place - place, axis=1)
    plain = np.linalg.norm(np.asarray(graph.astype(float) @ place) / 15 - place, axis=1)
    assert (moved[free] < 0.1 * plain[free]).all()
    assert (moved <= plain + 1e-9).all(), "never further off than a plain mean"


def test_a_border_stays_where_it_is() -> None:
    """Halves of a plane, with more cells in the one: a plain mean moves the half-way line of a step."""
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.uniform(-20, 0, 3000), draw.uniform(0, 20, 1000)])
    place = np.column_stack([x, draw.uniform(0, 40, 4000)])
    right = (x > 0).astype(float)
    graph = near(place, 13)
    rows = np.abs(x) < 3
    wrong = [
        ((smoothed > 0.5) != (x > 0))[rows].mean()
        for smoothed in (np.asarray(graph.astype(float) @ right) / 13, np.asarray(balanced(graph, place) @ right))
    ]
    assert wrong[1] < 0.8 * wrong[0]


def test_a_lattice_is_weighed_evenly() -> None:
    place = np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0)), axis=-1).reshape(-1, 2)
    step = np.abs(place[:, None] - place).sum(axis=2)
    found = balanced(sparse.csr_matrix(step <= 1), place).toarray()
    inside = ((place > 0) & (place < 6)).all(axis=1)
    np.testing.assert_allclose(found[inside][(step <= 1)[inside]], 0.2)


@pytest.mark.parametrize(
    "place", [np.zeros((4, 2)), np.array([[0.0, 0], [1, 0], [2, 0], [5, 0]])], ids=["spot", "line"]
)
def test_places_without_an_area(place: np.ndarray) -> None:
    found = balanced(near(place, 3), place)
    assert np.isfinite(found.data).all() and found.data.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1)
