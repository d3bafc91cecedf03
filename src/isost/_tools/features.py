"""Spatial features: what is around a place, how it changes there, and where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isost._tools.moments import Moments, principal_axes


@dataclass(frozen=True)
class Layout:
    """Columns of the features of P components: means (P), slopes along x, y, z (3 P), x, y, z (3), own values (P)."""

    n_values: int
    own: bool

    @property
    def width(self) -> int:
        return 4 * self.n_values + 3 + self.n_values * self.own

    @property
    def mean(self) -> slice:
        return slice(0, self.n_values)

    @property
    def slopes(self) -> slice:
        return slice(self.n_values, 4 * self.n_values)

    @property
    def position(self) -> slice:
        return slice(4 * self.n_values, 4 * self.n_values + 3)

    @property
    def values(self) -> slice:
        return slice(4 * self.n_values + 3, self.width)

    def slope(self, number: int) -> slice:
        """Columns of the slopes along x (0), y (1) or z (2)."""
        return slice((1 + number) * self.n_values, (2 + number) * self.n_values)


class Source(Protocol):
    """Features of places, a block of them at a time."""

    layout: Layout

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield (m, F) float32 of places that can be described; who takes a block may change it."""

    def project(self, axes: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(n, q) float32, of all places: (features - mean) @ axes, and 0 for what cannot be described."""


@dataclass(frozen=True, eq=False)
class Reduced:
    """Principal components of spatial features.

    Attributes
    ----------
    scores
        (n, q) float32.
    axes
        (F, q), of the features as they are.
    variance_ratio
        (q,) share of the variance of the scaled features.
    """

    scores: np.ndarray
    axes: np.ndarray
    variance_ratio: np.ndarray


def reduce_features(source: Source, n_comps: int, *, gradient_weight: float, position_weight: float) -> Reduced:
    """Scale the features and project them on their principal components; they are never held at once.

    Means and own values keep the units of the components, so that a component counts as much as it varies. Slopes
    are changes over one standard deviation of the smoothing, times `gradient_weight`. Positions share one scale, at
    which their variance is `position_weight` times that of the means.
    """
    layout = source.layout
    moments = Moments(layout.width)
    for block in source.blocks():
        moments.add(block)
    variance = np.diag(moments.covariance)
    scale = np.ones(layout.width)
    scale[layout.slopes] = gradient_weight
    spread = float(variance[layout.position].sum())
    if spread > 0:
        scale[layout.position] = np.sqrt(position_weight * variance[layout.mean].sum() / spread)
    axes, ratio = principal_axes(moments.covariance, scale, n_comps)
    return Reduced(source.project(axes.astype(np.float32), moments.mean), axes, ratio)
