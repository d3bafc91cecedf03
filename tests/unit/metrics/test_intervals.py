from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from isost import metrics

DRAW = np.random.default_rng(0)


def test_coverage_and_width_of_normal_intervals() -> None:
    values = DRAW.normal(size=20_000)
    z = norm.ppf(0.95)
    low, high = np.full(20_000, -z), np.full(20_000, z)
    assert metrics.interval_coverage(low, high, values) == pytest.approx(0.9, abs=0.01)
    assert metrics.interval_width(low, high) == pytest.approx(2 * z)
    assert metrics.interval_width(low, high, scale=2.0) == pytest.approx(z)


def test_intervals_must_not_be_reversed() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        metrics.interval_width([1.0], [0.0])


def test_crps_against_its_integral() -> None:
    mean, std, measured = 0.3, 1.7, 2.1
    x = np.linspace(-20, 20, 400_001)
    integrand = (norm.cdf(x, mean, std) - (x >= measured)) ** 2
    expected = np.trapezoid(integrand, x)
    assert metrics.crps_normal([mean], [std], [measured]) == pytest.approx(expected, rel=1e-4)


def test_crps_is_least_for_the_true_spread() -> None:
    values = DRAW.normal(size=5000)
    scores = [metrics.crps_normal(np.zeros(5000), np.full(5000, s), values) for s in (0.5, 1.0, 2.0)]
    assert min(scores) == scores[1] == pytest.approx(1 / np.sqrt(np.pi), rel=0.05)


def test_crps_needs_spreads() -> None:
    with pytest.raises(ValueError, match="std: expected 0 or more"):
        metrics.crps_normal([0.0], [-1.0], [0.0])
