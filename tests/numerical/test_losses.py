"""The losses of equation 7 against closed forms."""

from __future__ import annotations

import pytest
import torch
from geomloss import SamplesLoss
from torch import Tensor

from isost._core.losses import nearest_cell_mse, sinkhorn_w2


def normal(n: int, *, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("scale", "shift"), [(0.2, 0.0), (0.2, 0.5), (0.001, 0.4), (0.001, 30.0), (3.0, 50.0), (1e-5, 1e-4)]
)
def test_it_is_the_divergence_of_geomloss(scale: float, shift: float, dtype: torch.dtype) -> None:
    """Values and gradients, also of clouds so far apart or so tight that powers leave the range of float32."""
    predicted = (scale * normal(70)).to(dtype).requires_grad_()
    measured = (scale * normal(90, seed=1) * torch.tensor([1.0, 0.4]) + shift).to(dtype)
    double = predicted.detach().double().requires_grad_()
    theirs = SamplesLoss("sinkhorn", p=2, blur=0.01, debias=True, backend="tensorized")(double, measured.double())
    ours = sinkhorn_w2(predicted, measured)
    exact = dtype == torch.float64
    # what float32 resolves of costs of the size of the squared shift
    coarse = 1e-6 * max(1.0, shift**2)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-9 if exact else 1e-5, atol=1e-12 if exact else coarse)
    gradient, reference = (
        torch.autograd.grad(loss, points)[0].double() * 70 for loss, points in ((ours, predicted), (theirs, double))
    )
    torch.testing.assert_close(gradient, reference, rtol=1e-7 if exact else 1e-3, atol=1e-9 if exact else 200 * coarse)


def test_cells_that_are_nowhere_have_no_finite_loss() -> None:
    cloud = normal(5)
    cloud[2, 0] = torch.nan
    assert torch.isnan(sinkhorn_w2(cloud, normal(5)))


def test_two_diracs() -> None:
    a = torch.tensor([[0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    loss = sinkhorn_w2(a, b)
    assert float(loss.detach()) == pytest.approx(0.5 * 0.5**2, rel=1e-6)
    # half the squared distance pulls a straight towards b
    torch.testing.assert_close(torch.autograd.grad(loss, a)[0], (a - b).detach(), rtol=1e-5, atol=1e-8)


def test_two_diracs_against_two() -> None:
    a = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.3], [0.0, 0.1]], dtype=torch.float64)
    assert float(sinkhorn_w2(a, b)) == pytest.approx((0.3**2 + 0.1**2) / 4, rel=1e-4)


def test_a_translated_cloud_costs_half_the_squared_shift() -> None:
    cloud = 0.1 * normal(200)
    for shift in (torch.tensor([0.02, -0.01]), torch.tensor([0.5, 0.8])):
        assert float(sinkhorn_w2(cloud + shift, cloud)) == pytest.approx(0.5 * float((shift**2).sum()), rel=2e-3)


def test_two_gaussians() -> None:
    """W2^2 = |m1 - m2|^2 + |s1 - s2|^2 for axis-aligned Gaussians of standard deviations s."""
    first, second = 0.1 * normal(800), normal(800, seed=1) * torch.tensor([0.25, 0.1]) + torch.tensor([0.3, 0.0])
    expected = 0.5 * (0.3**2 + 0.15**2)
    assert float(sinkhorn_w2(first, second)) == pytest.approx(expected, rel=0.05)


def test_a_cloud_is_at_no_distance_from_itself_and_is_not_pulled() -> None:
    cloud = (0.2 * normal(150)).requires_grad_()
    loss = sinkhorn_w2(cloud, cloud.detach().flip(0))
    assert abs(float(loss.detach())) < 1e-6
    assert float(torch.autograd.grad(loss, cloud)[0].abs().max()) * len(cloud) < 1e-3


def test_it_is_symmetric_and_positive() -> None:
    first, second = 0.1 * normal(80), 0.1 * normal(120, seed=1)
    there, back = float(sinkhorn_w2(first, second)), float(sinkhorn_w2(second, first))
    assert there == pytest.approx(back, rel=1e-6)
    assert there > 1e-5


def test_nearest_cell_error_by_hand() -> None:
    measured = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    values = torch.tensor([[1.0, 2.0], [5.0, 0.0]])
    landed = torch.tensor([[0.1, 0.3], [0.2, 0.0], [0.8, -0.4]], requires_grad=True)
    predicted = torch.tensor([[1.0, 0.0], [0.0, 2.0], [5.0, 3.0]], requires_grad=True)
    loss = nearest_cell_mse(landed, predicted, measured, values)
    assert float(loss.detach()) == pytest.approx((2**2 + 1**2 + 3**2) / 6)
    gradient = torch.autograd.grad(loss, (predicted, landed), allow_unused=True)
    torch.testing.assert_close(gradient[0], torch.tensor([[0.0, -2.0], [-1.0, 0.0], [0.0, 3.0]]) / 3)
    # which cell is nearest is no smooth matter: the positions are not pulled by it
    assert gradient[1] is None


def test_nearest_cell_error_follows_the_cells_not_their_order() -> None:
    position, values = normal(40), normal(40, seed=1)
    turned = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert float(nearest_cell_mse(position, values, position[turned], values[turned])) == 0.0
    assert float(nearest_cell_mse(position, values, position[turned], values)) > 0.1
