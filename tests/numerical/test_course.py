"""The course of a mean over age, and where it peaks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from isost._tools.course import Peaks, differ, follow

AGES = np.array([9.5, 11.0, 12.5, 14.0, 15.5])
FINE = np.round(np.arange(9.5, 15.55, 0.1), 9)
MANY, FEW = np.full(5, 1e6), np.full(5, 20.0)
ONE = np.ones(1)


def _bump(at: np.ndarray, peak: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((at - peak) / width) ** 2)[:, None]


def test_means_without_noise_are_gone_through() -> None:
    mean = np.random.default_rng(0).normal(size=(5, 30))
    np.testing.assert_allclose(follow(AGES, mean, MANY, np.full(30, 1e-6), AGES), mean, atol=2e-3)


def test_the_unit_of_expression_does_not_matter() -> None:
    mean = np.random.default_rng(0).normal(size=(5, 10))
    variance = np.random.default_rng(1).uniform(0.5, 2.0, 10)
    once = follow(AGES, mean, FEW, variance, FINE)
    np.testing.assert_allclose(follow(AGES, 2 * mean, FEW, 4 * variance, FINE), 2 * once, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(follow(AGES, -mean, FEW, variance, FINE), -once, rtol=1e-9, atol=1e-9)


def test_a_level_is_carried_along() -> None:
    mean = np.random.default_rng(0).normal(size=(5, 10))
    shifted = follow(AGES, mean + 7.0, FEW, np.ones(10), FINE)
    np.testing.assert_allclose(shifted, follow(AGES, mean, FEW, np.ones(10), FINE) + 7.0, atol=1e-9)


def test_the_unit_and_origin_of_age_do_not_matter() -> None:
    mean = np.random.default_rng(0).normal(size=(5, 10))
    once = follow(AGES, mean, FEW, np.ones(10), FINE)
    np.testing.assert_allclose(follow(24 * AGES - 100, mean, FEW, np.ones(10), 24 * FINE - 100), once, atol=1e-9)


def test_time_can_run_backwards() -> None:
    mean, count = np.random.default_rng(0).normal(size=(5, 10)), np.array([20.0, 30.0, 40.0, 50.0, 60.0])
    once = follow(AGES, mean, count, np.ones(10), FINE)
    back = follow(-AGES[::-1], mean[::-1], count[::-1], np.ones(10), -FINE[::-1])
    np.testing.assert_allclose(back[::-1], once, atol=1e-9)


def test_a_gene_is_followed_by_itself() -> None:
    mean = np.random.default_rng(0).normal(size=(5, 10))
    alone = follow(AGES, mean[:, 3:4], FEW, ONE, FINE)
    np.testing.assert_allclose(follow(AGES, mean, FEW, np.ones(10), FINE)[:, 3:4], alone, atol=1e-12)


def test_noise_is_followed_by_a_flat_line() -> None:
    mean = np.random.default_rng(0).normal(0.0, 1.0 / np.sqrt(20.0), (5, 400))
    curve = follow(AGES, mean, FEW, np.ones(400), FINE)
    assert np.ptp(curve, axis=0).mean() < 0.5 * np.ptp(mean, axis=0).mean()
    real = follow(AGES, 10 * mean, FEW, np.ones(400), FINE)
    assert np.ptp(real, axis=0).mean() > 0.9 * np.ptp(10 * mean, axis=0).mean()


def test_a_constant_stays_constant() -> None:
    np.testing.assert_allclose(follow(AGES, np.full((5, 1), 2.5), FEW, np.zeros(1), FINE), 2.5)


@pytest.mark.parametrize("peak", [11.0, 11.6, 12.0, 12.75, 13.4])
def test_a_peak_between_stages_is_found(peak: float) -> None:
    curve = follow(AGES, _bump(AGES, peak, 1.3), np.full(5, 400.0), 0.25 * ONE, FINE)
    assert Peaks.of(FINE, curve).age.item() == pytest.approx(peak, abs=0.2)


def test_the_summit_of_a_parabola_is_exact() -> None:
    summit = np.array([11.03, 12.5, 13.977])
    peaks = Peaks.of(FINE, 5.0 - (FINE[:, None] - summit) ** 2)
    np.testing.assert_allclose(peaks.age, summit, atol=1e-9)
    assert not peaks.at_edge.any()


def test_a_window_is_where_it_is_above_half_its_height() -> None:
    ages = np.arange(11.0)
    curve = np.array([0.0, 4, 0, 0, 4.5, 7, 8, 6, 3.9, 5, 0])[:, None]
    peaks = Peaks.of(ages, curve)
    assert (peaks.start.item(), peaks.stop.item(), peaks.height.item()) == (4.0, 7.0, 8.0)


def test_peaks_at_the_edge_are_told() -> None:
    rising = np.column_stack([FINE, -FINE, _bump(FINE, 12.0, 1.0)[:, 0]])
    peaks = Peaks.of(FINE, rising)
    assert peaks.at_edge.tolist() == [True, True, False]
    np.testing.assert_allclose(peaks.age, [15.5, 9.5, 12.0], atol=1e-6)
    np.testing.assert_allclose([peaks.start[0], peaks.stop[0]], [12.5, 15.5], atol=1e-9)


@pytest.mark.parametrize("sizes", [(12, 60, 300, 800, 1500), (12,) * 5, (400,) * 5])
@pytest.mark.parametrize("rate", [0.05, 3.0])
def test_p_values_of_means_that_are_one_are_uniform(sizes: tuple[int, ...], rate: float) -> None:
    """Also of a stage with few cells, none of which may hold a transcript of a rare gene."""
    draw, n = np.random.default_rng(0), np.array(sizes)
    cells = [np.log1p(draw.poisson(rate, (size, 2000))) for size in sizes]
    mean = np.stack([one.mean(axis=0) for one in cells])
    spread = sum(one.var(axis=0) * len(one) for one in cells) / (n.sum() - len(n))
    pval = differ(mean[:, spread > 0], spread[spread > 0] / n[:, None], float(n.sum()))
    assert (0.03 if rate > 1 else 0.0) < (pval < 0.05).mean() < 0.07  # of rare genes F is on the safe side
    assert (stats.false_discovery_control(pval) < 0.05).sum() <= 3


def test_p_values_are_those_of_an_analysis_of_variance() -> None:
    draw = np.random.default_rng(0)
    cells = [draw.normal(mean, 1.0, size) for mean, size in zip((0.0, 0.3, 0.9), (8, 20, 15), strict=True)]
    n, spread = np.array([8, 20, 15]), sum(((one - one.mean()) ** 2).sum() for one in cells) / 40
    mean = np.array([[one.mean()] for one in cells])
    pval = differ(mean, np.full((3, 1), spread) / n[:, None], 43.0)
    assert pval[0] == pytest.approx(stats.f_oneway(*cells).pvalue)
