"""Where the tissue of a section goes on in the sections beside it, by the expression of both."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from isost._domains.features import Features
from isost._domains.graph import mean_around, stacks
from isost._domains.slow import by_parts, slow_axes
from isost._logging import logger

_DEGREE = 2  # of the polynomials that a map is made of
_CANDIDATES, _STEPS = 24, 10  # cells of the other section that are looked at, and how often
_SLOW = 8  # combinations of genes that are compared
_CELLS = 5_000  # of a section, that its map is fitted on
_FEWEST = 100  # cells of a section that has a map
_RIDGE = 0.01
_SURE = 4.0  # standard errors by which expression is more alike where a map leads


def tissue_shift(
    features: Features, graph: sparse.csr_matrix, coords: np.ndarray, sample: np.ndarray
) -> np.ndarray | None:
    """Find how far the tissue of stacks shifts from section to section.

    From no shift at all, cells step to where, among the cells of the other section around the place that a map leads
    to, surroundings are like their own (mean shift; Comaniciu & Meer 2002), and the map, a polynomial in x and y, is
    fitted to the steps. It is kept if it makes expression more alike than no map does.

    Parameters
    ----------
    graph
        (n, n) of neighbours; those in other sections are not used.

    Returns
    -------
    (n, 2, 2) float64: of each cell the shift in x and y to the section before and to that after its own. None where
    nothing shifts.
    """
    found = list(stacks(coords, sample))
    if not found:
        return None
    level = np.full(len(coords), -1)
    for rows, own in found:
        level[rows] = own
    pairs = graph.tocoo()
    inside = level[pairs.row] == level[pairs.col]
    within = sparse.csr_matrix((pairs.data[inside], (pairs.row[inside], pairs.col[inside])), shape=graph.shape)
    axes = slow_axes(features, within, _SLOW, np.random.default_rng(0))
    scores = by_parts(features, lambda x: x @ axes)
    steps = mean_around(within)
    around = steps @ (steps @ scores)
    shift = np.zeros((len(coords), 2, 2))
    for rows, own in found:
        shift[rows] = _through(scores[rows], around[rows], coords[rows, :2], own)
    far = np.linalg.norm(shift, axis=2)
    if not far.any():
        return None
    logger.info("spatial_domains: the tissue shifts by up to %.3g in x, y between sections, and is followed", far.max())
    return shift


def _through(scores: np.ndarray, around: np.ndarray, place: np.ndarray, level: np.ndarray) -> np.ndarray:
    shift = np.zeros((len(place), 2, 2))
    sections = [np.flatnonzero(level == number) for number in range(level.max() + 1)]
    for rows in sections:  # measured apart, they may differ in the mean
        middle = around[rows].mean(axis=0)
        scores[rows] -= middle
        around[rows] -= middle
    for lower, upper in pairwise(sections):
        for side, one, other in ((1, lower, upper), (0, upper, lower)):
            if min(len(one), len(other)) >= _FEWEST:
                shift[one, side] = _shift(scores[one], around[one], place[one], around[other], place[other])
    return shift


def _shift(scores: np.ndarray, own: np.ndarray, place: np.ndarray, there: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(n, 2) from one section to another, 0 where that is as good."""
    tree = cKDTree(goal)
    some = np.linspace(0, len(place) - 1, min(len(place), _CELLS)).astype(int)
    basis = _polynomials((place - place.mean(axis=0)) / np.maximum(place.std(axis=0), 1e-12))
    seen = basis[some]
    inverse = np.linalg.inv(seen.T @ seen / len(some) + _RIDGE * np.diag([0.0, *np.ones(basis.shape[1] - 1)]))
    weights = np.zeros((basis.shape[1], 2))
    spread = np.maximum(np.concatenate([own, there]).std(axis=0), 1e-12)
    mine, theirs = own[some] / spread, there / spread
    for _ in range(_STEPS):
        found = tree.query(place[some] + seen @ weights, k=min(_CANDIDATES, len(goal)))[1]
        unlike = ((theirs[found] - mine[:, None]) ** 2).sum(axis=2)
        least = unlike.min(axis=1, keepdims=True)
        alike = np.exp((least - unlike) / max(2 * float(np.median(least)), 1e-12))
        alike /= alike.sum(axis=1, keepdims=True)
        step = np.einsum("nk,nkd->nd", alike, goal[found]) - goal[found].mean(axis=1)
        weights += inverse @ (seen.T @ step / len(some))
    shift = basis @ weights
    gain = np.subtract(*[((scores[some] - there[tree.query(at[some])[1]]) ** 2).sum(axis=1)
                         for at in (place, place + shift)])  # fmt: skip
    return shift if gain.mean() > _SURE * gain.std() / np.sqrt(len(gain)) else np.zeros_like(shift)


def _polynomials(at: np.ndarray) -> np.ndarray:
    """(n, 6) of two coordinates, up to the second degree, each of a mean square of one."""
    powers = [at[:, 0] ** i * at[:, 1] ** (degree - i) for degree in range(_DEGREE + 1) for i in range(degree + 1)]
    columns = np.column_stack(powers)
    return columns / np.maximum(np.sqrt((columns**2).mean(axis=0)), 1e-12)
