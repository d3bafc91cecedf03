from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from isost._core.carry import as_measured, carry
from isost._core.follow import carried_to
from isost._core.model import SDEModel
from isost._core.stack import Stack


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    cells = [draw.uniform(0, 400, (n, 2)) for n in (20, 30, 25, 22)]
    return stack_of(cells, [draw.normal(size=(len(xy), 2)) for xy in cells], [0.0, 50.0, 100.0, 180.0])


@pytest.mark.parametrize(("section", "z"), [(0, 20.0), (0, 140.0), (3, 140.0), (3, 20.0), (1, 50.0)])
def test_positions_are_carried_past_other_sections_without_noise(
    stack: Stack, moving_model: Callable[..., SDEModel], section: int, z: float
) -> None:
    model = moving_model(stack, sigma_xy=0.5)
    for pair, bias in ((model.forward_pair, [0.1, 0.0]), (model.backward_pair, [0.0, 0.2])):
        nn.init.zeros_(pair.shape.leave.weight)
        pair.shape.leave.bias.data = torch.tensor(bias)
    start = stack.coords[stack.slice_of(section)]
    way = abs(z - stack.depths[section]) / model.config["depth_unit"] * model.config["plane_scale"]
    speed = [0.1, 0.0] if z > stack.depths[section] else [0.0, 0.2]
    np.testing.assert_allclose(carried_to(model, stack, section, z), start[:, :2] + way * np.array(speed), atol=2e-3)


def test_within_a_gap_positions_are_those_of_the_cells_carried(
    stack: Stack, moving_model: Callable[..., SDEModel]
) -> None:
    """Up to the steps, of which `carried_to` takes half as many; with very many there is no difference."""
    model = moving_model(stack, speed=0.03)
    for step, apart in ((model.config["step"], 0.02), (0.01, 1e-3)):
        model.config["step"] = step
        cells = carry(model, stack, 70.0)
        for section in (1, 2):
            found, place = carried_to(model, stack, section, 70.0), cells.coords[cells.section == section, :2]
            moved = np.abs(found - stack.coords[stack.slice_of(section), :2]).max()
            assert np.sqrt(((found - place) ** 2).mean()) < apart * moved


def test_measured_cells_lie_in_one_plane(stack: Stack) -> None:
    for z, expected in ((None, 50.0), (45.0, 45.0)):
        cells = as_measured(stack, 1, z)
        np.testing.assert_array_equal(cells.coords[:, :2], stack.coords[20:50, :2])
        np.testing.assert_array_equal(cells.coords[:, 2], expected)
        np.testing.assert_array_equal(cells.features, stack.features[20:50])
        np.testing.assert_array_equal(cells.row, np.arange(20, 50))


def test_taking_cells_takes_everything_of_them(stack: Stack) -> None:
    cells = as_measured(stack, 1)
    chosen = np.array([4, 4, 0])
    taken = cells.take(chosen)
    for name in ("coords", "features", "section", "row", "weight"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(cells, name)[chosen])
