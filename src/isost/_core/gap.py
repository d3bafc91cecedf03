"""The field inside one gap: cells of the nearest sections in a common frame, and the posterior given them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from isost._core.blend import Blend, Sides
from isost._core.carry import carried_to, sweep
from isost._core.covariance import Hyperparameters
from isost._core.exact import FewCells
from isost._core.gaussian import Planes
from isost._core.model import SDEModel
from isost._core.stack import Stack

_REACH = 2  # sections on either side
_SLAB = 0.125  # thickness of a plane, of the median gap
_AROUND = 16
_FEW = 1200  # cells for which linear algebra takes less time than a grid
OVERLAP = 0.25  # of a gap: so far into the next ones a gap's field is asked


class GapField:
    """Posterior mean and variance of the scores between two sections.

    The cells of up to two sections on either side are carried, noise-free, to the middle of the gap, where the field
    is stationary along depth but for what the covariance lets change; each keeps the depth at which it was measured.
    A place is carried to the same frame as the cells about it are.

    Parameters
    ----------
    model, stack
        What carries the cells, and the cells.
    lower, upper
        Indices of the sections that bound the gap.
    hyper
        Covariance of every score.
    centre
        ``(P + Q,)`` mean scores.
    blend
        Simple predictor that the posterior mean is drawn towards.
    """

    def __init__(
        self, model: SDEModel, stack: Stack, lower: int, upper: int, hyper: Hyperparameters, centre: np.ndarray,
        blend: Blend | None = None,
    ) -> None:  # fmt: skip
        self._model, self._stack = model, stack
        self._hyper, self._centre = hyper, centre
        self._depths = stack.depths[[lower, upper]]
        self._sections = (lower, upper)
        middle = float(self._depths.mean())
        chosen = [k for k in range(lower - _REACH + 1, upper + _REACH) if 0 <= k < stack.n_sections]
        rows = np.concatenate([np.arange(stack.starts[k], stack.starts[k + 1]) for k in chosen])
        self._frame = np.full((stack.n_cells, 2), np.nan, dtype=np.float64)
        for k in chosen:
            self._frame[stack.slice_of(k)] = carried_to(model, stack, k, middle)
        plane, depths = _planes(stack, rows)
        bounds = self._frame[rows].min(axis=0), self._frame[rows].max(axis=0)
        rng = np.random.default_rng(0)
        values = stack.scores[rows]
        self._groups: list[tuple[np.ndarray, FewCells | Planes, Any]] = []
        for covariance, columns in hyper.groups():
            solved: FewCells | Planes
            if len(rows) <= _FEW:
                solved = FewCells(self._frame[rows], stack.coords[rows, 2], covariance)
            else:
                solved = Planes(self._frame[rows], plane, depths, covariance, bounds)
            mean = solved.mean(values[:, columns] - centre[columns], hyper.ratio[columns])
            self._groups.append((columns, solved, mean))
        self._spreads: list[tuple[np.ndarray, FewCells | Planes, Any]] = []
        for number, ratio, columns in hyper.alike():
            solved = self._groups[number][1]
            self._spreads.append((columns, solved, solved.spread(ratio, rng)))
        self._blend = blend
        self._simple = self.sides(blend.width) if blend else None

    def sides(self, width: float) -> Sides:
        """Kernel means over the two sections that bound the gap."""
        rows = [self._stack.slice_of(k) for k in self._sections]
        scores = self._stack.scores
        return Sides([self._frame[one] for one in rows], [scores[one] for one in rows], self._depths, width)

    def value(self, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance ``(n, P + Q)`` at ``(n, 3)`` places of the gap or a little beyond, in the input's unit."""
        place, z = self.to_frame(coords), coords[:, 2]
        var = np.empty((len(coords), len(self._centre)))
        prior = self._hyper.noise * self._hyper.ratio
        for columns, solved, spread in self._spreads:
            var[:, columns] = prior[columns] * solved.variance(spread, place, z)[:, None]
        return self._mean(place, z), var

    def mean(self, coords: np.ndarray) -> np.ndarray:
        """Mean alone ``(n, P + Q)``, at the same places."""
        return self._mean(self.to_frame(coords), coords[:, 2])

    @cached_property
    def own(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Mean ``(n, P)`` of the features at the measured places of the cells of each of the two sections.

        With it ``(P,)`` the mean leverage h: the share of a cell's deviation that went into that mean, which is its
        posterior variance over the variance of a cell's noise.
        """
        found, n_features = {}, self._stack.n_features
        for section in self._sections:
            coords = self._stack.coords[self._stack.slice_of(section)]
            inside = np.clip(coords[:, 2], *self._stack.depths[[0, -1]])
            mean, var = self.value(np.column_stack([coords[:, :2], inside]))
            leverage = var.mean(axis=0) / np.maximum(self._hyper.noise, 1e-300)
            found[section] = mean[:, :n_features].astype(np.float32), leverage[:n_features]
        return found

    def _mean(self, place: np.ndarray, z: np.ndarray) -> np.ndarray:
        mean = np.empty((len(place), len(self._centre)))
        for columns, solved, state in self._groups:
            mean[:, columns] = solved.at(state, place, z)
        mean += self._centre
        if self._blend and self._simple:
            simple, known = self._simple.at(place, z, self._blend.sharpness)
            mean += known[:, None] * self._blend.weight * (simple - mean)
        return mean

    def to_frame(self, coords: np.ndarray) -> np.ndarray:
        """Carry places to the frame by what the cells about them are carried by, between the depths of Euler steps."""
        if not self._model.config["moving"]:
            return coords[:, :2]
        levels = self._levels()
        weight = hat_weights(coords[:, 2], levels)
        needed = np.flatnonzero((weight > 0).any(axis=0))
        place = coords[:, :2].copy()
        for level, (tree, shift) in zip(needed, self._shifts(levels[needed]), strict=True):
            rows = np.flatnonzero(weight[:, level])
            place[rows] += weight[rows, level, None] * _smooth(tree, shift, coords[rows, :2])
        return place

    def _levels(self) -> np.ndarray:
        """Depths of the Euler steps in the gap, and how far into the next gaps the field is asked."""
        (low, high), depths = self._depths, self._stack.depths
        levels = euler_depths(self._model, low, high)
        before = depths[: self._sections[0]][-1:] * OVERLAP + low * (1 - OVERLAP)
        after = depths[self._sections[1] + 1 :][:1] * OVERLAP + high * (1 - OVERLAP)
        return np.concatenate([before, levels, after])

    def _shifts(self, depths: np.ndarray) -> list[tuple[cKDTree, np.ndarray]]:
        """Where cells are at each depth, and how far each then is from its place in the frame."""
        shifts = []
        for cells in sweep(self._model, self._stack, depths):
            known = ~np.isnan(self._frame[cells.row, 0])
            place = cells.coords[known, :2]
            shifts.append((cKDTree(place), self._frame[cells.row[known]] - place))
        return shifts


def euler_depths(model: SDEModel, low: float, high: float) -> np.ndarray:
    """Depths of the Euler steps of a gap, both ends included, in the input's unit."""
    steps = model.n_steps((high - low) / model.config["depth_unit"])
    return np.append(low + (high - low) * np.arange(steps) / steps, high)


def hat_weights(z: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Linear interpolation from ``(L,)`` rising levels to ``(n,)`` depths, as ``(n, L)`` weights."""
    return np.stack([np.interp(z, levels, row) for row in np.eye(len(levels))], axis=1)


def _smooth(tree: cKDTree, shift: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Mean shift of the nearest cells, by a Gaussian of half the distance of the farthest of them."""
    k = min(_AROUND, len(shift))
    distance, near = tree.query(places, k=np.arange(1, k + 1))
    weight = np.exp(-2 * (distance / np.maximum(distance[:, -1:], 1e-300)) ** 2)
    return (weight[..., None] * shift[near]).sum(axis=1) / weight.sum(axis=1, keepdims=True)


def aligned_views(model: SDEModel, stack: Stack, *, n_gaps: int = 3) -> list[Stack]:
    """Sections about a few gaps, each with its cells carried to the middle of it; the stack where nothing moves."""
    if not model.config["moving"]:
        return [stack]
    views = []
    for gap in np.unique(np.linspace(0, stack.n_sections - 2, n_gaps).round().astype(int)):
        chosen = [k for k in range(gap - _REACH + 1, gap + 1 + _REACH) if 0 <= k < stack.n_sections]
        middle = float(stack.depths[gap : gap + 2].mean())
        part = stack.select(chosen)
        place = np.concatenate([carried_to(model, stack, k, middle) for k in chosen])
        views.append(replace(part, coords=np.column_stack([place, part.coords[:, 2]])))
    return views


def _planes(stack: Stack, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the plane of each row and depths of the planes; a thick section counts as several thin ones."""
    section, z = stack.section_index[rows], stack.coords[rows, 2]
    slab = np.floor((z - stack.depths[0]) / (_SLAB * float(np.median(np.diff(stack.depths))))).astype(np.int64)
    thin = np.array([np.ptp(stack.coords[stack.slice_of(k), 2]) for k in range(stack.n_sections)])
    slab[thin[section] < _SLAB * np.median(np.diff(stack.depths))] = 0
    _, plane = np.unique(np.column_stack([section, slab]), axis=0, return_inverse=True)
    plane = plane.ravel()
    return plane, np.bincount(plane, z) / np.bincount(plane)
