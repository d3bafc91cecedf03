"""Principal components of features that are seen a block of rows at a time."""

from __future__ import annotations

import numpy as np


class Moments:
    """Mean and covariance of (n, F) features, of which no more than a block is ever held."""

    def __init__(self, n_features: int) -> None:
        self.n = 0
        self._shift = np.zeros(n_features)
        self._sum = np.zeros(n_features)
        self._cross = np.zeros((n_features, n_features))

    def add(self, block: np.ndarray) -> None:
        """Take in some rows."""
        if not len(block):
            return
        if self.n == 0:
            # differences from the first rows' mean are small, so that squares of large values do not cancel
            self._shift = block.mean(axis=0, dtype=np.float64)
        block = block - self._shift.astype(block.dtype)
        self.n += len(block)
        self._sum += block.sum(axis=0, dtype=np.float64)
        self._cross += block.T @ block

    @property
    def mean(self) -> np.ndarray:
        """(F,) float64."""
        return self._shift + self._sum / max(self.n, 1)

    @property
    def covariance(self) -> np.ndarray:
        """(F, F) float64."""
        mean = self._sum / max(self.n, 1)
        return self._cross / max(self.n, 1) - np.outer(mean, mean)


def principal_axes(covariance: np.ndarray, scale: np.ndarray, n_comps: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the axes (F, n_comps) that scaled features are projected on, and the share of variance of each.

    Parameters
    ----------
    covariance
        (F, F) of the features as they are.
    scale
        (F,) factor of each feature; it is contained in the axes, so that they apply to features as they are.
    n_comps
        Number of axes; fewer are returned where there are fewer features.
    """
    variance, vectors = np.linalg.eigh(covariance * np.outer(scale, scale))
    order = np.argsort(variance)[::-1][:n_comps]
    vectors = vectors[:, order]
    # the sign of an axis is arbitrary: its largest entry is made positive, so that it is the same everywhere
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(order))])
    return vectors * scale[:, None], variance[order] / max(float(variance.sum()), 1e-300)
