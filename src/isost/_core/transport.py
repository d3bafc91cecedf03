"""Couplings between adjacent sections by sparse, unbalanced, entropic optimal transport."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from isost._core.graph import median_spacing

N_CANDIDATES = 48

# Costs count in squared reaches, so these hold in every round: the blur of a plan is a third of the reach. At first a
# cell rather stays without a place than goes further than about one and a half reaches, so that expression and not
# the outline decides; the last rounds make the outlines meet.
_EPSILON = 0.1
_RHO = (1.0, 1.0, 1.0, 1.0, 1.0, 20.0, 20.0, 20.0)
_FIRST_REACH = 1 / 3  # of the extent
_LAST_REACH = 4.0  # spacings


@dataclass(frozen=True)
class Coupling:
    """Where the cells of one section go in the next.

    Attributes
    ----------
    target
        ``(n, 2)`` barycentric position in the next section of each cell.
    change
        ``(n, P)`` difference between the local mean expression there and here.
    mass
        ``(n,)`` share of the cell's mass that arrives, 1 where all does.
    dropped
        Share of the section's mass that finds no place in the next one (0 for equal shapes).
    """

    target: np.ndarray
    change: np.ndarray
    mass: np.ndarray
    dropped: float


def sinkhorn(
    cost: sparse.csr_matrix, *, epsilon: float, rho: float = np.inf,
    masses: tuple[np.ndarray, np.ndarray] | None = None, n_iter: int = 300, tol: float = 1e-4,
) -> sparse.csr_matrix:  # fmt: skip
    """Entropic optimal transport on a sparse support, in the log domain.

    Minimises <P, C> + epsilon KL(P | a b) + rho KL(P 1 | a) + rho KL(P' 1 | b) over plans on the stored entries of
    ``cost`` (Chizat et al. 2018; ``rho=inf`` is the balanced problem). Memory is linear in the entries.

    Parameters
    ----------
    cost
        ``(n, m)`` CSR; an entry that is not stored cannot carry mass.
    epsilon, rho
        Entropic regularisation and price of mass left out, in the unit of the cost.
    masses
        ``(n,)`` and ``(m,)`` positive masses a and b, each of sum 1; without them every cell weighs the same.
    n_iter, tol
        Sinkhorn iterations at most, and the change of the potentials over epsilon at which they stop.

    Returns
    -------
    The plan, CSR ``(n, m)``, of total mass at most 1.
    """
    n, m = cost.shape
    a, b = masses if masses is not None else (np.full(n, 1 / n), np.full(m, 1 / m))
    row_of = np.repeat(np.arange(n), np.diff(cost.indptr))
    by_column = sparse.csr_matrix((np.arange(cost.nnz), cost.indices, cost.indptr), shape=cost.shape).tocsc()
    kernel = -cost.data / epsilon
    ahead, back = kernel + np.log(b)[cost.indices], (kernel + np.log(a)[row_of])[by_column.data]
    damping = 1.0 if np.isinf(rho) else rho / (rho + epsilon)
    left, right = np.zeros(n), np.zeros(m)
    for _ in range(n_iter):
        before = left
        left = -damping * _logsumexp(right[cost.indices] + ahead, cost.indptr)
        right = -damping * _logsumexp(left[by_column.indices] + back, by_column.indptr)
        if np.abs(left - before).max(initial=0.0) < tol:
            break
    data = a[row_of] * b[cost.indices] * np.exp(left[row_of] + right[cost.indices] + kernel)
    return sparse.csr_matrix((data, cost.indices, cost.indptr), shape=cost.shape)


def _logsumexp(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exponentials of each segment; a large negative number for an empty one."""
    result = np.full(len(indptr) - 1, -1e3)
    filled = np.flatnonzero(np.diff(indptr))
    if filled.size:
        starts = indptr[filled]
        top = np.maximum.reduceat(values, starts)
        spread = np.exp(values - np.repeat(top, np.diff(np.append(starts, len(values)))))
        result[filled] = top + np.log(np.add.reduceat(spread, starts))
    return result


def local_mean(coords: np.ndarray, features: np.ndarray, k: int = 20) -> np.ndarray:
    """Mean of the features of each cell and its nearest neighbours in the plane, ``(n, P)``."""
    k = min(k, len(coords))
    nearest = cKDTree(coords).query(coords, k=np.arange(1, k + 1))[1]
    mean = np.zeros_like(features)
    for column in range(k):
        mean += features[nearest[:, column]]
    return mean / k


def couple(
    coords: np.ndarray, features: np.ndarray, next_coords: np.ndarray, next_features: np.ndarray,
    *, n_candidates: int = N_CANDIDATES, feature_weight: float = 2.0,
) -> Coupling:  # fmt: skip
    """Couple a section with the next, coarse to fine.

    Each round couples by position, as warped so far, and by local mean expression, among each cell's nearest
    candidates; smooths the displacements into a warp (affine + Gaussian kernel of the residuals); and narrows the
    reach. Sections are thinned in the early rounds, so the candidates span more tissue than they do in the last.

    Parameters
    ----------
    coords, next_coords
        ``(n, 2)`` and ``(m, 2)`` positions.
    features, next_features
        ``(n, P)`` and ``(m, P)``; P may be 0.
    n_candidates
        Support of the plan: nearest cells of the next section a cell may go to.
    feature_weight
        lambda: weight of the expression beside the position; 0 couples by position alone.
    """
    here, there = local_mean(coords, features), local_mean(next_coords, next_features)
    noise = _feature_noise(coords, here) + _feature_noise(next_coords, there)
    extent = float(np.ptp(np.concatenate([coords, next_coords]), axis=0).max())
    spacing = max(median_spacing(coords), median_spacing(next_coords), extent * 1e-6)
    reaches = np.geomspace(max(_FIRST_REACH * extent, 2 * _LAST_REACH * spacing), _LAST_REACH * spacing, len(_RHO))
    warped = coords.copy()
    for reach, rho in zip(reaches, _RHO, strict=True):
        budget = int(np.clip((extent / reach) ** 2 * 24, 400, max(len(coords), len(next_coords))))
        some, others = _evenly(len(coords), budget), _evenly(len(next_coords), budget)
        weight = feature_weight / noise if noise > 0 else 0.0
        start, end = _Sample.of(warped[some], here[some]), _Sample.of(next_coords[others], there[others])
        target, mass = _barycentre(start, end, reach, weight, n_candidates, rho)
        # entropy pulls every target inwards; coupled with itself, a section shows by how much
        itself, _ = _barycentre(start, start, reach, weight, n_candidates, rho)
        shift = start.coords + target - itself - coords[some]
        warped = _smooth_warp(coords[some], shift, mass, coords, 2 * reach)
    change = _carry_back(warped, next_coords, there) - here
    arriving = _interpolate(coords[some], mass, coords)
    return Coupling(warped, change, np.clip(arriving, 0.0, 1.0), float(max(0.0, 1.0 - mass.mean())))


@dataclass(frozen=True)
class _Sample:
    """Cells of a section as a plan sees them: ``(n, 2)`` positions, ``(n, P)`` local means, ``(n,)`` areas of sum 1."""

    coords: np.ndarray
    mean: np.ndarray
    area: np.ndarray

    @classmethod
    def of(cls, coords: np.ndarray, mean: np.ndarray) -> _Sample:
        return cls(coords, mean, _area(coords))


def _barycentre(
    here: _Sample, there: _Sample, reach: float, weight: float, n_candidates: int, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean position in the next section that a plan sends each cell to, and the share of its mass that arrives."""
    plan = _plan(here, there, reach, weight, n_candidates, rho)
    mass = np.asarray(plan.sum(axis=1)).ravel()
    return (plan @ there.coords) / np.maximum(mass, 1e-300)[:, None], mass / here.area


def _plan(
    here: _Sample, there: _Sample, reach: float, weight: float, n_candidates: int, rho: float
) -> sparse.csr_matrix:
    """Unbalanced plan on the nearest candidates, in both directions so that no cell of the next section is left out."""
    n, m = len(here.coords), len(there.coords)
    k, back = min(n_candidates, m), min(n_candidates // 4 + 1, n)
    ahead = cKDTree(there.coords).query(here.coords, k=np.arange(1, k + 1))[1]
    behind = cKDTree(here.coords).query(there.coords, k=np.arange(1, back + 1))[1]
    rows = np.concatenate([np.repeat(np.arange(n), k), behind.ravel()])
    columns = np.concatenate([ahead.ravel(), np.repeat(np.arange(m), back)])
    pairs = np.unique(rows * m + columns)
    rows, columns = pairs // m, pairs % m
    cost = ((here.coords[rows] - there.coords[columns]) ** 2).sum(axis=1) / (2 * reach**2)
    for column in range(here.mean.shape[1] if weight else 0):
        cost += weight * (here.mean[rows, column] - there.mean[columns, column]) ** 2
    support = sparse.csr_matrix((cost, (rows, columns)), shape=(n, m))
    # Spreading over few cells has a price of its own under the entropy. Taken off at the median cell, what mass is
    # still left out is left out for want of a place.
    support.data += _EPSILON * np.median(_logsumexp(-support.data / _EPSILON, support.indptr) - np.log(m))
    return sinkhorn(support, epsilon=_EPSILON, rho=rho, masses=(here.area, there.area))


def _area(coords: np.ndarray, k: int = 8) -> np.ndarray:
    """Share of the tissue's area about each cell, ``(n,)``: by it a thinner stain of cells is no lack of tissue."""
    k = min(k, len(coords) - 1)
    radius = cKDTree(coords).query(coords, k=[k + 1])[0][:, 0]
    typical = float(np.median(radius))
    if typical == 0.0:
        # Most cells lie on top of as many others, as where many share a spot: their distances tell no area.
        return np.full(len(coords), 1 / len(coords))
    area = np.clip(radius / typical, 0.1**0.5, 2.0) ** 2
    return area / area.sum()


def _feature_noise(coords: np.ndarray, mean: np.ndarray) -> float:
    """Mean squared difference of the local means of cells a neighbourhood apart: what expression cannot tell apart."""
    if not mean.shape[1] or len(coords) < 3:
        return 0.0
    k = min(20, len(coords) - 1)
    other = cKDTree(coords).query(coords, k=[k + 1])[1][:, 0]
    return float(((mean - mean[other]) ** 2).sum(axis=1).mean())


def _evenly(n: int, budget: int) -> np.ndarray:
    """At most ``budget`` of n indices, spread over the order of the cells by a fixed permutation."""
    if n <= budget:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:budget])


def _smooth_warp(
    coords: np.ndarray, shift: np.ndarray, mass: np.ndarray, query: np.ndarray, bandwidth: float
) -> np.ndarray:
    """Weighted affine fit of the displacements plus a Gaussian kernel smooth of what it leaves, at ``query``."""
    centre = np.average(coords, axis=0, weights=mass)
    spread = max(float(coords.std()), 1e-300)

    def design(points: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(points)), (points - centre) / spread])

    root = np.sqrt(mass / mass.sum())[:, None]
    affine = np.linalg.lstsq(design(coords) * root, shift * root, rcond=1e-6)[0]
    left = shift - design(coords) @ affine
    k = min(64, len(coords))
    distance, near = cKDTree(coords).query(query, k=np.arange(1, k + 1))
    width = np.maximum(bandwidth, distance[:, -1:] / 2)
    kernel = mass[near] * np.exp(-0.5 * (distance / width) ** 2) + 1e-12
    smooth = np.stack([(kernel * left[near, axis]).sum(axis=1) / kernel.sum(axis=1) for axis in range(2)], axis=1)
    return query + design(query) @ affine + smooth


def _carry_back(warped: np.ndarray, next_coords: np.ndarray, next_mean: np.ndarray) -> np.ndarray:
    return next_mean[cKDTree(next_coords).query(warped)[1]]


def _interpolate(coords: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
    return values[cKDTree(coords).query(query)[1]]
