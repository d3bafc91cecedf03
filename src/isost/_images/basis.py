"""Piecewise linear functions of what images show: expression follows few things in a straight line."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    centre
        ``(4 C,)`` means, which are taken off.
    """

    offset: np.ndarray
    scale: np.ndarray
    knots: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, shown: np.ndarray) -> Basis:
        """Take the mean, spread and quartiles of features (n, C)."""
        offset, scale = shown.mean(axis=0, dtype=np.float64), shown.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1.0)
        uncentred = cls(offset, scale, np.quantile((shown - offset) / scale, _QUANTILES, axis=0), np.zeros(()))
        return replace(uncentred, centre=uncentred(shown).mean(axis=0, dtype=np.float64))

    def __call__(self, shown: np.ndarray) -> np.ndarray:
        """(n, 4 C) float32; the mean, which is 0, where nothing is shown."""
        scaled = (shown - self.offset) / self.scale
        columns = np.concatenate([scaled, *(np.maximum(scaled - knot, 0.0) for knot in self.knots)], axis=1)
        return np.nan_to_num(columns - self.centre, nan=0.0).astype(np.float32)
