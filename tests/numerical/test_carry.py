"""Carrying cells between sections where the equations have closed solutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from isost._core import carry as carry_module
from isost._core.carry import Cells, carry, simulate, sweep
from isost._core.model import SDEModel
from isost._core.stack import Stack

DEPTHS = (10.0, 60.0, 160.0)
SIZES = (40, 60, 50)


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    positions = [draw.uniform(0, [400, 300], (n, 2)) for n in SIZES]
    return stack_of(positions, [draw.normal(size=(n, 3)) for n in SIZES], DEPTHS)


def constant_drift(model: SDEModel, forward: list[float], backward: list[float]) -> None:
    """Let every cell drift alike: (x, y) and the features per internal unit of depth."""
    for pair, speed in ((model.forward_pair, forward), (model.backward_pair, backward)):
        for drift, part in ((pair.shape, speed[:2]), (pair.expression, speed[2:])):
            if drift is not None:
                nn.init.zeros_(drift.leave.weight)
                drift.leave.bias.data = torch.tensor(part)


@pytest.mark.parametrize("section", [0, 1, 2])
@pytest.mark.parametrize("noisy", [False, True])
def test_at_a_section_its_measured_cells_are_found(
    stack: Stack, moving_model: Callable[..., SDEModel], section: int, noisy: bool
) -> None:
    model = moving_model(stack, sigma_xy=0.1, sigma_g=0.1)
    generator = torch.Generator().manual_seed(0) if noisy else None
    cells = carry(model, stack, DEPTHS[section], generator=generator)
    rows = np.arange(stack.n_cells)[stack.slice_of(section)]
    np.testing.assert_array_equal(cells.coords, stack.coords[rows])
    np.testing.assert_array_equal(cells.features, stack.features[rows])
    np.testing.assert_array_equal(cells.row, rows)
    np.testing.assert_array_equal(cells.weight, 1.0)
    np.testing.assert_array_equal(cells.section, section)


@pytest.mark.parametrize(("z", "gap", "t"), [(11.0, 0, 0.02), (35.0, 0, 0.5), (85.0, 1, 0.25), (159.0, 1, 0.99)])
def test_between_sections_both_clouds_are_found_with_weights(
    stack: Stack, moving_model: Callable[..., SDEModel], z: float, gap: int, t: float
) -> None:
    cells = carry(moving_model(stack), stack, z)
    assert cells.weight.sum() == pytest.approx((1 - t) * SIZES[gap] + t * SIZES[gap + 1], rel=1e-5)
    for section, weight in ((gap, 1 - t), (gap + 1, t)):
        own = cells.section == section
        np.testing.assert_allclose(cells.weight[own], weight, rtol=1e-5)
        np.testing.assert_array_equal(cells.row[own], np.arange(stack.n_cells)[stack.slice_of(section)])
    assert set(cells.section) == {gap, gap + 1}
    np.testing.assert_array_equal(cells.coords[:, 2], z)


def test_a_constant_drift_carries_every_cell_by_the_way_it_goes(
    stack: Stack, moving_model: Callable[..., SDEModel]
) -> None:
    model = moving_model(stack)
    model.feature_scale.copy_(torch.tensor([1.0, 2.0, 5.0]))
    model.feature_offset.copy_(torch.tensor([0.0, 1.0, -3.0]))
    forward, backward = [0.1, -0.05, 0.3, -0.2, 0.1], [-0.02, 0.08, 0.1, 0.1, -0.4]
    constant_drift(model, forward, backward)
    unit, plane = model.config["depth_unit"], model.config["plane_scale"]
    for z, gap in ((35.0, 0), (130.0, 1)):
        cells = carry(model, stack, z)
        for section, speed in ((gap, forward), (gap + 1, backward)):
            own = cells.section == section
            way = abs(z - DEPTHS[section]) / unit
            measured = cells.row[own]
            moved = cells.coords[own, :2] - stack.coords[measured, :2]
            np.testing.assert_allclose(moved, np.tile(way * plane * np.array(speed[:2]), (own.sum(), 1)), atol=1e-3)
            changed = cells.features[own] - stack.features[measured]
            expected = way * np.array(speed[2:]) * [1.0, 2.0, 5.0]
            np.testing.assert_allclose(changed, np.tile(expected, (own.sum(), 1)), atol=1e-4)


def test_cells_of_a_thick_section_start_from_their_own_depth(
    stack_of: Callable[..., Stack], moving_model: Callable[..., SDEModel]
) -> None:
    """Cells above the plane have farther to go than cells below it, and cells beyond it go back."""
    draw = np.random.default_rng(0)
    thick = [np.column_stack([draw.uniform(0, 400, (80, 2)), z + draw.uniform(-10, 10, 80)]) for z in (0.0, 50.0)]
    stack = stack_of(thick, [draw.normal(size=(80, 1))] * 2, [0.0, 50.0])
    model = moving_model(stack)
    forward, backward = [0.1, -0.05, 0.3], [-0.02, 0.08, 0.1]
    constant_drift(model, forward, backward)
    for z in (4.0, 25.0, 44.0):
        cells = carry(model, stack, z)
        np.testing.assert_array_equal(cells.coords[:, 2], z)
        assert len(cells.row) == 160
        for section, speed, sign in ((0, forward, 1.0), (1, backward, -1.0)):
            own = cells.section == section
            start = stack.coords[cells.row[own]]
            way = sign * (z - start[:, 2]) / model.config["depth_unit"]
            expected = start[:, :2] + way[:, None] * model.config["plane_scale"] * np.array(speed[:2])
            np.testing.assert_allclose(cells.coords[own, :2], expected, atol=1e-3)


def test_a_sweep_reaches_what_each_depth_alone_would(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, speed=0.03, step=0.05, width=16)
    depths = np.array([150.0, 20.0, 60.0, 45.0, 59.0, 70.0, 10.0])
    together = sweep(model, stack, depths)
    assert len(together) == len(depths)
    far = 0.0
    for z, cells in zip(depths, together, strict=True):
        alone = carry(model, stack, z)
        # µm, of 400; where two cells are about equally near, the graphs of the two may differ
        apart = np.abs(cells.coords - alone.coords)
        assert np.median(apart) < 0.01 and apart.max() < 0.5
        np.testing.assert_allclose(cells.features, alone.features, atol=5e-3)
        np.testing.assert_array_equal(cells.row, alone.row)
        np.testing.assert_array_equal(cells.weight, alone.weight)
        far = max(far, np.abs(cells.coords[:, :2] - stack.coords[cells.row, :2]).max())
    assert far > 5.0


def still_with_noise(stack_of: Callable[..., Stack], n: int = 1500) -> tuple[Stack, SDEModel]:
    """Three equal sections, no drift, and noise in everything; the gaps are 1 and 2 units of depth."""
    draw = np.random.default_rng(0)
    positions = [draw.uniform(0, 400, (n, 2))] * 3
    stack = stack_of(positions, [np.zeros((n, 2))] * 3, [0.0, 50.0, 150.0])
    model = SDEModel(
        2, plane_scale=400.0, depth_unit=50.0, depth_range=3.0, sigma_xy=0.02, sigma_g=0.3, step=0.5, width=8
    )
    return stack, model.eval()


def displacement(cells: Cells, stack: Stack, section: int) -> np.ndarray:
    own = cells.section == section
    return np.column_stack(
        [cells.coords[own, :2] - stack.coords[cells.row[own], :2], cells.features[own] - stack.features[cells.row[own]]]
    )


def test_noise_grows_with_the_root_of_the_way(stack_of: Callable[..., Stack]) -> None:
    stack, model = still_with_noise(stack_of)
    for z, section, way in ((20.0, 0, 0.4), (20.0, 1, 0.6), (140.0, 1, 1.8), (140.0, 2, 0.2)):
        cells = carry(model, stack, z, generator=torch.Generator().manual_seed(1))
        spread = displacement(cells, stack, section)
        expected = np.array([0.02 * 400, 0.02 * 400, 0.3, 0.3]) * np.sqrt(way)
        assert spread.mean(axis=0) == pytest.approx(np.zeros(4), abs=5 * expected.max() / np.sqrt(1500))
        assert spread.std(axis=0) == pytest.approx(expected, rel=5 / np.sqrt(2 * 1500))
    np.testing.assert_allclose(displacement(carry(model, stack, 20.0), stack, 0), 0.0, atol=1e-4)


def test_no_noise_is_used_twice(stack_of: Callable[..., Stack]) -> None:
    """Cells of the middle section go both ways, through two depths each: four steps, all of them independent."""
    stack, model = still_with_noise(stack_of)
    at = dict(
        zip((15.0, 30.0, 90.0, 120.0), sweep(model, stack, np.array([15.0, 30.0, 90.0, 120.0]), seed=3), strict=True)
    )
    ways = {z: displacement(cells, stack, 1) for z, cells in at.items()}
    steps = [ways[30.0], ways[15.0] - ways[30.0], ways[90.0], ways[120.0] - ways[90.0]]
    steps += [displacement(at[15.0], stack, 0), displacement(at[120.0], stack, 2)]
    for coordinate in range(4):
        correlation = np.corrcoef([step[:, coordinate] for step in steps])
        assert np.abs(correlation - np.eye(6)).max() < 5 / np.sqrt(1500)


def test_noise_replays_from_its_seed(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, sigma_xy=0.02, sigma_z=0.1, sigma_g=0.1)
    first, again, other = (carry(model, stack, 35.0, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.coords, again.coords)
    np.testing.assert_array_equal(first.features, again.features)
    assert np.abs(first.coords - other.coords).max() > 1.0
    assert np.abs(first.features - other.features).max() > 0.01


def test_the_jitter_of_depth_moves_cells_only_through_what_the_drift_sees(
    stack: Stack, moving_model: Callable[..., SDEModel]
) -> None:
    model = moving_model(stack, sigma_z=0.5)
    jittered = carry(model, stack, 35.0, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(jittered.coords[:, 2], 35.0)
    assert np.abs(jittered.coords - carry(model, stack, 35.0).coords).max() > 1e-3
    constant_drift(model, [0.1] * 5, [0.1] * 5)
    jittered = carry(model, stack, 35.0, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(jittered.coords, carry(model, stack, 35.0).coords, atol=1e-3)


def test_shape_alone_leaves_the_features(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, sigma_g=0.5)
    inside = model.to_internal(stack.coords[:40], stack.features[:40])
    with torch.no_grad():
        place, features = next(simulate(model, "forward", *inside, [1.0], seed=0, parts="shape"))
        both, _ = next(simulate(model, "forward", *inside, [1.0], seed=0))
    assert torch.equal(features, inside[2])
    assert float((place - inside[0]).abs().max()) > 0.01
    assert place.shape == both.shape


def test_what_the_device_has_no_memory_for_is_carried_on_the_cpu(
    stack: Stack,
    moving_model: Callable[..., SDEModel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = moving_model(stack, sigma_xy=0.1, sigma_g=0.1)
    expected = carry(model, stack, 30.0, generator=torch.Generator().manual_seed(0))
    simulated = carry_module.simulate

    def full(asked: SDEModel, *args: Any, **how: Any) -> Any:
        if asked is model:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return simulated(asked, *args, **how)

    monkeypatch.setattr(carry_module, "simulate", full)
    found = carry(model, stack, 30.0, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(found.coords, expected.coords)
    np.testing.assert_array_equal(found.features, expected.features)
    assert "they are carried on the CPU" in caplog.text


def test_depths_that_are_not_kept_leave_the_others_as_they_are(
    stack: Stack, moving_model: Callable[..., SDEModel]
) -> None:
    model, depths = moving_model(stack, sigma_xy=0.1, sigma_g=0.1), np.array([20.0, 30.0, 40.0, 50.0])
    whole = sweep(model, stack, depths, seed=3)
    for kept in ([False, True, False, False], [True, False, False, True]):
        some = sweep(model, stack, depths, seed=3, kept=np.array(kept))
        for one, other in zip(some, [cells for cells, wanted in zip(whole, kept, strict=True) if wanted], strict=True):
            np.testing.assert_array_equal(one.coords, other.coords)
            np.testing.assert_array_equal(one.features, other.features)
