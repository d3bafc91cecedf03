from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from isost._tools.knn_labels import (
    Space,
    choose_weight,
    knn_probabilities,
    local_means,
    neighbour_graph,
    propagate_labels,
)


def test_probabilities_sum_to_one_and_absent_classes_have_none() -> None:
    rng = np.random.default_rng(0)
    known, codes = rng.normal(size=(40, 3)), rng.choice([0, 2], 40)
    found = knn_probabilities(known, codes, rng.normal(size=(15, 3)), 4, n_neighbors=7, weights="uniform")
    assert np.allclose(found.sum(axis=1), 1) and not found[:, [1, 3]].any()
    assert np.allclose(found * 7, np.round(found * 7), atol=1e-5)


def test_a_known_cell_tells_itself_by_distance() -> None:
    rng = np.random.default_rng(1)
    known, codes = rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    found = knn_probabilities(known, codes, known, 3, n_neighbors=5, weights="distance")
    assert np.array_equal(found.argmax(axis=1), codes)


@pytest.mark.parametrize("by_position", [True, False])
def test_the_weight_that_tells_left_out_sections_best(by_position: bool) -> None:
    rng = np.random.default_rng(2)
    values, coords = rng.normal(size=(400, 4)), rng.uniform(0, 10, (400, 3))
    codes = (coords[:, 0] > 5 if by_position else values[:, 0] > 0).astype(np.int64)
    weight, right = choose_weight(
        values, coords, codes, rng.random(400) < 0.5, 2, n_neighbors=5, weights="distance", rng=rng
    )
    assert right[weight] == max(right.values()) > 0.85
    assert weight >= 1.0 if by_position else weight == 0.0


def test_space_does_not_depend_on_units() -> None:
    rng = np.random.default_rng(3)
    values, coords = rng.normal(size=(50, 4)), rng.uniform(0, 10, (50, 3))
    one = Space(values, coords, 1.0).place(values, coords)
    other = Space(values * 7, coords * 1000 + 5, 1.0).place(values * 7, coords * 1000 + 5)
    assert np.allclose(one, other, atol=1e-4) and one.shape == (50, 7)
    assert Space(values, coords, 0.0).place(values, coords).shape == (50, 4)


@pytest.mark.parametrize("share", [1e-4, 0.1, 0.6, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("line", [True, False])
def test_propagation_solves_its_equation(share: float, line: bool) -> None:
    rng = np.random.default_rng(4)
    # along a line labels of one end take many steps to reach the other
    start = np.repeat(np.eye(3), 40, axis=0) if line else rng.dirichlet(np.ones(3), 120)
    coords = np.column_stack([np.arange(120.0), np.zeros((120, 2))]) if line else rng.uniform(size=(120, 3))
    graph = neighbour_graph(coords, 2 if line else 6)
    assert np.allclose(graph.sum(axis=1), 1) and not graph.diagonal().any()
    found = propagate_labels(start.astype(np.float32), graph, share)
    exact = np.linalg.solve(np.eye(120) - share * graph.toarray(), (1 - share) * start)
    assert np.abs(found - exact).max() < 1.1e-3 and np.allclose(found.sum(axis=1), 1)


def test_propagation_of_nothing() -> None:
    start = np.eye(3, dtype=np.float32)
    assert np.array_equal(propagate_labels(start, neighbour_graph(np.eye(3), 2), 0.0), start)


def test_propagation_settles_a_lone_dissenter() -> None:
    start = np.tile([[0.9, 0.1]], (27, 1)).astype(np.float32)
    start[13] = [0.4, 0.6]
    grid = np.argwhere(np.ones((3, 3, 3))).astype(float)
    assert propagate_labels(start, neighbour_graph(grid, 6), 0.5)[13].argmax() == 0


def test_local_means_stay_within_a_section() -> None:
    coords = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 9], [1, 0, 9]])
    means = local_means(np.array([[0.0], [2.0], [10.0], [30.0]]), coords, np.array([0, 0, 1, 1]), 2)
    assert means.ravel().tolist() == [1, 1, 20, 20]


def test_a_graph_of_few_cells_has_as_many_neighbours_as_there_are() -> None:
    graph = neighbour_graph(np.eye(3), 6)
    assert isinstance(graph, sparse.csr_matrix) and graph.nnz == 6 and np.allclose(graph.sum(axis=1), 1)
