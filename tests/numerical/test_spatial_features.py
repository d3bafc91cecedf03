"""Means and slopes inside a mask: exact where they can be, and blind to what lies outside."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, sobel

from isost._tools.cell_features import CellFeatures
from isost._tools.features import reduce_features
from isost._tools.smoothing import AXES, Filters
from isost._tools.volume_features import VolumeFeatures

SHAPE = (11, 13, 15)


@pytest.fixture
def ball() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return ((z - 5) / 5.2) ** 2 + ((y - 6) / 6.2) ** 2 + ((x - 7) / 7.2) ** 2 <= 1


def test_a_constant_stays_one_up_to_the_surface(ball: np.ndarray) -> None:
    filters, values = Filters(ball, 1.5), np.full(SHAPE, 3.0)
    assert np.allclose(filters.mean(values)[ball], 3.0, atol=1e-6)
    assert all(np.allclose(filters.slope(values, axis)[ball], 0.0, atol=1e-6) for axis in AXES)


def test_a_linear_field_has_its_slope_up_to_the_surface(ball: np.ndarray) -> None:
    z, y, x = np.indices(SHAPE).astype(np.float64)
    filters, values = Filters(ball, 1.5), 2 * x - 3 * y + 0.5 * z
    for axis, slope in {"x": 2.0, "y": -3.0, "z": 0.5}.items():
        assert np.allclose(filters.slope(values, axis)[ball], slope, atol=1e-5)


def test_away_from_the_surface_it_is_sobel_of_the_gaussian_mean() -> None:
    values = np.random.default_rng(0).normal(size=(23, 23, 23))
    filters = Filters(np.ones(values.shape, dtype=bool), 1.5)
    smooth = gaussian_filter(values, 1.5, radius=5)
    middle = (slice(8, -8),) * 3
    assert np.allclose(filters.mean(values)[middle], smooth[middle], atol=1e-6)
    for axis, place in AXES.items():
        # scipy's operator is not normalised: a slope of 1 is 32 there
        assert np.allclose(filters.slope(values, axis)[middle], sobel(smooth, axis=place)[middle] / 32, atol=1e-6)


@pytest.mark.parametrize("outside", [np.nan, np.inf, -1e30])
def test_nothing_leaks_in_from_outside(ball: np.ndarray, outside: float) -> None:
    values = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    options = {"sigma": 1.5, "own": True}
    clean = np.concatenate(list(VolumeFeatures(da.from_array(np.where(ball, values, 0)), ball, **options).blocks()))
    dirty = VolumeFeatures(da.from_array(np.where(ball, values, np.float32(outside))), ball, **options)
    assert np.array_equal(np.concatenate(list(dirty.blocks())), clean)


def test_a_voxel_without_a_value_takes_that_of_its_neighbours(ball: np.ndarray) -> None:
    values = np.full((1, *SHAPE), 2.0, dtype=np.float32)
    values[0, 5, 6, 7] = np.nan
    features = np.concatenate(list(VolumeFeatures(da.from_array(values), ball, sigma=1.0, own=True).blocks()))
    assert len(features) == ball.sum()
    assert np.allclose(features[:, [0, 7]], 2.0, atol=1e-6) and np.allclose(features[:, 1:4], 0.0, atol=1e-6)


def test_columns(ball: np.ndarray) -> None:
    z, y, x = np.indices(SHAPE).astype(np.float32)
    source = VolumeFeatures(da.from_array(np.stack([x, y * z])), ball, sigma=1.5, own=True)
    features, at = np.concatenate(list(source.blocks())), np.argwhere(ball)
    assert features.shape[1] == source.layout.width == 4 * 2 + 3 + 2
    assert np.allclose(features[:, source.layout.position], at[:, ::-1])
    assert np.allclose(features[:, source.layout.values], np.stack([x, y * z])[:, ball].T)
    # changes over one standard deviation of the Gaussian
    assert np.allclose(features[:, source.layout.slopes][:, 0], 1.5, atol=1e-5)
    assert VolumeFeatures(da.zeros((50, *SHAPE)), ball, sigma=1.5, own=False).layout.width == 203
    assert VolumeFeatures(da.zeros((50, *SHAPE)), ball, sigma=1.5, own=True).layout.width == 253


@pytest.mark.parametrize("own", [False, True])
def test_slab_by_slab_is_the_same_as_at_once(ball: np.ndarray, own: bool) -> None:
    values = da.from_array(np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32), chunks=5)
    weights = {"gradient_weight": 1.0, "position_weight": 0.05}
    whole = reduce_features(VolumeFeatures(values, ball, sigma=1.2, own=own), 4, **weights)
    slabs = reduce_features(VolumeFeatures(values, ball, sigma=1.2, own=own, block_bytes=1), 4, **weights)
    assert np.allclose(whole.scores, slabs.scores, atol=1e-4)
    features = np.concatenate(list(VolumeFeatures(values, ball, sigma=1.2, own=own).blocks())).astype(np.float64)
    assert np.allclose((features - features.mean(axis=0)) @ whole.axes, whole.scores, atol=1e-4)


def test_components_are_uncorrelated_and_in_order_of_variance(ball: np.ndarray) -> None:
    values = da.from_array(np.random.default_rng(3).normal(size=(4, *SHAPE)).astype(np.float32))
    source = VolumeFeatures(values, ball, sigma=1.0, own=True)
    reduced = reduce_features(source, 6, gradient_weight=0.5, position_weight=0.1)
    covariance = np.cov(reduced.scores.T)
    assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3 * covariance[0, 0])
    assert np.all(np.diff(np.diag(covariance)) <= 0) and 0 < reduced.variance_ratio.sum() <= 1


def test_positions_have_the_share_that_was_asked_for(ball: np.ndarray) -> None:
    values = da.from_array(np.random.default_rng(4).normal(size=(4, *SHAPE)).astype(np.float32))
    source = VolumeFeatures(values, ball, sigma=1.0, own=False)
    features = np.concatenate(list(source.blocks())).astype(np.float64)
    axes = reduce_features(source, source.layout.width, gradient_weight=1.0, position_weight=0.3).axes
    scale = np.linalg.norm(axes, axis=1)  # the axes are a rotation of what is scaled
    variance = features.var(axis=0) * scale**2
    assert variance[source.layout.position].sum() == pytest.approx(0.3 * variance[source.layout.mean].sum(), rel=1e-3)
    assert np.ptp(scale[source.layout.position]) < 1e-6 * scale[source.layout.position][0]


def test_cells_have_exact_slopes_of_linear_values() -> None:
    rng = np.random.default_rng(5)
    coords = rng.uniform(0, 100, (300, 3))
    values = np.column_stack([coords @ [2.0, -1.0, 0.5] + 7, np.full(300, 4.0)])
    cells = CellFeatures(coords, values, n_neighbors=20, own=False)
    features = np.concatenate(list(cells.blocks()))
    slopes = features[:, cells.layout.slopes].reshape(-1, 3, 2) / cells.length
    assert np.allclose(slopes[..., 0], [2.0, -1.0, 0.5], atol=1e-4) and np.allclose(slopes[..., 1], 0, atol=1e-5)
    assert np.allclose(features[:, 1], 4.0, atol=1e-5)


def test_a_single_plane_of_cells_has_no_slope_across() -> None:
    rng = np.random.default_rng(6)
    coords = np.column_stack([rng.uniform(0, 100, (200, 2)), np.full(200, 30.0)])
    cells = CellFeatures(coords, coords[:, :1] * 3, n_neighbors=15, own=False)
    slopes = np.concatenate(list(cells.blocks()))[:, cells.layout.slopes] / cells.length
    assert np.allclose(slopes, [3.0, 0.0, 0.0], atol=1e-4)


def test_cells_may_come_in_any_order() -> None:
    rng = np.random.default_rng(7)
    coords, values = rng.uniform(0, 100, (250, 3)), rng.normal(size=(250, 3))
    order = rng.permutation(250)
    weights = {"gradient_weight": 1.0, "position_weight": 0.05}
    one = reduce_features(CellFeatures(coords, values, n_neighbors=12, own=True), 4, **weights)
    other = reduce_features(CellFeatures(coords[order], values[order], n_neighbors=12, own=True), 4, **weights)
    assert np.allclose(one.scores[order], other.scores, atol=1e-4)
