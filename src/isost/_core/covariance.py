"""Lengths and noise of every feature's covariance, by marginal likelihood on small exact problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import eigh
from scipy.spatial import cKDTree

from isost._core.gaussian import Covariance
from isost._core.graph import median_spacing
from isost._core.lags import lags
from isost._core.stack import Stack

_LENGTHS = np.array([0.35, 0.7, 1.4, 2.8, 5.6])  # of 2.5 spacings
_DEPTH_LENGTHS = np.array([0.5, 1.0, 2.0, 4.0, 8.0])  # of the median gap
_RATIOS = np.geomspace(1e-3, 100, 16)
MAX_GROUPS = 500  # aggregated cells in an exact problem
_N_WINDOWS = 2


@dataclass(frozen=True)
class Hyperparameters:
    """One value for every one of the P + Q scores of a stack.

    Attributes
    ----------
    length, depth_length
        ``(P + Q,)`` lengths of the short component, in the unit of the coordinates.
    ratio
        ``(P + Q,)`` variance of the field over the variance of a cell about it.
    noise
        ``(P + Q,)`` variance of a cell about the field.
    """

    length: np.ndarray
    depth_length: np.ndarray
    ratio: np.ndarray
    noise: np.ndarray

    def groups(self) -> list[tuple[Covariance, np.ndarray]]:
        """Features that share a covariance, each group with the columns that belong to it."""
        pairs = np.stack([self.length, self.depth_length], axis=1)
        unique, member = np.unique(pairs, axis=0, return_inverse=True)
        return [(Covariance(*pair), np.flatnonzero(member.ravel() == i)) for i, pair in enumerate(unique.tolist())]


def estimate(stack: Stack, *, views: Sequence[Stack] | None = None, seed: int = 0) -> Hyperparameters:
    """Maximise the summed marginal likelihood of a coarse view of the stack and of a few fine windows.

    In each problem neighbouring cells of a section are aggregated, with noise over their number; an
    eigendecomposition per pair of lengths then gives the likelihood for every feature and every noise ratio.

    Parameters
    ----------
    stack
        What the lengths that are tried, and the mean, are taken from.
    views
        Parts of the stack with their cells in a common frame, where the tissue moves: unmoved, a pattern that is
        carried along looks like one that changes. By default the stack as it is.
    seed
        Of the windows.
    """
    spacing = spacing_of(stack)
    centre = stack.scores.mean(axis=0, dtype=np.float64)
    rng = np.random.default_rng(seed)
    problems = [problem for view in views or [stack] for problem in _problems(view, centre, 2.5 * spacing, rng)]
    return maximise(problems, spacing, float(np.median(np.diff(stack.depths))))[0]


def maximise(problems: Sequence[Problem], spacing: float, gap: float) -> tuple[Hyperparameters, float]:
    """Hyperparameters of the greatest likelihood, which is summed over problems, and that likelihood of all features.

    Parameters
    ----------
    spacing, gap
        Distance of neighbouring cells, and of sections along depth, that lengths are tried about.
    """
    lengths, depth_lengths = 2.5 * spacing * _LENGTHS, gap * _DEPTH_LENGTHS
    n_scores = problems[0].features.shape[1]
    likelihood = np.zeros((len(lengths), len(depth_lengths), len(_RATIOS), n_scores))
    noise = np.zeros_like(likelihood)
    for problem in problems:
        for i, length in enumerate(lengths):
            for j, depth_length in enumerate(depth_lengths):
                score, variance = problem.evaluate(Covariance(float(length), float(depth_length)))
                likelihood[i, j] += score
                noise[i, j] += variance / len(problems)
    each = likelihood.reshape(np.prod(likelihood.shape[:3], dtype=int), n_scores)
    best = each.argmax(axis=0)
    i, j, r = np.unravel_index(best, likelihood.shape[:3])
    found = Hyperparameters(lengths[i], depth_lengths[j], _RATIOS[r], noise[i, j, r, np.arange(n_scores)])
    return found, float(each.max(axis=0).sum())


def spacing_of(stack: Stack) -> float:
    """Median over sections of the median distance to the nearest neighbour in the plane; the extent if all coincide."""
    spacings = [median_spacing(stack.coords[stack.slice_of(k)]) for k in range(stack.n_sections)]
    known = [spacing for spacing in spacings if spacing > 0]
    return float(np.median(known)) if known else stack.scaling.xy


@dataclass(frozen=True)
class Problem:
    """Aggregated cells: ``(g, 2 + D)`` mean positions, ``(g, P)`` mean features, ``(g,)`` numbers of cells."""

    coords: np.ndarray
    features: np.ndarray
    count: np.ndarray

    def evaluate(self, covariance: Covariance) -> tuple[np.ndarray, np.ndarray]:
        """Profile log likelihood ``(R, P)`` and the noise variance that attains it, for every ratio."""
        plane, z = self.coords[:, :2], self.coords[:, 2:]
        square = (plane**2).sum(axis=1)
        lag = np.maximum(square[:, None] + square[None] - 2 * plane @ plane.T, 0.0)
        root = np.sqrt(self.count)
        matrix = root[:, None] * covariance.of(lag, lags(z, z)) * root
        values, vectors = eigh(matrix)
        white = (vectors.T @ (root[:, None] * self.features)) ** 2
        n = len(self.count)
        scores, variances = [], []
        for ratio in _RATIOS:
            spread = ratio * np.maximum(values, 0.0) + 1.0
            variance = np.maximum((white / spread[:, None]).mean(axis=0), 1e-300)
            scores.append(-0.5 * n * np.log(variance) - 0.5 * np.log(spread).sum())
            variances.append(variance)
        return np.array(scores), np.array(variances)


def _problems(stack: Stack, centre: np.ndarray, side: float, rng: np.random.Generator) -> list[Problem]:
    scores = stack.scores - centre
    coarse = aggregate(stack.coords, scores, stack.section_index, side, MAX_GROUPS)
    fine = aggregate(stack.coords, scores, stack.section_index, side, stack.n_cells)
    if len(fine.count) <= 1.5 * MAX_GROUPS:
        return [fine]
    windows = []
    tree = cKDTree(fine.coords[:, :2])
    for place in rng.choice(len(fine.count), _N_WINDOWS, replace=False):
        # sections far along depth would spread a window too thin in the plane
        near = tree.query(fine.coords[place, :2], k=min(len(fine.count), 8 * MAX_GROUPS))[1]
        around = np.abs(fine.coords[near, 2] - fine.coords[place, 2])
        depths = np.sort(np.unique(np.abs(stack.depths - fine.coords[place, 2])))[:4]
        chosen = near[around <= depths[-1] + 1e-9][:MAX_GROUPS]
        windows.append(Problem(fine.coords[chosen], fine.features[chosen], fine.count[chosen]))
    return [coarse, *windows]


def aggregate(coords: np.ndarray, features: np.ndarray, section: np.ndarray, side: float, at_most: int) -> Problem:
    """Means over squares of a section (and slabs of it, where it is thick), doubled in area until few enough."""
    corner = coords.min(axis=0)
    while True:
        cell = np.floor((coords - corner) / side).astype(np.int64)
        _, member, count = np.unique(np.column_stack([section, cell]), axis=0, return_inverse=True, return_counts=True)
        if len(count) <= at_most:
            break
        side *= np.sqrt(max(2.0, len(count) / at_most / 2))
    ones = (np.ones(len(coords)), (member.ravel(), np.arange(len(coords))))
    mean = sparse.csr_matrix(ones, shape=(len(count), len(coords))).multiply(1 / count[:, None]).tocsr()
    return Problem(mean @ coords, mean @ features, count.astype(np.float64))
