"""Displacement interpolation along exact optimal transport: a baseline of cells that move."""

from __future__ import annotations

import numpy as np
import ot
from scipy import sparse

from isost._core.baselines import Cloud, Gap, Training, draw
from isost.metrics._cells import FEATURES


class Displacement:
    """Coupled cells of the two neighbours, each pair at (1 - t) x + t y with expression (1 - t) g + t h.

    Couplings minimise |x - y|^2 / (2 h)^2 + `feature_weight` |g - h|^2 over uniform masses exactly (McCann 1997), by
    network simplex; 20 components count, in units of the first one's spread. Pairs are drawn, and count in the field,
    by their mass.
    """

    def __init__(self, training: Training, feature_weight: float = 0.1) -> None:
        self._training = training
        self._feature_weight = feature_weight
        self._known: dict[float, Cloud] = {}

    def field(self, coords: np.ndarray, depth: float) -> None:
        return None

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        self.couple(depth)
        return draw(self._known[depth], n, rng, self._known[depth].weight)

    def couple(self, depth: float) -> None:
        """Solve the transport that a depth asks for."""
        if depth not in self._known:
            self._known[depth] = self._displace(self._training.gap(depth))

    def _displace(self, gap: Gap) -> Cloud:
        a, b, t = gap.before, gap.after, gap.t
        cost = ot.dist(self._points(a), self._points(b))
        plan = sparse.coo_matrix(ot.emd(ot.unif(len(a)), ot.unif(len(b)), cost, numItermax=10_000_000))
        i, j = plan.row, plan.col
        return Cloud(
            (1 - t) * a.coords[i] + t * b.coords[j],
            (1 - t) * a.features[i] + t * b.features[j],
            (1 - t) * a.genes[i] + t * b.genes[j],
            plan.data,
        )

    def _points(self, cloud: Cloud) -> np.ndarray:
        features = cloud.features[:, :FEATURES].astype(np.float64) / self._training.feature_scale
        scale = np.sqrt(self._feature_weight)
        return np.concatenate([cloud.coords / (2 * self._training.width), scale * features], axis=1)
