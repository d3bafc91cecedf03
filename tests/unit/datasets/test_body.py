from __future__ import annotations

import numpy as np
import pytest

from isost.datasets._body import GROWTH, Body
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
