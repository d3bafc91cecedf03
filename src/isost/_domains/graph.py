"""Spatial graphs: which cells lie next to each other, in each sample by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.spatial import Delaunay, QhullError, cKDTree

_LONGEST = 3.0  # edges, in median lengths: longer ones span gaps and the hull
_BETWEEN = 1  # nearest cells in each of the two sections beside a cell's own
_LEVELS = 0.05  # of the cells: with fewer depths than that, cells lie in sections
_EVEN = 0.02  # spread of the distances to the nearest place, relative, on a lattice
_REACH = 1.05  # of the lattice's spacing, where a place's neighbours end


def spatial_graph(
    coords: np.ndarray, sample: np.ndarray, n_neighbors: int | None = None, shift: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Connect neighbours.

    Cells of a plane, or of a volume, are joined by Delaunay's triangulation, without edges longer than three median
    ones; places of a lattice (spots, voxels) with those one spacing away. Cells of a stack of sections, whose depth has
    but a few values, are joined within each section, and with the nearest cell (in x, y) of the section above and of
    that below.

    Parameters
    ----------
    coords
        (n, 2) or (n, 3).
    sample
        (n,) int; no edge leads from one sample to another.
    n_neighbors
        Take so many nearest cells instead, in both directions.
    shift
        (n, 2, 2) of each cell in a stack the shift in x and y to where it is looked for in the section before and in
        that after its own; None for straight below and above.

    Returns
    -------
    (n, n) bool, symmetric, without a diagonal. Where a sample has a single place, it has no edges.
    """
    parts = []
    for rows in _groups(sample):
        place = coords[rows]
        flat = place[:, np.ptp(place, axis=0) > 0] if len(place) else place
        levels = _levels(place)
        if len(rows) < 2:
            continue
        if levels is not None:
            pairs = _stack_pairs(place, levels, n_neighbors, None if shift is None else shift[rows])
        else:
            pairs = _pairs(flat, n_neighbors)
        parts.append(rows[pairs])
    pairs = np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)
    n = len(coords)
    graph = sparse.csr_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    graph = (graph + graph.T).astype(bool)
    graph.setdiag(False)
    graph.eliminate_zeros()
    return graph.tocsr()


def stacks(coords: np.ndarray, sample: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells (m,) of each sample that is a stack of sections, and of these cells the section, in the order of depth."""
    for rows in _groups(sample):
        level = _levels(coords[rows])
        if level is not None:
            yield rows, level


def _groups(sample: np.ndarray) -> Iterator[np.ndarray]:
    for number in np.unique(sample):
        yield np.flatnonzero(sample == number)


def _levels(place: np.ndarray) -> np.ndarray | None:
    """(n,) the section of each cell of a stack; None in a plane, in a volume, and on a lattice as fine in depth."""
    if place.shape[1] < 3 or np.ptp(place[:, 2]) == 0:
        return None
    depths, level = np.unique(place[:, 2], return_inverse=True)
    if len(depths) > max(2, _LEVELS * len(place)):
        return None
    spacing = _spacing(place[level == np.bincount(level).argmax(), :2])
    step = float(np.median(np.diff(depths)))
    cubic = spacing is not None and 1 / _REACH <= step / spacing <= _REACH
    return None if cubic else level


def _pairs(place: np.ndarray, n_neighbors: int | None) -> np.ndarray:
    """(m, 2) neighbours among places (n, d), each pair once or twice."""
    if place.shape[1] == 0:
        return np.zeros((0, 2), dtype=np.int64)  # all in one spot
    if n_neighbors is not None:
        return _nearest(place, place, n_neighbors, own=True)
    spacing = _spacing(place)
    if spacing is not None:
        pairs = cKDTree(place).query_pairs(_REACH * spacing, output_type="ndarray").astype(np.int64)
        return pairs if _spans(place, pairs) else _without_diagonals(place, _triangulated(place))
    return _triangulated(place)


def _spans(place: np.ndarray, pairs: np.ndarray) -> bool:
    """Whether edges lead in all directions: along one side of a lattice only, they leave rows of places apart."""
    step = place[pairs[:, 1]] - place[pairs[:, 0]]
    return np.linalg.matrix_rank(step, tol=1e-3 * float(np.abs(step).max()) * np.sqrt(len(step))) == place.shape[1]


def _without_diagonals(place: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Edges whose ball, from end to end, holds no third place, nor has one on its rim: the sides of a lattice."""
    ends = place[pairs]
    half = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) / 2
    third = cKDTree(place).query(ends.mean(axis=1), k=3)[0][:, 2]
    return pairs[third > half * _REACH]


def _spacing(place: np.ndarray) -> float | None:
    """Distance between neighbours on a lattice, square or hexagonal; None where distances are uneven."""
    if len(place) < 10:
        return None
    nearest = cKDTree(place).query(place, k=2)[0][:, 1]
    middle = float(np.median(nearest))
    low, high = np.quantile(nearest, [0.05, 0.95])
    return middle if middle > 0 and high - low < _EVEN * middle else None


def _triangulated(place: np.ndarray) -> np.ndarray:
    distinct, number = np.unique(place, axis=0, return_inverse=True)
    if len(distinct) < len(place):  # which a triangulation would leave out
        return _with_twins(_triangulated(distinct) if len(distinct) > 1 else np.zeros((0, 2), np.int64), number)
    try:
        corners = Delaunay(place, qhull_options="QJ Qbb" if place.shape[1] > 2 else None).simplices
    except (QhullError, ValueError):  # on a line, or too few
        return _nearest(place, place, min(6, len(place) - 1), own=True)
    sides = [corners[:, [i, j]] for i in range(corners.shape[1]) for j in range(i)]
    pairs = np.unique(np.sort(np.concatenate(sides), axis=1), axis=0).astype(np.int64)
    length = np.linalg.norm(place[pairs[:, 0]] - place[pairs[:, 1]], axis=1)
    return pairs[length <= _LONGEST * np.maximum(np.median(length), _usual(pairs, length, len(place)))]


def _usual(pairs: np.ndarray, length: np.ndarray, n: int) -> np.ndarray:
    """(m,) of each edge, the shorter of its two ends' nearest neighbours: where cells are sparse, edges are long."""
    nearest = np.full(n, np.inf)
    for end in pairs.T:
        np.minimum.at(nearest, end, length)
    return nearest[pairs].min(axis=1)


def _with_twins(pairs: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Give edges of places to cells: the first cell of each place, and all others of it, has those of the place.

    Cells of one place are joined in a chain.
    """
    order = np.argsort(number, kind="stable")
    own = number[order]
    leader = order[np.flatnonzero(np.r_[True, own[1:] != own[:-1]])]
    later = np.flatnonzero(own[1:] == own[:-1]) + 1
    twins, m = order[later], len(leader)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    beside = sparse.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(m, m))[own[later]].tocoo()
    chain = np.column_stack([order[later - 1], twins])
    return np.concatenate([leader[pairs], chain, np.column_stack([twins[beside.row], leader[beside.col]])])


def _stack_pairs(place: np.ndarray, level: np.ndarray, n_neighbors: int | None, shift: np.ndarray | None) -> np.ndarray:
    flat = place[:, :2]
    below, above = (flat, flat) if shift is None else (flat + shift[:, 0], flat + shift[:, 1])
    found, sections = [], [np.flatnonzero(level == number) for number in range(level.max() + 1)]
    for rows in sections:
        if len(rows) > 1:
            found.append(rows[_pairs(flat[rows], n_neighbors)])
    for lower, upper in zip(sections[:-1], sections[1:], strict=True):
        for one, other, asked in ((lower, upper, above), (upper, lower, below)):
            pairs = _nearest(asked[one], flat[other], _BETWEEN, own=False)
            found.append(np.column_stack([one[pairs[:, 0]], other[pairs[:, 1]]]))
    return np.concatenate(found)


def _nearest(asked: np.ndarray, among: np.ndarray, k: int, *, own: bool) -> np.ndarray:
    """(m, 2) each asked place with its k nearest; of one cloud, other than itself; far ones are left out."""
    count = min(k + own, len(among))
    distance, near = cKDTree(among).query(asked, k=np.arange(1, count + 1))
    rows = np.repeat(np.arange(len(asked)), count)
    pairs, length = np.column_stack([rows, near.ravel()]), distance.ravel()
    if own:
        return pairs[pairs[:, 0] != pairs[:, 1]]
    reach = _LONGEST * max(float(np.median(length)), 1e-300)
    return pairs[length <= reach]


def mean_of_neighbours(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    """(n, n) float64: times values, their mean over the neighbours of each cell; 0 where there are none."""
    degree = np.asarray(graph.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags_array(1 / np.maximum(degree, 1)) @ graph.astype(np.float64))


def mean_around(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    """(n, n) float64: times values, their mean over each cell and its neighbours."""
    return mean_of_neighbours(graph + sparse.eye_array(graph.shape[0], dtype=bool, format="csr"))
