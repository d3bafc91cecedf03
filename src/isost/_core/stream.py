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
from isost._core.slabs import missing_planes, read_slabs, write_slab
from isost._core.tasks import run, threads_for
from isost._core.volume import SLAB_BYTES, Request, compute_slab, slabs_of
from isost._logging import logger

_SLAB_SHARE = 1 / 8  # of the memory: what makes a slab takes a few times its size


def stream_volume(
    field: Field, grid: Grid, request: Request, params: dict[str, Any], partial: Partial,
    *, room: float | None = None, show: bool = True,
) -> SpatialData:  # fmt: skip
    """Make the slabs that are not there yet, each a task, and write them as one store.

    Parameters
    ----------
    params
        JSON-able, kept under `attrs["isost"]`.
    partial
        Folder of the slabs, and the path of the store.
    room
        Bytes of memory for all slabs that are in work at once; None for 256 MiB each.
    show
        Show a bar.
    """
    n_planes, n_threads = grid.shape[0], threads_for(int(np.diff(field.stack.starts).max()))
    limit = SLAB_BYTES if room is None else min(SLAB_BYTES, room * _SLAB_SHARE / n_threads)
    slabs = slabs_of(grid, field.stack, request, limit=limit, among=missing_planes(partial.slabs, n_planes))
    done = n_planes - sum(planes.stop - planes.start for planes in slabs)
    if done:
        logger.info("reconstruct: %d of %d planes are done already", done, n_planes)
    with says_disk_full(partial.target, "what is done is kept, for resume=True"):
        bar = tqdm(total=n_planes, initial=done, desc="isost volume", unit="plane", disable=None if show else True)
        with bar:
            calls = [(planes,) for planes in slabs]
            for number, _ in run(_make_slab, calls, shared=(field, grid, request, partial.slabs), n_threads=n_threads):
                bar.update(slabs[number].stop - slabs[number].start)
        volume = read_slabs(partial.slabs, n_planes)
        sdata = build_spatialdata(field.stack, grid, volume, genes=request.genes, params=params)
        sdata.attrs["isost"]["call"] = partial.digest
        return move_zarr(sdata, partial)


def _make_slab(field: Field, grid: Grid, request: Request, folder: Path, planes: slice) -> None:
    write_slab(folder, planes.start, compute_slab(field, grid, planes, request))
