"""The same posterior as `isost._core.gaussian`, by linear algebra of the cells: exact, for up to a thousand or so."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from isost._core.gaussian import Covariance

_BLOCK = 2_000_000  # entries of a covariance between places and cells at once


class FewCells:
    """Posterior of a group of features given cells at any depths.

    Parameters
    ----------
    coords, z
        ``(n, 2)`` positions of the cells in one common frame and their ``(n,)`` depths.
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
        return np.concatenate([self._between(*part) @ state for part in self._parts(coords, z)])

    def variance(self, ratio: np.ndarray, coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Posterior variances ``(m, R)`` for each of ``(R,)`` ratios, for a prior of variance one."""
        inverse = 1 / (self._eigenvalues[:, None] + 1 / ratio)
        known = [((self._between(*part) @ self._vectors) ** 2) @ inverse for part in self._parts(coords, z)]
        return np.maximum(1 - np.concatenate(known), 0.0)

    def _between(self, coords: np.ndarray, z: np.ndarray) -> np.ndarray:
        square = ((coords**2).sum(axis=1)[:, None] + (self._coords**2).sum(axis=1)) - 2 * coords @ self._coords.T
        return self._covariance.of(np.maximum(square, 0.0), np.abs(z[:, None] - self._z))

    def _parts(self, coords: np.ndarray, z: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        step = max(1, _BLOCK // len(self._z))
        return [(coords[i : i + step], z[i : i + step]) for i in range(0, max(len(z), 1), step)]
