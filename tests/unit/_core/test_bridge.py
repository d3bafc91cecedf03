from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from isost._core import bridge
from isost._core.bridge import BridgeObjective, default_sigma_xy
from isost._core.guard import Belief
from isost._core.model import SDEModel
from isost._core.stack import Stack

DEPTHS = (0.0, 50.0, 130.0, 180.0)
N = 90


def settings(**changed: object) -> dict:
    return {**bridge.DEFAULTS, "n_candidates": 48, "feature_weight": 2.0, **changed}


def still_model(stack: Stack, **config: float) -> SDEModel:
    scaling = stack.scaling
    x, y, z = scaling.origin
    span = float(stack.depths[-1] - stack.depths[0])
    return SDEModel(
        stack.n_features, origin=(x, y, z), plane_scale=scaling.xy, depth_unit=50.0, depth_range=span / 50, width=8,
        **config,
    )  # fmt: skip


@pytest.fixture
def moving(stack_of: Callable[..., Stack]) -> Callable[..., Stack]:
    """The same cells in each section, moved by a path of depth, with a pattern that moves with them."""

    def make(path: Callable[[float], np.ndarray], level: float = 0.0) -> Stack:
        draw = np.random.default_rng(0)
        cells = draw.uniform(0, [400, 300], (N, 2))
        pattern = np.column_stack([np.sin(cells[:, 0] / 60), np.cos(cells[:, 1] / 50)])
        return stack_of([cells + path(z) for z in DEPTHS], [pattern + level * z for z in DEPTHS], DEPTHS)

    return make


def straight(z: float) -> np.ndarray:
    return np.array([0.4, -0.2]) * z


def curved(z: float) -> np.ndarray:
    return np.array([1.0, -0.5]) * (0.3 * z + 0.001 * z**2)


def mean_loss(problem: BridgeObjective) -> float:
    with torch.no_grad():
        return float(np.mean([float(problem.loss(gap, way, "both"))
                              for gap in range(3) for way in ("forward", "backward") for _ in range(4)]))  # fmt: skip


def test_the_planted_drift_has_no_loss_and_standing_still_has_all(moving: Callable[..., Stack]) -> None:
    """Everything moves and changes steadily: the drifts are constant, and the loss counts in their squares."""
    stack = moving(straight, level=0.003)
    model = still_model(stack)
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0))
    assert mean_loss(problem) == pytest.approx(2.0, rel=0.1)  # one for the shape, alpha = 1 for the expression
    assert max(problem.dropped) < 0.05
    scale, unit = model.config["plane_scale"], 50.0
    for pair, sign in ((model.forward_pair, 1.0), (model.backward_pair, -1.0)):
        pair.shape.leave.bias.data = torch.tensor([0.4, -0.2]) * sign * unit / scale
        pair.expression.leave.bias.data = torch.full((2,), 0.003) * sign * unit
    assert mean_loss(problem) < 0.05


def test_losses_of_shape_and_expression_add_up_by_alpha(moving: Callable[..., Stack]) -> None:
    stack = moving(straight, level=0.003)
    shape, both = (
        mean_loss(BridgeObjective(still_model(stack), stack, settings(alpha=alpha), torch.Generator().manual_seed(0)))
        for alpha in (0.0, 3.0)
    )
    assert shape == pytest.approx(1.0, rel=0.1)
    assert both - shape == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_paths_begin_and_end_at_the_coupled_places_and_their_velocity_is_their_slope(
    moving: Callable[..., Stack], direction: str
) -> None:
    stack = moving(curved)
    problem = BridgeObjective(still_model(stack), stack, settings(), torch.Generator().manual_seed(0))
    for path in problem.bridges[direction]:
        start, _, features = path.at(0.0)
        end, _, changed = path.at(1.0)
        torch.testing.assert_close(start, path.start)
        torch.testing.assert_close(end, path.end)
        torch.testing.assert_close(changed - features, path.change)
        for t in (0.1, 0.5, 0.8):
            slope = (path.at(t + 0.01)[0] - path.at(t - 0.01)[0]) / (0.02 * abs(path.gap))
            torch.testing.assert_close(path.at(t)[1], slope, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_paths_are_smooth_across_sections_that_are_unevenly_spaced(
    moving: Callable[..., Stack], direction: str
) -> None:
    """On a parabola the inner gap's paths lie on it, where a straight way would cut the corner."""
    stack = moving(curved)
    model = still_model(stack)
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0))
    path = problem.bridges[direction][1]
    middle = path.at(0.5)[0].numpy() * model.config["plane_scale"] + stack.scaling.origin[:2]
    first = stack.coords[stack.slice_of(0), :2]
    truth = first + curved((DEPTHS[1] + DEPTHS[2]) / 2)
    chord = first + (curved(DEPTHS[1]) + curved(DEPTHS[2])) / 2
    apart = np.linalg.norm(chord - truth, axis=1).mean()
    assert apart > 1.0
    assert np.median(np.linalg.norm(middle - truth, axis=1)) < 0.15 * apart


@pytest.mark.parametrize("across", ["first", "second"])
@pytest.mark.parametrize("ratio", [1.5, 10.0, 100.0])
def test_a_narrow_gap_beside_a_wide_one_makes_no_path_overshoot(across: str, ratio: float) -> None:
    """Noise across the narrow gap, divided by its width, would be a slope that the wide gap runs along."""
    draw = np.random.default_rng(0)
    narrow, wide = draw.normal(size=(500, 2)), [5.0, 0.0] + draw.normal(size=(500, 2))
    ways, gaps = ((narrow, wide), (1.0, ratio)) if across == "second" else ((wide, narrow), (ratio, 1.0))
    points = np.cumsum([np.zeros((500, 2)), *ways], axis=0)
    tangent = bridge._tangent(*points, *gaps, across=across)
    length = np.linalg.norm(wide, axis=1)
    assert (np.linalg.norm(tangent - wide, axis=1) <= length + 1e-9).all()
    # of a cubic with the chord as its other tangent, the largest distance from the chord is 4 / 27 of that
    assert (4 / 27 * np.linalg.norm(tangent - wide, axis=1)).max() < 0.15 * length.max()


def test_a_patch_holds_neighbours_and_no_more_cells_than_allowed(moving: Callable[..., Stack]) -> None:
    stack = moving(straight)
    seen = []

    class Watched(SDEModel):
        def drift(self, pair, depth, state, *, parts="both"):  # type: ignore[no-untyped-def]
            seen.append(state.detach()[:, :2])
            return super().drift(pair, depth, state, parts=parts)

    model = Watched(**still_model(stack).config)
    problem = BridgeObjective(model, stack, settings(max_cells=15), torch.Generator().manual_seed(0))
    for _ in range(10):
        problem.loss(0, "forward", "both")
    assert {len(position) for position in seen} == {15}
    whole = stack.coords[:N, :2].std(axis=0) / model.config["plane_scale"]
    assert np.mean([position.numpy().std(axis=0) for position in seen], axis=0).max() < 0.6 * whole.min()
    assert len({tuple(position[0].tolist()) for position in seen}) > 1


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_states_spread_about_the_mean_path_as_a_brownian_bridge(moving: Callable[..., Stack], direction: str) -> None:
    """Variance sigma^2 t (1 - t) gap at the share t of a gap."""
    stack = moving(straight)
    sigma, spreads = 0.3, []

    class Watched(SDEModel):
        def drift(self, pair, depth, state, *, parts="both"):  # type: ignore[no-untyped-def]
            t = float((depth[0] - path.depth) / path.gap)
            away = state[:, :2] - path.at(t)[0]
            spreads.append(away / (sigma**2 * t * (1 - t) * abs(path.gap)) ** 0.5)
            return super().drift(pair, depth, state, parts=parts)

    model = Watched(**{**still_model(stack).config, "sigma_xy": sigma})
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0))
    path = problem.bridges[direction][1]
    for _ in range(30):
        problem.loss(1, direction, "both")
    spread = torch.cat(spreads)
    assert float(spread.square().mean()) == pytest.approx(1.0, abs=4 * (2 / spread.numel()) ** 0.5)
    assert float(spread.mean()) == pytest.approx(0.0, abs=4 / spread.numel() ** 0.5)


def test_a_cell_whose_mass_does_not_arrive_teaches_nothing(moving: Callable[..., Stack]) -> None:
    stack = moving(straight, level=0.003)

    def loss(mass: float, stray: float) -> float:
        problem = BridgeObjective(still_model(stack), stack, settings(), torch.Generator().manual_seed(0))
        path = problem.bridges["forward"][0]
        path.mass[:5], path.end[:5], path.change[:5] = mass, path.end[:5] + stray, path.change[:5] + stray
        with torch.no_grad():
            return float(problem.loss(0, "forward", "both"))

    assert loss(mass=0.0, stray=100.0) == loss(mass=0.0, stray=0.0)
    assert loss(mass=0.5, stray=100.0) > 10 * loss(mass=0.5, stray=0.0)


@pytest.mark.parametrize("masses", ["area", "cells"])
def test_cells_weigh_alike_where_they_are_what_is_carried(
    moving: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, masses: str
) -> None:
    """Tissue counts by the share of it that has a place, whole cells all alike, also those that have none."""
    monkeypatch.setattr(bridge, "_believed", lambda *_: Belief(1.0, 1.0, masses))
    stack = moving(straight)
    gone = stack.coords[:, 0] < np.where(stack.section_index == 1, 150.0, -np.inf)
    stack = replace(stack, coords=np.where(gone[:, None], stack.coords + [5e3, 0, 0], stack.coords))
    problem = BridgeObjective(still_model(stack), stack, settings(), torch.Generator().manual_seed(0))
    mass = problem.bridges["forward"][0].mass.numpy()
    arriving = problem.ahead[0].mass
    assert arriving.min() < 0.5 < arriving.max()
    np.testing.assert_allclose(mass, arriving if masses == "area" else 1.0, rtol=1e-6)


def test_positions_alone_can_be_bridged(stack_of: Callable[..., Stack], moving: Callable[..., Stack]) -> None:
    full = moving(straight)
    sections = [full.coords[full.slice_of(k), :2] for k in range(4)]
    bare = stack_of(sections, [np.zeros((N, 0))] * 4, DEPTHS)
    problem = BridgeObjective(still_model(bare), bare, settings(), torch.Generator().manual_seed(0))
    assert mean_loss(problem) == pytest.approx(1.0, rel=0.3)


def test_untrained_losses_have_gradients_in_every_part(moving: Callable[..., Stack]) -> None:
    stack = moving(straight, level=0.003)
    model = still_model(stack)
    problem = BridgeObjective(model, stack, settings(), torch.Generator().manual_seed(0))
    for gap in range(3):
        (problem.loss(gap, "forward", "both") + problem.loss(gap, "backward", "both")).backward()
    for pair in (model.forward_pair, model.backward_pair):
        for drift in (pair.shape, pair.expression):
            nn.utils.clip_grad_norm_(drift.parameters(), 1.0, error_if_nonfinite=True)
            assert float(drift.leave.weight.grad.norm()) > 0


def test_default_noise_is_half_a_spacing(stack_of: Callable[..., Stack]) -> None:
    x, y = np.meshgrid(np.arange(6) * 10.0, np.arange(5) * 10.0)
    grid = np.column_stack([x.ravel(), y.ravel()])
    stack = stack_of([grid] * 2, [np.zeros((30, 1))] * 2, [0.0, 50.0])
    assert default_sigma_xy(stack, 50.0) == pytest.approx(0.1)
