"""The posterior of few cells is that of a Gaussian process, and what the grid approximates."""

from __future__ import annotations

import numpy as np
import pytest

from isost._core.exact import FewCells
from isost._core.gaussian import Covariance, Planes
from isost._core.lags import lags
from isost._core.spectral import known_share

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


# of the planes along depth and along age
BOTH = np.array([[0.0, 0.0], [50.0, 0.0], [80.0, 0.0], [0.0, 40.0], [60.0, 40.0]])


@pytest.fixture
def spread() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    plane = np.repeat(np.arange(5), 60)
    coords = np.random.default_rng(1).uniform(0, 200, (300, 2))
    return coords, plane, np.random.default_rng(2).normal(size=(300, 2)) + np.sin(coords[:, [0]] / 40)


@pytest.fixture
def spread_places() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    return draw.uniform(0, 200, (60, 2)), draw.uniform(0, [80, 40], (60, 2))


def test_distances_along_several_directions_are_summed() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(4, 2)), draw.normal(size=(3, 2))
    by_hand = [[sum(abs(a - b) for a, b in zip(x, y, strict=True)) for y in other] for x in one]
    np.testing.assert_allclose(lags(one, other), by_hand)
    np.testing.assert_array_equal(lags(one[:, :1], other[:, :1]), lags(one[:, 0], other[:, 0]))


def test_mean_and_variance_over_two_depths_by_hand(spread: tuple, spread_places: tuple) -> None:
    coords, plane, values = spread
    few = FewCells(coords, BOTH[plane], COVARIANCE)

    def dense(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        lag = ((x[:, None] - coords) ** 2).sum(axis=-1)
        return COVARIANCE.of(lag, np.abs(z[:, None] - BOTH[plane]).sum(axis=-1))

    here, cross = dense(coords, BOTH[plane]), dense(*spread_places)
    assert np.linalg.eigvalsh(here).min() > -1e-9
    found = few.at(few.mean(values, RATIO), *spread_places)
    for column, ratio in enumerate(RATIO):
        inside = here + np.eye(300) / ratio
        np.testing.assert_allclose(found[:, column], cross @ np.linalg.solve(inside, values[:, column]), atol=1e-5)
        variance = 1 - np.einsum("ij,ji->i", cross, np.linalg.solve(inside, cross.T))
        np.testing.assert_allclose(few.variance(np.array([ratio]), *spread_places)[:, 0], variance, atol=1e-5)


def test_the_grid_over_two_depths_approximates_it(spread: tuple, spread_places: tuple) -> None:
    coords, plane, values = spread
    few = FewCells(coords, BOTH[plane], COVARIANCE)
    grid = Planes(coords, plane, BOTH, COVARIANCE, (coords.min(axis=0), coords.max(axis=0)))
    exact = few.at(few.mean(values, RATIO), *spread_places)
    near = grid.at(grid.mean(values, RATIO), *spread_places)
    assert np.sqrt(((near - exact) ** 2).mean()) < 0.1 * exact.std()
    spreads = [solved.variance(np.array([5.0]), *spread_places)[:, 0] for solved in (few, grid)]
    assert spreads[1].mean() == pytest.approx(spreads[0].mean(), rel=0.3)
    assert np.corrcoef(*spreads)[0, 1] > 0.6


@pytest.mark.parametrize("solver", ["cells", "grid"])
def test_a_second_depth_that_is_constant_changes_nothing(cells: tuple, places: tuple, solver: str) -> None:
    coords, plane, values = cells
    ratio, found = np.array([2.0, 0.3]), []
    for widened in (lambda z: z, lambda z: np.column_stack([z, np.full(len(z), 7.0)])):
        depths = widened(DEPTHS)
        if solver == "cells":
            solved = FewCells(coords, depths[plane], COVARIANCE)
        else:
            solved = Planes(coords, plane, depths, COVARIANCE, (coords.min(axis=0), coords.max(axis=0)))
        at = places[0], widened(places[1])
        found.append((solved.at(solved.mean(values, RATIO), *at), solved.variance(ratio, *at)))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-6)


@pytest.mark.parametrize("solver", ["cells", "grid"])
def test_depth_and_age_may_change_places(spread: tuple, spread_places: tuple, solver: str) -> None:
    coords, plane, values = spread
    found = []
    for order in ([0, 1], [1, 0]):
        depths = BOTH[:, order]
        if solver == "cells":
            solved = FewCells(coords, depths[plane], COVARIANCE)
        else:
            solved = Planes(coords, plane, depths, COVARIANCE, (coords.min(axis=0), coords.max(axis=0)))
        at = spread_places[0], spread_places[1][:, order]
        found.append((solved.at(solved.mean(values, RATIO), *at), solved.variance(RATIO, *at)))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-6)


def test_what_planes_tell_falls_with_the_distance_along_both() -> None:
    """Of one plane: as much at a depth as at the age that is as far."""
    at = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [10.0, 10.0], [20.0, 20.0]])
    lengths, density = [(40.0, 60.0), (120.0, 180.0)], np.full((5, 1), 0.01)
    known = known_share(lengths, np.zeros((1, 2)), density, np.array([2.0]), at)[:, 0]
    np.testing.assert_allclose(known[1:4], known[1])
    assert 1 > known[0] > known[1] > known[4] > 0
    flat = known_share(lengths, np.zeros(1), density, np.array([2.0]), at.sum(axis=1))[:, 0]
    np.testing.assert_allclose(known, flat)
