"""Who lies next to whom: lattices, triangulations, stacks, samples, and what has hardly any cells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from isost._domains.graph import spatial_graph


def graph_of(coords: np.ndarray, sample: np.ndarray | None = None, n_neighbors: int | None = None) -> sparse.csr_matrix:
    """The graph, which is always boolean, symmetric and without a diagonal."""
    coords = np.asarray(coords, dtype=np.float64)
    found = spatial_graph(coords, np.zeros(len(coords), dtype=np.int64) if sample is None else sample, n_neighbors)
    assert found.shape == (len(coords), len(coords)) and found.dtype == bool
    assert not found.diagonal().any() and (found != found.T).nnz == 0
    assert found.data.all()
    return found


def degree(graph: sparse.csr_matrix) -> np.ndarray:
    return np.diff(graph.indptr)


def square(n: int = 8) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2) * 7.0


def hexagonal(n: int = 9) -> np.ndarray:
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    return np.column_stack([(x + 0.5 * (y % 2)).ravel(), (y * np.sqrt(0.75)).ravel()]) * 100.0


def cells(n: int = 200, seed: int = 0, dims: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 100, (n, dims))


def test_a_square_lattice() -> None:
    place = square()
    found = graph_of(place)
    inside = ((place > 0) & (place < place.max())).all(axis=1)
    assert (degree(found)[inside] == 4).all() and degree(found).min() == 2
    edges = found.tocoo()
    np.testing.assert_allclose(np.linalg.norm(place[edges.row] - place[edges.col], axis=1), 7.0)


def test_a_hexagonal_lattice() -> None:
    """Positions in whole pixels, as those of spots are."""
    place = np.round(hexagonal())
    found = graph_of(place)
    inside = ((place > place.min(axis=0) + 60) & (place < place.max(axis=0) - 60)).all(axis=1)
    assert inside.sum() > 20 and (degree(found)[inside] == 6).all()


def test_voxels() -> None:
    place = np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 20
    found = graph_of(place)
    inside = ((place > 0) & (place < 80)).all(axis=1)
    assert (degree(found)[inside] == 6).all() and degree(found).min() == 3


def test_a_triangulation_does_not_span_a_gap() -> None:
    place = cells()
    place[100:, 0] += 500
    found = graph_of(place)
    assert not found[:100][:, 100:].nnz
    for half in (found[:100][:, :100], found[100:][:, 100:]):
        assert sparse.csgraph.connected_components(half)[0] == 1
        assert 4.5 < degree(half).mean() < 6


def test_the_edges_of_a_triangulation_are_short() -> None:
    place = cells(400)
    edges = graph_of(place).tocoo()
    length = np.linalg.norm(place[edges.row] - place[edges.col], axis=1)
    assert length.max() < 4 * np.median(length)


def test_cells_of_a_volume() -> None:
    place = cells(300, dims=3)
    found = graph_of(place)
    assert sparse.csgraph.connected_components(found)[0] == 1
    edges = found.tocoo()
    assert (np.abs(place[edges.row, 2] - place[edges.col, 2]) > 1).any()
    assert 8 < degree(found).mean() < 16


@pytest.mark.parametrize("n_neighbors", [None, 4])
def test_samples_are_never_joined(n_neighbors: int | None) -> None:
    """Although their cells lie among each other; each has the graph that it has by itself."""
    place, sample = cells(), np.random.default_rng(1).integers(0, 3, 200)
    found = graph_of(place, sample, n_neighbors)
    edges = found.tocoo()
    assert (sample[edges.row] == sample[edges.col]).all()
    for number in range(3):
        rows = np.flatnonzero(sample == number)
        assert (found[rows][:, rows] != graph_of(place[rows], None, n_neighbors)).nnz == 0


@pytest.mark.parametrize("n_neighbors", [None, 5])
def test_a_stack_of_sections(n_neighbors: int | None) -> None:
    """Sections far apart are joined with the ones above and below, never with others; within each as a plane is."""
    planes = [cells(80, seed) for seed in range(4)]
    level = np.repeat(np.arange(4), 80)
    place = np.column_stack([np.concatenate(planes), level * 300.0])
    found = graph_of(place, None, n_neighbors)
    edges = found.tocoo()
    assert set(np.abs(level[edges.row] - level[edges.col])) == {0, 1}
    for number, plane in enumerate(planes):
        rows = np.flatnonzero(level == number)
        assert (found[rows][:, rows] != graph_of(plane, None, n_neighbors)).nnz == 0
        for other in (number - 1, number + 1):
            if 0 <= other < 4:
                assert (degree(found[rows][:, level == other]) > 0).mean() > 0.9


@pytest.mark.parametrize("lattice", [square(), hexagonal()], ids=["square", "hexagonal"])
def test_a_stack_of_lattices(lattice: np.ndarray) -> None:
    """Spots of sections one above the other, further apart than spots: also joined with those above and below."""
    n = len(lattice)
    place = np.column_stack([np.tile(lattice, (3, 1)), np.repeat([0.0, 1000.0, 2000.0], n)])
    found = graph_of(place)
    assert found[:n][:, n : 2 * n].nnz >= n and found[n : 2 * n][:, 2 * n :].nnz >= n
    assert not found[:n][:, 2 * n :].nnz
    assert (found[:n][:, :n] != graph_of(lattice)).nnz == 0


def test_a_plane_in_three_dimensions_is_a_plane() -> None:
    place = cells()
    found = graph_of(np.column_stack([place, np.full(200, 40.0)]))
    assert (found != graph_of(place)).nnz == 0


def test_all_cells_in_one_spot() -> None:
    assert graph_of(np.ones((12, 2))).nnz == 0
    assert graph_of(np.ones((12, 3)), np.repeat([0, 1], 6)).nnz == 0


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_cells_on_a_line(direction: tuple[float, float]) -> None:
    at = np.sort(np.random.default_rng(0).uniform(0, 100, 30))
    found = graph_of(at[:, None] * np.array(direction))
    assert found[np.arange(29), np.arange(1, 30)].all(), "each with the next"


def test_two_cells_in_one_place_are_neighbours_of_somebody() -> None:
    """A triangulation leaves the second of them out."""
    place = cells()
    place[7] = place[3]
    assert (degree(graph_of(place)) > 0).all()


@pytest.mark.parametrize(("n", "n_edges"), [(1, 0), (2, 2), (3, 6)])
@pytest.mark.parametrize("dims", [2, 3])
def test_hardly_any_cells(n: int, n_edges: int, dims: int) -> None:
    assert graph_of(cells(n, dims=dims)).nnz == n_edges


def test_n_neighbors() -> None:
    """All pairs of which one is among the k nearest of the other."""
    place, k = cells(60), 4
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    wanted = np.zeros((60, 60), dtype=bool)
    np.put_along_axis(wanted, apart.argsort(axis=1)[:, :k], True, axis=1)
    np.testing.assert_array_equal(graph_of(place, None, k).toarray(), wanted | wanted.T)


def test_more_neighbours_than_cells() -> None:
    np.testing.assert_array_equal(graph_of(cells(5), None, 40).toarray(), ~np.eye(5, dtype=bool))


@pytest.mark.parametrize("kind", ["cells", "square", "stack", "nearest"])
def test_the_order_of_cells_does_not_matter(kind: str) -> None:
    place = square() if kind == "square" else cells()
    if kind == "stack":
        place = np.column_stack([place, np.repeat([0.0, 50.0, 100.0, 150.0], 50)])
    how = 5 if kind == "nearest" else None
    turn = np.random.default_rng(3).permutation(len(place))
    sample = np.zeros(len(place), dtype=np.int64) if kind == "stack" else np.arange(len(place)) % 2
    found = graph_of(place, sample, how)
    assert (graph_of(place[turn], sample[turn], how) != found[turn][:, turn]).nnz == 0


def components_of(place: np.ndarray) -> int:
    return int(sparse.csgraph.connected_components(graph_of(place), directed=False)[0])


@pytest.mark.parametrize("depth", [10.0, 50.0, 100.0, 160.0])
def test_a_stack_of_aligned_lattices_however_far_apart(depth: float) -> None:
    """Square lattices 100 apart within each of five sections, the sections closer or farther than that."""
    plane = np.stack(np.meshgrid(np.arange(12) * 100.0, np.arange(12) * 100.0), axis=-1).reshape(-1, 2)
    place = np.column_stack([np.tile(plane, (5, 1)), np.repeat(np.arange(5) * depth, len(plane))])
    found = graph_of(place).tocoo()
    step = np.abs(place[found.row] - place[found.col])
    within = step[step[:, 2] == 0]
    assert len(within) == 5 * 2 * 2 * 12 * 11 and set(within.sum(axis=1).tolist()) == {100.0}
    assert (step[:, 2] <= depth).all() and components_of(place) == 1


@pytest.mark.parametrize("ratio", [1.2, 1.5, 2.0, 2.9])
def test_a_lattice_with_unlike_sides(ratio: float) -> None:
    """Each place has those beside it, both ways, and no diagonals."""
    place = np.stack(np.meshgrid(np.arange(15) * 1.0, np.arange(15) * ratio), axis=-1).reshape(-1, 2)
    found = graph_of(place).tocoo()
    step = np.round(np.abs(place[found.row] - place[found.col]), 9)
    assert {tuple(one) for one in step.tolist()} == {(1.0, 0.0), (0.0, round(ratio, 9))}
    assert found.nnz == 2 * 2 * 15 * 14


def test_a_sparse_region_keeps_its_edges() -> None:
    """One place in ten of a dense region, beside it: its edges are long for the tissue, not for the region."""
    draw = np.random.default_rng(0)
    dense, thin = draw.uniform(0, 1, (900, 2)), draw.uniform(0, 3, (100, 2)) + [4, 0]
    found = graph_of(np.concatenate([dense, thin]))
    degree = np.diff(found[900:][:, 900:].indptr)
    assert (degree == 0).mean() < 0.05 and np.median(degree) >= 3
    assert found[:900][:, 900:].nnz == 0
