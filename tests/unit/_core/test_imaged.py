"""Tissue that goes from plane to plane of images, and paths of cells that go by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from isost._core import bridge
from isost._core.bridge import BridgeObjective
from isost._core.imaged import find_ways, knots
from isost._core.model import SDEModel
from isost._core.stack import Stack

DEPTHS = (0.0, 100.0, 200.0, 300.0)
N = 250


def path(z: float) -> np.ndarray:
    """A detour within every gap, of which sections see nothing: they all lie in one place."""
    return np.array([60.0 * np.sin(np.pi * z / 100.0) ** 2, 0.0])


class Planes:
    """Images of tissue that moves by a path: places with what is shown there."""

    def __init__(self, depths: np.ndarray, moves: Callable[[float], np.ndarray], same: bool = True) -> None:
        self.depths, self._moves, self._same = depths, moves, same
        self.places = np.random.default_rng(1).uniform(0, [400, 300], (1500, 2))

    def between(self, low: float, high: float) -> np.ndarray:
        return self.depths[(self.depths > low) & (self.depths < high)]

    def tissue_near(self, z: float, n: int, within: float) -> tuple[np.ndarray, np.ndarray] | None:
        if np.abs(self.depths - z).min() > within:
            return None
        shown = np.column_stack([np.sin(self.places[:, 0] / 60), np.cos(self.places[:, 1] / 50)])
        return self.places[:n] + self._moves(z), shown[:n]

    def show(self, stack: Stack) -> bool:
        return self._same


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    cells = [np.random.default_rng(k).uniform(0, [400, 300], (N, 2)) for k in range(4)]
    pattern = [np.column_stack([np.sin(one[:, 0] / 60), np.cos(one[:, 1] / 50)]) for one in cells]
    return stack_of([one + path(z) for one, z in zip(cells, DEPTHS, strict=True)], pattern, DEPTHS)


@pytest.fixture
def model(stack: Stack) -> SDEModel:
    x, y, z = stack.scaling.origin
    return SDEModel(
        2, origin=(x, y, z), plane_scale=stack.scaling.xy, depth_unit=100.0, depth_range=3.0, width=8
    )  # fmt: skip


def test_a_few_planes_of_many() -> None:
    images = Planes(np.arange(0.0, 301.0, 5.0), path)
    found = knots(images, 0.0, 100.0)
    assert len(found) == 3 and np.abs(found - [25, 50, 75]).max() <= 10
    assert knots(Planes(np.array([0.0, 5.0, 40.0, 98.0]), path), 0.0, 100.0).tolist() == [40.0]
    assert not len(knots(Planes(np.array([0.0, 100.0]), path), 0.0, 100.0))


def test_tissue_is_followed_there_and_back(model: SDEModel) -> None:
    images = Planes(np.arange(0.0, 301.0, 25.0), path)
    between = np.array([25.0, 50.0, 75.0])
    way, none, beyond = find_ways(
        model, images, [(0.0, between, 100.0), (0.0, np.zeros(0), 100.0), (200.0, between + 200, 350.0)]
    )
    assert find_ways(model, Planes(np.array([25.0, 75.0]), path), [(0.0, np.array([25.0, 75.0]), 100.0)]) == [None]
    assert way is not None and none is None and beyond is None
    scale = model.config["plane_scale"]
    start = np.random.default_rng(5).uniform(30, [370, 270], (100, 2)) / scale
    for ahead in (True, False):
        end = way.end(start, ahead=ahead)
        assert np.abs(end - start).mean() * scale < 8
        places = way.via(start, start, ahead=ahead)
        depths = between if ahead else between[::-1]
        for place, z in zip(places, depths, strict=True):
            assert np.linalg.norm((place - start) * scale - path(z), axis=1).mean() < 12
        # what is pinned elsewhere gets there evenly
        moved = way.via(start, start + 1.0, ahead=ahead)
        shares = np.array([0.25, 0.5, 0.75])
        for share, one, other in zip(shares, places, moved, strict=True):
            np.testing.assert_allclose(other - one, share, atol=1e-9)


def settings() -> dict:
    return {**bridge.DEFAULTS, "n_candidates": 48, "feature_weight": 2.0}


def test_paths_go_by_the_planes_where_left_out_sections_say_so(stack: Stack, model: SDEModel) -> None:
    """Sections in one place tell nothing of the detour; half of them lie on it where they are moved there."""
    offset = np.where(stack.section_index == 1, path(50.0)[0], 0.0)
    stack.coords[:, 0] += offset
    model_depths = {0.0: 0.0, 100.0: 50.0, 200.0: 100.0, 300.0: 150.0}

    def moves(z: float) -> np.ndarray:
        return path(float(np.interp(z, list(model_depths), list(model_depths.values()))))

    images = Planes(np.arange(0.0, 301.0, 25.0), moves)
    stack.coords[:, 0] += np.where(stack.section_index == 3, moves(300.0)[0], 0.0)
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0), None, images)  # type: ignore[arg-type]
    assert problem.belief.imaged and not problem.still
    scale = model.config["plane_scale"]
    for direction, gap in (("forward", 0), ("backward", 2)):
        one = problem.bridges[direction][gap]
        assert len(one.shares) == 5
        low, high = (DEPTHS[gap], DEPTHS[gap + 1]) if direction == "forward" else (DEPTHS[gap + 1], DEPTHS[gap])
        for t in (0.25, 0.5, 0.75):
            moved = (one.at(t)[0] - one.start).numpy() * scale
            expected = moves(low + t * (high - low)) - moves(low)
            assert np.median(np.linalg.norm(moved - expected, axis=1)) < 15
            slope = (one.at(t + 0.01)[0] - one.at(t - 0.01)[0]) / (0.02 * abs(one.gap))
            assert float((one.at(t)[1] - slope).norm(dim=1).median()) < 0.15 * float(slope.norm(dim=1).median()) + 0.05


def test_images_of_another_tissue_are_not_followed(stack: Stack, model: SDEModel) -> None:
    images = Planes(np.arange(0.0, 301.0, 25.0), path, same=False)
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0), None, images)  # type: ignore[arg-type]
    assert not problem.belief.imaged
    assert all(len(one.shares) == 2 for one in problem.bridges["forward"])


def test_images_that_lead_astray_are_not_followed(stack: Stack, model: SDEModel) -> None:
    def astray(z: float) -> np.ndarray:
        return np.array([0.5 * z, -0.3 * z])

    images = Planes(np.arange(0.0, 301.0, 25.0), astray)
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0), None, images)  # type: ignore[arg-type]
    assert not problem.belief.imaged
