"""How far measured expression lies from what was told of held-out tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRID = np.linspace(0.005, 0.995, 100)  # probabilities of quantiles
_FLOOR = 0.1  # of a gene's mean square, that its variance does not fall below
_STEPS = 30
_PENALTY = 1.0  # of the slope of a logistic regression


@dataclass(frozen=True, eq=False)
class Noise:
    """Standard deviation of measured about expected log1p expression, and quantiles in its units.

    Variance is a + b x expected, gene by gene, fitted to the squares of residuals of held-out tissue; quantiles are
    those of residuals there, as in split conformal prediction (Lei et al. 2018).

    Attributes
    ----------
    base, slope, least
        (G,).
    quantiles
        (100, G) of residuals over their standard deviation.
    """

    base: np.ndarray
    slope: np.ndarray
    least: np.ndarray
    quantiles: np.ndarray

    def deviation(self, expected: np.ndarray) -> np.ndarray:
        """(n, G) float32."""
        return np.sqrt(np.maximum(self.base + self.slope * expected, self.least)).astype(np.float32)

    def interval(self, expected: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (n, G) float32 of an interval that holds a share `level` of measured values."""
        deviation = self.deviation(expected)
        ends = []
        for probability in ((1 - level) / 2, (1 + level) / 2):
            at = np.array([np.interp(probability, GRID, column) for column in self.quantiles.T])
            ends.append(np.maximum(expected + at * deviation, 0).astype(np.float32))
        return ends[0], ends[1]


def find_noise(expected: np.ndarray, measured: np.ndarray) -> Noise:
    """Learn from values (n, G) of held-out tissue."""
    square = (measured - expected) ** 2
    centred = expected - expected.mean(axis=0)
    mean = square.mean(axis=0)
    slope = (centred * square).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
    slope = np.maximum(slope, 0)
    base = mean - slope * expected.mean(axis=0)
    bare = Noise(base, slope, np.maximum(_FLOOR * mean, 1e-8), np.zeros((len(GRID), len(mean))))
    residual = (measured - expected) / bare.deviation(expected)
    return Noise(base, slope, bare.least, np.quantile(residual, GRID, axis=0))


@dataclass(frozen=True, eq=False)
class Calls:
    """Probability that a gene is expressed, by logistic regression on what is expected of it: (G,) each."""

    offset: np.ndarray
    slope: np.ndarray

    def probability(self, expected: np.ndarray) -> np.ndarray:
        """(n, G) float32."""
        return (1 / (1 + np.exp(-(self.offset + self.slope * expected)))).astype(np.float32)


def find_calls(expected: np.ndarray, on: np.ndarray) -> Calls:
    """Learn from values (n, G) of held-out tissue, by Newton's method with a slight penalty on slopes."""
    n, on = len(expected), on.astype(np.float64)
    share = np.clip(on.mean(axis=0), 1 / (n + 1), n / (n + 1))
    offset, slope = np.log(share / (1 - share)), np.zeros(expected.shape[1])
    middle = expected.mean(axis=0)
    x = expected - middle
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(offset + slope * x, -30, 30)))
        weight = np.maximum(p * (1 - p), 1e-6)
        first, second = (on - p).sum(axis=0), ((on - p) * x).sum(axis=0) - _PENALTY * slope
        aa, ab, bb = weight.sum(axis=0), (weight * x).sum(axis=0), (weight * x**2).sum(axis=0) + _PENALTY
        determinant = aa * bb - ab**2
        up, along = (bb * first - ab * second) / determinant, (aa * second - ab * first) / determinant
        offset, slope = offset + np.clip(up, -2, 2), slope + np.clip(along, -5, 5)
        if max(np.abs(up).max(), np.abs(along).max()) < 1e-6:
            break
    return Calls(offset - slope * middle, slope)
