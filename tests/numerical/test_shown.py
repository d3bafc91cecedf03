"""Priors of simulated cells by images: Chamfer distance, and what expression leads to expect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from isost._core import trajectory
from isost._core.losses import chamfer
from isost._core.model import SDEModel
from isost._core.shown import ShownPlanes
from isost._core.stack import Stack
from isost._core.trajectory import TrajectoryObjective
from isost._images.linear import Linear, fit_linear


def test_chamfer_is_the_mean_squared_distance_to_the_nearest_both_ways() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(40, 2)), draw.normal(size=(55, 2)) + 0.5
    apart = cdist(a, b, "sqeuclidean")
    one, other = (torch.tensor(values, requires_grad=True) for values in (a, b))
    value = chamfer(one, other)
    assert value.item() == pytest.approx(apart.min(axis=1).mean() + apart.min(axis=0).mean())
    value.backward()
    step = 1e-6
    moved = a.copy()
    moved[3, 1] += step
    rise = (chamfer(torch.tensor(moved), torch.tensor(b)).item() - value.item()) / step
    assert float(one.grad[3, 1]) == pytest.approx(rise, abs=1e-4)
    assert chamfer(one, one.detach()).item() == 0.0


def test_a_linear_map_is_found_and_scored_on_sections_that_it_was_not_fitted_on() -> None:
    draw = np.random.default_rng(0)
    features, section = draw.normal(size=(600, 4)), np.repeat([0, 1, 2], 200)
    weight = np.array([[1.0, 0.0, -2.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    shown = features @ weight.T + [3.0, 0.0] + draw.normal(size=(600, 2)) * [0.5, 1.0]
    found = fit_linear(features, shown, section)
    np.testing.assert_allclose(found.weight, weight, atol=0.12)
    np.testing.assert_allclose(found.offset, [3.0, 0.0], atol=0.1)
    assert found.r2[0] == pytest.approx(5.25 / 5.5, abs=0.02) and found.r2[1] < 0.01
    # a slope of another sign in each section is none: told of each by the others, it is worse than nothing
    sign = np.array([1.0, -1.0, 1.0])[section]
    assert fit_linear(features, features[:, :1] * sign[:, None], section).r2[0] < 0
    assert fit_linear(features, np.full((600, 1), 7.0), section).r2[0] == 0.0, "nothing to tell"


class Planes:
    """One plane in the only gap, whose tissue lies apart and shows twice the feature of the cells."""

    def __init__(self, *, same: bool = True, r2: float = 1.0) -> None:
        self.same, self.r2 = same, np.array([r2])
        self.places = np.random.default_rng(2).uniform(0, [100, 100], (400, 2)) + [50.0, 0.0]

    def between(self, low: float, high: float) -> np.ndarray:
        return np.array([60.0])

    def sampled(self, z: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.places, np.full((400, 1), 2.0)

    def show(self, stack: Stack) -> bool:
        return self.same

    def told(self, stack: Stack) -> Linear:
        return Linear(np.array([[2.0]]), np.array([-1.0]), self.r2)


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    cells = [np.random.default_rng(k).uniform(0, [100, 100], (120, 2)) for k in range(2)]
    return stack_of(cells, [np.full((120, 1), float(k)) for k in range(2)], [0.0, 100.0])


@pytest.fixture
def model(stack: Stack) -> SDEModel:
    x, y, z = stack.scaling.origin
    made = SDEModel(
        1, origin=(x, y, z), plane_scale=stack.scaling.xy, depth_unit=100.0, depth_range=1.0, width=8, sigma_xy=0.0,
        sigma_z=0.0, sigma_g=0.0,
    )  # fmt: skip
    made.feature_offset.fill_(0.5)
    made.feature_scale.fill_(4.0)
    return made


def settings(**changed: float) -> dict:
    return {**trajectory.DEFAULTS, "n_candidates": 48, "feature_weight": 2.0, **changed}


def test_a_plane_is_compared_in_internal_units(stack: Stack, model: SDEModel) -> None:
    shown = ShownPlanes(model, stack, Planes(), settings(beta=3.0, gamma=7.0))  # type: ignore[arg-type]
    plane = shown.draw(0, torch.Generator().manual_seed(0))
    assert plane is not None and plane.depth == pytest.approx(0.6)
    position, _, features = model.to_internal(stack.coords[:120], stack.features[:120])
    shape, expression, both = (float(shown.loss(plane, position, features, phase))
                               for phase in ("shape", "expression", "both"))  # fmt: skip
    scale = model.config["plane_scale"]
    assert shape == pytest.approx(3.0 * float(chamfer(position, plane.places)))
    assert float(chamfer(position, plane.places)) * scale**2 > 500, "half of the tissue lies apart"
    # a cell of 0 leads to expect 2 * 0 - 1 where 2 is shown
    assert expression == pytest.approx(7.0 * 9.0, rel=1e-4)
    assert both == pytest.approx(shape + expression, rel=1e-5)


def test_what_says_nothing_of_the_sections_is_not_used(stack: Stack, model: SDEModel) -> None:
    position, _, features = model.to_internal(stack.coords[:120], stack.features[:120])
    for images, phase in ((Planes(same=False), "shape"), (Planes(r2=-0.1), "expression")):
        shown = ShownPlanes(model, stack, images, settings())  # type: ignore[arg-type]
        plane = shown.draw(0, torch.Generator().manual_seed(0))
        assert plane is not None and float(shown.loss(plane, position, features, phase)) == 0.0


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_cells_are_compared_on_their_way(stack: Stack, model: SDEModel, direction: str) -> None:
    """Without weights the loss is that of the paper's eq 7; with them it grows by what the plane adds."""
    losses = {}
    for beta in (0.0, 2.0):
        problem = TrajectoryObjective(
            model, stack, settings(beta=beta, gamma=0.0), torch.Generator().manual_seed(0), Planes()  # type: ignore[arg-type]
        )  # fmt: skip
        losses[beta] = float(problem.loss(0, direction, "shape").detach())
    plain = TrajectoryObjective(model, stack, settings(), torch.Generator().manual_seed(0))
    assert losses[0.0] == pytest.approx(float(plain.loss(0, direction, "shape").detach()), rel=0.05)
    assert losses[2.0] > 2 * losses[0.0]
