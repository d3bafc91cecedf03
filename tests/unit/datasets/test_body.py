from __future__ import annotations

import numpy as np
import pytest

from isost.datasets._body import GROWTH, THICKNESS, TWIST, Body
from isost.datasets._embryo_sampling import material_grid

BODY = Body(2000.0, 9.5, 15.5)
AGES = [9.5, 11.3, 13.0, 15.5]


def _disc(n: int = 300, radius: float = 0.98) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    angle, far = draw.uniform(-np.pi, np.pi, n), radius * np.sqrt(draw.uniform(size=n))
    return far * np.cos(angle), far * np.sin(angle)


@pytest.mark.parametrize("age", AGES)
def test_the_map_has_an_inverse(age: float) -> None:
    a, b = _disc()
    found = BODY.to_material(BODY.to_physical(a, b, age))
    np.testing.assert_allclose(found, [a, b], atol=1e-9)


def test_ages_may_differ_from_place_to_place() -> None:
    a, b = _disc()
    age = np.linspace(9.5, 15.5, len(a))
    coords = BODY.to_physical(a, b, age)
    np.testing.assert_array_equal(coords[:, 2], age)
    np.testing.assert_allclose(BODY.to_material(coords), [a, b], atol=1e-9)


@pytest.mark.parametrize("age", AGES)
def test_the_jacobian_is_that_of_finite_differences(age: float) -> None:
    a, b = _disc()
    step = 1e-5
    along = (BODY.to_physical(a + step, b, age) - BODY.to_physical(a - step, b, age)) / (2 * step)
    across = (BODY.to_physical(a, b + step, age) - BODY.to_physical(a, b - step, age)) / (2 * step)
    found = np.abs(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])
    np.testing.assert_allclose(BODY.jacobian(a, b, age), found, rtol=1e-6)


@pytest.mark.parametrize("age", AGES)
def test_no_place_of_the_body_folds_over(age: float) -> None:
    side = np.arange(-3500.0, 3500.0, 20.0) + 10.0
    x, y = np.meshgrid(side, side)
    inside = np.isfinite(BODY.to_material(np.column_stack([x.ravel(), y.ravel(), np.full(x.size, age)]))[0])
    area = material_grid(BODY, age)[2]
    assert area.min() > 0
    assert inside.sum() * 20.0**2 == pytest.approx(area.sum(), rel=0.01)


def test_the_axis_is_as_long_as_it_is_said_to_be() -> None:
    """Its ends lie on an arc, which is 2.5 times as long at the last age as at the first."""
    a = np.linspace(-1.0, 1.0, 2001)
    length = [np.linalg.norm(np.diff(BODY.to_physical(a, 0.0, age)[:, :2], axis=0), axis=1).sum() for age in AGES]
    assert length[0] == pytest.approx(2000.0, rel=1e-4)
    assert length[-1] == pytest.approx(2.5 * 2000.0, rel=1e-4)
    rate = np.diff(np.log(length)) / np.diff(AGES)
    np.testing.assert_allclose(rate, GROWTH / 6.0, rtol=1e-4)


def test_it_uncurls_and_hands_over_from_head_to_trunk() -> None:
    ends = [BODY.to_physical(np.array([-1.0, 1.0]), 0.0, age)[:, :2] for age in AGES]
    straight = [np.linalg.norm(tail - head) / np.exp(GROWTH * BODY.relative(age))
                for (tail, head), age in zip(ends, AGES, strict=True)]  # fmt: skip
    assert (np.diff(straight) > 0).all()
    head = []
    for age in AGES:
        a, _, area = material_grid(BODY, age)
        head.append(area[a > 0].sum() / area.sum())
    assert (np.diff(head) < 0).all()


def test_it_grows_all_the_time() -> None:
    area = [material_grid(BODY, age)[2].sum() for age in np.linspace(9.5, 15.5, 25)]
    assert (np.diff(area) > 0).all()


def test_a_longer_body_is_the_same_in_another_unit() -> None:
    a, b = _disc()
    twice = Body(4000.0, 9.5, 15.5)
    np.testing.assert_allclose(twice.to_physical(a, b, 12.0)[:, :2], 2.0 * BODY.to_physical(a, b, 12.0)[:, :2])
    np.testing.assert_allclose(twice.jacobian(a, b, 12.0), 4.0 * BODY.jacobian(a, b, 12.0))


@pytest.mark.parametrize("place", [[9000.0, 0.0, 12.0], [0.0, 2000.0, 12.0], [0.0, 0.0, 9.0], [0.0, 0.0, 16.0]])
def test_outside_the_body_and_its_ages_there_is_no_material(place: list[float]) -> None:
    assert np.isnan(BODY.to_material(np.array([place]))).all()
    assert np.isfinite(BODY.to_material(np.array([[0.0, 0.0, 12.0]]))).all()


@pytest.mark.parametrize("w", [-0.9, -0.3, 0.5])
def test_the_map_of_a_plane_has_an_inverse(w: float) -> None:
    a, b = _disc(radius=0.98 * np.sqrt(1 - w**2))
    age = np.linspace(9.5, 15.5, len(a))
    np.testing.assert_allclose(BODY.to_material(BODY.to_physical(a, b, age, w), w), [a, b], atol=1e-9)


def test_depths_may_differ_from_place_to_place() -> None:
    a, b = _disc(radius=0.5)
    w = np.linspace(-0.8, 0.8, len(a))
    np.testing.assert_allclose(BODY.to_material(BODY.to_physical(a, b, 12.0, w), w), [a, b], atol=1e-9)


def test_the_middle_plane_is_that_of_no_depth() -> None:
    a, b = _disc()
    np.testing.assert_array_equal(BODY.to_physical(a, b, 12.0, 0.0), BODY.to_physical(a, b, 12.0))


def test_planes_narrow_to_an_end() -> None:
    """The material of a plane is that of a ball: less of it the farther it is from the middle, alike on both sides."""
    area = [material_grid(BODY, 12.0, w)[2].sum() for w in (0.0, 0.3, 0.6, 0.9)]
    assert (np.diff(area) < 0).all()
    assert material_grid(BODY, 12.0, -0.6)[2].sum() == area[2]
    rim = BODY.to_physical(np.array([0.0]), np.array([0.85]), 12.0, 0.6)
    assert np.isnan(BODY.to_material(rim, 0.6)).all()
    assert np.isfinite(BODY.to_material(BODY.to_physical(np.array([0.0]), np.array([0.75]), 12.0, 0.6), 0.6)).all()


@pytest.mark.parametrize("w", [-0.7, 0.4])
def test_a_plane_is_twisted_and_bowed_as_a_whole(w: float) -> None:
    """Distances in it are those in the middle plane, and the other side is twisted the other way."""
    a, b = _disc(radius=0.6)
    middle, plane, other = (BODY.to_physical(a, b, 12.0, one)[:, :2] for one in (0.0, w, -w))
    angle = TWIST * w
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    off = plane - middle @ turn.T
    np.testing.assert_allclose(off, off[:1].repeat(len(a), axis=0), atol=1e-8)
    np.testing.assert_allclose(off[0], (other - middle @ turn)[0], atol=1e-8)
    assert off[0, 1] > 0


def test_it_is_as_thick_as_it_is_long() -> None:
    """In proportion, at every age."""
    assert BODY.thickness(9.5) == pytest.approx(THICKNESS * 1000.0)
    np.testing.assert_allclose(BODY.thickness(15.5) / BODY.thickness(9.5), np.exp(GROWTH))
