"""What must not matter: where the block lies, in which unit, and in which order its cells come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from anndata import AnnData

from isost._core.carry import carry, simulate
from isost._core.fit import fit_stack
from isost._core.model import SDEModel
from isost._core.options import FitOptions
from isost._core.stack import Stack, read_stack

SHIFT = np.array([4096.0, -512.0, 1024.0])
SIZES = (30, 40, 36)


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    # whole numbers, so that a shift by whole numbers is exact
    positions = [np.round(draw.uniform(0, [400, 300], (n, 2))) + draw.choice([0.25, 0.5], (n, 2)) for n in SIZES]
    return stack_of(positions, [draw.normal(size=(n, 3)) for n in SIZES], [0.0, 50.0, 110.0])


def permuted(stack: Stack, seed: int = 1) -> tuple[Stack, np.ndarray]:
    """Permute the cells within each section."""
    draw = np.random.default_rng(seed)
    order = np.concatenate(
        [draw.permutation(np.arange(stack.starts[k], stack.starts[k + 1])) for k in range(stack.n_sections)]
    )
    names = stack.obs_names[order]
    return replace(stack, coords=stack.coords[order], features=stack.features[order], obs_names=names), order


def moved(stack: Stack, shift: np.ndarray, scale: float = 1.0) -> Stack:
    return replace(stack, coords=scale * stack.coords + shift, depths=scale * stack.depths + shift[2])


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("depth", [0.0, 0.7])
def test_the_drift_follows_a_permutation_of_the_cells(
    stack: Stack, moving_model: Callable[..., SDEModel], direction: str, depth: float
) -> None:
    model = moving_model(stack, speed=0.3).double()
    pair = model.forward_pair if direction == "forward" else model.backward_pair
    state = torch.rand(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    drift = model.drift(pair, torch.tensor(depth, dtype=torch.float64), state).detach()
    assert float(drift[:, :2].std(dim=0).min()) > 1e-3 and float(drift[:, 3:].std(dim=0).min()) > 1e-3
    torch.testing.assert_close(model.drift(pair, torch.tensor(depth).double(), state[order]).detach(), drift[order])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_simulated_cells_follow_a_permutation(
    stack: Stack, moving_model: Callable[..., SDEModel], direction: str
) -> None:
    model = moving_model(stack, speed=0.05).double()
    start = [part.double() for part in model.to_internal(stack.coords[30:70], stack.features[30:70])]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    target = 2.0 if direction == "forward" else 0.2
    with torch.no_grad():
        place, features = next(simulate(model, direction, *start, [target], seed=None))
        place_of, features_of = next(simulate(model, direction, *(part[order] for part in start), [target], seed=None))
    assert float((place - start[0]).abs().max()) > 0.05
    torch.testing.assert_close(place_of, place[order])
    torch.testing.assert_close(features_of, features[order])


def test_carried_cells_follow_a_permutation(stack: Stack, moving_model: Callable[..., SDEModel]) -> None:
    model = moving_model(stack, speed=0.05)
    other, order = permuted(stack)
    cells, others = carry(model, stack, 20.0), carry(model, other, 20.0)
    inverse = np.argsort(order)[cells.row]
    at = np.argsort(others.row)[inverse]
    np.testing.assert_allclose(others.coords[at], cells.coords, atol=0.01)
    np.testing.assert_allclose(others.features[at], cells.features, atol=1e-4)


@pytest.mark.parametrize("noisy", [False, True])
def test_carried_cells_follow_the_block(stack: Stack, moving_model: Callable[..., SDEModel], noisy: bool) -> None:
    for scale, shift in ((1.0, SHIFT), (0.001, np.zeros(3)), (7.0, -SHIFT)):
        other = moved(stack, shift, scale)
        # a model set up in the scale of each, as a fit does
        here, there = (
            carry(
                moving_model(block, speed=0.03, sigma_xy=0.02, sigma_z=0.1, sigma_g=0.1),
                block, z, generator=torch.Generator().manual_seed(0) if noisy else None,
            )
            for block, z in ((stack, 20.0), (other, 20.0 * scale + shift[2]))
        )  # fmt: skip
        apart = np.abs((there.coords - shift) / scale - here.coords)
        assert np.median(apart) < 1e-3 and apart.max() < 0.5
        np.testing.assert_allclose(there.features, here.features, atol=1e-2)
        np.testing.assert_allclose(there.weight, here.weight, rtol=1e-4)


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_a_fit_follows_the_block(stack: Stack, objective: str) -> None:
    options = FitOptions(epochs=3, width=8, dz=0.5, max_cells=20)
    here, there = (
        fit_stack(
            block, objective=objective, device="cpu", progress=False, options=options,
            generator=torch.Generator().manual_seed(0),
        )
        for block in (stack, moved(stack, SHIFT))
    )  # fmt: skip
    for phase, losses in here.history.items():
        np.testing.assert_allclose(there.history[phase], losses, rtol=1e-3)
    np.testing.assert_allclose(there.model.config["origin"], here.model.config["origin"] + SHIFT, atol=1e-9)
    for name, weight in here.model.state_dict().items():
        torch.testing.assert_close(there.model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    places = np.random.default_rng(2).uniform([0, 0, 0], [400, 300, 110], (40, 3))
    mean, moved_mean = here.field.predict(places), there.field.predict(places + SHIFT)
    np.testing.assert_allclose(moved_mean.mean, mean.mean, atol=0.02)
    np.testing.assert_allclose(moved_mean.density, mean.density, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_a_fit_does_not_see_the_order_of_the_input(stack: Stack, objective: str) -> None:
    """Rows of the AnnData in any order, sections mixed: the same weights, to the last bit."""
    draw = np.random.default_rng(0)
    adata = AnnData(obsm={"spatial": stack.coords, "X_pca": stack.features})
    adata.obs_names = stack.obs_names
    adata.obs["section"] = np.array(stack.names)[stack.section_index]
    options = FitOptions(epochs=2, width=8, dz=0.5, max_cells=20)
    fits = []
    for order in (np.arange(stack.n_cells), draw.permutation(stack.n_cells)):
        read = read_stack(adata[order])
        generator = torch.Generator().manual_seed(0)
        fits.append(
            fit_stack(read, objective=objective, device="cpu", progress=False, options=options, generator=generator)
        )
    assert fits[0].history == fits[1].history
    for name, weight in fits[0].model.state_dict().items():
        assert torch.equal(fits[1].model.state_dict()[name], weight)
