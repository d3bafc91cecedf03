"""The mean-expression field against kernel regression worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from isost._core.decoder import Decoder
from isost._core.field import Field
from isost._core.model import SDEModel
from isost._core.stack import Stack

DEPTHS = (0.0, 50.0, 110.0)
SIZES = (150, 220, 180)
BANDWIDTH = 40.0


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    positions = [draw.uniform(0, [400, 300], (n, 2)) for n in SIZES]
    features = [
        np.column_stack([np.sin(xy[:, 0] / 60 + k), xy[:, 1] / 100, 5 + k + 0.1 * draw.normal(size=len(xy))])
        for k, xy in enumerate(positions)
    ]
    return stack_of(positions, features, DEPTHS)


@pytest.fixture
def still(stack: Stack) -> SDEModel:
    """An untrained model: nothing moves."""
    scaling = stack.scaling
    x, y, z = scaling.origin
    return SDEModel(
        3, origin=(x, y, z), plane_scale=scaling.xy, depth_unit=50.0, depth_range=2.2, step=0.25, width=8
    ).eval()


def places(z: float, n: int = 60, seed: int = 1) -> np.ndarray:
    return np.column_stack([np.random.default_rng(seed).uniform(20, [380, 280], (n, 2)), np.full(n, z)])


def regression(stack: Stack, section: int, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and density of a section by a Gaussian kernel, over all pairs."""
    rows = stack.slice_of(section)
    distance = ((at[:, None, :2] - stack.coords[rows, :2]) ** 2).sum(axis=-1)
    kernel = np.exp(-0.5 * distance / BANDWIDTH**2) / (2 * np.pi * BANDWIDTH**2)
    density = kernel.sum(axis=1)
    return kernel @ stack.features[rows] / density[:, None], density


@pytest.mark.parametrize("section", [0, 1, 2])
def test_at_a_measured_depth_it_is_the_regression_of_that_section(
    stack: Stack, moving_model: Callable[..., SDEModel], section: int
) -> None:
    at = places(DEPTHS[section])
    value = Field(moving_model(stack), stack, BANDWIDTH).predict(at)
    mean, density = regression(stack, section, at)
    np.testing.assert_allclose(value.mean, mean, atol=0.03)
    np.testing.assert_allclose(value.density, density, rtol=0.05)
    assert mean.std(axis=0).max() > 0.3


@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_between_sections_that_stand_still_it_is_their_blend(stack: Stack, still: SDEModel, t: float) -> None:
    at = places(t * 50.0)
    value = Field(still, stack, BANDWIDTH).predict(at)
    (first, before), (second, after) = (regression(stack, section, at) for section in (0, 1))
    density = (1 - t) * before + t * after
    blend = ((1 - t) * before[:, None] * first + t * after[:, None] * second) / density[:, None]
    np.testing.assert_allclose(value.density, density, rtol=0.05)
    np.testing.assert_allclose(value.mean, blend, atol=0.03)
    assert np.abs(first - second).max() > 0.3


def test_constant_features_come_back_wherever_the_cells_go(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    constant = np.array([3.0, -1.0, 0.0], dtype=np.float32)
    flat = replace(stack, features=np.tile(constant, (stack.n_cells, 1)))
    model = moving_model(flat, speed=0.03)
    for pair in (model.forward_pair, model.backward_pair):
        nn.init.zeros_(pair.expression.leave.weight)
        nn.init.zeros_(pair.expression.leave.bias)
    value = Field(model, flat, BANDWIDTH).predict(np.concatenate([places(z) for z in (0.0, 20.0, 50.0, 100.0)]))
    np.testing.assert_allclose(value.mean, np.tile(constant, (240, 1)), atol=1e-4)
    np.testing.assert_allclose(value.var, 0.0, atol=1e-6)


def test_density_counts_the_cells_of_one_section_not_of_two(stack: Stack, still: SDEModel) -> None:
    field = Field(still, stack, 15.0)
    side = 5.0
    grid = np.stack(np.meshgrid(np.arange(-60, 460, side), np.arange(-60, 360, side)), axis=-1).reshape(-1, 2)
    for z, expected in ((0.0, 150), (25.0, 185), (62.0, 0.8 * 220 + 0.2 * 180), (110.0, 180)):
        density = field.predict(np.column_stack([grid, np.full(len(grid), z)])).density
        assert density.sum() * side**2 == pytest.approx(expected, rel=0.02)


def test_many_depths_are_interpolated_between_steps(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    """Asked at more depths than there are Euler steps, the field is linear between the steps and exact at them."""
    model = moving_model(stack, speed=0.05, step=0.5)
    depths = np.linspace(0.0, 50.0, 9)  # two steps of 25, four depths in each
    place = np.array([200.0, 150.0])
    at = np.column_stack([np.tile(place, (9, 1)), depths])
    field = Field(model, stack, BANDWIDTH)
    together = field.predict(at)
    for name in ("mean", "var", "density"):
        value = getattr(together, name).astype(np.float64)
        for low, high in ((0, 4), (4, 8)):
            share = np.linspace(0, 1, 5).reshape(-1, *[1] * (value.ndim - 1))
            line = value[low] + share * (value[high] - value[low])
            np.testing.assert_allclose(value[low : high + 1], line, rtol=1e-4, atol=1e-6)
        for node in (0, 4, 8):
            alone = getattr(Field(model, stack, BANDWIDTH).predict(at[[node]]), name)
            np.testing.assert_allclose(value[[node]], alone, rtol=0.03, atol=0.01)
    assert np.abs(together.mean[2] - (together.mean[0] + together.mean[8]) / 2).max() > 1e-3


def test_the_order_and_company_of_the_places_do_not_matter(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    field = Field(moving_model(stack, speed=0.03), stack, BANDWIDTH)
    at = np.concatenate([places(z, 20) for z in (0.0, 20.0, 50.0, 80.0)])
    order = np.random.default_rng(0).permutation(80)
    whole, mixed = field.predict(at), field.predict(at[order])
    np.testing.assert_allclose(mixed.mean, whole.mean[order], atol=1e-6)
    alone = field.predict(at[60:])
    np.testing.assert_allclose(alone.mean, whole.mean[60:], atol=0.02)


def test_places_outside_the_tissue_are_finite_and_hold_no_cells(stack: Stack, still: SDEModel) -> None:
    field = Field.fit(still, stack)
    outside = np.array([[5000.0, 0.0, 25.0], [-900.0, 150.0, 0.0], [200.0, 1e6, 80.0]])
    value = field.predict(outside)
    assert np.isfinite(value.mean).all() and np.isfinite(value.var).all()
    assert (value.density < field.density_floor).all()
    inside = field.predict(np.concatenate([places(z) for z in (0.0, 30.0, 110.0)]))
    assert (inside.density > field.density_floor).mean() > 0.95
    assert (inside.var >= 0).all()


def test_clouds_that_disagree_are_uncertain(stack: Stack, still: SDEModel) -> None:
    """The third feature steps by 1 from section to section: its variance between them is at least t (1 - t)."""
    field = Field(still, stack, BANDWIDTH)
    for t in (0.25, 0.5):
        between, at_section = field.predict(places(50 * t)).var[:, 2], field.predict(places(50.0)).var[:, 2]
        assert np.median(between) > 0.8 * t * (1 - t)
        assert np.median(at_section) < 0.01


def test_standard_deviation_of_genes_is_that_of_uncorrelated_components(stack: Stack, still: SDEModel) -> None:
    loadings = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    decoded = replace(stack, decoder=Decoder(tuple("abcde"), loadings, np.ones(5, np.float32)))
    field = Field(still, decoded, BANDWIDTH)
    value = field.predict(places(20.0, 7))
    index = np.array([3, 0])
    std = field.gene_std(value, index)
    assert std.shape == (7, 2)
    by_hand = [[np.sqrt(sum(value.var[i, p] * loadings[g, p] ** 2 for p in range(3))) for g in index] for i in range(7)]
    np.testing.assert_allclose(std, by_hand, rtol=1e-5)
    with pytest.raises(ValueError, match="loadings"):
        Field(still, stack, BANDWIDTH).gene_std(value, index)


def test_a_smooth_pattern_without_noise_asks_for_a_narrower_kernel_than_noise(
    stack_of: Callable[..., Stack], still: SDEModel
) -> None:
    draw = np.random.default_rng(0)
    positions = [draw.uniform(0, [400, 300], (n, 2)) for n in SIZES]
    pattern = [np.sin(xy[:, :1] / 25) for xy in positions]
    noise = [draw.normal(size=(n, 1)) for n in SIZES]
    widths = {}
    for sections in (slice(0, 3), slice(0, 2)):
        for name, features in (("pattern", pattern), ("noise", noise)):
            block = stack_of(positions[sections], features[sections], DEPTHS[sections])
            model = SDEModel(1, plane_scale=400.0, depth_unit=50.0, depth_range=2.2, width=8)
            widths[name] = Field.fit(model, block).bandwidth
        assert widths["pattern"] < 0.5 * widths["noise"]


def test_a_field_comes_back_from_its_state(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, speed=0.03)
    field = Field.fit(model, stack)
    again = Field.from_state(model, stack, field.state())
    at = np.concatenate([places(z, 10) for z in (0.0, 20.0)])
    for name in ("mean", "var", "density"):
        np.testing.assert_array_equal(getattr(again.predict(at), name), getattr(field.predict(at), name))
    assert again.density_floor == field.density_floor
    assert all(isinstance(value, np.ndarray) for value in field.state().values())


def test_no_places_give_no_values(stack: Stack, still: SDEModel) -> None:
    value = Field(still, stack, BANDWIDTH).predict(np.zeros((0, 3)))
    assert value.mean.shape == (0, 3) and value.density.shape == (0,)
