"""Kernel sums on a grid against the sum over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from isost._core.smooth import KernelPlane

UNIT = (np.zeros(2), np.ones(2))


def direct(
    places: np.ndarray, coords: np.ndarray, values: np.ndarray, weight: np.ndarray, bandwidth: float
) -> tuple[np.ndarray, np.ndarray]:
    distance = ((places[:, None] - coords) ** 2).sum(axis=-1)
    kernel = weight * np.exp(-0.5 * distance / bandwidth**2) / (2 * np.pi * bandwidth**2)
    return kernel.sum(axis=1), kernel @ values


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.random((300, 2)), draw.normal(size=(300, 3)), draw.random(300) + 0.1


@pytest.mark.parametrize("bandwidth", [0.02, 0.07, 0.4])
def test_it_is_the_sum_over_all_pairs(cells: tuple[np.ndarray, ...], bandwidth: float) -> None:
    places = np.random.default_rng(1).random((200, 2))
    density, sums = KernelPlane(*cells, bandwidth, UNIT).at(places)
    exact_density, exact_sums = direct(places, *cells, bandwidth)
    for found, exact in ((density[:, None], exact_density[:, None]), (sums, exact_sums)):
        # a place and a cell that both lie on grid points see a kernel that is a few per cent too narrow, others not
        assert np.abs(found - exact).max() < 0.04 * np.abs(exact).max()
        assert np.median(np.abs(found - exact)) < 0.02 * np.median(np.abs(exact))


def test_its_bandwidth_is_the_one_asked_for() -> None:
    """Moments of what one cell spreads, at twenty places relative to the grid."""
    side = np.arange(-0.3, 0.3, 0.005) + 0.0025
    offset = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    variance = []
    for at in np.random.default_rng(0).random((20, 1, 2)):
        density = KernelPlane(at, np.ones((1, 1)), np.ones(1), 0.05, UNIT).at(at + offset)[0]
        assert density.sum() * 0.005**2 == pytest.approx(1.0, rel=0.01)
        np.testing.assert_allclose(density @ offset / density.sum(), 0.0, atol=1e-3)
        variance.append(density @ offset**2 / density.sum())
    np.testing.assert_allclose(variance, 0.05**2, rtol=0.06)
    np.testing.assert_allclose(np.mean(variance, axis=0), 0.05**2, rtol=0.02)


def test_total_mass_is_conserved(cells: tuple[np.ndarray, ...]) -> None:
    coords, values, weight = cells
    bandwidth = 0.05
    plane = KernelPlane(coords, values, weight, bandwidth, UNIT)
    side = np.arange(-0.3, 1.3, 0.0125) + 0.00625
    density, sums = plane.at(np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2))
    # beyond the grid, four bandwidths out, the edge's own value is read: nearly nothing
    assert density.sum() * 0.0125**2 == pytest.approx(weight.sum(), rel=2e-3)
    assert sums.sum(axis=0) * 0.0125**2 == pytest.approx(weight @ values, rel=0.01, abs=0.05)


def test_constants_come_back(cells: tuple[np.ndarray, ...]) -> None:
    coords, _, weight = cells
    constant = np.broadcast_to([3.0, -2.0], (300, 2))
    density, sums = KernelPlane(coords, constant, weight, 0.05, UNIT).at(np.random.default_rng(1).random((50, 2)))
    np.testing.assert_allclose(sums / density[:, None], constant[:50], rtol=1e-9)


def test_it_is_linear_in_weights_and_values(cells: tuple[np.ndarray, ...]) -> None:
    coords, values, weight = cells
    places = np.random.default_rng(1).random((20, 2))
    density, sums = KernelPlane(coords, values, weight, 0.05, UNIT).at(places)
    parts = [KernelPlane(coords[s], values[s], weight[s], 0.05, UNIT).at(places) for s in (slice(99), slice(99, 300))]
    np.testing.assert_allclose(parts[0][0] + parts[1][0], density, rtol=1e-9)
    np.testing.assert_allclose(parts[0][1] + parts[1][1], sums, rtol=1e-9, atol=1e-9)
    doubled = KernelPlane(coords, 3 * values, 2 * weight, 0.05, UNIT).at(places)
    np.testing.assert_allclose(doubled[0], 2 * density, rtol=1e-9)
    np.testing.assert_allclose(doubled[1], 6 * sums, rtol=1e-9, atol=1e-9)


def test_units_and_places_of_the_plane_do_not_matter(cells: tuple[np.ndarray, ...]) -> None:
    coords, values, weight = cells
    places, shift = np.random.default_rng(1).random((20, 2)), np.array([4000.0, -700.0])
    density, sums = KernelPlane(coords, values, weight, 0.05, UNIT).at(places)
    bounds = (shift, shift + 1000.0)
    moved = KernelPlane(1000 * coords + shift, values, weight, 50.0, bounds).at(1000 * places + shift)
    np.testing.assert_allclose(moved[0] * 1e6, density, rtol=1e-6)
    np.testing.assert_allclose(moved[1] * 1e6, sums, rtol=1e-6, atol=1e-6)


def test_places_off_the_grid_are_finite_and_empty(cells: tuple[np.ndarray, ...]) -> None:
    density, sums = KernelPlane(*cells, 0.05, UNIT).at(np.array([[1e6, 0.5], [-3.0, -3.0]]))
    assert np.isfinite(sums).all()
    assert (np.abs(density) < 1e-2 * 300).all()


def test_no_values_and_cells_on_a_line_will_do() -> None:
    line = np.column_stack([np.linspace(0, 1, 50), np.full(50, 0.5)])
    density, sums = KernelPlane(line, np.zeros((50, 0)), np.ones(50), 0.1, (line.min(axis=0), line.max(axis=0))).at(
        line
    )
    assert sums.shape == (50, 0)
    assert density[25] == pytest.approx(50 / (np.sqrt(2 * np.pi) * 0.1), rel=0.04)
