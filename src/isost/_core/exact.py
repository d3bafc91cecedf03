"""The same posterior as `isost._core.gaussian`, by linear algebra of the cells: exact, for up to a thousand or so."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from isost._core.gaussian import Covariance
from isost._core.lags import lags

_BLOCK = 100_000  # entries of a covariance between places and cells at once: what a cache holds
_NOTHING = 1e-6  # share of a variance that an eigenvector may explain and yet be left out


class FewCells:
    """Posterior of a group of features given cells at any depths.

    Parameters
    ----------
    coords, z
        ``(n, 2)`` positions of the cells in one common frame and their ``(n,)`` depths, or ``(n, D)``.
    covariance
        Of the group.
    """

    def __init__(self, coords: np.ndarray, z: np.ndarray, covariance: Covariance) -> None:
        self._coords, self._z, self._covariance = coords, z, covariance
        eigenvalues, self._vectors = eigh(self._between(coords, z))
        self._eigenvalues = np.maximum(eigenvalues, 0.0)

    def mean(self, values: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Weights ``(n, C)`` of the cells for centred features ``(n, C)``: (K + I / ratio)^-1 values."""
        white = (self._vectors.T @ values) / (self._eigenvalues[:, None] + 1 / ratio)
        return self._vectors @ white

    def at(self, state: np.ndarray, coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Posterior mean ``(m, C)`` at ``(m, 2)`` places of the frame and ``(m,)`` depths."""
        state = state.astype(np.float32)
        return np.concatenate([self._between(*part, np.float32) @ state for part in self._parts(coords, z)])

    def variance(self, ratio: np.ndarray, coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Posterior variances ``(m, R)`` for each of ``(R,)`` ratios, for a prior of variance one."""
        # (k v)^2 is at most the eigenvalue of v, as otherwise cells without noise would explain more than there is
        counts = self._eigenvalues * ratio.max() > _NOTHING
        vectors = self._vectors[:, counts].astype(np.float32)
        inverse = (1 / (self._eigenvalues[counts, None] + 1 / ratio)).astype(np.float32)
        known = [((self._between(*part, np.float32) @ vectors) ** 2) @ inverse for part in self._parts(coords, z)]
        return np.maximum(1 - np.concatenate(known), 0.0)

    def _between(self, coords: np.ndarray, z: np.ndarray, dtype: type = np.float64) -> np.ndarray:
        square = ((coords**2).sum(axis=1)[:, None] + (self._coords**2).sum(axis=1)) - 2 * coords @ self._coords.T
        lag = np.maximum(square, 0.0).astype(dtype, copy=False)  # of differences, which float32 would cancel
        return self._covariance.of(lag, lags(z, self._z).astype(dtype, copy=False))

    def _parts(self, coords: np.ndarray, z: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        step = max(1, _BLOCK // len(self._z))
        return [(coords[i : i + step], z[i : i + step]) for i in range(0, max(len(z), 1), step)]
