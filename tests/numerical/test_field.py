"""The mean-expression field on tissues whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from isost._core.decoder import Decoder
from isost._core.field import Field
from isost._core.model import SDEModel
from isost._core.stack import Stack

DEPTHS = (0.0, 50.0, 110.0)
SIZES = (130, 170, 150)
NOISE = 0.4


def truth(x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> np.ndarray:
    """A pattern in the plane, one that also rises along depth, and a level that does."""
    wave = np.sin(x / 60) * np.cos(y / 70)
    return np.stack(np.broadcast_arrays(wave, wave + np.asarray(z) / 50, 3 + np.asarray(z) / 25), axis=-1)


@pytest.fixture(scope="module")
def build(stack_of: Callable[..., Stack]) -> Callable[..., Stack]:
    def make(noise: float = NOISE, shift: float = 0.0) -> Stack:
        """Still tissue, or tissue that moves along x by `shift` for every unit of depth."""
        draw = np.random.default_rng(0)
        cells = [draw.uniform(0, [400, 300], (n, 2)) for n in SIZES]
        features = [
            truth(*xy.T, z) + noise * draw.normal(size=(len(xy), 3)) for xy, z in zip(cells, DEPTHS, strict=True)
        ]
        return stack_of([xy + [shift * z, 0.0] for xy, z in zip(cells, DEPTHS, strict=True)], features, DEPTHS)

    return make


def model_of(stack: Stack, shift: float = 0.0) -> SDEModel:
    """Drifts of shape that carry every cell by `shift` along x for every unit of depth; features stay."""
    x, y, z = stack.scaling.origin
    scale = stack.scaling.xy
    model = SDEModel(
        stack.n_features, origin=(x, y, z), plane_scale=scale, depth_unit=50.0, depth_range=2.2, step=0.25, width=8
    )
    for pair, sign in ((model.forward_pair, 1.0), (model.backward_pair, -1.0)):
        pair.shape.leave.bias.data = torch.tensor([sign * shift * 50.0 / scale, 0.0])
    return model.eval()


def places(z: float, n: int = 80, seed: int = 1, shift: float = 0.0) -> np.ndarray:
    inside = np.random.default_rng(seed).uniform(40, [360, 260], (n, 2))
    return np.column_stack([inside[:, 0] + shift * z, inside[:, 1], np.full(n, z)])


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((np.asarray(values, dtype=np.float64) ** 2).mean()))


@pytest.fixture(scope="module")
def still(build: Callable[..., Stack]) -> Field:
    """Fitted to still tissue, and asked only."""
    stack = build()
    return Field.fit(model_of(stack), stack)


@pytest.fixture(scope="module")
def moving(build: Callable[..., Stack], moving_model: Callable[..., SDEModel]) -> Field:
    """Over cells that a model of random weights carries."""
    stack = build()
    return Field.fit(moving_model(stack, speed=0.02, step=0.25, width=16), stack)


@pytest.mark.parametrize("z", [*DEPTHS, 12.5, 25.0, 80.0])
def test_it_finds_the_truth_under_the_noise(still: Field, z: float) -> None:
    at = places(z)
    value = still.predict(at)
    error = value.mean - truth(*at.T)
    assert rms(error) < 0.5 * NOISE
    assert np.corrcoef(value.mean[:, 0], truth(*at.T)[:, 0])[0, 1] > 0.9


def test_it_is_the_sections_own_pattern_that_is_found_at_its_depth(still: Field) -> None:
    """Levels rise by 2 and 2.4 from section to section: no section takes another's."""
    for z in DEPTHS:
        level = still.predict(places(z)).mean[:, 2]
        assert level.mean() == pytest.approx(3 + z / 25, abs=0.25)


def test_levels_between_sections_are_between_theirs_and_follow_the_depth(still: Field) -> None:
    levels = [float(still.predict(places(z)).mean[:, 2].mean()) for z in np.linspace(0, 110, 12)]
    assert (np.diff(levels) > 0).all()
    assert levels[3] == pytest.approx(3 + 30 / 25, abs=0.5)


def test_a_pattern_is_followed_where_the_tissue_moves(build: Callable[..., Stack]) -> None:
    """Half a wavelength between neighbouring sections: without the motion, their patterns would cancel."""
    shift = 3.0
    stack = build(shift=shift)
    errors = {}
    for name, model in (("moving", model_of(stack, shift)), ("still", model_of(stack))):
        field = Field.fit(model, stack)
        error = []
        for z in (10.0, 40.0, 65.0, 100.0):  # off the middle of the gaps
            at = places(z, shift=shift)
            error.append(field.predict(at).mean[:, 0] - truth(at[:, 0] - shift * z, at[:, 1], z)[:, 0])
        errors[name] = rms(error)
    assert errors["moving"] < 0.75 * NOISE
    assert errors["moving"] < 0.6 * errors["still"]


def test_constant_features_come_back_wherever_the_cells_go(
    build: Callable[..., Stack], moving_model: Callable[..., SDEModel]
) -> None:
    stack, constant = build(), np.array([3.0, -1.0, 0.0], dtype=np.float32)
    flat = replace(stack, features=np.tile(constant, (stack.n_cells, 1)))
    model = moving_model(flat, speed=0.02, width=16)
    for pair in (model.forward_pair, model.backward_pair):
        nn.init.zeros_(pair.expression.leave.weight)
        nn.init.zeros_(pair.expression.leave.bias)
    value = Field.fit(model, flat).predict(np.concatenate([places(z) for z in (0.0, 20.0, 50.0, 100.0)]))
    np.testing.assert_allclose(value.mean, np.tile(constant, (320, 1)), atol=1e-4)
    np.testing.assert_allclose(value.var, 0.0, atol=1e-6)


def test_noise_alone_gives_no_pattern(build: Callable[..., Stack]) -> None:
    stack = build()
    noise = np.random.default_rng(3).normal(size=stack.features.shape).astype(np.float32)
    field = Field.fit(model_of(stack), replace(stack, features=noise))
    value = field.predict(np.concatenate([places(z) for z in (0.0, 25.0, 110.0)]))
    assert rms(value.mean) < 0.35


def test_a_pattern_without_noise_is_kept(build: Callable[..., Stack]) -> None:
    stack = build(noise=0.0)
    at = places(50.0)
    assert rms(Field.fit(model_of(stack), stack).predict(at).mean[:, 0] - truth(*at.T)[:, 0]) < 0.1


def test_the_uncertainty_is_about_the_size_of_the_error(still: Field) -> None:
    at = np.concatenate([places(z) for z in (0.0, 50.0, 110.0, 20.0, 90.0)])
    value = still.predict(at)
    assert (value.var > 0).all()
    ratio = (value.mean - truth(*at.T)) / np.sqrt(value.var)
    assert 0.6 < rms(ratio) < 1.4
    assert rms(np.sqrt(value.var)) < NOISE


def test_it_is_less_certain_between_sections(still: Field) -> None:
    """The third feature changes from section to section, which no cell tells about between them."""
    at_section, between = (still.predict(places(z)).var[:, 2] for z in (50.0, 80.0))
    assert np.median(between) > 2 * np.median(at_section)


def test_it_is_less_certain_where_there_are_no_cells(build: Callable[..., Stack]) -> None:
    """A hole of 120 µm in every section."""
    stack = build()
    hole = np.linalg.norm(stack.coords[:, :2] - [200.0, 150.0], axis=1) < 60
    rows = np.flatnonzero(~hole)
    starts = np.searchsorted(rows, stack.starts)
    holed = replace(stack, coords=stack.coords[rows], features=stack.features[rows], starts=starts, rows=rows,
                    obs_names=stack.obs_names[rows])  # fmt: skip
    value = Field.fit(model_of(holed), holed).predict(
        np.array([[200.0, 150.0, 50.0], [80.0, 150.0, 50.0], [320.0, 150.0, 50.0]])
    )
    assert value.var[0, 0] > 1.5 * value.var[1:, 0].max()
    assert value.density[0] < 0.5 * value.density[1:].min()


def test_density_counts_the_cells_of_one_section_not_of_two(still: Field) -> None:
    side = 8.0
    grid = np.stack(np.meshgrid(np.arange(-150, 550, side), np.arange(-150, 450, side)), axis=-1).reshape(-1, 2)
    for z, expected in ((0.0, 130), (25.0, 150), (62.0, 0.8 * 170 + 0.2 * 150), (110.0, 150)):
        density = still.predict(np.column_stack([grid, np.full(len(grid), z)])).density
        assert density.sum() * side**2 == pytest.approx(expected, rel=0.03)


def test_depths_asked_together_are_what_each_is_alone(moving: Field) -> None:
    """Where many depths are asked, what is computed at Euler steps only has to hold between them too."""
    place = np.array([200.0, 150.0])
    at = np.column_stack([np.tile(place, (25, 1)), np.linspace(0.0, 50.0, 25)])
    together = moving.predict(at)
    for row in range(0, 25, 6):
        alone = Field.from_state(moving.model, moving.stack, moving.state()).predict(at[[row]])
        np.testing.assert_allclose(together.mean[[row]], alone.mean, atol=0.05)
        np.testing.assert_allclose(together.density[[row]], alone.density, rtol=0.05)
        np.testing.assert_allclose(together.var[[row]], alone.var, rtol=0.3, atol=1e-3)


def test_the_order_and_company_of_the_places_do_not_matter(moving: Field) -> None:
    at = np.concatenate([places(z, 20) for z in (0.0, 20.0, 50.0, 80.0)])
    order = np.random.default_rng(0).permutation(80)
    whole, mixed, alone = moving.predict(at), moving.predict(at[order]), moving.predict(at[60:])
    for name in ("mean", "var", "density"):
        np.testing.assert_allclose(getattr(mixed, name), getattr(whole, name)[order], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(getattr(alone, name), getattr(whole, name)[60:], rtol=1e-4, atol=1e-6)


def test_places_outside_the_tissue_are_finite_and_hold_no_cells(still: Field) -> None:
    outside = np.array([[5000.0, 0.0, 25.0], [-900.0, 150.0, 0.0], [200.0, 1e6, 80.0]])
    value = still.predict(outside)
    assert np.isfinite(value.mean).all() and np.isfinite(value.var).all()
    assert (value.density < still.density_floor).all()
    inside = still.predict(np.concatenate([places(z) for z in (0.0, 30.0, 110.0)]))
    assert (inside.density > still.density_floor).mean() > 0.95


def test_standard_deviation_of_genes_is_that_of_uncorrelated_components(still: Field) -> None:
    loadings = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    decoded = replace(still.stack, decoder=Decoder(tuple("abcde"), loadings, np.ones(5, np.float32)))
    value = still.predict(places(20.0, 7))
    index = np.array([3, 0])
    factors = {"gene_factor": np.array([9.0, 1.0, 1.0, 2.0, 1.0])}  # of the genes at 3 and 0: 2 and 9
    std = Field.from_state(still.model, decoded, still.state() | factors).gene_std(value, index)
    assert std.shape == (7, 2)
    by_hand = [[np.sqrt(sum(value.var[i, p] * loadings[g, p] ** 2 for p in range(3))) for g in index] for i in range(7)]
    np.testing.assert_allclose(std, by_hand * np.array([2.0, 9.0]), rtol=1e-5)
    with pytest.raises(ValueError, match="loadings"):
        still.gene_std(value, index)


def test_a_field_comes_back_from_its_state(moving: Field) -> None:
    again = Field.from_state(moving.model, moving.stack, moving.state())
    at = np.concatenate([places(z, 10) for z in (0.0, 20.0)])
    for name in ("mean", "var", "density"):
        np.testing.assert_array_equal(getattr(again.predict(at), name), getattr(moving.predict(at), name))
    assert again.density_floor == moving.density_floor > 0
    assert all(isinstance(value, np.ndarray) for value in moving.state().values())


def test_values_are_float32_and_no_places_give_none(still: Field) -> None:
    for at, n in ((places(20.0, 4), 4), (np.zeros((0, 3)), 0)):
        value = still.predict(at)
        assert value.mean.shape == value.var.shape == (n, 3) and value.density.shape == (n,)
        assert value.mean.dtype == value.var.dtype == value.density.dtype == np.float32
