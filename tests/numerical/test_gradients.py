"""Gradients through the solver against finite differences, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from isost._core.carry import simulate
from isost._core.model import SDEModel
from isost._core.sde import BrownianPath, euler_maruyama
from isost._core.stack import Stack

TIMES = torch.tensor([0.0, 0.3, 0.5, 1.1], dtype=torch.float64)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    start, matrix = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((4, 2), (2, 2)))
    sigma = torch.tensor([0.4, 0.9], dtype=torch.float64)
    return start.requires_grad_(), matrix.requires_grad_(), sigma.requires_grad_()


@pytest.mark.parametrize("save_memory", [False, True])
@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)], ids=["rising", "falling"])
def test_gradients_of_a_noisy_path(inputs: tuple[Tensor, ...], times: Tensor, save_memory: bool) -> None:
    path = BrownianPath((4, 2), times, seed=2)

    def solve(start: Tensor, matrix: Tensor, sigma: Tensor) -> Tensor:
        def drift(z: Tensor, x: Tensor) -> Tensor:
            return torch.tanh(x @ matrix) + z * x

        return euler_maruyama(drift, lambda z, x: sigma * (1 + x**2) / 2, start, times, path, save_memory=save_memory)

    assert torch.autograd.gradcheck(solve, inputs)


def test_saving_memory_changes_no_gradient_and_runs_each_step_again(inputs: tuple[Tensor, ...]) -> None:
    calls, gradients = {}, {}
    for save_memory in (False, True):
        count = [0]

        def drift(z: Tensor, x: Tensor, count: list[int] = count) -> Tensor:
            count[0] += 1
            return torch.sin(x @ inputs[1])

        path = BrownianPath((4, 2), TIMES, seed=2)
        states = euler_maruyama(drift, inputs[2], inputs[0], TIMES, path, save_memory=save_memory)
        gradients[save_memory] = torch.autograd.grad((states**2).sum(), inputs)
        calls[save_memory] = count[0]
    for plain, saved in zip(gradients[False], gradients[True], strict=True):
        torch.testing.assert_close(saved, plain, rtol=0, atol=0)
    assert calls == {False: 3, True: 6}


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_gradients_of_carried_cells_in_the_weights(
    direction: str, stack_of: Callable[..., Stack], moving_model: Callable[..., SDEModel]
) -> None:
    """Along a random direction of all weights, through graphs, pooling and the same noise twice."""
    draw = np.random.default_rng(0)
    stack = stack_of([draw.random((14, 2))] * 2, [draw.normal(size=(14, 3))] * 2, [0.0, 1.0])
    model = moving_model(stack, sigma_xy=0.02, sigma_z=0.1, sigma_g=0.1, step=0.5, width=8).double()
    position, depth, features = (part.double() for part in model.to_internal(stack.coords[:14], stack.features[:14]))
    pair = model.forward_pair if direction == "forward" else model.backward_pair
    weights = list(pair.parameters())
    aside = [torch.from_numpy(draw.normal(size=tuple(weight.shape))) for weight in weights]

    def loss() -> Tensor:
        target = 1.0 if direction == "forward" else -1.0
        place, values = next(simulate(model, direction, position, depth, features, [target], seed=4, save_memory=True))
        return (place**2).sum() + (values**2).mean()

    gradient = torch.autograd.grad(loss(), weights)
    along = sum(float((g * a).sum()) for g, a in zip(gradient, aside, strict=True))
    values = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for weight, a in zip(weights, aside, strict=True):
                weight += step * a
            values.append(float(loss()))
    assert abs(along) > 1e-2
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(along, rel=1e-5)
