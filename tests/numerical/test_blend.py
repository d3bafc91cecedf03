"""A simpler predictor is believed where left-out sections say so, and only there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isost._core.blend import SHARPNESS, WIDTHS, Sides, choose_blend
from isost._core.calibrate import calibrate
from isost._core.covariance import Hyperparameters
from isost._core.field import Field
from isost._core.model import SDEModel
from isost._core.stack import Stack

OPTIONS = [(1.0, 0.0), (2.0, 1.0)]
N_SECTIONS, N_BINS, N_SCORES = 4, 400, 6


def left_out(*share: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Residuals that are a share of the second predictor's deviation, and noise; the first one's deviation is noise.

    One share for all sections, or one for each.
    """
    draw = np.random.default_rng(seed)
    residual, deviation = [], []
    for own in share if len(share) == N_SECTIONS else N_SECTIONS * share:
        off = draw.normal(size=(2, N_BINS, N_SCORES))
        residual.append(own * off[1] + draw.normal(size=(N_BINS, N_SCORES)))
        deviation.append(off)
    return residual, deviation


def test_the_share_that_made_the_residuals_is_found() -> None:
    blend = choose_blend(OPTIONS, *left_out(0.5), np.ones(N_SCORES))
    assert blend is not None and (blend.width, blend.sharpness) == OPTIONS[1]
    np.testing.assert_allclose(blend.weight, 0.5, atol=0.08)
    assert blend.gain == pytest.approx(0.5**2 / (0.5**2 + 1), abs=0.04)


def test_scores_have_their_own_share_where_they_differ() -> None:
    residual, deviation = left_out(0.0)
    own = np.array([0.0, 0.0, 0.0, 0.9, 0.9, 0.9])
    residual = [left + own * off[1] for left, off in zip(residual, deviation, strict=True)]
    blend = choose_blend(OPTIONS, residual, deviation, np.ones(N_SCORES))
    assert blend is not None
    assert (np.abs(blend.weight - own) < 0.2).all(), blend.weight


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_believed(seed: int) -> None:
    assert choose_blend(OPTIONS, *left_out(0.0, seed=seed), np.ones(N_SCORES)) is None


def test_a_worse_predictor_is_not_believed() -> None:
    assert choose_blend(OPTIONS, *left_out(-0.5), np.ones(N_SCORES)) is None


def test_sections_that_disagree_are_believed_less() -> None:
    agree = choose_blend(OPTIONS, *left_out(0.5), np.ones(N_SCORES))
    disagree = choose_blend(OPTIONS, *left_out(0.1, 0.9, 0.2, 0.8), np.ones(N_SCORES))
    assert agree is not None
    assert disagree is None or disagree.weight.mean() < 0.85 * agree.weight.mean()


def test_one_section_says_nothing() -> None:
    residual, deviation = left_out(0.5)
    assert choose_blend(OPTIONS, residual[:1], deviation[:1], np.ones(N_SCORES)) is None


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_sides_are_kernel_means_with_the_weights_of_depth(sharpness: float) -> None:
    draw = np.random.default_rng(0)
    places = [draw.uniform(0, 100, (2000, 2)) for _ in range(2)]
    scores = [np.full((2000, 1), 1.0), np.full((2000, 1), 3.0)]
    sides = Sides(places, scores, np.array([10.0, 20.0]), 5.0)
    asked = np.full((3, 2), 50.0)
    mean, known = sides.at(asked, np.array([10.0, 12.5, 20.0]), sharpness)
    t = 0.25
    share = t**sharpness / (t**sharpness + (1 - t) ** sharpness)
    ends = [2.0, 2.0] if sharpness == 0 else [1.0, 3.0]
    np.testing.assert_allclose(mean[:, 0], [ends[0], 1 + 2 * share, ends[1]], rtol=1e-5)
    np.testing.assert_allclose(known, 1.0, atol=5e-3)


def test_far_from_cells_the_simple_predictor_knows_nothing() -> None:
    places = [np.random.default_rng(k).uniform(0, 100, (500, 2)) for k in range(2)]
    sides = Sides(places, [np.ones((500, 1))] * 2, np.array([0.0, 1.0]), 3.0)
    mean, known = sides.at(np.array([[500.0, 500.0]]), np.array([0.5]), 1.0)
    assert known[0] < 1e-6 and np.isfinite(mean).all()


def test_a_field_with_the_wrong_covariance_gives_way_to_the_kernel(
    stack_of: Callable[..., Stack], moving_model: Callable[..., SDEModel]
) -> None:
    """Told that neighbouring places share nothing, the process predicts the mean; the kernel knows better."""
    draw = np.random.default_rng(3)
    places = [draw.uniform(0, 300, (600, 2)) for _ in range(5)]
    truth = [np.sin(place[:, [0]] / 40) * [1.0, 2.0] for place in places]
    stack = stack_of(places, [values + 0.3 * draw.normal(size=values.shape) for values in truth], 10.0 * np.arange(5))
    model, centre = moving_model(stack, speed=0.0, width=8), stack.scores.mean(axis=0).astype(float)
    wrong = Hyperparameters(np.full(2, 40.0), np.full(2, 40.0), np.full(2, 1e-4), np.full(2, 0.09))
    blend = calibrate(model, stack, wrong, centre)[1]
    assert blend is not None and blend.weight.min() > 0.7, blend
    asked = np.column_stack([draw.uniform(30, 270, (200, 2)), np.full(200, 15.0)])
    known = np.sin(asked[:, [0]] / 40) * [1.0, 2.0]
    alone, blended = (
        float(((Field(model, stack, wrong, 10.0, blend=one).predict(asked).mean - known) ** 2).mean())
        for one in (None, blend)
    )
    assert blended < 0.2 * alone, (alone, blended)


def test_a_field_that_is_right_is_left_alone(
    stack_of: Callable[..., Stack], moving_model: Callable[..., SDEModel]
) -> None:
    draw = np.random.default_rng(3)
    places = [draw.uniform(0, 300, (600, 2)) for _ in range(5)]
    values = [np.sin(place[:, [0]] / 40) * [1.0, 2.0] + draw.normal(size=(600, 2)) for place in places]
    stack = stack_of(places, values, 10.0 * np.arange(5))
    field = Field.fit(moving_model(stack, speed=0.0, width=8), stack)
    assert field.blend is None or field.blend.weight.max() < 0.3


def test_the_blend_is_kept_with_the_field(
    stack_of: Callable[..., Stack], moving_model: Callable[..., SDEModel]
) -> None:
    draw = np.random.default_rng(3)
    places = [draw.uniform(0, 300, (100, 2)) for _ in range(3)]
    stack = stack_of(places, [draw.normal(size=(100, 2)) for _ in places], 10.0 * np.arange(3))
    model = moving_model(stack, speed=0.0, width=8)
    hyper = Hyperparameters(np.full(2, 40.0), np.full(2, 40.0), np.full(2, 0.5), np.ones(2))
    blend = choose_blend([(WIDTHS[0], 1.0), (WIDTHS[1], 2.0)], *left_out(0.5), np.ones(N_SCORES))
    assert blend is not None
    field = Field(model, stack, hyper, 10.0, blend=replace(blend, weight=np.array([0.2, 0.7])))
    again = Field.from_state(model, stack, field.state())
    asked = np.column_stack([draw.uniform(0, 300, (20, 2)), np.full(20, 5.0)])
    np.testing.assert_array_equal(field.predict(asked).mean, again.predict(asked).mean)
