"""Cells to voxels (eq 10), and the cells that fill a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch

from isost._core.carry import Cells, sweep, thin
from isost._core.field import Field
from isost._core.grid import Grid


def voxelize(grid: Grid, coords: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the cells in each cube of the grid and average what they carry (eq 10); linear in cells and voxels.

    Parameters
    ----------
    coords
        (n, 3) in the input's unit; cells outside the grid are left out.
    values
        (n, C).

    Returns
    -------
    Number of cells, (z, y, x) int64, and the mean of their values, (C, z, y, x) float32, NaN in cubes without cells.
    """
    voxel = grid.index(coords)
    kept = voxel >= 0
    voxel, values = voxel[kept], np.asarray(values)[kept]
    count = np.bincount(voxel, minlength=grid.n_voxels)
    mean = np.full((values.shape[1], grid.n_voxels), np.nan, dtype=np.float32)
    held = count > 0
    for channel in range(values.shape[1]):
        total = np.bincount(voxel, weights=values[:, channel], minlength=grid.n_voxels)
        mean[channel, held] = total[held] / count[held]
    return count.reshape(grid.shape), mean.reshape(-1, *grid.shape)


def fill(field: Field, grid: Grid, planes: slice, seed: int) -> Cells:
    """Draw the section at some planes of the grid and spread its cells over the thickness of the plane.

    One realisation, whichever planes are asked for: a cell follows the same noisy path through all planes of a gap. Of
    a plane that sticks out of the stack only the part inside is filled, with as many cells as that part's share of it.
    """
    model, stack = field.model, field.stack
    gap_of = np.clip(np.searchsorted(stack.depths, grid.depths, side="right") - 1, 0, stack.n_sections - 2)
    low, high = np.clip(grid.depths + np.array([[-0.5], [0.5]]) * grid.voxel_size, stack.depths[0], stack.depths[-1])
    share = (high - low) / grid.voxel_size
    parts = []
    for gap in np.unique(gap_of[planes]):
        inside = np.flatnonzero(gap_of == gap)
        asked = (inside >= planes.start) & (inside < planes.stop)
        # both clouds of every plane are in memory until they are thinned
        for plane, cells in zip(
            inside[asked], sweep(model, stack, grid.depths[inside], seed=seed, kept=asked), strict=True
        ):
            generator = _generator(seed, int(plane))
            kept = field.settle(thin(field.within(cells), generator, share[plane] * cells.weight.sum(dtype=np.float64)))
            jitter = torch.rand(len(kept.row), generator=generator, dtype=torch.float64).numpy()
            kept.coords[:, 2] = low[plane] + jitter * (high[plane] - low[plane])
            parts.append(kept)
    return join(parts)


def _generator(seed: int, plane: int) -> torch.Generator:
    """Random numbers of one plane, whichever others are drawn."""
    state = np.random.SeedSequence((seed, plane)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def join(parts: Sequence[Cells]) -> Cells:
    """All cells of several draws, one after the other."""
    return Cells(*(np.concatenate([getattr(cells, field.name) for cells in parts]) for field in fields(Cells)))
