"""How well expression tells what an image shows: a linear map, scored on sections that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RIDGE = 1e-3  # of the mean square of a component
_TINY = 1e-10  # of a feature's square: it does not vary


@dataclass(frozen=True, eq=False)
class Linear:
    """Image features that a cell's expression leads to expect.

    Attributes
    ----------
    weight, offset
        ``(C, P)`` and ``(C,)``: what is shown is weight g + offset.
    r2
        ``(C,)`` share of the variance within sections left out that is told, or of all where there is no other section;
        0 for what does not vary.
    """

    weight: np.ndarray
    offset: np.ndarray
    r2: np.ndarray


def fit_linear(features: np.ndarray, shown: np.ndarray, section: np.ndarray) -> Linear:
    """Regress what is shown (n, C) on features (n, P), ridge, leaving one section (n,) out at a time for `r2`."""
    sections = np.unique(section)
    weight, offset = _solve(features, shown)
    left, total = np.zeros((2, shown.shape[1]))
    for k in sections:
        out = section == k
        own = (weight, offset) if len(sections) == 1 else _solve(features[~out], shown[~out])
        error = shown[out] - features[out] @ own[0].T - own[1]
        left += (error**2).sum(axis=0)
        total += ((shown[out] - shown[out].mean(axis=0)) ** 2).sum(axis=0)
    varies = total > _TINY * np.maximum((shown**2).sum(axis=0), 1e-300)
    return Linear(weight, offset, np.where(varies, 1 - left / np.maximum(total, 1e-300), 0.0))


def _solve(features: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre, mean = features.mean(axis=0, dtype=np.float64), shown.mean(axis=0, dtype=np.float64)
    x, y = features - centre, shown - mean
    square = x.T @ x
    ridge = _RIDGE * max(float(np.trace(square)) / max(len(square), 1), 1e-300)
    weight = np.linalg.solve(square + ridge * np.eye(len(square)), x.T @ y).T
    return weight, mean - weight @ centre
