"""Principal components that can be asked about other rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components: scores (x - mean) @ axes."""

    mean: np.ndarray
    axes: np.ndarray

    def scores(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) @ self.axes


def components(x: np.ndarray, n_comps: int, rng: np.random.Generator) -> Components:
    """Fit to rows (n, d), without components that rounding made."""
    with np.errstate(invalid="ignore", divide="ignore"):  # where all rows are alike
        pca = PCA(min(n_comps, *x.shape), random_state=int(rng.integers(2**31))).fit(x)
    real = pca.explained_variance_ > 1e-9 * max(pca.explained_variance_[0], 1e-30)
    real[0] = True
    return Components(pca.mean_.astype(np.float64), pca.components_[real].T.astype(np.float64))
