"""Piecewise linear functions of what images show: expression follows few things in a straight line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_QUANTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Basis:
    """Each feature, scaled, and what it has above each of its quartiles.

    Attributes
    ----------
    offset, scale
        ``(C,)``.
    knots
        ``(3, C)`` of the scaled features.
    """

    offset: np.ndarray
    scale: np.ndarray
    knots: np.ndarray

    @classmethod
    def of(cls, shown: np.ndarray) -> Basis:
        """Take the mean, spread and quartiles of features (n, C)."""
        offset, scale = shown.mean(axis=0, dtype=np.float64), shown.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1.0)
        return cls(offset, scale, np.quantile((shown - offset) / scale, _QUANTILES, axis=0))

    def __call__(self, shown: np.ndarray) -> np.ndarray:
        """(n, 4 C) float32, 0 where nothing is shown."""
        scaled = np.nan_to_num((shown - self.offset) / self.scale, nan=0.0)
        # above nothing, too, there is nothing: what is not shown is 0 in every column
        known = np.isfinite(shown)
        hinges = [np.where(known, np.maximum(scaled - knot, 0.0), 0.0) for knot in self.knots]
        return np.concatenate([scaled, *hinges], axis=1).astype(np.float32)
