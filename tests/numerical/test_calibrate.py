"""Factors that make intervals hold what they promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isost._core.calibrate import Calibration, LeftOut, calibrate, factors_of
from isost._core.covariance import Hyperparameters
from isost._core.model import SDEModel
from isost._core.stack import Stack

N_BINS = 3000
Z = 1.6448536269514722


def left_out(unit: Callable[[np.random.Generator, tuple[int, int]], np.ndarray], factor: np.ndarray) -> LeftOut:
    """Bins whose residuals scatter by factor x the field's standard deviations and by the sampling of cells."""
    draw, shape = np.random.default_rng(0), (N_BINS, len(factor))
    variance = draw.gamma(4.0, 0.25, shape)
    count = draw.integers(1, 9, N_BINS)
    sampling = np.sqrt(0.2 / count)[:, None] * draw.normal(size=shape)
    residual = factor * np.sqrt(variance) * unit(draw, shape) + sampling
    return LeftOut(residual, np.zeros((0, *shape)), variance, count, 0.2 * np.eye(len(factor)))


def normal(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return draw.normal(size=shape)


def outliers(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """One in seven is ten times as large as the others: their spread covers the others alone."""
    return np.where(draw.random(shape) < 1 / 7, 3.0, 0.3) * draw.choice([-1, 1], shape)


def test_the_factor_that_made_the_residuals_is_found() -> None:
    factor = np.array([0.5, 1.0, 2.0, 4.0])
    found = factors_of([left_out(normal, factor)], np.eye(4))
    assert (np.abs(np.log(found / factor)) < 0.25).all(), found


def test_outliers_are_covered_too() -> None:
    part = left_out(outliers, np.ones(3))
    found = factors_of([part], np.eye(3))
    square, variance, sampling = part.of(np.eye(3))
    covered = (square <= Z**2 * (found**2 * variance + sampling)).mean(axis=0)
    assert (covered > 0.88).all(), covered
    likely = 1.645**2 * ((square - sampling) / variance).mean(axis=0) * variance + sampling
    assert ((square <= likely).mean(axis=0) < 0.88).all()


def test_genes_are_judged_by_their_loadings() -> None:
    factor = np.array([0.5, 2.0])
    part = left_out(normal, factor)
    found = factors_of([part], np.array([[10.0, 0.0], [0.0, 0.1]]))
    assert (np.abs(np.log(found / factor)) < 0.25).all(), found


@pytest.fixture
def two_of_one_field(stack_of: Callable[..., Stack]) -> Callable[[int], Stack]:
    """Sections 10 apart of a field that changes little along depth, with cells that scatter by one about it."""

    def make(n_sections: int) -> Stack:
        draw = np.random.default_rng(3)
        places = [draw.uniform(0, 300, (250, 2)) for _ in range(n_sections)]
        values = [np.sin(place[:, [0]] / 40) * [1.0, 2.0] + draw.normal(size=(250, 2)) for place in places]
        return stack_of(places, values, 10.0 * np.arange(n_sections))

    return make


@pytest.fixture
def still_model(moving_model: Callable[..., SDEModel]) -> Callable[[Stack], SDEModel]:
    return lambda stack: moving_model(stack, speed=0.0, width=8)


def test_a_field_sure_of_too_much_is_widened(
    two_of_one_field: Callable[[int], Stack], still_model: Callable[[Stack], SDEModel]
) -> None:
    stack = two_of_one_field(4)
    model, centre = still_model(stack), stack.scores.mean(axis=0).astype(float)
    right = Hyperparameters(np.full(2, 40.0), np.full(2, 40.0), np.full(2, 0.5), np.ones(2))
    # a hundredth of the prior variance: the same shape, a tenth of the deviations
    sure = Hyperparameters(right.length, right.depth_length, right.ratio, np.full(2, 0.01))
    honest, widened = (calibrate(model, stack, hyper, centre)[0].scores for hyper in (right, sure))
    assert (honest < 1).all() and (widened > 2.5 * honest).all(), (honest, widened)


def test_two_sections_say_nothing(
    two_of_one_field: Callable[[int], Stack], still_model: Callable[[Stack], SDEModel]
) -> None:
    stack = two_of_one_field(2)
    hyper = Hyperparameters(np.full(2, 40.0), np.full(2, 400.0), np.full(2, 0.5), np.ones(2))
    found, blend, settling = calibrate(still_model(stack), stack, hyper, stack.scores.mean(axis=0).astype(float))
    assert blend is None
    assert settling is None
    none = Calibration.none(stack)
    np.testing.assert_array_equal(found.scores, none.scores)
    np.testing.assert_array_equal(found.genes, none.genes)
