"""What a predicted section is compared with a measured one by (eq 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isost._core.graph import neighbours

_RANGE = 100.0  # of exponents of two whose powers, and sums of them, are ordinary float32 numbers


def sinkhorn_w2(predicted: Tensor, measured: Tensor, *, blur: float = 0.01) -> Tensor:
    """Debiased Sinkhorn divergence that tends to W2^2 / 2 as ``blur`` tends to 0 (geomloss' convention, p = 2).

    The iterations are those of geomloss (Feydy 2020, algorithm 3.5): averaged updates of both potentials under a
    temperature that falls from the squared diameter to ``blur``^2 by a factor of four. One exponential of the plan
    serves both updates. The gradient flows to ``predicted``; potentials are optimal, so it is that of the costs.

    Parameters
    ----------
    predicted, measured
        ``(n, d)`` and ``(m, d)`` positions; memory is n times m, so both are subsets of bounded size.
    blur
        Square root of the entropic regularisation, in the positions' unit.
    """
    with torch.no_grad():
        both = torch.cat([predicted, measured])
        diameter = float((both.amax(dim=0) - both.amin(dim=0)).norm())
        if not math.isfinite(diameter):
            return predicted.new_tensor(math.nan)
        temperatures = _temperatures(diameter, blur)
        f, g, to_measured = _solve(predicted, measured, temperatures)
        f_self, _, to_itself = _solve(predicted, predicted, temperatures)
        g_self, _, _ = _solve(measured, measured, temperatures)
        value = (f - f_self).mean() + (g - g_self).mean()
        pull = (to_itself - to_measured) / len(predicted)
    return value + (pull * (predicted - predicted.detach())).sum()


def _temperatures(diameter: float, blur: float) -> list[float]:
    temperature = max(diameter, blur) ** 2
    falling = [temperature]
    while temperature > blur**2 * (1 + 1e-9):
        falling.append(temperature)
        temperature /= 4
    return [*falling, blur**2]


def _solve(x: Tensor, y: Tensor, temperatures: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Potentials on x ``(n,)`` and on y ``(m,)``, and where the plan sends each x on average, ``(n, d)``."""
    gain = x.new_zeros(len(x), len(y))
    for along_x, along_y in zip(x.T, y.T, strict=True):
        gain.sub_((along_x[:, None] - along_y).square_(), alpha=0.5)
    plan = torch.empty_like(gain)
    f, g = _update(plan, gain, x.new_zeros(len(x)), y.new_zeros(len(y)), temperatures[0], symmetric=x is y)
    for temperature in temperatures:
        next_f, next_g = _update(plan, gain, f, g, temperature, symmetric=x is y)
        f, g = (f + next_f) / 2, (g + next_g) / 2
    f, g = _update(plan, gain, f, g, temperatures[-1], symmetric=x is y)
    return f, g, plan @ y / plan.sum(dim=1, keepdim=True)


def _update(
    plan: Tensor, gain: Tensor, f: Tensor, g: Tensor, temperature: float, *, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """One Sinkhorn update of each potential from the other; writes the plan before it, up to a factor by row."""
    bit = temperature * math.log(2)  # powers of two are taken much faster than those of e
    torch.add(g / bit, gain, alpha=1 / bit, out=plan).add_((f / bit)[:, None])
    # far pairs count for nothing, but denormal numbers would slow the processor down
    plan.clamp_(min=-_RANGE).exp2_()
    by_row = plan.mean(dim=1).log2_()
    by_column = by_row if symmetric else plan.mean(dim=0).log2_()
    # what is out of range is asked for on the CPU alone: a GPU would be waited for at every update
    if plan.is_cuda or not max(float(by_row.abs().max()), float(by_column.abs().max())) < _RANGE / 2:
        exponent = (f[:, None] + g + gain) / temperature
        by_row = (exponent.logsumexp(dim=1) - math.log(len(g))) / math.log(2)
        by_column = (exponent.logsumexp(dim=0) - math.log(len(f))) / math.log(2)
        torch.softmax(exponent, dim=1, out=plan)
    return f - bit * by_row, g - bit * by_column


def chamfer(predicted: Tensor, shown: Tensor) -> Tensor:
    """Mean squared distance to the nearest of the other, both ways, of ``(n, d)`` and ``(m, d)`` (eq 11)."""
    there = shown[neighbours(shown, 1, query=predicted.detach())[:, 0]]
    back = predicted[neighbours(predicted.detach(), 1, query=shown)[:, 0]]
    return (predicted - there).square().sum(dim=1).mean() + (back - shown).square().sum(dim=1).mean()


def nearest_cell_mse(
    position: Tensor, features: Tensor, measured_position: Tensor, measured_features: Tensor
) -> Tensor:
    """Mean squared error between each predicted cell's g and that of the measured cell nearest to where it landed.

    ``(n, 2)``, ``(n, P)``, ``(m, 2)``, ``(m, P)`` to a scalar. The assignment itself carries no gradient.
    """
    nearest = neighbours(measured_position, 1, query=position)[:, 0]
    return torch.nn.functional.mse_loss(features, measured_features[nearest])
