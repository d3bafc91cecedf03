from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from isost._core.graph import edge_index, median_spacing, neighbours


def cloud(n: int, d: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed))


def test_neighbours_are_the_nearest_others_in_order() -> None:
    points = cloud(60)
    found = neighbours(points, 5)
    distance = torch.cdist(points.double(), points.double())
    distance.fill_diagonal_(float("inf"))
    assert found.dtype == torch.int64
    assert torch.equal(found, distance.argsort(dim=1)[:, :5])


def test_a_query_may_find_the_point_it_stands_on() -> None:
    points = cloud(30)
    found = neighbours(points, 3, query=points[:4])
    assert found.shape == (4, 3)
    assert found[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("copies", [2, 4, 9])
def test_coincident_points_are_no_neighbours_of_themselves(copies: int) -> None:
    points = cloud(7).repeat_interleave(copies, dim=0)
    found = neighbours(points, 3)
    assert found.shape == (7 * copies, 3)
    assert not (found == torch.arange(7 * copies)[:, None]).any()
    assert all(len(set(row)) == 3 for row in found.tolist())
    if copies >= 4:
        assert torch.equal(found // copies, torch.arange(7).repeat_interleave(copies)[:, None].expand(-1, 3))


@pytest.mark.parametrize(("n", "expected"), [(1, 0), (2, 1), (4, 3), (6, 5), (7, 5)])
def test_few_points_have_fewer_neighbours(n: int, expected: int) -> None:
    assert neighbours(cloud(n), 5).shape == (n, expected)


def test_neighbours_carry_no_gradient() -> None:
    assert not neighbours(cloud(10).requires_grad_(), 3).requires_grad


def test_edges_run_from_neighbour_to_cell() -> None:
    edges = edge_index(torch.tensor([[1, 2], [2, 0], [0, 1]]))
    assert edges.tolist() == [[1, 2, 2, 0, 0, 1], [0, 0, 1, 1, 2, 2]]


def test_edges_of_neighbours_end_at_every_cell_equally_often() -> None:
    edges = edge_index(neighbours(cloud(25), 4))
    assert torch.equal(torch.bincount(edges[1]), torch.full((25,), 4))


def test_median_spacing_looks_at_the_plane_only_and_over_coincident_cells() -> None:
    x, y = np.meshgrid(np.arange(5.0), np.arange(4.0))
    plane = np.column_stack([3 * x.ravel(), 3 * y.ravel()])
    depth = np.random.default_rng(0).random(20)[:, None] * 100
    assert median_spacing(np.hstack([plane, depth])) == 3.0
    assert median_spacing(np.concatenate([plane, plane[:6]])) == 3.0
    assert median_spacing(np.zeros((4, 2))) == 0.0
    assert median_spacing(np.zeros((1, 2))) == 0.0


def test_blocks_of_distances_find_what_the_tree_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of the GPU, walked on the CPU: many blocks, and cells much closer to each other than to the origin."""
    from isost._core import graph

    monkeypatch.setattr(graph, "_BLOCK", 64)
    points = cloud(1500) * 0.05 + 0.9
    found = graph._blocked_topk(points, points[:700], 6)
    assert torch.equal(found, torch.from_numpy(cKDTree(points.numpy()).query(points[:700].numpy(), k=6)[1]))
