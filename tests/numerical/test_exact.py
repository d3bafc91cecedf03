"""The posterior of few cells is that of a Gaussian process, and what the grid approximates."""

from __future__ import annotations

import numpy as np
import pytest

from isost._core.exact import FewCells
from isost._core.gaussian import Covariance, Planes

COVARIANCE = Covariance(40.0, 60.0)
RATIO = np.array([5.0, 0.5])
DEPTHS = np.array([0.0, 50.0, 80.0])


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    plane = np.repeat(np.arange(3), 60)
    coords = np.random.default_rng(1).uniform(0, 200, (180, 2))
    return coords, plane, np.random.default_rng(2).normal(size=(180, 2)) + np.sin(coords[:, [0]] / 40)


@pytest.fixture
def places() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    return draw.uniform(0, 200, (40, 2)), draw.uniform(0, 80, 40)


def kernel(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    lag = ((one[0][:, None] - other[0][None]) ** 2).sum(axis=-1)
    return COVARIANCE.of(lag, np.abs(one[1][:, None] - other[1][None]))


def test_mean_and_variance_by_hand(cells: tuple, places: tuple) -> None:
    """Places are read out in float32."""
    coords, plane, values = cells
    few = FewCells(coords, DEPTHS[plane], COVARIANCE)
    measured = coords, DEPTHS[plane]
    here, cross = kernel(measured, measured), kernel(places, measured)
    found = few.at(few.mean(values, RATIO), *places)
    for column, ratio in enumerate(RATIO):
        inside = here + np.eye(180) / ratio
        np.testing.assert_allclose(found[:, column], cross @ np.linalg.solve(inside, values[:, column]), atol=1e-5)
        variance = 1 - np.einsum("ij,ji->i", cross, np.linalg.solve(inside, cross.T))
        np.testing.assert_allclose(few.variance(np.array([ratio]), *places)[:, 0], variance, atol=1e-5)


def test_the_grid_approximates_it(cells: tuple, places: tuple) -> None:
    coords, plane, values = cells
    few = FewCells(coords, DEPTHS[plane], COVARIANCE)
    grid = Planes(coords, plane, DEPTHS, COVARIANCE, (coords.min(axis=0), coords.max(axis=0)))
    exact = few.at(few.mean(values, RATIO), *places)
    near = grid.at(grid.mean(values, RATIO), *places)
    assert np.sqrt(((near - exact) ** 2).mean()) < 0.1 * exact.std()
    spread = [solved.variance(np.array([5.0]), *places).mean() for solved in (few, grid)]
    assert spread[1] == pytest.approx(spread[0], rel=0.3)


def test_blocks_of_places_are_joined(cells: tuple, places: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    coords, plane, values = cells
    few = FewCells(coords, DEPTHS[plane], COVARIANCE)
    state, ratio = few.mean(values, RATIO), np.array([2.0, 0.3])
    whole = few.at(state, *places), few.variance(ratio, *places)
    monkeypatch.setattr("isost._core.exact._BLOCK", 7 * 180)
    np.testing.assert_allclose(few.at(state, *places), whole[0], atol=1e-5)
    np.testing.assert_allclose(few.variance(ratio, *places), whole[1], atol=1e-5)
    assert few.at(state, np.zeros((0, 2)), np.zeros(0)).shape == (0, 2)
