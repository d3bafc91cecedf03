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
from scipy import ndimage, sparse

from isost._core.graph import median_spacing
from isost._core.lags import lags
from isost._core.spectral import known_share

_LONG = 3.0  # length of the long component over that of the short one
_STEPS_PER_LENGTH = 2.0
_MAX_SIDE = 1500
_AWAY = 3.0  # lengths from the nearest cell beyond which a place knows nothing
_PADDING = 1.5  # lengths by which the grid is larger still: its prior variance falls off at the rim
_BLOCK = 24  # rows of a banded product at once
_TINY = 1e-30
_MOST_PLANES = 8
_EVEN = 1.0  # spacings
_DONE = 0.125  # share of the columns that are solved at which the others go on without them
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
        ``(K,)`` depths of the planes, or ``(K, D)`` of a few that lie along several directions.
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
        # for the variance many planes count as a few, and cells as even over the distance between them
        member = np.arange(len(depths))
        if depths.ndim == 1:
            member = np.argsort(np.argsort(depths)) * min(_MOST_PLANES, len(depths)) // len(depths)
        self._pool = np.eye(member.max() + 1)[member]
        count = np.bincount(plane, minlength=len(depths))
        self._pooled = ((count * depths.T) @ self._pool / np.maximum(count @ self._pool, 1)).T
        self._blur = max(0.5 * covariance.length, _EVEN * median_spacing(coords[plane == count.argmax()]))

    def mean(self, values: np.ndarray, ratio: np.ndarray) -> list[np.ndarray]:
        """Posterior mean of each component on its grid, float32.

        Parameters
        ----------
        values
            ``(n, C)`` centred features.
        ratio
            ``(C,)`` variance of the prior over that of a cell's noise.
        """
        return self._solve(self._read.T @ values, ratio)

    def at(self, state: list[np.ndarray], coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Read grids at ``(m, 2)`` places of the frame and ``(m,)`` depths: ``(m, C)``."""
        short, long = (part.at(grid, coords, z) for part, grid in zip(self._parts, state, strict=True))
        return short + long

    def variance(self, ratio: np.ndarray, coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Posterior variances ``(m, R)`` at places and depths for each of ``(R,)`` ratios, for a prior of variance one.

        As if the cells about a place went on alike for ever (`isost._core.spectral`).
        """
        density = self._parts[0].density(coords, self._blur) @ self._pool
        lengths = [(part.length, part.depth_length) for part in self._parts]
        return np.maximum(1 - known_share(lengths, self._pooled, density, ratio, z), 0.0)

    def _solve(self, data: np.ndarray, ratio: np.ndarray) -> list[np.ndarray]:
        ratio = ratio.astype(np.float32)
        right = self._factor(data.astype(np.float32), transpose=True) * ratio
        at_once = max(1, _MAX_ENTRIES // len(right))
        grids = np.empty(right.shape, dtype=np.float32)
        order = np.argsort(ratio)  # columns of one ratio take as many iterations
        for first in range(0, right.shape[1], at_once):
            block = order[first : first + at_once]

            def operator(v: np.ndarray, columns: np.ndarray, share: np.ndarray = ratio[block]) -> np.ndarray:
                image = self._factor(self._normal @ self._factor(v), transpose=True)
                image *= share[columns]
                image += v
                return image

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
        self.length, self.depth_length = length, depth_length
        self._density: np.ndarray | None = None
        self._depths = depths
        self._along = [_root(n, length / self._step) * 0.5**0.25 for n in self._shape]
        self._reach = _reach(length / self._step)
        covariance = np.exp(-lags(depths, depths) / depth_length) + 1e-9 * np.eye(len(depths))
        self._across = np.linalg.cholesky(covariance).astype(np.float32)
        self._precision = np.linalg.inv(covariance)
        self.size = self._points * len(depths)
        local = self._bilinear(coords)
        columns = local.indices + np.repeat(plane.astype(np.int64), 4) * self._points
        self.read = sparse.csr_matrix((local.data, columns, local.indptr), shape=(len(coords), self.size))

    def density(self, coords: np.ndarray, width: float) -> np.ndarray:
        """Cells per unit area in each plane, ``(m, K)`` at ``(m, 2)`` places, by a Gaussian of this width."""
        if self._density is None:
            cells = np.asarray(self.read.sum(axis=0)).reshape(len(self._depths), *self._shape) / self._step**2
            # depositing and reading widen it by 1/6 grid step squared each
            sigma = max((width / self._step) ** 2 - 1 / 3, 0.0) ** 0.5
            smooth = ndimage.gaussian_filter(cells, (0, sigma, sigma), mode="constant")
            self._density = smooth.reshape(len(self._depths), -1).T
        return np.maximum(self._bilinear(coords) @ self._density, 0.0)

    def factor(self, white: np.ndarray, *, transpose: bool) -> np.ndarray:
        """Apply (C x Gx x Gy), or its transpose; the G are symmetric."""
        n_columns = white.shape[1]
        n_depths, (n_x, n_y) = len(self._depths), self._shape
        x = (self._across.T if transpose else self._across) @ white.reshape(n_depths, -1)
        x = _banded(self._along[0], x.reshape(n_depths, n_x, n_y * n_columns), self._reach)
        x = _banded(self._along[1], x.reshape(n_depths * n_x, n_y, n_columns), self._reach)
        return x.reshape(self.size, n_columns)

    def _towards(self, z: np.ndarray) -> np.ndarray:
        return np.exp(-lags(z, self._depths) / self.depth_length)

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
    root = np.where(np.abs(lag) > _reach(length), 0.0, np.exp(-((lag / length) ** 2)) / scale)
    return root.astype(np.float32)


def _reach(length: float) -> int:
    """Grid steps beyond which a root is nothing: exp(-12)."""
    return int(3.5 * length) + 1


def _banded(matrix: np.ndarray, x: np.ndarray, reach: int) -> np.ndarray:
    """``matrix (n, n) @ x (b, n, m)`` for a matrix of this half-width: linear in n."""
    product = np.empty(x.shape, dtype=x.dtype)
    for first in range(0, len(matrix), _BLOCK):
        rows = slice(first, first + _BLOCK)
        columns = slice(max(0, first - reach), first + _BLOCK + reach)
        np.matmul(matrix[rows, columns], x[:, columns], out=product[:, rows])
    return product


def _conjugate_gradients(
    operator: Callable[[np.ndarray, np.ndarray], np.ndarray],
    right: np.ndarray,
    *,
    n_iter: int = 300,
    tol: float = 1e-3,
) -> np.ndarray:
    """Solve operator(v, columns) = right for every column; columns of any size, so that float32 will do.

    The operator is given the columns that are not solved yet, and their numbers.
    """
    size = np.sqrt((right.astype(np.float64) ** 2).sum(axis=0))
    solution = np.zeros_like(right)
    columns = np.flatnonzero(size > 0)
    # take and compress keep rows together in memory, which indices after a colon do not
    residual = (np.take(right, columns, axis=1) / size[columns]).astype(right.dtype)
    v, direction = np.zeros_like(residual), residual.copy()
    scratch = np.empty_like(residual)  # fresh memory for every product would take longer than they do

    ones = np.ones(len(right), dtype=right.dtype)

    def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ones @ np.multiply(x, y, out=scratch)

    norm = product(residual, residual)
    for number in range(n_iter + 1):
        done = (norm <= tol**2) | (number == n_iter)
        if done.all() or done.mean() >= _DONE:
            solution[:, columns[done]] = v[:, done]
            columns, norm = columns[~done], norm[~done]
            v, residual, direction = (np.compress(~done, x, axis=1) for x in (v, residual, direction))
            scratch = np.empty_like(residual)
        if not len(columns):
            break
        image = operator(direction, columns)
        step = norm / np.maximum(product(direction, image), _TINY)
        v += np.multiply(step, direction, out=scratch)
        image *= step
        residual -= image
        before, norm = norm, product(residual, residual)
        direction *= norm / np.maximum(before, _TINY)
        direction += residual
    return solution * size.astype(right.dtype)
