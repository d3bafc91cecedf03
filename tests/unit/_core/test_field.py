"""Fields of odd stacks: whatever is asked inside the stack is answered, in finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isost._core.covariance import Hyperparameters, spacing_of
from isost._core.field import Field
from isost._core.gaussian import Covariance
from isost._core.model import SDEModel
from isost._core.stack import Stack

DRAW = np.random.default_rng(0)


def uniform(n: int, size: float = 400.0) -> np.ndarray:
    return DRAW.uniform(0, size, (n, 2))


def noise(n: int, p: int = 2) -> np.ndarray:
    return DRAW.normal(size=(n, p))


def thick(z: float, n: int = 60) -> np.ndarray:
    return np.column_stack([uniform(n), DRAW.uniform(z - 30, z + 30, n)])


ODD = {
    "no features": ([uniform(40)] * 2, [noise(40, 0)] * 2, [0, 50]),
    "constant features": ([uniform(40)] * 2, [np.full((40, 2), 0.1)] * 2, [0, 50]),
    "one constant feature": ([uniform(40)] * 3, [np.column_stack([np.full(40, 7.7), noise(40, 1)])] * 3, [0, 50, 70]),
    "two sections": ([uniform(40)] * 2, [noise(40)] * 2, [0, 50]),
    "ten cells": ([uniform(10), uniform(10)], [noise(10), noise(10)], [0, 50]),
    "one cell": ([uniform(1), uniform(1)], [noise(1), noise(1)], [0, 50]),
    "small and large": ([uniform(3), uniform(150), uniform(8)], [noise(3), noise(150), noise(8)], [0, 50, 100]),
    "scales": ([uniform(40)] * 3, [noise(40, 4) * [1e-12, 1e-3, 1, 1e12]] * 3, [0, 50, 100]),
    "a large offset": ([uniform(40)] * 2, [noise(40) * 1e-3 + 1e4] * 2, [0, 50]),
    "many features": ([uniform(30)] * 2, [noise(30, 300)] * 2, [0, 50]),
    "a line": ([np.column_stack([np.arange(30.0), np.zeros(30)])] * 2, [noise(30)] * 2, [0, 50]),
    "one place": ([np.full((20, 2), 5.0)] * 2, [noise(20)] * 2, [0, 50]),
    "three cells a place": ([np.repeat(uniform(12), 3, axis=0)] * 2, [noise(36)] * 2, [0, 50]),
    "a stray cell": ([np.vstack([uniform(60), [[1e7, -1e7]]])] * 2, [noise(61)] * 2, [0, 50]),
    "thick sections": ([thick(0), thick(50), thick(100)], [noise(60)] * 3, [0, 50, 100]),
    "uneven gaps": ([uniform(30)] * 4, [noise(30)] * 4, [0, 0.1, 50, 90]),
    "metres": ([uniform(40, 4e-4)] * 3, [noise(40)] * 3, [0, 5e-5, 1e-4]),
}


@pytest.fixture
def fit() -> Callable[[Stack], Field]:
    def make(stack: Stack) -> Field:
        x, y, z = (float(value) for value in stack.scaling.origin)
        model = SDEModel(
            stack.n_features, origin=(x, y, z), plane_scale=stack.scaling.xy,
            depth_unit=float(np.diff(stack.depths).max()), depth_range=3.0, step=0.5, width=8,
        )  # fmt: skip
        return Field.fit(model.eval(), stack)

    return make


@pytest.mark.parametrize("name", ODD)
def test_it_is_finite_everywhere(name: str, stack_of: Callable[..., Stack], fit: Callable[[Stack], Field]) -> None:
    stack = stack_of(*ODD[name])
    field = fit(stack)
    low, high = stack.coords[:, :2].min(axis=0), stack.coords[:, :2].max(axis=0)
    away = (high - low).max() * 1e3 + 1.0
    for z in np.concatenate([stack.depths, stack.depths[:-1] + 0.3 * np.diff(stack.depths)]):
        plane = np.vstack([np.random.default_rng(0).uniform(low, high, (12, 2)), [low, high, low - away, high + away]])
        value = field.predict(np.column_stack([plane, np.full(16, z)]))
        assert value.mean.shape == value.var.shape == (16, stack.n_features)
        assert all(np.isfinite(part).all() for part in (value.mean, value.var, value.density))
        assert (value.var >= 0).all() and (value.density >= 0).all()
        spread = np.ptp(stack.features.astype(np.float64), axis=0)
        centre = stack.features.mean(axis=0, dtype=np.float64)
        assert (np.abs(value.mean - centre) <= 1.5 * spread + 1e-6 * np.abs(centre)).all()
    assert field.density_floor > 0
    nothing = field.predict(np.zeros((0, 3)))
    assert nothing.mean.shape == (0, stack.n_features) and nothing.density.shape == (0,)


def test_the_scale_of_a_feature_does_not_matter(stack_of: Callable[..., Stack], fit: Callable[[Stack], Field]) -> None:
    cells = [uniform(80) for _ in range(3)]
    values = [np.sin(xy[:, [0]] / 50) + 0.3 * noise(80, 1) for xy in cells]
    scale = np.array([1.0, 1e-9, 1e9])
    value = fit(stack_of(cells, [one * scale for one in values], [0, 50, 100])).predict(
        np.column_stack([uniform(20), np.linspace(0, 100, 20)])
    )
    np.testing.assert_allclose(value.mean[:, 1:] / scale[1:], value.mean[:, [0, 0]], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(value.var[:, 1:] / scale[1:] ** 2, value.var[:, [0, 0]], rtol=1e-3)
    assert value.mean[:, 0].std() > 0.3


def test_a_field_comes_back_from_its_state_after_a_file(
    stack_of: Callable[..., Stack], fit: Callable[[Stack], Field], tmp_path
) -> None:  # type: ignore[no-untyped-def]
    stack = stack_of([uniform(40)] * 3, [noise(40)] * 3, [0, 50, 100])
    field = fit(stack)
    np.savez(tmp_path / "field.npz", **field.state())
    with np.load(tmp_path / "field.npz", allow_pickle=False) as state:
        again = Field.from_state(field.model, stack, dict(state))
    at = np.column_stack([uniform(30), np.linspace(0, 100, 30)])
    for name in ("mean", "var", "density"):
        np.testing.assert_array_equal(getattr(again.predict(at), name), getattr(field.predict(at), name))
    assert again.state().keys() == field.state().keys()


def test_groups_part_the_columns() -> None:
    hyper = Hyperparameters(np.array([2.0, 1.0, 2.0, 2.0]), np.array([5.0, 5.0, 5.0, 9.0]), np.ones(4), np.ones(4))
    groups = {(covariance.length, covariance.depth_length): columns.tolist() for covariance, columns in hyper.groups()}
    assert groups == {(2.0, 5.0): [0, 2], (1.0, 5.0): [1], (2.0, 9.0): [3]}
    assert all(isinstance(covariance, Covariance) for covariance, _ in hyper.groups())
    assert Hyperparameters(*[np.zeros(0)] * 4).groups() == []


def test_a_spacing_is_that_of_sections_that_have_one(stack_of: Callable[..., Stack]) -> None:
    square = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), axis=-1).reshape(-1, 2) * 7
    stack = stack_of([square, square[:1], np.repeat(square, 2, axis=0)], [noise(16), noise(1), noise(32)], [0, 5, 9])
    assert spacing_of(stack) == 7.0
    assert spacing_of(stack_of([square[:1], square[5:6]], [noise(1)] * 2, [0, 5])) == 7.0
    alone = stack_of([square[:1]] * 2, [noise(1)] * 2, [0, 5])
    assert spacing_of(alone) == 1.0
    assert spacing_of(replace(alone, coords=alone.coords + 3.0)) == 1.0
