"""Gaussian kernel regression in a plane, on a grid: linear in cells and in grid points whatever the bandwidth."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

_POINTS_PER_BANDWIDTH = 2.0
_MAX_POINTS = 4_000_000


class KernelPlane:
    """Kernel sums of weighted cells on a regular grid over the plane.

    Cells are deposited bilinearly, filtered by a Gaussian, and read bilinearly; the filter is narrowed by the width
    that the two bilinear steps add (1/6 grid step squared each), so the whole is a Gaussian of the bandwidth.

    Parameters
    ----------
    coords
        ``(n, 2)`` positions.
    values
        ``(n, C)`` what is averaged.
    weight
        ``(n,)`` weights.
    bandwidth
        Standard deviation of the kernel, in the unit of ``coords``.
    bounds
        ``(low (2,), high (2,))`` that the grid has to cover.
    """

    def __init__(
        self, coords: np.ndarray, values: np.ndarray, weight: np.ndarray, bandwidth: float,
        bounds: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        low, high = bounds
        span = high - low + 8 * bandwidth
        self.step = max(bandwidth / _POINTS_PER_BANDWIDTH, float(np.sqrt(span.prod() / _MAX_POINTS)))
        self.low = low - 4 * bandwidth
        self.shape = tuple(int(n) for n in np.ceil(span / self.step).astype(int) + 2)
        sigma = float(np.sqrt(max((bandwidth / self.step) ** 2 - 1 / 3, 0.0)))
        spread = self._bilinear(coords).T.tocsr()
        scale = 1 / self.step**2
        self._density = self._filter(spread @ weight.astype(np.float64), sigma) * scale
        sums = spread @ (values * weight[:, None]).astype(np.float64)
        self._sums = np.stack([self._filter(column, sigma) * scale for column in sums.T], axis=1) if values.shape[
            1] else np.zeros((len(self._density), 0))  # fmt: skip

    def at(self, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted density per unit area ``(m,)`` and kernel sums ``(m, C)`` at ``(m, 2)`` places."""
        read = self._bilinear(coords)
        return read @ self._density, read @ self._sums

    def _filter(self, column: np.ndarray, sigma: float) -> np.ndarray:
        return ndimage.gaussian_filter(column.reshape(self.shape), sigma, mode="constant", truncate=5.0).ravel()

    def _bilinear(self, coords: np.ndarray) -> sparse.csr_matrix:
        """``(n, points)`` weights of the four grid points about each place; places outside go to the edge."""
        place = np.clip((coords - self.low) / self.step, 0, np.array(self.shape) - 1.001)
        corner = np.floor(place).astype(np.int64)
        part = place - corner
        rows, columns, data = [], [], []
        for i in (0, 1):
            for j in (0, 1):
                rows.append(np.arange(len(coords)))
                columns.append((corner[:, 0] + i) * self.shape[1] + corner[:, 1] + j)
                data.append(np.abs(1 - i - part[:, 0]) * np.abs(1 - j - part[:, 1]))
        entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(entries, shape=(len(coords), self.shape[0] * self.shape[1]))
