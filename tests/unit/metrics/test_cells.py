from __future__ import annotations

import numpy as np
import pytest

from isost import metrics


def test_the_same_cells() -> None:
    draw = np.random.default_rng(0)
    coords, features = draw.random((300, 2)), draw.normal(size=(300, 30))
    score = metrics.score_cells(coords, features, measured_coords=coords, measured_features=features, side=0.05)
    assert (score["dice"], score["dens"]) == pytest.approx((1.0, 1.0))
    # The pairs of a cell with itself count between the clouds and not within them.
    assert score["energy"] < 0


def test_only_the_first_twenty_components_count_in_units_of_the_first() -> None:
    draw = np.random.default_rng(0)
    coords, features, other = draw.random((50, 2)), draw.normal(size=(50, 25)), draw.normal(size=(40, 25))
    where = draw.random((40, 2))
    score = metrics.score_cells(
        coords, features, measured_coords=where, measured_features=other, side=0.5, feature_scale=2.0
    )
    expected = metrics.energy_distance(np.hstack([coords, features[:, :20] / 2]), np.hstack([where, other[:, :20] / 2]))
    assert score["energy"] == pytest.approx(expected)


def test_dice_of_half_an_overlap() -> None:
    a = np.array([[0.5, 0.5], [1.5, 0.5]])
    b = np.array([[1.5, 0.5], [2.5, 0.5], [2.6, 0.5]])
    # Bins start at the least x of both clouds, so that cells at 0.5, 1.5, 2.5 lie in three bins of side 1.
    assert metrics.dice(a, b, side=1.0) == pytest.approx(2 * 1 / (2 + 2))
    assert metrics.dice(a, a + 100.0, side=1.0) == 0.0


def test_scores_are_symmetric() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.random((200, 2)), draw.random((150, 2)) * [1.0, 0.8]
    assert metrics.dice(a, b, side=0.1) == metrics.dice(b, a, side=0.1)
    assert metrics.density_correlation(a, b, side=0.1) == pytest.approx(metrics.density_correlation(b, a, side=0.1))


def test_number_of_cells_does_not_count_for_density() -> None:
    draw = np.random.default_rng(2)
    a, b = draw.random((200, 2)), draw.random((150, 2)) ** 2
    twice = np.concatenate([a, a])
    assert metrics.density_correlation(twice, b, side=0.2) == pytest.approx(metrics.density_correlation(a, b, side=0.2))


def test_density_of_independent_draws_is_limited_by_noise() -> None:
    """With c cells a bin and variation v, v^2 / (v^2 + 1 / c)."""
    draw = np.random.default_rng(3)
    n_bins, cells = 400, 20.0
    rate = cells * (1 + 0.5 * np.sign(draw.normal(size=n_bins)))
    clouds = []
    for _ in range(2):
        index = np.repeat(np.arange(n_bins), draw.poisson(rate))
        clouds.append(np.column_stack([index % 20, index // 20]) + 0.5)
    v = rate.std() / rate.mean()
    expected = v**2 / (v**2 + 1 / rate.mean())
    assert metrics.density_correlation(*clouds, side=1.0) == pytest.approx(expected, abs=0.04)


def test_density_of_flat_clouds_is_undefined() -> None:
    assert np.isnan(metrics.density_correlation([[0.5, 0.5]], [[0.5, 0.5]], side=1.0))


def test_features_have_to_belong_to_cells() -> None:
    with pytest.raises(ValueError, match=r"features: expected a row for each of 3 positions, found 2.*Next"):
        metrics.score_cells(
            np.zeros((3, 2)), np.zeros((2, 1)), measured_coords=np.zeros((3, 2)), measured_features=np.zeros((3, 1)),
            side=1.0,
        )  # fmt: skip
