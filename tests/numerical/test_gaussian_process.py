"""Planes of a Gaussian process against dense matrices of the very same prior, and in limits that are known."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from scipy import sparse

from isost._core import gaussian
from isost._core.gaussian import Covariance, Planes, _banded, _conjugate_gradients, _folded, _reach, _root

DEPTHS = np.array([0.0, 40.0, 100.0])
COVARIANCE = Covariance(length=20.0, depth_length=80.0)
LOW, HIGH = np.zeros(2), np.array([90.0, 70.0])
N = 150


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places (n, 2), planes (n,) and values (n, 3)."""
    draw = np.random.default_rng(0)
    return draw.uniform(LOW, HIGH, (N, 2)), draw.integers(0, 3, N), draw.normal(size=(N, 3))


def planes_of(coords: np.ndarray, plane: np.ndarray, depths: np.ndarray = DEPTHS) -> Planes:
    return Planes(coords, plane, depths, COVARIANCE, (LOW, HIGH))


def predict(
    coords: np.ndarray, plane: np.ndarray, values: np.ndarray, ratio: float, at: np.ndarray, depths: np.ndarray = DEPTHS
) -> np.ndarray:
    planes = planes_of(coords, plane, depths)
    return planes.at(planes.mean(values, np.full(values.shape[1], ratio)), at[:, :2], at[:, 2])


def places(n: int = 40) -> np.ndarray:
    draw = np.random.default_rng(1)
    return np.column_stack([draw.uniform(LOW, HIGH, (n, 2)), draw.choice([0.0, 15.0, 40.0, 77.0, 100.0], n)])


def prior(planes: Planes) -> np.ndarray:
    """Covariance of the cells under the grid's own prior."""
    root = planes._read @ planes._factor(np.eye(planes._read.shape[1]))
    return root @ root.T


@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
def test_the_solution_at_the_cells_is_that_of_the_grids_prior(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray], ratio: float
) -> None:
    """K (K + N)^-1 y with K = B L L' B': what is left is the tolerance of the conjugate gradients."""
    coords, plane, values = cells
    planes = planes_of(coords, plane)
    dense = prior(planes)
    exact = dense @ np.linalg.solve(dense + np.eye(N) / ratio, values)
    found = planes.at(planes.mean(values, np.full(3, ratio)), coords, DEPTHS[plane])
    assert np.linalg.norm(found - exact) < 2e-3 * np.linalg.norm(exact)


def test_the_grids_prior_is_the_covariance(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    coords, plane, _ = cells
    lag = ((coords[:, None] - coords) ** 2).sum(axis=-1)
    exact = COVARIANCE.of(lag, np.abs(DEPTHS[plane][:, None] - DEPTHS[plane]))
    found = prior(planes_of(coords, plane))
    assert np.sqrt(((found - exact) ** 2).mean()) < 0.04
    # at two grid steps a length, bilinear reading takes some of the variance, and adds none
    assert 0.9 < np.diag(found).mean() < 1.0
    assert np.diag(found).max() < 1.001


def test_conjugate_gradients_solve_every_column() -> None:
    draw = np.random.default_rng(0)
    factor = draw.normal(size=(40, 40))
    matrix, right = factor @ factor.T + np.eye(40), draw.normal(size=(40, 3)) * [1e-6, 1.0, 1e6]
    exact = np.linalg.solve(matrix, right)
    found = _conjugate_gradients(lambda v, _: matrix @ v, right, n_iter=200, tol=1e-10)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6 * np.abs(exact).max(axis=0).min())
    residual = matrix @ _conjugate_gradients(lambda v, _: matrix @ v, right, n_iter=200) - right
    assert (np.linalg.norm(residual, axis=0) < 2e-3 * np.linalg.norm(right, axis=0)).all()
    assert not _conjugate_gradients(lambda v, _: matrix @ v, np.zeros((40, 2))).any()


@pytest.mark.parametrize("length", [0.01, 0.4, 2.0, 6.0])
def test_a_root_is_one_and_its_products_are_whole(length: float) -> None:
    n = 150
    root = _root(n, length)
    product = root @ root.T
    lag = np.arange(n)[:, None] - np.arange(n)
    inner = slice(20, -20)
    np.testing.assert_allclose(np.diag(product)[inner], 1.0, atol=1e-6)
    if length >= 2:
        np.testing.assert_allclose(product[inner, inner], np.exp(-(lag**2) / (2 * length**2))[inner, inner], atol=1e-6)
    x = np.random.default_rng(0).normal(size=(3, n, 4))
    np.testing.assert_allclose(_banded(root, x, _reach(length)), np.einsum("ij,bjc->bic", root, x), atol=1e-8)


def test_without_noise_values_are_met_and_under_much_noise_they_are_shrunk(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    draw = np.random.default_rng(0)
    few = np.stack(np.meshgrid([15.0, 45.0, 75.0], [10.0, 40.0]), axis=-1).reshape(-1, 2)
    values, plane = draw.normal(size=(6, 2)), np.zeros(6, np.int64)
    at = np.column_stack([few, np.zeros(6)])
    met = predict(few, plane, values, 1e4, at)
    np.testing.assert_allclose(met, values, atol=0.02)
    sizes = [np.linalg.norm(predict(few, plane, values, ratio, at)) for ratio in (1e-4, 1e-2, 1.0, 100.0)]
    assert (np.diff(sizes) > 0).all()
    assert sizes[0] < 1e-3 * np.linalg.norm(values)


def test_one_cell_shares_with_the_prior_by_its_ratio() -> None:
    """Mean r / (1 + r) of the value at the cell, up to what the bilinear read-out takes."""
    one, at = np.array([[45.0, 35.0]]), np.array([[45.0, 35.0, 40.0]])
    for ratio in (0.3, 3.0):
        planes = planes_of(one, np.array([1]))
        variance = float(prior(planes)[0, 0])
        share = ratio * variance / (1 + ratio * variance)
        found = predict(one, np.array([1]), np.ones((1, 1)), ratio, at)
        assert found.item() == pytest.approx(share, rel=2e-3)
        assert share == pytest.approx(ratio / (1 + ratio), rel=0.1)


def test_far_from_every_cell_there_is_the_mean_and_the_prior(cells: tuple[np.ndarray, ...]) -> None:
    coords, plane, values = cells
    planes = planes_of(coords, plane)
    near = np.array([[45.0, 35.0], [20.0, 50.0]])
    away = np.array([[-1e6, 35.0], [45.0, 700.0], [3e4, -3e4], [45.0, 1e9]])
    state = planes.mean(values + 5, np.full(3, 5.0))
    assert (planes.at(state, near, np.zeros(2)) > 3).all()
    assert np.abs(planes.at(state, away, np.zeros(4))).max() < 0.15
    variance = [planes.variance(np.array([5.0]), at, np.zeros(len(at))) for at in (near, away)]
    assert variance[0].max() < 0.3
    np.testing.assert_allclose(variance[1], 1.0, atol=1e-6)
    # beyond the depths of the sections too
    assert np.abs(planes.at(state, near, np.full(2, 1e5))).max() < 1e-6


def test_tissue_far_apart_is_as_if_each_piece_were_alone(cells: tuple[np.ndarray, ...]) -> None:
    coords, plane, values = cells
    other = coords[:60] + [3e5, 2e5]
    bounds = (LOW, HIGH + [3e5, 2e5])
    both = Planes(np.concatenate([coords, other]), np.concatenate([plane, plane[:60]]), DEPTHS, COVARIANCE, bounds)
    grid = both._parts[0]._shape
    assert max(grid) < 3 * max(planes_of(coords, plane)._parts[0]._shape)
    state = both.mean(np.concatenate([values, -values[:60]]), np.full(3, 2.0))
    at = places()
    alone = predict(coords, plane, values, 2.0, at)
    np.testing.assert_allclose(both.at(state, at[:, :2], at[:, 2]), alone, atol=0.06 * alone.std())


@pytest.mark.parametrize(("x", "ends"), [([0.0, 4.0, 100.0, 103.0], (-5.0, 110.0)), ([1.0], (-50.0, 60.0))])
def test_an_axis_is_folded_only_where_there_are_no_cells(x: list[float], ends: tuple[float, float]) -> None:
    knots, position = _folded(np.array(x), np.array(ends), 10.0)
    assert (np.diff(knots) > 0).all() and (np.diff(position) > 0).all() and position[0] == 0.0
    places_of = np.sort([*ends, *x])
    steps = np.diff(np.interp(places_of, knots, position))
    np.testing.assert_allclose(steps, np.minimum(np.diff(places_of), 10.0))


def test_neither_order_nor_place_nor_unit_matter(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    # where it stops at a thousandth, rounding decides on the last iteration
    monkeypatch.setattr(gaussian, "_conjugate_gradients", partial(gaussian._conjugate_gradients, tol=1e-5))
    coords, plane, values = cells
    at, ratio = places(), np.full(3, 2.0)
    base = predict(coords, plane, values, 2.0, at)
    order = np.random.default_rng(5).permutation(N)
    np.testing.assert_allclose(
        predict(coords[order], plane[order], values[order], 2.0, at), base, atol=5e-3 * base.std()
    )
    shift = np.array([12_000.0, -431.0])
    moved = Planes(coords + shift, plane, DEPTHS + 7e3, COVARIANCE, (LOW + shift, HIGH + shift))
    there = moved.at(moved.mean(values, ratio), at[:, :2] + shift, at[:, 2] + 7e3)
    np.testing.assert_allclose(there, base, atol=5e-3 * base.std())
    unit = Covariance(COVARIANCE.length * 1e-3, COVARIANCE.depth_length * 1e-3)
    small = Planes(coords * 1e-3, plane, DEPTHS * 1e-3, unit, (LOW * 1e-3, HIGH * 1e-3))
    scaled = small.at(small.mean(values, ratio), at[:, :2] * 1e-3, at[:, 2] * 1e-3)
    np.testing.assert_allclose(scaled, base, atol=2e-2 * base.std())


def test_it_is_linear_in_the_values_and_columns_are_alone(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    coords, plane, values = cells
    at = places()
    base = predict(coords, plane, values, 2.0, at)
    np.testing.assert_allclose(predict(coords, plane, -1e6 * values, 2.0, at), -1e6 * base, rtol=1e-3, atol=1e3)
    total = predict(coords, plane, values.sum(axis=1, keepdims=True), 2.0, at)
    np.testing.assert_allclose(total[:, 0], base.sum(axis=1), atol=0.01)


def test_blocks_of_features_are_what_all_at_once_are(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    coords, plane, values = cells
    at = places()
    base = predict(coords, plane, values, 2.0, at)
    monkeypatch.setattr("isost._core.gaussian._MAX_ENTRIES", 1)
    np.testing.assert_allclose(predict(coords, plane, values, 2.0, at), base, atol=0.01 * base.std())
    assert predict(coords, plane, values[:, :0], 2.0, at).shape == (40, 0)


def test_a_plane_at_its_depth_hides_the_others(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Markov along depth: weights pick the plane at its own depth, and only the two about a place between them."""
    coords, plane, _ = cells
    for part in planes_of(coords, plane)._parts:
        np.testing.assert_allclose(part._towards(DEPTHS) @ part._precision, np.eye(3), atol=1e-6)
        between = part._towards(np.array([15.0, 77.0])) @ part._precision
        np.testing.assert_allclose(between[[0, 1], [2, 0]], 0.0, atol=1e-6)
        assert (between[[0, 0, 1, 1], [0, 1, 1, 2]] > 0.1).all()
        # nearest first, and never more than there is
        assert between[0, 0] > between[0, 1] and (between.sum(axis=1) < 1).all()


def test_planes_at_one_depth_are_one_plane(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    coords, _, values = cells
    halves, at = np.arange(N) % 2, places()
    at[:, 2] = 40.0
    one = predict(coords, np.zeros(N, np.int64), values, 2.0, at, np.array([40.0]))
    two = predict(coords, halves, values, 2.0, at, np.array([40.0, 40.0]))
    assert np.isfinite(two).all()
    np.testing.assert_allclose(two, one, atol=0.02 * one.std())


def test_work_and_memory_grow_with_the_cells_not_faster() -> None:
    """Four times the cells in four times the area: grids of four times the points, and about four times the time."""
    points, entries, seconds = [], [], []
    for n in (1000, 4000, 16_000):
        draw = np.random.default_rng(0)
        side = 2 * np.sqrt(n)
        coords, plane = draw.uniform(0, side, (n, 2)), draw.integers(0, 2, n)
        started = time.process_time()
        planes = Planes(coords, plane, DEPTHS[:2], Covariance(4.0, 50.0), (np.zeros(2), np.full(2, side)))
        planes.mean(draw.normal(size=(n, 2)), np.full(2, 1.0))
        seconds.append(time.process_time() - started)
        points.append(planes._read.shape[1])
        entries.append(sparse.csr_matrix(planes._normal).nnz + planes._read.nnz)
    assert points[2] < 4.5 * points[1] and entries[2] < 4.5 * entries[1]
    assert points[2] < 4 * 16_000
    # a dense solution would take 64 times as long
    assert seconds[2] < 12 * max(seconds[1], 0.05)
