"""Carry the cells of the sections to any depth by the fitted equations, and draw a section from them (eq 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from isost._core.model import SDEModel
from isost._core.sde import BrownianPath, Seed, euler_maruyama, flow
from isost._core.stack import Stack
from isost._logging import logger

Carried = TypeVar("Carried")


@dataclass(frozen=True)
class Cells:
    """Cells carried to one depth.

    Attributes
    ----------
    coords
        ``(m, 3)`` float64, in the input's unit.
    features
        ``(m, P)`` float32; dask where they lie on disk.
    section
        ``(m,)`` int64, index of the section of origin.
    row
        ``(m,)`` int64, row of the stack of the measured cell that was carried.
    weight
        ``(m,)`` float32, 1 - t for cells from the section before and t for those from the section after.
    """

    coords: np.ndarray
    features: Any
    section: np.ndarray
    row: np.ndarray
    weight: np.ndarray

    def take(self, chosen: np.ndarray) -> Cells:
        return Cells(
            self.coords[chosen], self.features[chosen], self.section[chosen], self.row[chosen], self.weight[chosen]
        )


def simulate(
    model: SDEModel, direction: str, position: Tensor, depth: Tensor, features: Tensor, targets: list[float],
    *, seed: Seed | None, parts: str = "both", save_memory: bool = False, steps: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Carry cells through a series of internal depths.

    A cell starts from its own depth, so that the cells of a thick section all reach the same plane; time runs as the
    share of each cell's way. ``seed=None`` follows the noise-free flow. Steps to each target are counted by the median
    way where they are not given; a GPU is waited for then.

    Yields
    ------
    Position ``(n, 2)`` and features ``(n, P)`` at each target.
    """
    pair = model.forward_pair if direction == "forward" else model.backward_pair
    sign = 1.0 if direction == "forward" else -1.0
    state = torch.cat([position, torch.zeros_like(depth)[:, None], features], dim=1)
    for index, target in enumerate(targets):
        way = sign * (target - depth)
        count = steps or model.n_steps(float(way.abs().median()))
        times = torch.linspace(0, 1, count + 1, device=position.device)
        origin = depth

        def drift(
            share: Tensor, x: Tensor, way: Tensor = way, origin: Tensor = origin, target: float = target
        ) -> Tensor:
            return model.drift(pair, origin + share * (target - origin), x, parts=parts) * way[:, None]

        if seed is None:
            state = flow(drift, state, times)[-1]
        else:
            stream = (*seed, index) if isinstance(seed, tuple) else (seed, index)
            path = BrownianPath(tuple(state.shape), times, stream)
            sigma = model.diffusion() * way.abs().sqrt()[:, None]
            if parts == "shape":
                sigma[:, 3:] = 0.0
            state = euler_maruyama(drift, sigma, state, times, path, save_memory=save_memory)[-1]
        depth = torch.full_like(depth, target)
        yield state[:, :2], state[:, 3:]


def sweep(
    model: SDEModel, stack: Stack, depths: np.ndarray, *, seed: int | None = None, kept: np.ndarray | None = None
) -> list[Cells]:
    """Both clouds at each of several depths: forward from the section before and backward from the section after.

    Cells march from depth to depth, so the work grows with the way, not with the number of depths. At the depth of a
    section only its own cells are there, with weight 1, as measured.

    Parameters
    ----------
    depths
        ``(D,)`` in the input's unit, inside the stack, in any order.
    seed
        Of the noise; None follows the noise-free flow.
    kept
        ``(D,)`` bool, depths to return; the others are marched through, so that the noise is the same whichever are
        kept. None for all.
    """
    depths = np.asarray(depths, dtype=np.float64)
    kept = np.ones(len(depths), dtype=bool) if kept is None else kept
    result: list[Cells | None] = [None] * len(depths)
    gap_of = np.clip(np.searchsorted(stack.depths, depths, side="right") - 1, 0, stack.n_sections - 2)
    share = (depths - stack.depths[gap_of]) / np.diff(stack.depths)[gap_of]
    for gap in np.unique(gap_of):
        inside = np.flatnonzero(gap_of == gap)
        for index in inside[kept[inside] & ((share[inside] <= 0) | (share[inside] >= 1))]:
            result[index] = as_measured(stack, int(gap + (share[index] >= 1)), depths[index])
        between = inside[(share[inside] > 0) & (share[inside] < 1)]
        if not kept[between].any():
            continue
        between = between[np.argsort(depths[between])]
        clouds = {}
        for direction, section, order in (("forward", gap, between), ("backward", gap + 1, between[::-1])):
            carried = _march(model, stack, int(section), direction, depths[order], seed, kept=kept[order])
            clouds[direction] = dict(zip(order[kept[order]], carried, strict=True))
        for index in between[kept[between]]:
            t = share[index]
            result[index] = _join(clouds["forward"][index], clouds["backward"][index], t)
    return [cells for cells in result if cells is not None]


def carry(model: SDEModel, stack: Stack, z: float, *, generator: torch.Generator | None = None) -> Cells:
    """Both clouds at one depth (input unit), weighted (1 - t, t); without a generator, noise-free."""
    seed = None if generator is None else int(torch.randint(2**62, (), generator=generator))
    return sweep(model, stack, np.array([z]), seed=seed)[0]


def thin(cells: Cells, generator: torch.Generator, n: float | None = None) -> Cells:
    """Draw each cell with its weight as probability: the density between two sections, not twice it.

    Systematic sampling along a serpentine through the plane: every inclusion probability is exactly the weight, and
    neighbouring cells rarely all stay or all go, so the density carries less noise than independent draws.

    Parameters
    ----------
    n
        Expected number of cells, by default the sum of the weights; with more cells than there are, cells repeat.
    """
    order = _serpentine(cells.coords)
    weight = cells.weight[order].astype(np.float64)
    total = weight.sum() if n is None else float(n)
    cumulative = np.cumsum(weight) * (total / weight.sum())
    start = float(torch.rand((), generator=generator, dtype=torch.float64))
    picks = start + np.arange(int(np.ceil(total - start)))
    chosen = order[np.minimum(np.searchsorted(cumulative, picks, side="right"), len(order) - 1)]
    return cells.take(np.sort(chosen))


def _serpentine(coords: np.ndarray, per_cell: int = 8) -> np.ndarray:
    """Order of the cells along strips that are walked up and down in turn."""
    strips = max(1, int(np.sqrt(len(coords) / per_cell)))
    low, high = coords[:, 0].min(), coords[:, 0].max()
    strip = np.minimum(((coords[:, 0] - low) / max(high - low, 1e-300) * strips).astype(int), strips - 1)
    return np.lexsort((np.where(strip % 2, -coords[:, 1], coords[:, 1]), strip))


def _march(
    model: SDEModel, stack: Stack, section: int, direction: str, depths: np.ndarray, seed: int | None,
    kept: np.ndarray,
) -> list[Cells]:  # fmt: skip
    """Cells of a section at each depth that is kept."""
    depths = depths[: int(np.flatnonzero(kept)[-1]) + 1]
    return or_on_cpu(lambda one: _carried(one, stack, section, direction, depths, seed, kept), model, stack, section)


def or_on_cpu(work: Callable[[SDEModel], Carried], model: SDEModel, stack: Stack, section: int) -> Carried:
    """Carry the cells of a section, on the CPU where the device has no memory for them."""
    try:
        return work(model)
    except torch.OutOfMemoryError:
        logger.warning("the device has no memory for the %d cells of section %s: they are carried on the CPU",
                       stack.starts[section + 1] - stack.starts[section], stack.names[section])  # fmt: skip
        return work(model.on_cpu())


def _carried(
    model: SDEModel, stack: Stack, section: int, direction: str, depths: np.ndarray, seed: int | None,
    kept: np.ndarray,
) -> list[Cells]:  # fmt: skip
    rows = np.arange(stack.starts[section], stack.starts[section + 1])
    position, depth, features = model.to_internal(stack.coords[rows], stack.features[rows])
    targets = [model.internal_depth(float(z)) for z in depths]
    stream = None if seed is None else (seed, section, int(direction == "backward"))
    carried = []
    with torch.no_grad():
        states = simulate(model, direction, position, depth, features, targets, seed=stream)
        for (place, value), z, wanted in zip(states, depths, kept, strict=False):
            if not wanted:
                continue
            plane, g = model.to_physical(place, value)
            coords = np.column_stack([plane, np.full(len(rows), z)])
            carried.append(Cells(coords, g, np.full(len(rows), section), rows,
                                 np.ones(len(rows), np.float32)))  # fmt: skip
    return carried


def as_measured(stack: Stack, section: int, z: float | None = None) -> Cells:
    """Return the cells of a section as measured, with weight 1, in the plane at z (by default that of the section)."""
    z = float(stack.depths[section]) if z is None else z
    rows = np.arange(stack.starts[section], stack.starts[section + 1])
    coords = np.column_stack([stack.coords[rows, :2], np.full(len(rows), z)])
    return Cells(coords, stack.features[rows], np.full(len(rows), section), rows, np.ones(len(rows), np.float32))


def _join(forward: Cells, backward: Cells, t: float) -> Cells:
    """Both clouds with weights (1 - t, t)."""
    weight = np.concatenate([np.full(len(forward.row), 1 - t), np.full(len(backward.row), t)]).astype(np.float32)
    coords, features, section, row = (
        np.concatenate([getattr(forward, name), getattr(backward, name)])
        for name in ("coords", "features", "section", "row")
    )
    return Cells(coords, features, section, row, weight)
