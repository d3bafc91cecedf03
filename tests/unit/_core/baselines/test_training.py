from __future__ import annotations

import numpy as np
import pytest

from isost._core.baselines import Training, draw
from isost._core.baselines.training import inclusion_probabilities


def test_gap_is_the_sections_about_a_depth(training: Training) -> None:
    gap = training.gap(25.0)
    assert (gap.before, gap.after, gap.t) == (training.clouds[2], training.clouds[3], 0.25)


@pytest.mark.parametrize(("z", "t", "before"), [(-5.0, 0.0, 0), (40.0, 1.0, 2), (99.0, 1.0, 2), (10.0, 0.0, 1)])
def test_gap_at_and_beyond_the_ends(training: Training, z: float, t: float, before: int) -> None:
    gap = training.gap(z)
    assert (gap.before, gap.t) == (training.clouds[before], t)


def test_depth_is_the_mean_of_a_thick_section(training: Training) -> None:
    thick = np.linspace(-3.0, 5.0, len(training.clouds[0]))
    moved = Training(training.clouds, (thick, *training.z[1:]), 0.1, 1.0)
    assert moved.depths[0] == pytest.approx(1.0)


def test_without_a_section(training: Training) -> None:
    assert training.without(1).depths.tolist() == [0.0, 20.0, 40.0]


def test_a_draw_holds_no_cell_twice(training: Training) -> None:
    cloud = training.clouds[0]
    drawn = draw(cloud, 100, np.random.default_rng(0))
    assert len(np.unique(drawn.coords, axis=0)) == 100
    assert draw(cloud, 1000, np.random.default_rng(0)) is cloud
    assert draw(cloud, None, np.random.default_rng(0)) is cloud


def test_cells_of_weight_zero_are_never_drawn(training: Training) -> None:
    cloud = training.clouds[0]
    weights = (np.arange(len(cloud)) < 20).astype(float)
    for n in (10, 20, 100, None):
        drawn = draw(cloud, n, np.random.default_rng(0), weights)
        assert len(drawn) == min(n or 20, 20)
        assert np.isin(drawn.coords[:, 0], cloud.coords[:20, 0]).all()


@pytest.mark.parametrize("n", [5, 60, 130])
def test_cells_are_drawn_in_proportion_to_their_weights(training: Training, n: int) -> None:
    cloud = training.clouds[0]
    weights = np.linspace(0.5, 1.5, len(cloud))
    rng = np.random.default_rng(0)
    drawn = np.zeros(len(cloud))
    for _ in range(3000):
        drawn += np.isin(cloud.coords[:, 0], draw(cloud, n, rng, weights).coords[:, 0])
    expected = inclusion_probabilities(weights, n)
    assert expected.sum() == pytest.approx(n) and expected.max() <= 1
    free = expected < 1
    np.testing.assert_allclose(expected[free] / weights[free], (expected[free] / weights[free])[0])
    np.testing.assert_allclose(drawn / 3000, expected, atol=4.5 * 0.5 / np.sqrt(3000))
