from __future__ import annotations

import warnings

import pytest
import torch

from isost._core.drift import DriftPair, ExpressionDrift, ShapeDrift
from isost._core.graph import neighbours


@pytest.fixture
def cells() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    position = torch.rand(24, 2, generator=draw)
    return position, torch.rand(24, 5, generator=draw), torch.full((24, 1), 0.3), neighbours(position, 5)


def last_layer_of_ones(drift: ShapeDrift | ExpressionDrift) -> None:
    torch.nn.init.ones_(drift.leave.weight)


def test_a_cell_drifts_by_what_is_near_it(cells: tuple[torch.Tensor, ...]) -> None:
    """Three graph layers reach three edges far: a cell farther away changes nothing."""
    position, _, depth, near = cells
    drift = ShapeDrift(width=8)
    last_layer_of_ones(drift)
    reached = torch.eye(24, dtype=torch.bool)
    for _ in range(3):
        step = reached.clone()
        for target, sources in enumerate(near.tolist()):
            step[:, target] |= reached[:, sources].any(dim=1)
        reached = step
    aside = position.clone()
    aside[0] += 0.3
    changed = (drift(aside, depth, near) - drift(position, depth, near)).abs().sum(dim=1).detach() > 1e-7
    assert bool(changed[0])
    assert not bool((changed & ~reached[0]).any())
    assert bool((~reached[0]).any())


def test_outputs_have_the_shape_of_positions_and_features(cells: tuple[torch.Tensor, ...]) -> None:
    position, features, depth, near = cells
    pair = DriftPair(5, width=8)
    assert pair.shape(position, depth, near).shape == (24, 2)
    assert pair.expression(position, features, depth, near).shape == (24, 5)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_unet_may_be_deeper(cells: tuple[torch.Tensor, ...], depth: int) -> None:
    position, features, z, near = cells
    drift = ExpressionDrift(5, width=8, depth=depth)
    last_layer_of_ones(drift)
    value = drift(position, features, z, near)
    assert torch.isfinite(value).all() and float(value.detach().abs().max()) > 0


def test_the_unet_says_nothing(cells: tuple[torch.Tensor, ...]) -> None:
    position, features, z, near = cells
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExpressionDrift(5, width=8)(position, features, z, near)


def test_features_without_columns_have_no_expression_drift() -> None:
    assert DriftPair(0, width=8).expression is None
