"""The field inside one gap: cells of the nearest sections in a common frame, and the posterior given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from isost._core.blend import Blend, Sides
from isost._core.covariance import Hyperparameters
from isost._core.exact import FewCells
from isost._core.gaussian import Planes
from isost._core.model import SDEModel
from isost._core.paths import Paths
from isost._core.stack import Stack

_REACH = 2  # sections on either side
_SLAB = 0.125  # thickness of a plane, of the median gap
_AROUND = 16
_LEVERAGE_OF = 2000  # cells, of which the mean is taken: their leverages differ little
_FEW = 1200  # cells for which linear algebra takes less time than a grid


class GapField:
    """Posterior mean and variance of the scores between two sections.

    The cells of up to two sections on either side are carried, noise-free, to the middle of the gap, where the field
    is stationary along depth but for what the covariance lets change; each keeps the depth at which it was measured.
    A place is carried to the same frame as the cells about it are.

    Parameters
    ----------
    paths
        Of the cells.
    lower
        Index of the first of the two sections that bound the gap.
    hyper
        Covariance of every score.
    centre
        ``(P + Q,)`` mean scores.
    blend
        Simple predictor that the posterior mean is drawn towards.
    """

    def __init__(
        self, paths: Paths, lower: int, hyper: Hyperparameters, centre: np.ndarray, blend: Blend | None = None
    ) -> None:
        stack = paths.stack
        self._paths, self._stack = paths, stack
        self._hyper, self._centre = hyper, centre
        self._depths = stack.depths[[lower, lower + 1]]
        self._sections = (lower, lower + 1)
        chosen = [k for k in range(lower - _REACH + 1, lower + _REACH + 1) if 0 <= k < stack.n_sections]
        self._first = stack.starts[chosen[0]]
        rows = slice(self._first, stack.starts[chosen[-1] + 1])
        self._frame = np.concatenate([paths.at(k, paths.middle(lower)) for k in chosen])
        plane, depths = _planes(stack, chosen)
        bounds = self._frame.min(axis=0), self._frame.max(axis=0)
        values = stack.scores_of(rows) - centre.astype(np.float32)
        self._groups: list[tuple[np.ndarray, FewCells | Planes, Any]] = []
        for covariance, columns in hyper.groups():
            solved: FewCells | Planes
            if len(values) <= _FEW:
                solved = FewCells(self._frame, stack.coords[rows, 2], covariance)
            else:
                solved = Planes(self._frame, plane, depths, covariance, bounds)
            mean = solved.mean(values[:, columns], hyper.ratio[columns])
            self._groups.append((columns, solved, mean))
        self._blend = blend
        self._simple = self.sides(blend.width) if blend else None

    def sides(self, width: float) -> Sides:
        """Kernel means over the two sections that bound the gap."""
        rows = [self._stack.slice_of(k) for k in self._sections]
        place = [self._frame[one.start - self._first : one.stop - self._first] for one in rows]
        return Sides(place, [self._stack.scores_of(one) for one in rows], self._depths, width)

    def value(self, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance ``(n, P + Q)`` at ``(n, 3)`` places of the gap or a little beyond, in the input's unit."""
        place, z = self.to_frame(coords), coords[:, 2]
        return self.mean_at(place, z), self.variance_at(place, z)

    def mean(self, coords: np.ndarray) -> np.ndarray:
        """Mean alone ``(n, P + Q)``, at the same places."""
        return self.mean_at(self.to_frame(coords), coords[:, 2])

    def variance_at(self, place: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Variance ``(n, P + Q)`` at ``(n, 2)`` places of the frame and ``(n,)`` depths, float32."""
        var = np.empty((len(place), len(self._centre)), np.float32)
        for columns, solved, _ in self._groups:
            ratio, same = np.unique(self._hyper.ratio[columns], return_inverse=True)
            var[:, columns] = solved.variance(ratio, place, z)[:, same]
        var *= (self._hyper.noise * self._hyper.ratio).astype(np.float32)
        return var

    @cached_property
    def own(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Mean ``(n, P)`` of the features at the measured places of the cells of each of the two sections.

        With it ``(P,)`` the mean leverage h: the share of a cell's deviation that went into that mean, which is its
        posterior variance over the variance of a cell's noise.
        """
        found, n_features = {}, self._stack.n_features
        for section in self._sections:
            coords = self._stack.coords[self._stack.slice_of(section)]
            z = np.clip(coords[:, 2], *self._stack.depths[[0, -1]])
            place = self.to_frame(np.column_stack([coords[:, :2], z]))
            some = np.random.default_rng(0).permutation(len(z))[:_LEVERAGE_OF]
            leverage = self.variance_at(place[some], z[some]).mean(axis=0) / np.maximum(self._hyper.noise, 1e-300)
            found[section] = self.mean_at(place, z)[:, :n_features], leverage[:n_features]
        return found

    def mean_at(self, place: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Mean ``(n, P + Q)`` at ``(n, 2)`` places of the frame and ``(n,)`` depths, float32."""
        mean = np.empty((len(place), len(self._centre)), np.float32)
        for columns, solved, state in self._groups:
            mean[:, columns] = solved.at(state, place, z)
        mean += self._centre.astype(np.float32)
        if self._blend and self._simple:
            simple, known = self._simple.at(place, z, self._blend.sharpness)
            mean += known[:, None] * self._blend.weight * (simple - mean)
        return mean

    def to_frame(self, coords: np.ndarray) -> np.ndarray:
        """Carry places to the frame by what the cells about them are carried by, between the depths of Euler steps."""
        if not self._paths.model.config["moving"]:
            return coords[:, :2]
        before, after = self._paths.beyond(self._sections[0])
        levels = np.concatenate([before, self._paths.levels(self._sections[0]), after])
        weight = hat_weights(coords[:, 2], levels)
        place = coords[:, :2].copy()
        for level in np.flatnonzero((weight > 0).any(axis=0)):
            rows = np.flatnonzero(weight[:, level])
            place[rows] += weight[rows, level, None] * smooth_shift(
                *self._shift(float(levels[level])), coords[rows, :2]
            )
        return place

    def _shift(self, z: float) -> tuple[cKDTree, np.ndarray]:
        """Where cells are at a depth, and how far each then is from its place in the frame."""
        place, rows, _ = self._paths.clouds(z)
        known = (rows >= self._first) & (rows < self._first + len(self._frame))
        return cKDTree(place[known]), self._frame[rows[known] - self._first] - place[known]


def hat_weights(z: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Linear interpolation from ``(L,)`` rising levels to ``(n,)`` depths, as ``(n, L)`` weights."""
    return np.stack([np.interp(z, levels, row) for row in np.eye(len(levels))], axis=1)


def smooth_shift(tree: cKDTree, shift: np.ndarray, places: np.ndarray) -> np.ndarray:
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
    for gap in np.unique(np.linspace(0, stack.n_sections - 2, n_gaps).round().astype(int)).tolist():
        chosen = [k for k in range(gap - _REACH + 1, gap + 1 + _REACH) if 0 <= k < stack.n_sections]
        part, paths = stack.select(chosen), Paths(model, stack, only=gap)
        place = np.concatenate([paths.at(k, paths.middle(gap)) for k in chosen])
        views.append(replace(part, coords=np.column_stack([place, part.coords[:, 2]])))
    return views


def _planes(stack: Stack, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Plane of each cell of adjacent sections and depths of the planes; a thick section counts as several thin ones."""
    of_section = [stack.coords[stack.slice_of(k), 2] for k in chosen]
    thick = _SLAB * float(np.median(np.diff(stack.depths)))
    slabs = [np.floor((z - stack.depths[0]) / thick) * (np.ptp(z) >= thick) for z in of_section]
    z, section = np.concatenate(of_section), np.repeat(chosen, [len(z) for z in of_section])
    _, plane = np.unique(np.column_stack([section, np.concatenate(slabs)]), axis=0, return_inverse=True)
    plane = plane.ravel()
    return plane, np.bincount(plane, z) / np.bincount(plane)
