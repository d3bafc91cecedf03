"""p-values of gradients: right under the null whatever the autocorrelation, and small where a gradient is planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from isost._tools.blocks import compact, cover
from isost._tools.trend import DEGREE, Sites, p_values, polynomials

N_GENES = 150
BLOCKS = 120


def ball() -> tuple[np.ndarray, np.ndarray]:
    step = np.arange(-1.0, 1.01, 0.1)
    places = np.stack(np.meshgrid(step, step, step), axis=-1).reshape(-1, 3)
    places = places[np.linalg.norm(places, axis=1) <= 1.0]
    return places, np.linalg.norm(places, axis=1)


def cylinder() -> tuple[np.ndarray, np.ndarray]:
    step = np.arange(-1.0, 1.01, 0.1)
    places = np.stack(np.meshgrid(step, step, np.arange(0.0, 2.0, 0.1)), axis=-1).reshape(-1, 3)
    radius = np.hypot(places[:, 0], places[:, 1])
    return places[radius <= 1.0], radius[radius <= 1.0]


def random_fields(places: np.ndarray, smoothness: float, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Stationary Gaussian fields (n, N_GENES) of unit variance with a Matérn covariance, infinitely smooth for inf."""
    fields = np.empty((len(places), N_GENES))
    for gene in range(N_GENES):
        waves = rng.standard_normal((200, 3)) / reach
        if np.isfinite(smoothness):
            waves /= np.sqrt(rng.chisquare(2 * smoothness, (200, 1)) / (2 * smoothness))
        phase = rng.uniform(0, 2 * np.pi, 200)
        fields[:, gene] = np.cos(places @ waves.T + phase) @ rng.standard_normal(200) / 10.0
    return fields


def p_values_of(places: np.ndarray, radius: np.ndarray, values: np.ndarray) -> np.ndarray:
    numbers, position = compact(cover(places, BLOCKS).of(places))
    count = np.bincount(position, minlength=len(numbers))

    def mean(of: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(position, column) for column in of.T], axis=1) / count[:, None]

    basis = polynomials(mean(radius[:, None])[:, 0], DEGREE)
    scores = mean(values)
    return p_values(Sites(mean(places), basis, count / count.mean()), scores, np.eye(scores.shape[1]))


def upper_bound(n: int, rate: float = 0.05) -> float:
    """Share of false positives that a test of this rate exceeds once in a thousand times."""
    return float(binom.isf(1e-3, n, rate)) / n


@pytest.mark.parametrize("tissue", [ball, cylinder])
@pytest.mark.parametrize(("smoothness", "reach"), [(0.5, 0.15), (0.5, 0.6), (1.5, 0.4), (np.inf, 0.3), (np.inf, 1.0)])
def test_fields_without_a_gradient_are_called_at_the_stated_rate(
    tissue: object, smoothness: float, reach: float
) -> None:
    places, radius = tissue()  # type: ignore[operator]
    rng = np.random.default_rng(0)
    fields = random_fields(places, smoothness, reach, rng)
    fields += 0.3 * rng.standard_normal(fields.shape)
    p = p_values_of(places, radius, fields)
    assert (p <= 0.05).mean() <= upper_bound(N_GENES)
    correlation = np.abs(np.corrcoef(radius, fields.T)[0, 1:])
    naive = correlation * np.sqrt(len(places)) > 1.96
    assert naive.mean() > 2 * upper_bound(N_GENES), "what taking voxels for independent would call"


@pytest.mark.parametrize("tissue", [ball, cylinder])
def test_planted_gradients_are_found(tissue: object) -> None:
    places, radius = tissue()  # type: ignore[operator]
    rng = np.random.default_rng(1)
    fields = random_fields(places, 0.5, 0.2, rng)
    shapes = [radius, -(radius**2), -4 * (radius - 0.6) ** 2]
    planted = np.arange(N_GENES) < 60
    for gene in np.flatnonzero(planted):
        shape = shapes[gene % 3]
        fields[:, gene] += 1.5 * (shape - shape.mean()) / shape.std()
    p = p_values_of(places, radius, fields)
    assert (p[planted] <= 0.05).mean() >= 0.95
    assert (p[~planted] <= 0.05).mean() <= upper_bound(int((~planted).sum()))
