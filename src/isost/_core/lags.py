"""Distances along depth, or along depth and age together."""

from __future__ import annotations

import numpy as np


def lags(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances (m, n) of depths (m,) and (n,), or of (m, D) and (n, D) by the sum over their D directions."""
    if a.ndim == 1:
        return np.abs(a[:, None] - b)
    return sum(np.abs(one[:, None] - other) for one, other in zip(a.T, b.T, strict=True))
