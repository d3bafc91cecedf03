from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import foldnorm

from isost import metrics


def test_energy_of_two_points_masses() -> None:
    assert metrics.energy_distance(np.zeros((4, 3)), np.full((3, 3), 2.0)) == pytest.approx(2 * np.sqrt(12))


def test_energy_of_normals() -> None:
    """For N(0, 1) and N(d, 1): 2 E|d + sqrt(2) Z| - 4 / sqrt(pi)."""
    draw = np.random.default_rng(0)
    shift, n = 2.0, 4000
    value = metrics.energy_distance(draw.normal(size=(n, 1)), draw.normal(loc=shift, size=(n, 1)))
    expected = 2 * foldnorm.mean(shift / np.sqrt(2), scale=np.sqrt(2)) - 4 / np.sqrt(np.pi)
    assert value == pytest.approx(expected, abs=0.12)


def test_energy_of_one_distribution_is_zero_on_average() -> None:
    draw = np.random.default_rng(1)
    values = [metrics.energy_distance(*draw.normal(size=(2, 20, 2))) for _ in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


def test_energy_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 50, 3))
    whole = metrics.energy_distance(a, b)
    monkeypatch.setattr("isost.metrics._distance._BLOCK", 170)
    assert metrics.energy_distance(a, b) == pytest.approx(whole)


def test_chamfer_of_a_shifted_lattice() -> None:
    lattice = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2) * 10
    assert metrics.chamfer_distance(lattice, lattice + [1.0, 0.0]) == pytest.approx(1.0)
    assert metrics.chamfer_distance(lattice, lattice[:5]) == metrics.chamfer_distance(lattice[:5], lattice)


def test_sinkhorn_of_the_same_sample_is_zero() -> None:
    a = np.random.default_rng(0).normal(size=(60, 2))
    assert metrics.sinkhorn_divergence(a, a) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("blur", [0.05, 0.5, 5.0])
def test_sinkhorn_of_a_shift_is_half_its_square_at_any_blur(blur: float) -> None:
    a = np.random.default_rng(0).normal(size=(60, 2))
    assert metrics.sinkhorn_divergence(a, a + [1.0, 2.0], blur=blur) == pytest.approx(2.5, rel=1e-3)


def test_sinkhorn_of_diracs() -> None:
    assert metrics.sinkhorn_divergence([[0.0, 0.0]], [[3.0, 4.0]]) == pytest.approx(12.5)


def test_sinkhorn_on_a_line_approaches_sorted_transport() -> None:
    """In one dimension the exact plan pairs sorted points."""
    draw = np.random.default_rng(1)
    a, b = draw.normal(size=200), 2 * draw.normal(size=200) + 1
    exact = ((np.sort(a) - np.sort(b)) ** 2).mean() / 2
    assert metrics.sinkhorn_divergence(a[:, None], b[:, None], blur=0.1) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("distance", [metrics.energy_distance, metrics.chamfer_distance, metrics.sinkhorn_divergence])
def test_dimensions_have_to_agree(distance: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match=r"first, second: expected .* Next"):
        distance(np.zeros((3, 2)), np.zeros((3, 3)))


def test_blur_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match=r"blur: expected a positive distance, found 0"):
        metrics.sinkhorn_divergence(np.zeros((3, 2)), np.ones((3, 2)), blur=0.0)
