"""What runs on a GPU does what it does on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from isost._core.carry import carry
from isost._core.fit import Fitted, fit_stack
from isost._core.graph import edge_index, neighbours
from isost._core.model import SDEModel
from isost._core.options import FitOptions
from isost._core.stack import Stack

pytestmark = pytest.mark.gpu


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    """The same cells in three sections, moved by (25, -15) µm and raised by 0.2 from each to the next."""
    draw = np.random.default_rng(0)
    cells = draw.uniform(0, [400, 300], (150, 2))
    level = np.column_stack([np.sin(cells[:, 0] / 60), np.cos(cells[:, 1] / 50), cells.sum(axis=1) / 300])
    return stack_of(
        [cells + k * np.array([25.0, -15.0]) for k in range(3)], [level + 0.2 * k for k in range(3)], [0.0, 50.0, 100.0]
    )


def fit(stack: Stack, device: str, objective: str, **options: float) -> Fitted:
    return fit_stack(
        stack, objective=objective, device=device, progress=False, generator=torch.Generator().manual_seed(0),
        options=FitOptions(**{"epochs": 20, "width": 16, "dz": 0.5, "learning_rate": 0.01, **options}),
    )  # fmt: skip


@pytest.mark.parametrize("n", [50, 30_000])
def test_neighbours_are_those_of_the_tree(n: int) -> None:
    points = 0.05 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0)) + 0.9
    found = neighbours(points.cuda(), 5)
    assert found.is_cuda and found.dtype == torch.int64
    distance = cKDTree(points.numpy()).query(points.numpy(), k=6)[0][:, 1:]
    there = torch.linalg.norm(points[found.cpu()] - points[:, None], dim=-1)
    # cells that are equally near may change places
    np.testing.assert_allclose(there, distance, rtol=1e-3, atol=1e-7)
    assert not (found == torch.arange(n, device="cuda")[:, None]).any()
    assert edge_index(found).is_cuda


def test_coincident_points_are_no_neighbours_of_themselves() -> None:
    found = neighbours(torch.zeros(12, 2, device="cuda"), 5)
    assert not (found == torch.arange(12, device="cuda")[:, None]).any()


@pytest.mark.parametrize("noisy", [False, True])
def test_a_model_carries_alike_on_both(stack: Stack, moving_model: Callable[..., SDEModel], noisy: bool) -> None:
    """The same noise too: it is drawn on the CPU."""
    model = moving_model(stack, speed=0.03, sigma_xy=0.01, sigma_z=0.05, sigma_g=0.05)
    reached = []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0) if noisy else None
        reached.append(carry(model.to(device), stack, 20.0, generator=generator))
    apart = np.abs(reached[0].coords - reached[1].coords)
    assert np.median(apart) < 0.01 and apart.max() < 2.0
    assert np.median(np.abs(reached[0].features - reached[1].features)) < 1e-3
    np.testing.assert_array_equal(reached[0].row, reached[1].row)


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_a_fit_comes_to_about_the_same(stack: Stack, objective: str) -> None:
    cpu, cuda = (fit(stack, device, objective) for device in ("cpu", "cuda"))
    assert cuda.model.device.type == "cuda" and cuda.info["device"].startswith("cuda")
    for (name, here), (_, there) in zip(cpu.model.state_dict().items(), cuda.model.state_dict().items(), strict=True):
        assert here.shape == there.shape, name
    for phase, losses in cpu.history.items():
        # the same noise and subsets, but sums in another order
        assert cuda.history[phase][0] == pytest.approx(losses[0], rel=0.05)
        assert np.mean(cuda.history[phase][-3:]) == pytest.approx(np.mean(losses[-3:]), rel=0.5)
    first, second = carry(cpu.model, stack, 20.0), carry(cuda.model, stack, 20.0)
    assert first.coords.shape == second.coords.shape
    assert np.median(np.abs(first.coords - second.coords)) < 5.0
    places = np.random.default_rng(1).uniform([50, 0, 0], [400, 250, 100], (50, 3))
    np.testing.assert_allclose(cuda.field.predict(places).mean, cpu.field.predict(places).mean, atol=0.5)


def test_none_and_auto_choose_the_gpu_and_leave_its_random_state_alone(stack: Stack) -> None:
    before = torch.cuda.get_rng_state()
    for device in (None, "auto"):
        fitted = fit_stack(stack, device=device, progress=False, options=FitOptions(epochs=1, width=8))
        assert fitted.model.device.type == "cuda"
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_a_gpu_beyond_those_there_are_is_an_error(stack: Stack) -> None:
    with pytest.raises(ValueError, match="GPU"):
        fit_stack(stack, device=f"cuda:{torch.cuda.device_count()}", progress=False)
