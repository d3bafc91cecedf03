"""Euler-Maruyama on an explicit, replayable noise path, and the noise-free flow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint

from isost._core.gpu import sent

Drift = Callable[[Tensor, Tensor], Tensor]
Diffusion = Tensor | Callable[[Tensor, Tensor], Tensor]
Seed = int | tuple[int, ...]


class BrownianPath:
    """Increments of a Brownian motion over a grid of depths, drawn again from the seed whenever they are asked for.

    Nothing is stored, so a path costs no memory however long it is, and a backward pass through the solver, or a
    second run, sees exactly the same noise. Draws come from a counter-based generator (Philox, Salmon et al. 2011)
    with the step in the counter and the seed in the key: no two steps and no two seeds share a draw. (Seeds of
    torch's own CPU generator that agree in their last 32 bits give one and the same stream.)

    Parameters
    ----------
    shape
        Shape of one increment, ``(n, d)``.
    times
        ``(M + 1,)`` depths, rising or falling.
    seed
        Seed of the path, a number or several: ``(seed, section, ...)`` names independent paths of one run.
    """

    def __init__(self, shape: tuple[int, ...], times: Tensor, seed: Seed, *, refine: int = 1) -> None:
        self.shape = shape
        self.times = times
        self.seed = seed
        self._refine = refine
        self._lengths = times.double().cpu().diff().abs()  # here once, as a GPU has to be waited for
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)

    def increment(self, step: int) -> Tensor:
        """W(z_{step + 1}) - W(z_step), ``shape``, with variance |z_{step + 1} - z_step|."""
        variance = self._lengths[step] / self._refine
        total = torch.zeros(self.shape, dtype=self.times.dtype)
        for part in range(step * self._refine, (step + 1) * self._refine):
            total += self._normal(part)
        return sent(total.mul_(variance.sqrt().to(total.dtype)), self.times.device)

    def _normal(self, part: int) -> Tensor:
        draw = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, part]))
        if self.times.dtype == torch.float64:
            return torch.from_numpy(draw.standard_normal(self.shape))
        return torch.from_numpy(draw.standard_normal(self.shape, dtype=np.float32))

    def coarsen(self, factor: int) -> BrownianPath:
        """Return the same Brownian motion seen on every ``factor``-th depth of an evenly spaced grid."""
        if (len(self.times) - 1) % factor:
            raise ValueError(f"Expected a factor that divides {len(self.times) - 1} steps; found {factor}.")
        return BrownianPath(self.shape, self.times[::factor], self.seed, refine=self._refine * factor)


def euler_maruyama(
    drift: Drift,
    diffusion: Diffusion,
    state: Tensor,
    times: Tensor,
    path: BrownianPath | None = None,
    *,
    save_memory: bool = False,
) -> Tensor:
    """Solve dX = drift(z, X) dz + diffusion dW (eqs 5 and 6) on a grid of depths.

    Parameters
    ----------
    drift
        Maps depth (scalar) and state ``(n, d)`` to ``(n, d)``, per unit of depth in the direction of travel:
        the step is ``drift * |dz|``, so a backward drift needs no change of sign.
    diffusion
        ``(d,)`` or ``(n, d)``, or a function of depth and state.
    state
        ``(n, d)`` at ``times[0]``.
    times
        ``(M + 1,)`` depths, rising or falling.
    path
        The noise; without it the equation is solved noise-free.
    save_memory
        Recompute each step in the backward pass instead of storing it.

    Returns
    -------
    ``(M + 1, n, d)`` states.
    """
    states = [state]
    for step in range(len(times) - 1):
        if save_memory and torch.is_grad_enabled():
            state = checkpoint(_step, drift, diffusion, state, times, step, path, use_reentrant=False)
        else:
            state = _step(drift, diffusion, state, times, step, path)
        states.append(state)
    return torch.stack(states)


def _step(
    drift: Drift, diffusion: Diffusion, state: Tensor, times: Tensor, step: int, path: BrownianPath | None
) -> Tensor:
    length = (times[step + 1] - times[step]).abs()
    moved = state + drift(times[step], state) * length
    if path is None:
        return moved
    sigma = diffusion(times[step], state) if callable(diffusion) else diffusion
    return moved + sigma * path.increment(step)


def flow(drift: Drift, state: Tensor, times: Tensor, *, method: str = "midpoint") -> Tensor:
    """Follow the noise-free flow dX = drift dz by torchdiffeq to ``(M + 1, n, d)`` states on ``times``."""
    travelled = (times - times[0]).abs()
    sign = -1.0 if times[-1] < times[0] else 1.0
    return odeint(lambda length, x: drift(times[0] + sign * length, x), state, travelled, method=method)


def cubic(t: float | Tensor, p0: Tensor, p1: Tensor, m0: Tensor, m1: Tensor) -> Tensor:
    """Hermite's curve at t in [0, 1] from p0 to p1 with these tangents."""
    return (
        (2 * t**3 - 3 * t**2 + 1) * p0 + (t**3 - 2 * t**2 + t) * m0
        + (3 * t**2 - 2 * t**3) * p1 + (t**3 - t**2) * m1
    )  # fmt: skip
