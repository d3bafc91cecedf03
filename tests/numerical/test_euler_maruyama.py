"""The solver against stochastic differential equations whose solutions are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from isost._core.sde import BrownianPath, euler_maruyama, flow

GRIDS = {
    "even": torch.linspace(0.5, 2.0, 13, dtype=torch.float64),
    "uneven": torch.tensor([0.5, 0.6, 1.1, 1.15, 2.0], dtype=torch.float64),
}


def no_drift(_: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def order(steps: list[int], errors: list[float]) -> float:
    """Slope of the error over the step length, on logarithmic axes."""
    return float(np.polyfit(np.log(1 / np.array(steps)), np.log(errors), 1)[0])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("falling", [False, True])
def test_constant_drift_is_exact(grid: str, falling: bool) -> None:
    times = GRIDS[grid].flip(0) if falling else GRIDS[grid]
    start = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    speed = torch.tensor([0.3, -2.0], dtype=torch.float64)
    states = euler_maruyama(lambda z, x: speed.expand_as(x), torch.zeros(2), start, times)
    # per unit of depth in the direction of travel, so a falling grid changes no sign
    exact = start + (times - times[0]).abs()[:, None, None] * speed
    torch.testing.assert_close(states, exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("falling", [False, True])
def test_noise_alone_adds_the_increments_of_the_path(falling: bool) -> None:
    times = GRIDS["uneven"].flip(0) if falling else GRIDS["uneven"]
    path = BrownianPath((5, 2), times, seed=3)
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    states = euler_maruyama(no_drift, sigma, torch.zeros(5, 2, dtype=torch.float64), times, path)
    walked = torch.stack([path.increment(step) for step in range(len(times) - 1)]).cumsum(dim=0)
    torch.testing.assert_close(states[1:], sigma * walked, rtol=0, atol=1e-13)


def test_ornstein_uhlenbeck_mean_and_variance() -> None:
    rate, centre, sigma, start, n = 1.5, 0.7, 0.6, 3.0, 40_000
    times = torch.linspace(0, 2, 81, dtype=torch.float64)
    path = BrownianPath((n, 1), times, seed=11)
    states = euler_maruyama(
        lambda z, x: rate * (centre - x), torch.tensor([sigma]), torch.full((n, 1), start).double(), times, path
    )[..., 0].numpy()
    for step in (1, 8, 30, 80):
        z = float(times[step])
        # moments of the Euler scheme itself, so that nothing but Monte-Carlo error is left
        keep = 1 - rate * float(times[1])
        mean = centre + (start - centre) * keep**step
        var = sigma**2 * float(times[1]) * (1 - keep ** (2 * step)) / (1 - keep**2)
        assert states[step].mean() == pytest.approx(mean, abs=4 * np.sqrt(var / n))
        assert states[step].var() == pytest.approx(var, rel=4 * np.sqrt(2 / n))
        # and the equation's own, to the first order of the step
        assert mean == pytest.approx(centre + (start - centre) * np.exp(-rate * z), abs=0.03)
        assert var == pytest.approx(sigma**2 * (1 - np.exp(-2 * rate * z)) / (2 * rate), rel=0.05)
    # correlation along the path: Cov(X_s, X_t) = Var(X_s) exp(-rate (t - s))
    covariance = np.cov(states[40], states[60])
    assert covariance[0, 1] / covariance[0, 0] == pytest.approx((1 - rate / 40) ** 20, abs=0.02)


def test_strong_order_one_half_on_geometric_brownian_motion() -> None:
    """dX = mu X dz + sigma X dW ends at exp(mu - sigma^2 / 2 + sigma W): the same path on ever coarser grids."""
    mu, sigma, n, finest = 0.5, 1.0, 3000, 512
    times = torch.linspace(0, 1, finest + 1, dtype=torch.float64)
    fine = BrownianPath((n, 1), times, seed=5)
    end = sum(fine.increment(step) for step in range(finest))
    exact = torch.exp(mu - sigma**2 / 2 + sigma * end)
    steps, errors = [], []
    for factor in (4, 8, 16, 32, 64):
        path = fine.coarsen(factor)
        start = torch.ones(n, 1, dtype=torch.float64)
        reached = euler_maruyama(lambda z, x: mu * x, lambda z, x: sigma * x, start, path.times, path)[-1]
        steps.append(finest // factor)
        errors.append(float((reached - exact).abs().mean()))
    assert errors[0] < 0.15
    assert 0.4 < order(steps, errors) < 0.6


@pytest.mark.parametrize("falling", [False, True])
def test_no_noise_is_the_euler_method_of_torchdiffeq(falling: bool) -> None:
    def drift(z: Tensor, x: Tensor) -> Tensor:
        return torch.sin(3 * z) * x.flip(1) + torch.stack([z.expand(len(x)), -x[:, 0]], dim=1)

    times = GRIDS["uneven"].flip(0) if falling else GRIDS["uneven"]
    start = torch.tensor([[1.0, -0.5], [0.2, 2.0]], dtype=torch.float64)
    ours = euler_maruyama(drift, torch.ones(2), start, times)
    torch.testing.assert_close(ours, flow(drift, start, times, method="euler"), rtol=1e-13, atol=1e-13)
    # torchdiffeq itself takes falling times with dX = drift dz, so towards lower depth the drift turns round
    sign = -1.0 if falling else 1.0
    theirs = odeint(lambda z, x: sign * drift(z, x), start, times, method="euler")
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize(("solver", "expected"), [("euler", 1.0), ("midpoint", 2.0)])
def test_noise_free_converges_to_the_flow(falling: bool, solver: str, expected: float) -> None:
    """dX = z X per unit travelled ends at X exp of the integral of z, whichever way one travels."""
    start = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    ends = (1.5, 0.2) if falling else (0.2, 1.5)
    exact = start * np.exp((1.5**2 - 0.2**2) / 2)
    steps, errors = [16, 32, 64, 128], []
    for m in steps:
        times = torch.linspace(*ends, m + 1, dtype=torch.float64)
        if solver == "euler":
            reached = euler_maruyama(lambda z, x: z * x, torch.zeros(1), start, times)[-1]
        else:
            reached = flow(lambda z, x: z * x, start, times)[-1]
        errors.append(float((reached - exact).abs().max()))
    assert order(steps, errors) == pytest.approx(expected, abs=0.1)
