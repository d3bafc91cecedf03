"""Kernel ridge regression of components, each with the penalty that held-out tissue asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_GAMMA = 0.3  # of exp(-gamma |a - b|^2 / d), features of variance one
_LANDMARKS = 2000


@dataclass(frozen=True, eq=False)
class Ridge:
    """Gaussian kernel ridge through landmarks (Nyström; Williams & Seeger 2001).

    Attributes
    ----------
    landmarks
        (m, d) float32.
    weights
        (m, r).
    """

    landmarks: np.ndarray
    weights: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, r) of standardised features (n, d)."""
        return kernel(x, self.landmarks) @ self.weights


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, m) similarities."""
    return np.asarray(rbf_kernel(x, y, gamma=_GAMMA / x.shape[1]), dtype=np.float64)


def ridge_path(x: np.ndarray, scores: np.ndarray, penalties: Sequence[float], seed: int) -> list[Ridge]:
    """Fit every penalty to scores (n, r)."""
    map_ = Nystroem(kernel="rbf", gamma=_GAMMA / x.shape[1], n_components=min(_LANDMARKS, len(x)), random_state=seed)
    inside = map_.fit_transform(x.astype(np.float64))
    values, vectors = np.linalg.eigh(inside.T @ inside)
    projected = vectors.T @ (inside.T @ scores.astype(np.float64))
    back = map_.normalization_.T @ vectors
    landmarks = map_.components_.astype(np.float32)
    return [Ridge(landmarks, back @ (projected / (np.maximum(values, 0) + penalty)[:, None])) for penalty in penalties]
