"""Mean expression and cells over depth and age: all sections in one frame, and the way from it to any depth and age.

A point y of the common frame lies at x = y - D(y; z, a) in the section at depth z and age a. D is known at the
sections; between them it is a thin-plate spline over (z, a) of the sections' displacements at y: the flows along depth
and along age, of velocities -dD/dz and -dD/da, are those of one smooth map. In the frame, scores are a Gaussian process
of x, y, depth and age (`isost._core.gaussian`), the distance along the last two being |dz| / l_z + |da| / l_a.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import linalg
from scipy.spatial import cKDTree

from isost._core.carry import Cells, as_measured, thin
from isost._core.covariance import MAX_GROUPS, Hyperparameters, Problem, aggregate, maximise, spacing_of
from isost._core.exact import FewCells
from isost._core.gap import smooth_shift
from isost._core.gaussian import Planes
from isost._core.voxelize import join
from isost._time.sheet import Sheet

_ROUNDS, _CLOSE = 12, 1e-3  # of the way back to the frame, until places move by so many spacings
_FEW = 1200  # cells for which linear algebra takes less time than a grid
_RELATIVE = (0.5, 1.0, 2.0)  # of age beside depth, each in median gaps
_LEAST = 1e-3  # weight of a section below which it does not count
_KEPT = 8


@dataclass(frozen=True, eq=False)
class Kernel4:
    """Covariance of every score, and how much distance a median gap of depth and one of age are."""

    hyper: Hyperparameters
    gaps: np.ndarray


class SheetField:
    """Scores at any place, depth and age, and cells there.

    Parameters
    ----------
    sheet
        Sections.
    shift
        (n, 2) displacements of the cells into the common frame.
    kernel
        Covariance; None to have the likeliest.
    factor
        (S,) factors of the standard deviations of the scores.
    """

    def __init__(
        self, sheet: Sheet, shift: np.ndarray, kernel: Kernel4 | None = None, factor: np.ndarray | None = None
    ) -> None:
        self.sheet, self.shift = sheet, shift
        stack = sheet.stack
        self.place = stack.coords[:, :2] + shift
        self._section = stack.section_index
        self.centre = stack.scores.mean(axis=0, dtype=np.float64)
        self.kernel = kernel or self._estimate()
        self.factor = np.ones(stack.n_scores) if factor is None else factor
        self._trees = [cKDTree(self.place[stack.slice_of(k)]) for k in range(stack.n_sections)]
        self._spline = _Spline(sheet.scaled(sheet.at))
        self._solved: dict[tuple[int, ...], _Patch] = {}

    def displacement(self, place: np.ndarray, at: np.ndarray) -> np.ndarray:
        """D (m, 2) at places (m, 2) of the frame, depths and ages (m, 2)."""
        weight = self._spline.weights(self.sheet.scaled(at))
        total = np.zeros((len(place), 2))
        stack = self.sheet.stack
        for k, tree in enumerate(self._trees):
            rows = np.flatnonzero(np.abs(weight[:, k]) > _LEAST)
            if len(rows):
                total[rows] += weight[rows, k, None] * smooth_shift(tree, self.shift[stack.slice_of(k)], place[rows])
        return total

    def to_frame(self, coords: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Places of the frame of positions (m, 2): y = x + D(y), by iteration."""
        place = coords.copy()
        tolerance = _CLOSE * spacing_of(self.sheet.stack)
        for _ in range(_ROUNDS):
            before, place = place, coords + self.displacement(place, at)
            if np.abs(place - before).max(initial=0.0) < tolerance:
                break
        return place

    def predict(self, coords: np.ndarray, *, with_variance: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean and variance (m, S) of the scores at (m, 4) x, y, depth and age."""
        return self.at(self.to_frame(coords[:, :2], coords[:, 2:]), coords[:, 2:], with_variance=with_variance)

    def at(
        self, place: np.ndarray, at: np.ndarray, *, with_variance: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Predict at places (m, 2) of the frame, depths and ages (m, 2)."""
        mean = np.zeros((len(place), len(self.centre)), np.float32) + self.centre.astype(np.float32)
        variance = np.zeros_like(mean) if with_variance else None
        distance = self._distances(at)
        for sections, share in self.sheet.patches(at).items():
            rows, solved = np.flatnonzero(share > 0), self._patch(sections)
            part = share[rows, None].astype(np.float32)
            mean[rows] += part * solved.mean(place[rows], distance[rows])
            if variance is not None:
                variance[rows] += part * solved.variance(place[rows], distance[rows]) * self.factor**2
        return mean, variance

    def draw(self, z: float, age: float, generator: torch.Generator, n: float | None = None) -> Cells:
        """Draw cells of a section from those of the sections about it, each by its weight."""
        stack, parts = self.sheet.stack, []
        for k, weight in self.sheet.about(z, age).items():
            cells = as_measured(stack, k, z)
            at = np.broadcast_to([z, age], (len(cells.row), 2))
            own = np.broadcast_to(self.sheet.at[k], at.shape)
            if not np.array_equal(at[0], own[0]):
                place = self.place[cells.row]
                change = self.at(place, at)[0] - self.at(place, own)[0]
                cells.coords[:, :2] = place - self.displacement(place, at)
                cells = replace(cells, features=cells.features + change[:, : stack.n_features])
            parts.append(replace(cells, weight=np.float32(weight) * cells.weight))
        return thin(join(parts), generator, n)

    def without(self, section: int) -> SheetField:
        """Leave the cells of a section out; displacements and covariance stay."""
        kept = self._section != section
        return SheetField(self.sheet.without(section), self.shift[kept], self.kernel)

    def scaled_by(self, factor: np.ndarray) -> SheetField:
        """Multiply the standard deviations of the scores (S,)."""
        return SheetField(self.sheet, self.shift, self.kernel, factor)

    def _distances(self, at: np.ndarray) -> np.ndarray:
        return self.sheet.scaled(at) * self.kernel.gaps

    def _patch(self, sections: tuple[int, ...]) -> _Patch:
        if sections not in self._solved:
            while len(self._solved) >= _KEPT:
                self._solved.pop(next(iter(self._solved)))
            self._solved[sections] = self._solve(sections)
        return self._solved[sections]

    def _solve(self, sections: tuple[int, ...]) -> _Patch:
        stack, hyper = self.sheet.stack, self.kernel.hyper
        rows = np.concatenate([np.arange(stack.starts[k], stack.starts[k + 1]) for k in sections])
        plane = np.repeat(np.arange(len(sections)), np.diff(stack.starts)[list(sections)])
        depths = self._distances(self.sheet.at[list(sections)])
        place, values = self.place[rows], stack.scores_of(rows) - self.centre.astype(np.float32)
        bounds = self.place.min(axis=0), self.place.max(axis=0)
        groups = []
        for covariance, columns in hyper.groups():
            solved: FewCells | Planes
            if len(rows) <= _FEW:
                solved = FewCells(place, depths[plane], covariance)
            else:
                solved = Planes(place, plane, depths, covariance, bounds)
            groups.append((columns, solved, solved.mean(values[:, columns], hyper.ratio[columns])))
        return _Patch(groups, hyper)

    def _estimate(self) -> Kernel4:
        """Of relative lengths of age and depth take the likeliest, with the likeliest covariance."""
        stack = self.sheet.stack
        scores, spacing = stack.scores - self.centre, spacing_of(stack)
        best: tuple[float, Kernel4] | None = None
        for relative in _RELATIVE:
            gaps = np.array([1.0, relative])
            depth = (self.sheet.scaled(self.sheet.at) * gaps)[self._section]
            coords = np.column_stack([self.place, depth])
            coarse = aggregate(coords, scores, self._section, 2.5 * spacing, MAX_GROUPS)
            found, likelihood = maximise([coarse, *self._windows(coords, scores, spacing)], spacing, 1.0)
            if best is None or likelihood > best[0]:
                best = likelihood, Kernel4(found, gaps)
        assert best is not None
        return best[1]

    def _windows(self, coords: np.ndarray, scores: np.ndarray, spacing: float, n: int = 2) -> list[Problem]:
        fine = aggregate(coords, scores, self._section, 2.5 * spacing, len(coords))
        if len(fine.count) <= 1.5 * MAX_GROUPS:
            return []
        tree, rng = cKDTree(fine.coords[:, :2]), np.random.default_rng(0)
        windows = []
        for start in rng.choice(len(fine.count), n, replace=False):
            near = tree.query(fine.coords[start, :2], k=min(len(fine.count), 8 * MAX_GROUPS))[1]
            away = np.abs(fine.coords[near, 2:] - fine.coords[start, 2:]).max(axis=1)
            near = near[away <= 1.5][:MAX_GROUPS]
            windows.append(Problem(fine.coords[near], fine.features[near], fine.count[near]))
        return windows


@dataclass(frozen=True, eq=False)
class _Patch:
    """Posterior given a few sections, in groups of scores that share a covariance."""

    groups: list
    hyper: Hyperparameters

    def mean(self, place: np.ndarray, depth: np.ndarray) -> np.ndarray:
        mean = np.empty((len(place), len(self.hyper.noise)), np.float32)
        for columns, solved, state in self.groups:
            mean[:, columns] = solved.at(state, place, depth)
        return mean

    def variance(self, place: np.ndarray, depth: np.ndarray) -> np.ndarray:
        variance = np.empty((len(place), len(self.hyper.noise)), np.float32)
        for columns, solved, _ in self.groups:
            ratio, same = np.unique(self.hyper.ratio[columns], return_inverse=True)
            variance[:, columns] = solved.variance(ratio, place, depth)[:, same]
        return variance * (self.hyper.noise * self.hyper.ratio).astype(np.float32)


class _Spline:
    """Weights of values at points of a plane in a thin-plate spline through them (Duchon 1977); they sum to 1."""

    def __init__(self, points: np.ndarray) -> None:
        self._points, n = points, len(points)
        affine = np.column_stack([np.ones(n), points])
        system = np.block([[self._of(points), affine], [affine.T, np.zeros((3, 3))]])
        self._inverse = linalg.pinv(system)[:, :n]  # points on a line determine less than a plane

    def weights(self, asked: np.ndarray) -> np.ndarray:
        """Weights (m, n) at points (m, 2)."""
        affine = np.column_stack([np.ones(len(asked)), asked])
        unique, member = np.unique(asked, axis=0, return_inverse=True)
        first = np.zeros(len(unique), dtype=int)
        first[member.ravel()] = np.arange(len(asked))
        rows = np.column_stack([self._of(unique), affine[first]])
        return (rows @ self._inverse)[member.ravel()]

    def _of(self, asked: np.ndarray) -> np.ndarray:
        square = ((asked[:, None] - self._points) ** 2).sum(axis=-1)
        return 0.5 * square * np.log(np.maximum(square, 1e-300))
