"""A volume on a voxel grid, made a few planes at a time: the field, and the cells that fill the planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from isost._core.carry import Cells
from isost._core.field import Field, FieldValue
from isost._core.grid import GIB, Grid
from isost._core.stack import Stack
from isost._core.voxelize import fill, join, voxelize
from isost._logging import logger

EDGE = 64  # of a chunk: 64^4 float32 are 64 MiB, far below the 2 GiB that compression takes
SLAB_BYTES = 2**28
_BLOCK_BYTES = 2**27  # asked of the field at once


@dataclass(frozen=True, eq=False)
class Request:
    """What a volume is to hold.

    Attributes
    ----------
    genes, index
        Names of the genes that are channels, and their positions in the decoder; None for the features.
    kind
        ``"field"``: the best estimate of the mean; ``"cells"``: the mean of one realisation's cells (eq 10).
    seed
        Of the cells.
    """

    genes: list[str] | None = None
    index: np.ndarray | None = None
    kind: str = "field"
    seed: int = 0

    def n_channels(self, stack: Stack) -> int:
        return stack.n_features if self.index is None else len(self.index)

    def n_beside(self, stack: Stack) -> int:
        """Channels of the remainder, which is no part of genes because they contain it."""
        return stack.n_scores - stack.n_features if self.index is None else 0


@dataclass(frozen=True, eq=False)
class Volume:
    """Arrays on a grid, or on some planes of one: numpy, or dask where they lie on disk.

    Attributes
    ----------
    mean, std
        (C, z, y, x) float32: features, or genes; NaN outside the tissue.
    remainder
        (Q, z, y, x) float32, scores of the remainder beside features.
    density
        (z, y, x) float32, cells per unit area of a plane.
    mask
        (z, y, x) bool, inside the tissue.
    ids
        (z, y, x) int32: 1, 2, ... inside the tissue, x running fastest; 0 outside.
    voxels
        (m, 3) int32, z, y, x of those inside.
    n_cells
        (m,) int32, cells in each of them.
    scores
        (m, P + Q) float32, of the field.
    cells
        One realisation that fills the planes.
    """

    mean: Any
    std: Any
    remainder: Any
    density: Any
    mask: Any
    ids: Any
    voxels: np.ndarray
    n_cells: np.ndarray
    scores: Any
    cells: Cells


GRIDDED = ("mean", "std", "remainder", "density", "mask", "ids")


def slabs_of(
    grid: Grid, stack: Stack, request: Request, *, limit: float = SLAB_BYTES, among: Sequence[slice] | None = None
) -> list[slice]:
    """Cut a grid, or runs of its planes, into slabs that take less than a limit of bytes each; one plane at least."""
    channels = 2 * request.n_channels(stack) + request.n_beside(stack) + stack.n_scores + 8
    voxels = grid.shape[1] * grid.shape[2] * channels * 4
    # both clouds of a plane are carried before one cell of two is kept
    cells = 3 * stack.n_cells / stack.n_sections * (4 * stack.n_features + 60)
    step = max(1, int(limit / (voxels + cells)))
    if voxels + cells > max(limit, SLAB_BYTES):
        logger.warning("reconstruct: one plane of the volume takes %.2g GiB; it is made plane by plane. Less: a larger "
                       "voxel_size, or fewer genes", (voxels + cells) / GIB)  # fmt: skip
    runs = [slice(0, grid.shape[0])] if among is None else among
    return [slice(first, min(first + step, run.stop)) for run in runs for first in range(run.start, run.stop, step)]


def compute_volume(field: Field, grid: Grid, request: Request) -> Volume:
    """Make the whole volume in memory."""
    gridded = _empty(field.stack, grid, request)
    flat: dict[str, list[Any]] = {"voxels": [], "n_cells": [], "scores": [], "cells": []}
    count = 0
    for planes in slabs_of(grid, field.stack, request):
        part = compute_slab(field, grid, planes, request)
        for name, values in gridded.items():
            values[..., planes, :, :] = getattr(part, name)
        gridded["ids"][planes][part.mask] += count
        count += len(part.voxels)
        for name, parts in flat.items():
            parts.append(getattr(part, name))
    cells = join(flat.pop("cells"))
    return Volume(**gridded, **{name: np.concatenate(parts) for name, parts in flat.items()}, cells=cells)


def compute_slab(field: Field, grid: Grid, planes: slice, request: Request) -> Volume:
    """Make the planes of a slab; their voxels are counted from 1, and `voxels` holds their planes in the whole grid."""
    stack, part = field.stack, grid.part(planes)
    gridded = _empty(stack, part, request)
    scores, drawn = [], []
    for planes_of_gap in _by_gap(stack, grid, planes):
        drawn.append(fill(field, grid, planes_of_gap, request.seed))
        for block in _blocks(stack, part, planes_of_gap, planes.start, request):
            centres = part.centres(block)
            density = field.density(centres)
            inside = (density >= field.density_floor) & (density > 0)
            gridded["density"][block] = density.reshape(-1, *part.shape[1:])
            gridded["mask"][block] = inside.reshape(-1, *part.shape[1:])
            value = field.predict(centres[inside])
            scores.append(value.mean)
            _put(gridded, block, field, value, request)
    cells = join(drawn)
    mask = gridded["mask"]
    values = cells.features[:, :0]
    if request.kind == "cells":
        values = cells.features if request.index is None else stack.decode(cells.features, request.index)
    count, mean = voxelize(part, cells.coords, values)
    if request.kind == "cells":
        gridded["mean"][:] = np.where(mask, mean, np.nan)
    gridded["ids"][mask] = np.arange(1, mask.sum() + 1)
    voxels = np.argwhere(mask).astype(np.int32) + np.array([planes.start, 0, 0], dtype=np.int32)
    return Volume(**gridded, voxels=voxels, n_cells=count[mask].astype(np.int32), scores=np.concatenate(scores),
                  cells=cells)  # fmt: skip


def _empty(stack: Stack, grid: Grid, request: Request) -> dict[str, np.ndarray]:
    def nothing(channels: int) -> np.ndarray:
        return np.full((channels, *grid.shape), np.nan, dtype=np.float32)

    return {
        "mean": nothing(request.n_channels(stack)), "std": nothing(request.n_channels(stack)),
        "remainder": nothing(request.n_beside(stack)), "density": np.zeros(grid.shape, dtype=np.float32),
        "mask": np.zeros(grid.shape, dtype=bool), "ids": np.zeros(grid.shape, dtype=np.int32),
    }  # fmt: skip


def _by_gap(stack: Stack, grid: Grid, planes: slice) -> Iterator[slice]:
    """Cut a run of planes by the gaps that they lie in, so that each gap is solved once."""
    gap = np.searchsorted(stack.depths[1:-1], grid.depths[planes], side="right")
    ends = [planes.start, *(planes.start + np.flatnonzero(np.diff(gap)) + 1).tolist(), planes.stop]
    yield from (slice(*two) for two in pairwise(ends))


def _blocks(stack: Stack, grid: Grid, planes: slice, start: int, request: Request) -> Iterator[slice]:
    """Take a few of some planes at a time, counted from the start, for the field to be asked at their voxel centres."""
    channels = 6 * stack.n_scores + request.n_channels(stack) + 6
    step = max(1, int(_BLOCK_BYTES // (grid.shape[1] * grid.shape[2] * 4 * channels)))
    for first in range(planes.start, planes.stop, step):
        yield slice(first - start, min(first + step, planes.stop) - start)


def _put(gridded: dict[str, np.ndarray], block: slice, field: Field, value: FieldValue, request: Request) -> None:
    """Write what the field says inside the tissue into the planes of a block."""
    inside = gridded["mask"][block]
    if request.index is None:
        n_features = field.stack.n_features
        gridded["mean"][:, block][:, inside] = value.mean[:, :n_features].T
        gridded["std"][:, block][:, inside] = field.std(value).T
        gridded["remainder"][:, block][:, inside] = value.mean[:, n_features:].T
    else:
        gridded["mean"][:, block][:, inside] = field.genes(value, request.index).T
        gridded["std"][:, block][:, inside] = field.gene_std(value, request.index).T
