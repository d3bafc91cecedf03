"""A volume straight to disk, slab by slab: of what memory holds, only the columns of tables grow with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from spatialdata import SpatialData
from tqdm.auto import tqdm

from isost._core.export import build_spatialdata, move_zarr
from isost._core.field import Field
from isost._core.folder import says_disk_full
from isost._core.grid import Grid
from isost._core.partial import Partial
from isost._core.slabs import read_slabs, slab_path, write_slab
from isost._core.tasks import run, threads_for
from isost._core.volume import SLAB_BYTES, Request, compute_slab, slabs_of
from isost._logging import logger


def stream_volume(
    field: Field, grid: Grid, request: Request, params: dict[str, Any], partial: Partial,
    *, limit: float = SLAB_BYTES, show: bool = True,
) -> SpatialData:  # fmt: skip
    """Make the slabs that are not there yet, each a task, and write them as one store.

    Parameters
    ----------
    params
        JSON-able, kept under `attrs["isost"]`.
    partial
        Folder of the slabs, and the path of the store.
    limit
        Bytes of a slab.
    show
        Show a bar.
    """
    slabs = slabs_of(grid, field.stack, request, limit=limit)
    missing = [number for number in range(len(slabs)) if not slab_path(partial.slabs, number).exists()]
    if len(missing) < len(slabs):
        logger.info("reconstruct: %d of %d slabs are done already", len(slabs) - len(missing), len(slabs))
    with says_disk_full(partial.target, "what is done is kept, for resume=True"):
        bar = tqdm(total=len(slabs), initial=len(slabs) - len(missing), desc="isost volume", unit="slab",
                   disable=None if show else True)  # fmt: skip
        with bar:
            calls = [(number, slabs[number]) for number in missing]
            n_threads = threads_for(int(np.diff(field.stack.starts).max()))
            for _ in run(_make_slab, calls, shared=(field, grid, request, partial.slabs), n_threads=n_threads):
                bar.update()
        volume = read_slabs(partial.slabs, len(slabs))
        sdata = build_spatialdata(field.stack, grid, volume, genes=request.genes, params=params)
        sdata.attrs["isost"]["call"] = partial.digest
        return move_zarr(sdata, partial)


def _make_slab(field: Field, grid: Grid, request: Request, folder: Path, number: int, planes: slice) -> None:
    write_slab(folder, number, compute_slab(field, grid, planes, request))
