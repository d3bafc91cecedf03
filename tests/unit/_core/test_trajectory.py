from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from isost._core import trajectory
from isost._core.model import SDEModel
from isost._core.stack import Stack
from isost._core.trajectory import TrajectoryObjective

N = 50


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    """The same cells in three sections, shifted by (20, -10) µm and raised by 0.1 from each to the next."""
    draw = np.random.default_rng(0)
    cells, level = draw.uniform(0, [400, 300], (N, 2)), draw.random((N, 2))
    return stack_of([cells + k * np.array([20.0, -10.0]) for k in range(3)], [level + 0.1 * k for k in range(3)],
                    [0.0, 50.0, 100.0])  # fmt: skip


def problem_of(stack: Stack, model: SDEModel, **changed: object) -> TrajectoryObjective:
    return TrajectoryObjective(model, stack, {**trajectory.DEFAULTS, **changed}, torch.Generator().manual_seed(0))


def still_model(stack: Stack, **config: float) -> SDEModel:
    x, y, z = stack.scaling.origin
    return SDEModel(
        stack.n_features, origin=(x, y, z), plane_scale=stack.scaling.xy, depth_unit=50.0, depth_range=2.0, step=0.5,
        width=8, **config,
    )  # fmt: skip


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_losses_of_standing_still_are_those_of_equation_7(stack: Stack, direction: str) -> None:
    model = still_model(stack)
    problem = problem_of(stack, model, alpha=0.1)
    assert problem.phases == ("shape", "expression", "both")
    shape, expression, both = (float(problem.loss(1, direction, phase).detach()) for phase in problem.phases)
    assert shape == pytest.approx(0.5 * (20**2 + 10**2) / model.config["plane_scale"] ** 2, rel=0.1)
    assert expression > 0
    assert both == pytest.approx(shape + 0.1 * expression, rel=1e-5)


def test_the_planted_drift_leaves_no_loss(stack: Stack) -> None:
    model = still_model(stack)
    for pair, sign in ((model.forward_pair, 1.0), (model.backward_pair, -1.0)):
        pair.shape.leave.bias.data = sign * torch.tensor([20.0, -10.0]) / model.config["plane_scale"]
        pair.expression.leave.bias.data = torch.full((2,), 0.1 * sign)
    problem = problem_of(stack, model)
    for gap in (0, 1):
        for direction in ("forward", "backward"):
            for phase in problem.phases:
                assert float(problem.loss(gap, direction, phase).detach()) < 1e-5


def test_each_phase_trains_its_own_part(stack: Stack) -> None:
    model = still_model(stack)
    problem = problem_of(stack, model)
    shapes = {id(p) for pair in (model.forward_pair, model.backward_pair) for p in pair.shape.parameters()}
    expressions = {id(p) for pair in (model.forward_pair, model.backward_pair) for p in pair.expression.parameters()}
    of = {phase: {id(p) for p in problem.parameters(phase)} for phase in problem.phases}
    assert of == {"shape": shapes, "expression": expressions, "both": shapes | expressions}


@pytest.mark.parametrize(("direction", "section", "depths"), [("forward", 0, [0.0, 0.5]), ("backward", 1, [1.0, 0.5])])
def test_cells_set_out_from_the_section_before_or_after(
    stack: Stack, direction: str, section: int, depths: list[float]
) -> None:
    seen = []

    class Watched(SDEModel):
        def drift(self, pair, depth, state, *, parts="both"):  # type: ignore[no-untyped-def]
            seen.append((pair is self.forward_pair, float(depth.mean()), state[:, :2].detach(), parts))
            return super().drift(pair, depth, state, parts=parts)

    model = Watched(**still_model(stack).config)
    problem_of(stack, model).loss(0, direction, "shape")
    measured = model.to_internal(stack.coords[stack.slice_of(section)], stack.features[stack.slice_of(section)])[0]
    assert [depth for _, depth, _, _ in seen] == pytest.approx(depths)
    for forward, _, position, parts in seen:
        torch.testing.assert_close(position, measured)
        assert forward == (direction == "forward")
        assert parts == "shape"


def test_the_shape_phase_pulls_cells_to_where_they_were_measured(stack: Stack) -> None:
    """The gradient of half the squared shift in the bias of a constant drift is the shift itself, reversed."""
    model = still_model(stack)
    problem_of(stack, model).loss(0, "forward", "shape").backward()
    pull = -model.forward_pair.shape.leave.bias.grad * model.config["plane_scale"]
    np.testing.assert_allclose(pull, [20.0, -10.0], atol=2.0)
    assert model.backward_pair.shape.leave.bias.grad is None
    assert model.forward_pair.expression.leave.weight.grad is None


def test_a_step_looks_at_no_more_cells_than_allowed(stack: Stack) -> None:
    seen = []

    class Watched(SDEModel):
        def drift(self, pair, depth, state, *, parts="both"):  # type: ignore[no-untyped-def]
            seen.append(tuple(state.shape))
            return super().drift(pair, depth, state, parts=parts)

    problem = problem_of(stack, Watched(**still_model(stack).config), max_cells=12)
    losses = {float(problem.loss(0, "forward", "shape").detach()) for _ in range(3)}
    assert set(seen) == {(12, 5)} and len(losses) == 3


def test_noise_differs_from_step_to_step_and_replays(stack: Stack) -> None:
    model = still_model(stack, sigma_xy=0.05)
    first = problem_of(stack, model)
    losses = [float(first.loss(0, "forward", "shape").detach()) for _ in range(2)]
    assert losses[0] != losses[1]
    assert float(problem_of(stack, model).loss(0, "forward", "shape").detach()) == losses[0]


def test_positions_alone_have_one_phase(stack_of: Callable[..., Stack], stack: Stack) -> None:
    bare = stack_of([stack.coords[stack.slice_of(k), :2] for k in range(3)], [np.zeros((N, 0))] * 3, stack.depths)
    assert problem_of(bare, still_model(bare)).phases == ("shape",)


@pytest.mark.parametrize("stored", [0, 10**6])
def test_holding_the_shape_and_keeping_the_states_change_no_gradient(
    stack: Stack, moving_model: Callable[..., SDEModel], monkeypatch: pytest.MonkeyPatch, stored: int
) -> None:
    """Gradients of the expression phase are those with everything learned and every step computed again."""
    model = moving_model(stack, sigma_xy=0.02, sigma_z=0.1, sigma_g=0.1, step=0.3, width=8)
    weights = list(model.forward_pair.expression.parameters())
    monkeypatch.setattr(trajectory, "STORED", 0)
    expected = torch.autograd.grad(problem_of(stack, model).loss(0, "forward", "expression"), weights)
    monkeypatch.setattr(trajectory, "STORED", stored)
    problem = problem_of(stack, model)
    problem.parameters("expression")
    problem.loss(0, "forward", "expression").backward()
    for weight, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
    assert all(weight.grad is None for weight in model.forward_pair.shape.parameters())
    problem.parameters("both")
    assert all(weight.requires_grad for weight in model.parameters())
