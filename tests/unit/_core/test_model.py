from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from isost._core.model import SDEModel
from isost._core.stack import Stack


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    positions = [draw.uniform([100, -50], [500, 250], (20, 2)) for _ in range(3)]
    return stack_of(positions, [draw.normal(size=(20, 4)) for _ in range(3)], [30.0, 80.0, 130.0])


def state_of(model: SDEModel, stack: Stack) -> torch.Tensor:
    position, _, features = model.to_internal(stack.coords[:20], stack.features[:20])
    return torch.cat([position, torch.zeros(20, 1), features], dim=1)


def test_an_untrained_model_moves_and_changes_nothing() -> None:
    model = SDEModel(4, width=8)
    state = torch.rand(12, 7, generator=torch.Generator().manual_seed(0))
    for pair in (model.forward_pair, model.backward_pair):
        assert torch.equal(model.drift(pair, torch.tensor(0.5), state), torch.zeros(12, 7))
        # but it can learn: the last layers get a gradient
        loss = (model.drift(pair, torch.tensor(0.5), state) - 1).square().sum()
        loss.backward()
        assert float(pair.shape.leave.weight.grad.abs().max()) > 0
        assert float(pair.expression.leave.weight.grad.abs().max()) > 0


def test_internal_coordinates_fill_the_unit_square_and_come_back(
    stack: Stack, moving_model: Callable[..., SDEModel]
) -> None:
    model = moving_model(stack)
    model.feature_offset.copy_(torch.tensor([1.0, 0.0, -2.0, 0.5]))
    model.feature_scale.copy_(torch.tensor([2.0, 1.0, 0.1, 3.0]))
    position, depth, features = model.to_internal(stack.coords, stack.features)
    assert float(position.min()) >= 0 and float(position.max()) == pytest.approx(1.0)
    np.testing.assert_allclose(depth, np.repeat([0.0, 1.0, 2.0], 20), atol=1e-6)
    np.testing.assert_allclose(features[:, 2], (stack.features[:, 2] + 2) / 0.1, rtol=1e-4)
    plane, values = model.to_physical(position, features)
    np.testing.assert_allclose(plane, stack.coords[:, :2], atol=1e-3)
    np.testing.assert_allclose(values, stack.features, atol=1e-5)
    assert plane.dtype == np.float64 and values.dtype == np.float32
    assert model.internal_depth(105.0) == pytest.approx(1.5)


@pytest.mark.parametrize(("gap", "expected"), [(1.0, 10), (0.3, 3), (-0.3, 3), (0.25, 2), (0.05, 1), (0.0, 1)])
def test_a_gap_has_as_many_steps_as_fit_at_least_one(gap: float, expected: int) -> None:
    assert SDEModel(1, step=0.1, width=8).n_steps(gap) == expected


def test_diffusion_is_laid_out_as_the_state() -> None:
    sigma = SDEModel(3, sigma_xy=0.1, sigma_z=0.2, sigma_g=0.3, width=8).diffusion()
    assert sigma.tolist() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3, 0.3])


def test_jitter_lets_a_cell_see_a_depth_beside_its_own(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack)
    state = state_of(model, stack)
    aside = state.clone()
    aside[:, 2] = 0.4
    at, jittered, there = (
        model.drift(model.forward_pair, torch.tensor(depth), x).detach()
        for depth, x in ((0.5, state), (0.5, aside), (0.9, state))
    )
    torch.testing.assert_close(jittered, there)
    assert float((at - there).abs().max()) > 1e-3
    assert torch.equal(jittered[:, 2], torch.zeros(20))


def test_a_cell_sees_as_many_neighbours_as_asked(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, n_neighbours=3)
    near = []
    model.forward_pair.shape.register_forward_pre_hook(lambda _, given: near.append(given[2]))
    model.drift(model.forward_pair, torch.tensor(0.5), state_of(model, stack))
    assert near[0].shape == (20, 3)


def test_shape_alone_costs_no_expression(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack)
    state = state_of(model, stack)
    shape, both = (
        model.drift(model.forward_pair, torch.tensor(0.5), state, parts=parts).detach() for parts in ("shape", "both")
    )
    assert torch.equal(shape[:, :3], both[:, :3])
    assert torch.equal(shape[:, 3:], torch.zeros(20, 4))
    assert float(both[:, 3:].abs().max()) > 1e-3


@pytest.mark.parametrize(("moving", "changing"), [(False, 1.0), (True, 0.0), (False, 0.0), (True, 0.25)])
def test_what_stands_still_has_no_drift(
    stack: Stack, moving_model: Callable[..., SDEModel], moving: bool, changing: float
) -> None:
    model = moving_model(stack, moving=moving, changing=changing)
    full = moving_model(stack)
    state = state_of(model, stack)
    drift, whole = (m.drift(m.forward_pair, torch.tensor(0.5), state).detach() for m in (model, full))
    assert torch.equal(drift[:, :2], moving * whole[:, :2])
    assert torch.equal(drift[:, 3:], changing * whole[:, 3:])


def test_directions_and_parts_have_their_own_weights(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack)
    state = state_of(model, stack)
    forward, backward = (
        model.drift(pair, torch.tensor(0.5), state).detach() for pair in (model.forward_pair, model.backward_pair)
    )
    assert float((forward - backward).abs().max()) > 1e-2


def test_positions_alone_make_a_model(stack_of: Callable[..., Stack], moving_model: Callable[..., SDEModel]) -> None:
    draw = np.random.default_rng(0)
    bare = stack_of([draw.random((9, 2))] * 2, [np.zeros((9, 0))] * 2, [0.0, 1.0])
    model = moving_model(bare)
    assert model.forward_pair.expression is None
    drift = model.drift(model.forward_pair, torch.tensor(0.5), torch.rand(9, 3)).detach()
    assert drift.shape == (9, 3)
    assert float(drift[:, :2].abs().max()) > 0


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_a_handful_of_cells_has_a_drift(n: int) -> None:
    model = SDEModel(2, width=8)
    assert torch.isfinite(model.drift(model.forward_pair, torch.tensor(0.5), torch.rand(n, 5))).all()


def test_a_model_comes_back_from_its_config_and_weights(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, sigma_xy=0.01, width=16, unet_depth=3, n_neighbours=4)
    model.feature_scale.fill_(2.0)
    again = SDEModel(**json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    state = state_of(model, stack)
    for first, second in ((model.forward_pair, again.forward_pair), (model.backward_pair, again.backward_pair)):
        drift = [m.drift(pair, torch.tensor(0.5), state).detach() for m, pair in ((model, first), (again, second))]
        assert torch.equal(*drift)
    assert again.config == model.config
    assert torch.equal(again.feature_scale, model.feature_scale)
