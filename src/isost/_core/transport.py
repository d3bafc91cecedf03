"""Couplings between adjacent sections by sparse, unbalanced, entropic optimal transport."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from isost._core.graph import along_curve, median_spacing
from isost._core.plan import Sample, area, barycentre

N_CANDIDATES = 48

MASSES = ("area", "cells")

# At first a cell rather stays without a place than goes further than about one and a half reaches, so that expression
# and not the outline decides; the last rounds make the outlines meet, and where cells count, fill them.
_N_ROUNDS, _LAST_ROUNDS = 8, 3
_RHO, _LAST_RHO = 1.0, {"area": 20.0, "cells": 200.0}
_FIRST_REACH = 1 / 3  # of the extent
_LAST_REACH = 4.0  # spacings
_PLACED = 0.75  # share of its mass by which a cell has its place: noise alone costs each a little
_LOCAL, _SMOOTHED = 20, 64  # nearest cells of a local mean, and of a smoothed displacement


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
    # along a curve through the plane, what is near in it is near in memory
    order, next_order = along_curve(coords), along_curve(next_coords)
    found = _couple(
        coords[order], features[order], next_coords[next_order], next_features[next_order], (order, next_order),
        n_candidates=n_candidates, feature_weight=feature_weight, masses=masses,
    )  # fmt: skip
    back = np.argsort(order)
    return replace(found, target=found.target[back], change=found.change[back], mass=found.mass[back])


def _couple(
    coords: np.ndarray, features: np.ndarray, next_coords: np.ndarray, next_features: np.ndarray,
    orders: tuple[np.ndarray, np.ndarray], *, n_candidates: int, feature_weight: float, masses: str,
) -> Coupling:  # fmt: skip
    near, next_near = _nearest(coords, coords, _SMOOTHED), _nearest(next_coords, next_coords, _LOCAL + 1)
    here, there = _local_mean(features, near), _local_mean(next_features, next_near)
    noise = _feature_noise(here, near) + _feature_noise(there, next_near)
    weight = feature_weight / noise if noise > 0 else 0.0
    extent = float(np.ptp(np.concatenate([coords, next_coords]), axis=0).max())
    spacing = max(median_spacing(coords), median_spacing(next_coords), extent * 1e-6)
    reaches = np.geomspace(max(_FIRST_REACH * extent, 2 * _LAST_REACH * spacing), _LAST_REACH * spacing, _N_ROUNDS)
    budgets = np.clip((extent / reaches) ** 2 * 24, 400, max(len(coords), len(next_coords))).astype(int).tolist()
    free, warped = coords, np.array(coords, dtype=np.float64)
    for number, (reach, budget) in enumerate(zip(reaches, budgets, strict=True)):
        freely = number < _N_ROUNDS - _LAST_ROUNDS
        some, others = (_evenly(order, budget) for order in orders)
        start = Sample.of(warped[some], here[some], masses)
        end = Sample.of(next_coords[others], there[others], masses)
        plan = {"reach": reach, "weight": weight, "n_candidates": n_candidates}
        rho = _RHO if freely else _LAST_RHO[masses]
        target, mass = barycentre(start, end, rho=rho, **plan)
        # entropy pulls every target inwards; coupled with itself, a section shows by how much
        itself, _ = barycentre(start, start, rho=rho, **plan)
        shift = start.coords + target - itself - coords[some]
        # at first only the cells of the next round are asked for
        asked = _evenly(orders[0], budgets[number + 1] if number < _N_ROUNDS - _LAST_ROUNDS - 1 else len(coords))
        known = near if len(some) == len(asked) == len(coords) else _nearest(coords[some], coords[asked], _SMOOTHED)
        warped[asked] = _smooth_warp(coords[some], shift, mass, coords[asked], 2 * reach, known)
        if freely:
            free = warped.copy()
    change = there[_nearest(next_coords, warped, 1)[1][:, 0]] - here
    # the last rounds make outlines meet whatever it costs, so the warp before them is asked what has a place
    start, end = Sample.of(free[some], here[some], "area"), Sample.of(next_coords[others], there[others], "area")
    _, placed = barycentre(start, end, rho=_RHO, **plan)
    if len(some) < len(coords):
        placed = placed[_nearest(coords[some], coords, 1)[1][:, 0]]
    arriving = np.clip(placed / _PLACED, 0.0, 1.0)
    return Coupling(warped, change, arriving, float(area(coords) @ (1.0 - arriving)))


def _nearest(coords: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices ``(m, k)`` of the cells nearest to places ``(m, 2)``; all of them where they are fewer."""
    distance, near = cKDTree(coords).query(query, k=np.arange(1, min(k, len(coords)) + 1))
    return distance, near.astype(np.int32)


def _local_mean(features: np.ndarray, near: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Mean of the features of each cell and its nearest neighbours in the plane, ``(n, P)``."""
    nearest = near[1][:, :_LOCAL]
    mean = np.zeros_like(features)
    for column in nearest.T:
        mean += features[column]
    return mean / nearest.shape[1]


def _feature_noise(mean: np.ndarray, near: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean squared difference of the local means of cells a neighbourhood apart: what expression cannot tell apart."""
    if not mean.shape[1] or len(mean) < 3:
        return 0.0
    other = near[1][:, min(_LOCAL, len(mean) - 1)]
    return float(((mean - mean[other]) ** 2).sum(axis=1).mean())


def _evenly(order: np.ndarray, budget: int) -> np.ndarray:
    """At most ``budget`` of all places in an order of the cells, spread over them by a fixed permutation."""
    n = len(order)
    if n <= budget:
        return np.arange(n)
    chosen = np.zeros(n, dtype=bool)
    chosen[np.random.default_rng(0).permutation(n)[:budget]] = True
    return np.flatnonzero(chosen[order])


def _smooth_warp(
    coords: np.ndarray, shift: np.ndarray, mass: np.ndarray, query: np.ndarray, bandwidth: float,
    known: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:  # fmt: skip
    """Weighted affine fit of the displacements plus a Gaussian kernel smooth of what it leaves, at ``query``.

    The nearest of ``coords`` to each place of ``query`` are known.
    """
    centre = np.average(coords, axis=0, weights=mass)
    spread = max(float(coords.std()), 1e-300)

    def design(points: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(points)), (points - centre) / spread])

    root = np.sqrt(mass / mass.sum())[:, None]
    affine = np.linalg.lstsq(design(coords) * root, shift * root, rcond=1e-6)[0]
    left = shift - design(coords) @ affine
    distance, near = known
    width = np.maximum(bandwidth, distance[:, -1:] / 2)
    kernel = mass[near] * np.exp(-0.5 * (distance / width) ** 2) + 1e-12
    smooth = np.stack([np.einsum("ij,ij->i", kernel, column[near]) for column in left.T], axis=1)
    return query + design(query) @ affine + smooth / kernel.sum(axis=1, keepdims=True)
