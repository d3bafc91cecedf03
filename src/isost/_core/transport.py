"""Couplings between adjacent sections by sparse, unbalanced, entropic optimal transport."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from isost._core.graph import median_spacing

N_CANDIDATES = 48

MASSES = ("area", "cells")

# Costs count in squared reaches, so these hold in every round: the blur of a plan is a third of the reach. At first a
# cell rather stays without a place than goes further than about one and a half reaches, so that expression and not
# the outline decides; the last rounds make the outlines meet, and where cells count, fill them.
_EPSILON = 0.1
_N_ROUNDS, _LAST_ROUNDS = 8, 3
_RHO, _LAST_RHO = 1.0, {"area": 20.0, "cells": 200.0}
_FIRST_REACH = 1 / 3  # of the extent
_LAST_REACH = 4.0  # spacings
_SHORT, _WIDER = 0.5, 4  # share of the mass of a cell below which it gets so many times the candidates
_PLACED = 0.75  # share of its mass by which a cell has its place: noise alone costs each a little
_AT_ONCE = 2**13  # entries of a cost
_TINY = 1e-300


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
        ``(n,)`` share of the tissue about the cell that finds a place within reach of where it is measured or warped
        to, 1 where all does.
    dropped
        Share of the section's area without a place (near 0 for equal shapes; less than it is where most is gone).
    """

    target: np.ndarray
    change: np.ndarray
    mass: np.ndarray
    dropped: float


def sinkhorn(
    cost: sparse.csr_matrix, *, epsilon: float, rho: float = np.inf,
    masses: tuple[np.ndarray, np.ndarray] | None = None, n_iter: int = 300, tol: float = 1e-4,
) -> sparse.csr_matrix:  # fmt: skip
    """Entropic optimal transport on a sparse support.

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
        Sinkhorn iterations at most, and the relative change of the scalings at which they stop.

    Returns
    -------
    The plan, CSR ``(n, m)``, of total mass at most 1.
    """
    n, m = cost.shape
    a, b = masses if masses is not None else (np.full(n, 1 / n), np.full(m, 1 / m))
    damping = 1.0 if np.isinf(rho) else rho / (rho + epsilon)
    # each row's smallest cost is taken out of the exponent, so that no row underflows whatever the scale of the cost
    least = _row_minima(cost) / epsilon
    gibbs = np.exp(np.repeat(least, np.diff(cost.indptr)) - cost.data / epsilon)
    kernel = sparse.csr_matrix((gibbs, cost.indices, cost.indptr), shape=cost.shape)
    transposed = kernel.T.tocsr()
    left, right = np.ones(n), np.ones(m)
    for _ in range(n_iter):
        before = left
        left = np.exp((damping - 1) * least) * np.maximum(kernel @ (b * right), _TINY) ** -damping
        right = np.maximum(transposed @ (a * left), _TINY) ** -damping
        if np.abs(left / before - 1).max(initial=0.0) < tol:
            break
    return sparse.csr_matrix(kernel.multiply((a * left)[:, None]).multiply((b * right)[None, :]))


def _row_minima(cost: sparse.csr_matrix) -> np.ndarray:
    """Smallest stored entry of each row, 0 for an empty one."""
    minima = np.zeros(cost.shape[0])
    filled = np.flatnonzero(np.diff(cost.indptr))
    if filled.size:
        minima[filled] = np.minimum.reduceat(cost.data, cost.indptr[filled])
    return minima


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
    *, n_candidates: int = N_CANDIDATES, feature_weight: float = 2.0, masses: str = "area",
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
    masses
        What is carried over: ``"area"``, tissue, of which some may have no place in the next section, or ``"cells"``,
        all alike, so that they fill the next section as densely as it was measured.
    """
    here, there = local_mean(coords, features), local_mean(next_coords, next_features)
    noise = _feature_noise(coords, here) + _feature_noise(next_coords, there)
    extent = float(np.ptp(np.concatenate([coords, next_coords]), axis=0).max())
    spacing = max(median_spacing(coords), median_spacing(next_coords), extent * 1e-6)
    reaches = np.geomspace(max(_FIRST_REACH * extent, 2 * _LAST_REACH * spacing), _LAST_REACH * spacing, _N_ROUNDS)
    free = warped = coords.copy()
    for number, reach in enumerate(reaches):
        rho = _RHO if number < _N_ROUNDS - _LAST_ROUNDS else _LAST_RHO[masses]
        if number == _N_ROUNDS - _LAST_ROUNDS:
            free = warped
        budget = int(np.clip((extent / reach) ** 2 * 24, 400, max(len(coords), len(next_coords))))
        some, others = _evenly(len(coords), budget), _evenly(len(next_coords), budget)
        weight = feature_weight / noise if noise > 0 else 0.0
        start = _Sample.of(warped[some], here[some], masses)
        end = _Sample.of(next_coords[others], there[others], masses)
        target, mass = _barycentre(start, end, reach, weight, n_candidates, rho)
        # entropy pulls every target inwards; coupled with itself, a section shows by how much
        itself, _ = _barycentre(start, start, reach, weight, n_candidates, rho)
        shift = start.coords + target - itself - coords[some]
        warped = _smooth_warp(coords[some], shift, mass, coords, 2 * reach)
    change = _nearest(next_coords, there, warped) - here
    # the last rounds make outlines meet whatever it costs, so the warp before them is asked what has a place
    start, end = _Sample.of(free[some], here[some], "area"), _Sample.of(next_coords[others], there[others], "area")
    _, placed = _barycentre(start, end, reaches[-1], weight, n_candidates, _RHO)
    arriving = np.clip(_nearest(coords[some], placed / _PLACED, coords), 0.0, 1.0)
    return Coupling(warped, change, arriving, float(_area(coords) @ (1.0 - arriving)))


@dataclass(frozen=True)
class _Sample:
    """Cells as a plan sees them: ``(n, 2)`` positions, ``(n, P)`` local means, ``(n,)`` masses of sum 1."""

    coords: np.ndarray
    mean: np.ndarray
    mass: np.ndarray

    @classmethod
    def of(cls, coords: np.ndarray, mean: np.ndarray, masses: str) -> _Sample:
        return cls(coords, mean, _area(coords) if masses == "area" else np.full(len(coords), 1 / len(coords)))


def _barycentre(
    here: _Sample, there: _Sample, reach: float, weight: float, n_candidates: int, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean position in the next section that a plan sends each cell to, and the share of its mass that arrives."""
    plan = _plan(here, there, reach, weight, n_candidates, rho)
    mass = np.asarray(plan.sum(axis=1)).ravel()
    return (plan @ there.coords) / np.maximum(mass, 1e-300)[:, None], mass / here.mass


def _plan(
    here: _Sample, there: _Sample, reach: float, weight: float, n_candidates: int, rho: float
) -> sparse.csr_matrix:
    """Unbalanced plan on the nearest candidates, in both directions so that no cell of the next section is left out.

    Cells that lose more than half of their mass are asked again with more candidates.
    """
    n, m = len(here.coords), len(there.coords)
    k, back = min(n_candidates, m), min(n_candidates // 4 + 1, n)
    tree = cKDTree(there.coords)
    ahead = tree.query(here.coords, k=np.arange(1, k + 1))[1]
    behind = cKDTree(here.coords).query(there.coords, k=np.arange(1, back + 1))[1]
    support = _pattern(ahead, m) + sparse.csr_matrix(_pattern(behind, n).T)
    plan = _solve(here, there, support, reach, weight, rho)
    short = np.flatnonzero(np.asarray(plan.sum(axis=1)).ravel() < _SHORT * here.mass)
    if short.size and k < m:
        # what has lost mass may find a place further off
        wider = tree.query(here.coords[short], k=np.arange(1, min(_WIDER * k, m) + 1))[1]
        rows = sparse.csr_matrix((np.ones(len(short)), (short, np.arange(len(short)))), shape=(n, len(short)))
        plan = _solve(here, there, support + rows @ _pattern(wider, m), reach, weight, rho)
    return plan


def _solve(
    here: _Sample, there: _Sample, support: sparse.csr_matrix, reach: float, weight: float, rho: float
) -> sparse.csr_matrix:
    """Plan on the stored entries of ``support (n, m)``."""
    support = sparse.csr_matrix(support)
    rows, columns = np.repeat(np.arange(len(here.coords)), np.diff(support.indptr)), support.indices
    support.data = ((here.coords[rows] - there.coords[columns]) ** 2).sum(axis=1) / (2 * reach**2)
    for first in range(0, len(rows) if weight else 0, _AT_ONCE):
        block = slice(first, first + _AT_ONCE)
        off = here.mean[rows[block]] - there.mean[columns[block]]
        support.data[block] += weight * np.einsum("ij,ij->i", off, off)
    # Spreading over few cells has a price of its own under the entropy. Taken off at the median cell, what mass is
    # still left out is left out for want of a place.
    least = _row_minima(support)
    spread = np.add.reduceat(np.exp((least[rows] - support.data) / _EPSILON), support.indptr[:-1])
    support.data += np.median(_EPSILON * np.log(spread / len(there.coords)) - least)
    return sinkhorn(support, epsilon=_EPSILON, rho=rho, masses=(here.mass, there.mass), n_iter=100, tol=1e-3)


def _pattern(neighbour: np.ndarray, n_columns: int) -> sparse.csr_matrix:
    """``(n, k)`` indices as a sparse matrix of ones."""
    n, k = neighbour.shape
    entries = (np.ones(n * k), neighbour.ravel(), np.arange(0, n * k + 1, k))
    return sparse.csr_matrix(entries, shape=(n, n_columns))


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


def _nearest(coords: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Values of the cells that are nearest to the places of ``query``."""
    return values[cKDTree(coords).query(query)[1]]
