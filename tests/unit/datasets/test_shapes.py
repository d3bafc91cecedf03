from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from isost.datasets._shapes import (
    Geometry,
    Shape,
    round_area,
    round_jacobian,
    round_square,
    smoothstep,
    square_round,
)

SHAPES = get_args(Shape)


def _points(n: int = 500, edge: float = 0.999) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-edge, edge, (2, n))
    return a, b, rng.uniform(0.0, 400.0, n)


@pytest.mark.parametrize("s", [0.0, 1e-9, 0.3, 0.8, 0.99])
def test_rounding_is_undone_and_its_jacobian_is_exact(s: float) -> None:
    u, v, _ = _points()
    x, y = round_square(u, v, s)
    back_u, back_v = square_round(x, y, s)
    np.testing.assert_allclose(back_u, u, atol=1e-9)
    np.testing.assert_allclose(back_v, v, atol=1e-9)
    h = 1e-6
    along_u = np.subtract(round_square(u + h, v, s), round_square(u - h, v, s)) / (2.0 * h)
    along_v = np.subtract(round_square(u, v + h, s), round_square(u, v - h, s)) / (2.0 * h)
    determinant = along_u[0] * along_v[1] - along_u[1] * along_v[0]
    np.testing.assert_allclose(round_jacobian(u, v, s), determinant, rtol=1e-6)


@pytest.mark.parametrize("s", [0.0, 0.4, 0.8, 1.0])
def test_area_of_the_rounded_square(s: float) -> None:
    node, weight = np.polynomial.legendre.leggauss(60)
    u, v = np.meshgrid(node, node)
    integral = (np.outer(weight, weight) * round_jacobian(u, v, s)).sum()
    assert round_area(s) == pytest.approx(integral, rel=1e-3 if s == 1.0 else 1e-9)
    if s == 1.0:
        assert round_area(s) == pytest.approx(np.pi)


def test_axes_of_the_square_stay_finite() -> None:
    u, v = square_round(np.array([0.0, 0.5, -0.5, 0.0]), np.array([0.7, 0.0, 0.0, 0.0]), 0.8)
    np.testing.assert_allclose(u, [0.0, 0.5, -0.5, 0.0], atol=1e-9)
    np.testing.assert_allclose(v, [0.7, 0.0, 0.0, 0.0], atol=1e-9)


def test_smoothstep_joins_with_two_derivatives() -> None:
    t, h = np.array([0.2, 0.7]), 1e-4
    f = [smoothstep(t + k * h, 0.2, 0.7) for k in (-1, 0, 1)]
    np.testing.assert_allclose(f[1], [0.0, 1.0])
    np.testing.assert_allclose((f[2] - f[0]) / (2 * h), 0.0, atol=1e-5)
    np.testing.assert_allclose((f[2] - 2 * f[1] + f[0]) / h**2, 0.0, atol=2e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_map_round_trip(shape: Shape) -> None:
    a, b, z = _points()
    geometry = Geometry(shape, 1000.0, 400.0)
    coords = geometry.to_physical(a, b, z)
    np.testing.assert_allclose(coords[:, 2], z)
    back_a, back_b = geometry.to_material(coords)
    np.testing.assert_allclose(back_a, a, atol=1e-9)
    np.testing.assert_allclose(back_b, b, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_jacobian_against_finite_differences(shape: Shape) -> None:
    a, b, z = _points()
    # The branches part at a = 0: a difference across the slit would measure the gap.
    a = np.where(np.abs(a) < 1e-3, 0.5, a)
    geometry, h = Geometry(shape, 1000.0, 400.0), 1e-6
    along_a = (geometry.to_physical(a + h, b, z) - geometry.to_physical(a - h, b, z)) / (2.0 * h)
    along_b = (geometry.to_physical(a, b + h, z) - geometry.to_physical(a, b - h, z)) / (2.0 * h)
    determinant = along_a[:, 0] * along_b[:, 1] - along_a[:, 1] * along_b[:, 0]
    assert (determinant > 0.0).all()
    np.testing.assert_allclose(geometry.jacobian(a, b, z), determinant, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_far_points_and_other_depths_are_outside(shape: Shape) -> None:
    geometry = Geometry(shape, 1000.0, 400.0)
    far = np.array([[2000.0, 0.0, 200.0], [0.0, -900.0, 0.0], [100.0, 0.0, -1.0], [100.0, 0.0, 401.0]])
    assert np.isnan(geometry.to_material(far)).all()


def test_still_does_not_move() -> None:
    a, b, _ = _points()
    geometry = Geometry("still", 1000.0, 400.0)
    np.testing.assert_array_equal(geometry.to_physical(a, b, 0.0)[:, :2], geometry.to_physical(a, b, 400.0)[:, :2])


def test_bending_moves_by_a_quarter_of_the_width_or_more() -> None:
    geometry = Geometry("bending", 1000.0, 400.0)
    a, b, _ = _points()
    path = np.stack([geometry.to_physical(a, b, z)[:, :2] for z in np.linspace(0.0, 400.0, 9)])
    assert np.linalg.norm(path[-1].mean(axis=0) - path[0].mean(axis=0)) > 250.0
    # 2000 cells are about 20 µm apart; a typical point moves by more than that over each gap.
    assert np.median(np.linalg.norm(np.diff(path, axis=0), axis=2)) > 20.0


def test_branching_leaves_an_open_gap() -> None:
    geometry = Geometry("branching", 1000.0, 400.0)
    y = np.linspace(-600.0, 600.0, 241)
    slit = np.column_stack([np.zeros_like(y), y])
    assert np.isfinite(geometry.to_material(np.column_stack([slit, np.zeros_like(y)]))[0]).any()
    assert np.isnan(geometry.to_material(np.column_stack([slit, np.full_like(y, 400.0)]))[0]).all()
