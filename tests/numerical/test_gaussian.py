"""The field's Gaussian process on a grid against the same process by dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isost._core.covariance import aggregate, estimate, maximise
from isost._core.gaussian import Covariance, Planes
from isost._core.stack import Stack

DEPTHS = np.array([0.0, 30.0, 80.0])
COVARIANCE = Covariance(length=25.0, depth_length=60.0)
BOUNDS = (np.zeros(2), np.array([100.0, 80.0]))


def matrix(first: np.ndarray, second: np.ndarray, covariance: Covariance = COVARIANCE) -> np.ndarray:
    lag = ((first[:, None, :2] - second[None, :, :2]) ** 2).sum(axis=-1)
    return covariance.of(lag, np.abs(first[:, None, 2] - second[None, :, 2]))


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Cells (n, 3) and the plane of each."""
    draw = np.random.default_rng(0)
    plane = draw.integers(0, 3, 120)
    return np.column_stack([draw.uniform(0, [100, 80], (120, 2)), DEPTHS[plane]]), plane


@pytest.fixture
def planes(cells: tuple[np.ndarray, np.ndarray]) -> Planes:
    return Planes(cells[0][:, :2], cells[1], DEPTHS, COVARIANCE, BOUNDS)


def asked() -> np.ndarray:
    draw = np.random.default_rng(1)
    return np.column_stack([draw.uniform(0, [100, 80], (60, 2)), draw.choice([0.0, 10.0, 30.0, 55.0, 80.0], 60)])


def test_the_covariance_is_one() -> None:
    """Correlation 1 with itself, falling with distance in every direction, never of negative variance."""
    draw = np.random.default_rng(0)
    points = draw.uniform(0, 100, (80, 3))
    dense = matrix(points, points)
    np.testing.assert_allclose(np.diag(dense), 1.0)
    assert np.linalg.eigvalsh(dense).min() > -1e-9
    far = COVARIANCE.of(np.array([0.0, 25.0**2, 50.0**2, 0.0]), np.array([0.0, 0.0, 0.0, 60.0]))
    assert far[0] == 1.0
    assert (np.diff(far[:3]) < 0).all() and far[3] < 0.7
    # long lags are the long component's
    assert COVARIANCE.of(np.array([100.0**2]), np.zeros(1))[0] > 5 * 0.5 * np.exp(-(4.0**2) / 2)


@pytest.mark.parametrize("ratio", [0.2, 3.0])
def test_the_mean_is_that_of_dense_matrices(planes: Planes, cells: tuple[np.ndarray, np.ndarray], ratio: float) -> None:
    coords, _ = cells
    values = np.random.default_rng(2).multivariate_normal(
        np.zeros(120), matrix(coords, coords) + np.eye(120) / ratio, size=2, method="cholesky"
    )
    at = asked()
    exact = ratio * matrix(at, coords) @ np.linalg.solve(ratio * matrix(coords, coords) + np.eye(120), values.T)
    found = planes.at(planes.mean(values.T, np.full(2, ratio)), at[:, :2], at[:, 2])
    assert exact.std() > 0.3
    # of a grid of two steps a length
    assert np.sqrt(((found - exact) ** 2).mean()) < 0.06 * exact.std()
    assert np.abs(found - exact).max() < 0.2 * exact.std()


def test_features_of_different_noise_are_solved_together(planes: Planes, cells: tuple[np.ndarray, np.ndarray]) -> None:
    values, at = np.random.default_rng(2).normal(size=(120, 2)), asked()
    together = planes.at(planes.mean(values, np.array([0.2, 3.0])), at[:, :2], at[:, 2])
    for column, ratio in enumerate((0.2, 3.0)):
        alone = planes.at(planes.mean(values[:, [column]], np.array([ratio])), at[:, :2], at[:, 2])
        np.testing.assert_allclose(together[:, [column]], alone, atol=0.01 * alone.std())


@pytest.mark.parametrize(("ratio", "within"), [(0.02, 0.1), (0.2, 0.1), (3.0, 0.2), (30.0, 0.35)])
def test_the_variance_is_that_of_dense_matrices(ratio: float, within: float) -> None:
    """Also at the rim and where a plane has a hole: uneven cells tell less than even ones, the more the less noise."""
    draw = np.random.default_rng(0)
    plane, wide = draw.integers(0, 3, 1000), np.array([300.0, 240.0])
    coords = np.column_stack([draw.uniform(0, wide, (1000, 2)), DEPTHS[plane]])
    kept = (plane != 1) | (coords[:, 0] > 120)
    coords, plane = coords[kept], plane[kept]
    at = np.column_stack([draw.uniform(0, wide, (200, 2)), draw.choice([0.0, 10.0, 30.0, 55.0, 80.0], 200)])
    inside, across = ratio * matrix(coords, coords) + np.eye(len(coords)), matrix(at, coords)
    exact = 1 - ratio * np.einsum("ij,ji->i", across, np.linalg.solve(inside, across.T))
    planes = Planes(coords[:, :2], plane, DEPTHS, COVARIANCE, (np.zeros(2), wide))
    found = planes.variance(np.array([1.0, ratio]), at[:, :2], at[:, 2])[:, 1]
    off = np.log(found / exact)
    assert np.abs(off.mean()) < 0.6 * within
    assert off.std() < within
    assert np.corrcoef(found, exact)[0, 1] > 0.85


@pytest.mark.parametrize(("ratio", "within"), [(0.02, 0.06), (0.3, 0.12), (3.0, 0.3)])
def test_a_cell_does_not_count_itself_twice(ratio: float, within: float) -> None:
    """At cells' own places, whose leverage is of this variance, with a length below the spacing of cells."""
    draw = np.random.default_rng(1)
    plane = draw.integers(0, 3, 900)
    coords = np.column_stack([draw.uniform(0, 200, (900, 2)), DEPTHS[plane]])
    covariance = Covariance(length=5.0, depth_length=60.0)
    inner = ((coords[:, :2] > 20) & (coords[:, :2] < 180)).all(axis=1)
    inside, across = ratio * matrix(coords, coords, covariance) + np.eye(900), matrix(coords[inner], coords, covariance)
    exact = 1 - ratio * np.einsum("ij,ji->i", across, np.linalg.solve(inside, across.T))
    planes = Planes(coords[:, :2], plane, DEPTHS, covariance, (np.zeros(2), np.full(2, 200.0)))
    off = np.log(planes.variance(np.array([ratio]), coords[inner, :2], coords[inner, 2])[:, 0] / exact)
    assert np.abs(off.mean()) < within and off.std() < within


def test_many_planes_are_pooled_for_the_variance() -> None:
    """As a thick section has: eight tell about as much as the thirty-two that there are."""
    draw = np.random.default_rng(0)
    depths = np.sort(draw.uniform(0, 100, 32))
    plane = draw.integers(0, 32, 2000)
    coords = np.column_stack([draw.uniform(0, 200, (2000, 2)), depths[plane]])
    at = np.column_stack([draw.uniform(0, 200, (100, 2)), draw.uniform(0, 100, 100)])
    inside, across = matrix(coords, coords) + np.eye(2000), matrix(at, coords)
    exact = 1 - np.einsum("ij,ji->i", across, np.linalg.solve(inside, across.T))
    planes = Planes(coords[:, :2], plane, depths, COVARIANCE, (np.zeros(2), np.full(2, 200.0)))
    off = np.log(planes.variance(np.ones(1), at[:, :2], at[:, 2])[:, 0] / exact)
    assert np.abs(off.mean()) < 0.1 and off.std() < 0.15


def test_the_variance_has_known_limits(planes: Planes, cells: tuple[np.ndarray, np.ndarray]) -> None:
    """One far from the cells and under endless noise; without noise, what lies open between the planes."""
    coords, _ = cells
    far, at = np.array([[5e3, -2e3], [40.0, 9e3]]), asked()
    np.testing.assert_allclose(planes.variance(np.array([3.0]), far, np.zeros(2)), 1.0, atol=1e-6)
    np.testing.assert_allclose(planes.variance(np.array([1e-9]), at[:, :2], at[:, 2]), 1.0, atol=1e-5)
    inner = np.array([[50.0, 40.0]] * 5), np.array([0.0, 10.0, 30.0, 55.0, 80.0])
    along = [0.5 * np.exp(-np.abs(inner[1][:, None] - DEPTHS) / d) for d in (60.0, 180.0)]
    among = [0.5 * np.exp(-np.abs(DEPTHS[:, None] - DEPTHS) / d) for d in (60.0, 180.0)]
    left = 1 - sum(np.einsum("ij,ji->i", a, np.linalg.solve(m, a.T)) for a, m in zip(along, among, strict=True))
    found = planes.variance(np.array([1e7]), *inner)[:, 0]
    assert np.abs(found - left).max() < 0.02
    # and it grows with the noise and the distance from the planes
    fewer = planes.variance(np.array([0.1, 1.0, 10.0]), *inner)
    assert (np.diff(fewer, axis=1) < 0).all()
    assert fewer[1, 1] > fewer[0, 1] and fewer[3, 1] > fewer[2, 1]


@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
def test_the_integral_over_frequencies_is_exact_for_one_plane(ratio: float) -> None:
    """For even cells of density rho the reduction is a sum over frequencies that a fine sum gives as well."""
    draw = np.random.default_rng(0)
    coords = draw.uniform(-400, 400, (20_000, 2))
    one = Planes(coords, np.zeros(20_000, np.int64), np.zeros(1), COVARIANCE, (np.full(2, -400.0), np.full(2, 400.0)))
    found = one.variance(np.array([ratio]), np.zeros((1, 2)), np.zeros(1)).item()
    rho = float(one._parts[0].density(np.zeros((1, 2)), one._blur).item())
    assert rho == pytest.approx(20_000 / 800**2, rel=0.3)
    q = (np.arange(200_000) + 0.5) * 2e-6
    short, long = (np.pi * length**2 * np.exp(-((length * q) ** 2) / 2) for length in (25.0, 75.0))
    spectrum = short + long
    left = spectrum / (1 + ratio * rho * spectrum)
    assert found == pytest.approx(float((left * q).sum() * 2e-6 / (2 * np.pi)), rel=5e-3)


def sample(stack_of: Callable[..., Stack], lengths: tuple[float, float], ratio: float, noise: float) -> Stack:
    """Draw ten features of known covariance for three sections of 130 cells."""
    draw = np.random.default_rng(0)
    sections = [draw.uniform(0, [400, 300], (130, 2)) for _ in range(3)]
    coords = np.concatenate(
        [np.column_stack([xy, np.full(130, z)]) for xy, z in zip(sections, (0, 50, 100), strict=True)]
    )
    dense = matrix(coords, coords, Covariance(*lengths)) + 1e-8 * np.eye(390)
    field = np.sqrt(ratio * noise) * np.linalg.cholesky(dense) @ draw.normal(size=(390, 10))
    values = field + np.sqrt(noise) * draw.normal(size=(390, 10))
    return stack_of(sections, np.split(values, 3), [0.0, 50.0, 100.0])


def test_the_covariance_that_the_features_were_drawn_from_is_found(stack_of: Callable[..., Stack]) -> None:
    found = estimate(sample(stack_of, (60.0, 100.0), ratio=3.0, noise=0.5))
    assert np.median(found.noise) == pytest.approx(0.5, rel=0.3)
    assert 1.5 < np.median(found.ratio) < 6.0
    assert 35.0 < np.median(found.length) < 100.0
    assert 40.0 < np.median(found.depth_length) < 250.0


def test_noise_and_pattern_are_told_apart(stack_of: Callable[..., Stack]) -> None:
    noisy = estimate(sample(stack_of, (60.0, 100.0), ratio=0.02, noise=1.0))
    clear = estimate(sample(stack_of, (60.0, 100.0), ratio=30.0, noise=0.1))
    assert np.median(noisy.ratio) < 0.2
    assert np.median(clear.ratio) > 5.0
    assert np.median(clear.length) > 30.0


def test_sections_that_have_nothing_in_common_get_a_short_depth_length(stack_of: Callable[..., Stack]) -> None:
    apart = estimate(sample(stack_of, (60.0, 5.0), ratio=5.0, noise=0.3))
    alike = estimate(sample(stack_of, (60.0, 2000.0), ratio=5.0, noise=0.3))
    assert np.median(apart.depth_length) < 0.5 * np.median(alike.depth_length)


def test_groups_hold_every_feature_once(stack_of: Callable[..., Stack]) -> None:
    found = estimate(sample(stack_of, (60.0, 100.0), ratio=1.0, noise=0.5))
    groups = found.groups()
    assert sorted(np.concatenate([columns for _, columns in groups])) == list(range(10))
    for covariance, columns in groups:
        np.testing.assert_array_equal(found.length[columns], covariance.length)
        np.testing.assert_array_equal(found.depth_length[columns], covariance.depth_length)


def test_an_estimate_does_not_see_the_place_of_the_block(stack_of: Callable[..., Stack]) -> None:
    stack = sample(stack_of, (60.0, 100.0), ratio=1.0, noise=0.5)
    moved = replace(stack, coords=stack.coords + [12_345.6, -777.7, 300.0], depths=stack.depths + 300.0)
    first, second = estimate(stack), estimate(moved)
    for name in ("length", "depth_length", "ratio", "noise"):
        np.testing.assert_allclose(getattr(second, name), getattr(first, name), rtol=1e-6)


def test_the_likelihood_tells_a_second_depth() -> None:
    """Of features that change along depth and along age it is greatest with age as far as it truly is."""
    draw = np.random.default_rng(0)
    section = np.repeat(np.arange(9), 50)
    at = np.array([(z, age) for age in (0.0, 1.0, 2.0) for z in (0.0, 1.0, 2.0)])[section]
    coords = draw.uniform(0, 200, (450, 2))
    lag = ((coords[:, None] - coords) ** 2).sum(axis=-1)
    apart = np.abs(at[:, None] - at) @ [1.0, 4.0]  # an age apart is as much as four depths
    dense = Covariance(50.0, 4.0).of(lag, apart) + 0.1 * np.eye(450)
    values = draw.multivariate_normal(np.zeros(450), dense, size=30, method="cholesky").T
    likelihood = {}
    for relative in (1.0, 4.0, 16.0):
        problem = aggregate(np.column_stack([coords, at * [1.0, relative]]), values, section, 10.0, 450)
        found, likelihood[relative] = maximise([problem], 10.0, 1.0)
        if relative == 4.0:
            assert np.median(found.depth_length) == 4.0
    assert max(likelihood, key=likelihood.get) == 4.0


def test_a_second_depth_that_is_constant_does_not_change_the_estimate() -> None:
    draw = np.random.default_rng(0)
    section, coords = np.repeat(np.arange(3), 60), draw.uniform(0, 200, (180, 2))
    flat = np.column_stack([coords, DEPTHS[section]])
    values = np.sin(coords / 30) + draw.normal(size=(180, 2))
    found = []
    for places in (flat, np.column_stack([flat, np.full(180, 9.0)])):
        problem = aggregate(places, values, section, 15.0, 180)
        assert problem.count.sum() == 180
        found.append(maximise([problem], 10.0, 40.0))
    assert found[1][1] == pytest.approx(found[0][1])
    for name in ("length", "depth_length", "ratio", "noise"):
        np.testing.assert_allclose(getattr(found[1][0], name), getattr(found[0][0], name))
