"""Kernel regression of a few principal components, their number and the width chosen on training sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isost._core.baselines.neighbours import WIDTHS
from isost._core.baselines.training import Gap, Training
from isost._core.kernel import kernel_fields

RANKS = (3, 5, 10, 20, 50)


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """Genes as a linear function of components, by least squares on training cells: x = mean + (g - centre) L.

    Attributes
    ----------
    centre, mean
        (P,) and (G,).
    loadings
        (P, G).
    """

    centre: np.ndarray
    mean: np.ndarray
    loadings: np.ndarray

    @classmethod
    def fit(cls, training: Training) -> LinearDecoder:
        """Regress the genes of all training cells on their components."""
        features = np.concatenate([cloud.features for cloud in training.clouds]).astype(np.float64)
        genes = np.concatenate([cloud.genes for cloud in training.clouds]).astype(np.float64)
        centre, mean = features.mean(axis=0), genes.mean(axis=0)
        return cls(centre, mean, np.linalg.lstsq(features - centre, genes - mean, rcond=1e-8)[0])

    def decode(self, features: np.ndarray) -> np.ndarray:
        """Decode (n, r) leading components to (n, G); those left out are at their mean."""
        rank = features.shape[1]
        return self.mean + (features - self.centre[:rank]) @ self.loadings[:rank]


class LowRank:
    """Gaussian kernel regression of the leading components over each neighbour, blended (1 - t, t), and decoded.

    Rank and width are those with the least squared error, in units of each gene's variance, at the cells of inner
    training sections predicted from their own neighbours.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._decoder = LinearDecoder.fit(training)
        self.rank, self.width = self._choose()

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        """Mean expression (n, G) at (n, 3)."""
        smooth = next(_smooth(self._training.gap(depth), coords[:, :2], (self.width,)))
        return self._decoder.decode(smooth[:, : self.rank])

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> None:
        """Give none."""

    def _choose(self) -> tuple[int, float]:
        ranks = [rank for rank in RANKS if rank <= len(self._decoder.centre)] or [len(self._decoder.centre)]
        errors, variance = np.zeros((len(ranks), len(WIDTHS))), self._training.gene_variance
        widths = [width * self._training.width for width in WIDTHS]
        for k in range(1, len(self._training.clouds) - 1):
            cloud, gap = self._training.clouds[k], self._training.without(k).gap(float(self._training.z[k].mean()))
            for j, smooth in enumerate(_smooth(gap, cloud.coords, widths)):
                for i, rank in enumerate(ranks):
                    square = ((self._decoder.decode(smooth[:, :rank]) - cloud.genes) ** 2).mean(axis=0)
                    errors[i, j] += (square / variance).mean()
        best = int(errors.argmin()) if errors.any() else errors.size - len(WIDTHS) + WIDTHS.index(2.0)
        return ranks[best // len(WIDTHS)], widths[best % len(WIDTHS)]


def _smooth(gap: Gap, places: np.ndarray, widths: Sequence[float]) -> Iterator[np.ndarray]:
    before, after = (kernel_fields(places, cloud.coords, cloud.features, widths) for cloud in (gap.before, gap.after))
    return ((1 - gap.t) * one + gap.t * other for one, other in zip(before, after, strict=True))
