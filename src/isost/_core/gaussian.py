"""Gaussian-process regression over planes: linear in cells, through white noise on a grid.

The prior of one feature is the sum of a short and a long component of equal variance. Each is stationary in the plane
(Gaussian covariance of length l, or 3 l) and Markov along depth (exponential of length d, or 3 d), and is written as
f = B (C x Gx x Gy) v with white noise v on a grid, a Cholesky factor C of the depths' covariance, and B the bilinear
read-out at the cells (structured kernel interpolation, Wilson & Nickisch 2015). The posterior mean of v solves
(I + L' B' N^-1 B L) v = L' B' N^-1 y, whose eigenvalues start at one, by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

_LONG = 3.0  # length of the long component over that of the short one
_STEPS_PER_LENGTH = 2.0
_MAX_SIDE = 1500
_AWAY = 3.0  # lengths from the nearest cell beyond which a place knows nothing
_PADDING = 1.5  # lengths by which the grid is larger still: its prior variance falls off at the rim
_BLOCK = 64  # rows of a banded product at once
_TINY = 1e-30
_N_SAMPLES = 16
_MAX_ENTRIES = 4_000_000  # of the white noise that is solved for at once


@dataclass(frozen=True)
class Covariance:
    """Hyperparameters that a group of features shares.

    Attributes
    ----------
    length, depth_length
        l and d of the short component, in the unit of the coordinates.
    """

    length: float
    depth_length: float

    def of(self, lag: np.ndarray, depth_lag: np.ndarray) -> np.ndarray:
        """Correlation at squared distances in the plane and absolute differences of depth."""
        short = np.exp(-lag / (2 * self.length**2) - depth_lag / self.depth_length)
        long = np.exp(-lag / (2 * (_LONG * self.length) ** 2) - depth_lag / (_LONG * self.depth_length))
        return 0.5 * (short + long)

    def components(self) -> list[tuple[float, float]]:
        return [(self.length, self.depth_length), (_LONG * self.length, _LONG * self.depth_length)]


class Planes:
    """Posterior of a group of features given cells in planes at a few depths.

    Parameters
    ----------
    coords
        ``(n, 2)`` positions of the cells in one common frame.
    plane
        ``(n,)`` index of each cell's plane.
    depths
        ``(K,)`` depths of the planes.
    covariance
        Of the group.
    bounds
        Corners ``(low (2,), high (2,))`` of what is asked for.
    """

    def __init__(
        self, coords: np.ndarray, plane: np.ndarray, depths: np.ndarray, covariance: Covariance,
        bounds: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        self._parts = [_Component(coords, plane, depths, *lengths, bounds) for lengths in covariance.components()]
        # float32 throughout: the solve stops at a residual of a thousandth
        self._read = sparse.csr_matrix(sparse.hstack([part.read for part in self._parts]), dtype=np.float32)
        self._normal = sparse.csr_matrix(self._read.T @ self._read)
        self._cut = self._parts[0].size

    def mean(self, values: np.ndarray, ratio: np.ndarray) -> list[np.ndarray]:
        """Posterior mean of each component on its grid, float32.

        Parameters
        ----------
        values
            ``(n, C)`` centred features.
        ratio
            ``(C,)`` variance of the prior over that of a cell's noise.
        """
        return self._solve(self._read.T @ values, ratio, None)

    def spread(self, ratio: float, rng: np.random.Generator, *, n_samples: int = _N_SAMPLES) -> list[np.ndarray]:
        """State that `variance` is computed from: draws of the posterior less its mean, for a prior of variance one."""
        noise = rng.standard_normal((self._read.shape[0], n_samples)) / np.sqrt(ratio)
        prior = rng.standard_normal((self._read.shape[1], n_samples))
        return self._solve(self._read.T @ noise, np.full(n_samples, ratio), prior)

    def at(self, state: list[np.ndarray], coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Read grids at ``(m, 2)`` places of the frame and ``(m,)`` depths: ``(m, C)``."""
        short, long = (part.at(grid, coords, z) for part, grid in zip(self._parts, state, strict=True))
        return short + long

    def variance(self, state: list[np.ndarray], coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Posterior variance ``(m,)``, for a prior of variance one.

        The field along depth is Markov, so that what the planes leave open between them is independent of the cells.
        """
        return (self.at(state, coords, z) ** 2).mean(axis=1) + self.between(z)

    def between(self, z: np.ndarray) -> np.ndarray:
        """Variance ``(m,)`` that the field at the planes leaves open at ``(m,)`` depths, of a prior of variance one."""
        return np.mean([part.between(z) for part in self._parts], axis=0)

    def _solve(self, data: np.ndarray, ratio: np.ndarray, prior: np.ndarray | None) -> list[np.ndarray]:
        ratio = ratio.astype(np.float32)
        right = self._factor(data.astype(np.float32), transpose=True) * ratio
        if prior is not None:
            # perturb and optimise: the solution then is a draw from the posterior about its mean
            right += prior.astype(np.float32)
        at_once = max(1, _MAX_ENTRIES // len(right))
        grids = np.empty(right.shape, dtype=np.float32)
        for first in range(0, right.shape[1], at_once):
            block = slice(first, first + at_once)

            def operator(v: np.ndarray, share: np.ndarray = ratio[block]) -> np.ndarray:
                return v + share * self._factor(self._normal @ self._factor(v), transpose=True)

            grids[:, block] = self._factor(_conjugate_gradients(operator, right[:, block]))
        return np.split(grids, [self._cut])

    def _factor(self, white: np.ndarray, *, transpose: bool = False) -> np.ndarray:
        parts = zip(self._parts, np.split(white, [self._cut]), strict=True)
        return np.concatenate([part.factor(piece, transpose=transpose) for part, piece in parts])


class _Component:
    """One length scale: grid, factors of its covariance, and bilinear read-out."""

    def __init__(
        self, coords: np.ndarray, plane: np.ndarray, depths: np.ndarray, length: float, depth_length: float,
        bounds: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        corners = np.stack([bounds[0] - _AWAY * length, bounds[1] + _AWAY * length])
        self._folds = [_folded(coords[:, axis], corners[:, axis], 2 * _AWAY * length) for axis in (0, 1)]
        span = np.array([position[-1] - position[0] for _, position in self._folds]) + 2 * _PADDING * length
        self._step = max(length / _STEPS_PER_LENGTH, float(span.max()) / _MAX_SIDE)
        self._shape = tuple(int(n) for n in np.ceil(span / self._step).astype(int) + 2)
        self._padding = _PADDING * length
        self._points = self._shape[0] * self._shape[1]
        self._depths, self._depth_length = depths, depth_length
        self._along = [_root(n, length / self._step) * 0.5**0.25 for n in self._shape]
        self._reach = _reach(length / self._step)
        covariance = np.exp(-np.abs(depths[:, None] - depths[None]) / depth_length) + 1e-9 * np.eye(len(depths))
        self._across = np.linalg.cholesky(covariance).astype(np.float32)
        self._precision = np.linalg.inv(covariance)
        self.size = self._points * len(depths)
        local = self._bilinear(coords)
        columns = local.indices + np.repeat(plane.astype(np.int64), 4) * self._points
        self.read = sparse.csr_matrix((local.data, columns, local.indptr), shape=(len(coords), self.size))

    def factor(self, white: np.ndarray, *, transpose: bool) -> np.ndarray:
        """Apply (C x Gx x Gy), or its transpose; the G are symmetric."""
        n_columns = white.shape[1]
        n_depths, (n_x, n_y) = len(self._depths), self._shape
        x = (self._across.T if transpose else self._across) @ white.reshape(n_depths, -1)
        x = _banded(self._along[0], x.reshape(n_depths, n_x, n_y * n_columns), self._reach)
        x = _banded(self._along[1], x.reshape(n_depths * n_x, n_y, n_columns), self._reach)
        return x.reshape(self.size, n_columns)

    def between(self, z: np.ndarray) -> np.ndarray:
        """1 - k' C^-1 k: nothing at the planes, growing with the distance from them."""
        near = self._towards(z)
        return np.maximum(1 - (near @ self._precision * near).sum(axis=1), 0.0)

    def _towards(self, z: np.ndarray) -> np.ndarray:
        return np.exp(-np.abs(z[:, None] - self._depths) / self._depth_length)

    def at(self, grid: np.ndarray, coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        weights = self._towards(z) @ self._precision
        local = self._bilinear(coords).astype(np.float32)
        planes = grid.reshape(len(self._depths), self._points, -1)
        return sum(weights[:, [k]] * (local @ plane) for k, plane in enumerate(planes))

    def _bilinear(self, coords: np.ndarray) -> sparse.csr_matrix:
        inside = [np.interp(x, *fold) for x, fold in zip(coords.T, self._folds, strict=True)]
        place = (np.stack(inside, axis=1) + self._padding) / self._step
        corner = np.floor(place).astype(np.int64)
        part = place - corner
        columns = [(corner[:, 0] + i) * self._shape[1] + corner[:, 1] + j for i in (0, 1) for j in (0, 1)]
        data = [np.abs(1 - i - part[:, 0]) * np.abs(1 - j - part[:, 1]) for i in (0, 1) for j in (0, 1)]
        entries = (
            np.stack(data, axis=1).ravel(),
            np.stack(columns, axis=1).ravel(),
            np.arange(0, 4 * len(coords) + 1, 4),
        )
        return sparse.csr_matrix(entries, shape=(len(coords), self._points))


def _folded(x: np.ndarray, ends: np.ndarray, widest: float) -> tuple[np.ndarray, np.ndarray]:
    """Knots of a map of an axis, from 0, that shortens stretches without cells, over which nothing is shared anyway."""
    places = np.unique(np.concatenate([x, ends]))
    steps = np.diff(places)
    position = np.concatenate([[0.0], np.cumsum(np.minimum(steps, widest))])
    wide = np.flatnonzero(steps > widest)
    knots = np.unique(np.concatenate([[0, len(places) - 1], wide, wide + 1]))
    return places[knots], position[knots]


def _root(n: int, length: float) -> np.ndarray:
    """Symmetric ``(n, n)`` G with G G' a Gaussian correlation of this length in grid steps, 1 on the diagonal."""
    lag = np.arange(n)[:, None] - np.arange(n)[None]
    wide = np.arange(-_reach(length), _reach(length) + 1)
    scale = np.sqrt((np.exp(-((wide / length) ** 2)) ** 2).sum())
    return (np.exp(-((lag / length) ** 2)) / scale).astype(np.float32)


def _reach(length: float) -> int:
    """Grid steps beyond which a root is nothing: exp(-25)."""
    return int(5 * length) + 1


def _banded(matrix: np.ndarray, x: np.ndarray, reach: int) -> np.ndarray:
    """``matrix (n, n) @ x (b, n, m)`` for a matrix of this half-width: linear in n."""
    product = np.empty(x.shape, dtype=x.dtype)
    for first in range(0, len(matrix), _BLOCK):
        rows = slice(first, first + _BLOCK)
        columns = slice(max(0, first - reach), first + _BLOCK + reach)
        np.matmul(matrix[rows, columns], x[:, columns], out=product[:, rows])
    return product


def _conjugate_gradients(
    operator: Callable[[np.ndarray], np.ndarray], right: np.ndarray, *, n_iter: int = 80, tol: float = 1e-3
) -> np.ndarray:
    """Solve operator(v) = right for every column at once; columns of any size, so that float32 will do."""
    size = np.sqrt((right.astype(np.float64) ** 2).sum(axis=0))
    residual = (right / np.where(size > 0, size, 1.0)).astype(right.dtype)
    v = np.zeros_like(residual)
    direction = residual.copy()
    norm = (residual**2).sum(axis=0)
    for _ in range(n_iter):
        if (norm <= tol**2).all():
            break
        image = operator(direction)
        step = norm / np.maximum((direction * image).sum(axis=0), _TINY)
        v += step * direction
        residual -= step * image
        before, norm = norm, (residual**2).sum(axis=0)
        direction = residual + norm / np.maximum(before, _TINY) * direction
    return v * size.astype(right.dtype)
