"""Slabs of a volume on disk: each complete or absent, read lazily, so that the whole never has to fit into memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import zarr

from isost._core.carry import Cells
from isost._core.volume import EDGE, GRIDDED, Volume

_ROWS = 2**18  # of a chunk of a table


def slab_path(folder: Path, first: int) -> Path:
    """Where the slab is kept that begins with this plane."""
    return folder / f"slab_{first:05d}.zarr"


def write_slab(folder: Path, first: int, part: Volume) -> None:
    """Write a slab beside its place and move it there; a process that dies meanwhile leaves none.

    One that is there already stays: another process, taken for dead, was not.
    """
    path = slab_path(folder, first)
    fresh = folder / f".{path.name}.{uuid4().hex[:8]}"
    try:
        group = zarr.open_group(fresh, mode="w")
        for name in GRIDDED:
            values = getattr(part, name)
            _put(group, name, values, (*values.shape[:-2], EDGE, EDGE))
        for name in ("voxels", "n_cells", "scores"):
            _put(group, name, getattr(part, name), None)
        for name in ("coords", "features", "section", "row", "weight"):
            _put(group, f"cells/{name}", getattr(part.cells, name), None)
        try:
            os.replace(fresh, path)
        except OSError:
            if not path.exists():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def missing_planes(folder: Path, n_planes: int) -> list[slice]:
    """Find the runs of planes that no slab holds yet."""
    missing, plane = [], 0
    for first, last in _kept(folder):
        if first >= plane:
            missing.append(slice(plane, first))
            plane = last
    missing.append(slice(plane, n_planes))
    return [run for run in missing if run.stop > run.start]


def _kept(folder: Path) -> list[tuple[int, int]]:
    """First plane of each slab that is there, and the plane after its last, in order."""
    starts = sorted(int(path.stem.removeprefix("slab_")) for path in folder.glob("slab_*.zarr"))
    groups: list[Any] = [zarr.open_group(slab_path(folder, first), mode="r") for first in starts]
    return [(first, first + group["mask"].shape[0]) for first, group in zip(starts, groups, strict=True)]


def read_slabs(folder: Path, n_planes: int) -> Volume:
    """Join the slabs; what grows with the volume times channels stays on disk, as dask.

    Raises
    ------
    FileNotFoundError
        If planes are missing.
    """
    groups: list[Any] = []
    plane = 0
    while plane < n_planes:
        groups.append(zarr.open_group(slab_path(folder, plane), mode="r"))
        plane += groups[-1]["mask"].shape[0]

    def lazy(name: str, axis: int) -> da.Array:
        return da.concatenate([da.from_zarr(group[name]) for group in groups], axis=axis)

    def whole(name: str) -> np.ndarray:
        return np.concatenate([group[name][:] for group in groups])

    gridded = {name: lazy(name, -3) for name in GRIDDED if name != "ids"}
    sizes = [group["voxels"].shape[0] for group in groups]
    gridded["ids"] = da.concatenate(
        [_shifted(da.from_zarr(group["ids"]), int(first))
         for group, first in zip(groups, np.cumsum([0, *sizes[:-1]]), strict=True)], axis=0
    )  # fmt: skip
    cells = Cells(
        whole("cells/coords"), lazy("cells/features", 0), whole("cells/section"), whole("cells/row"),
        whole("cells/weight"),
    )  # fmt: skip
    return Volume(**gridded, voxels=whole("voxels"), n_cells=whole("n_cells"), scores=lazy("scores", 0), cells=cells)


def _shifted(ids: da.Array, first: int) -> da.Array:
    return da.where(ids > 0, ids + np.int32(first), np.int32(0))


def _put(group: Any, name: str, values: np.ndarray, chunks: tuple[int, ...] | None) -> None:
    chunks = chunks or (_ROWS, *values.shape[1:])
    chunks = tuple(max(1, min(edge, length)) for edge, length in zip(chunks, values.shape, strict=True))
    # scratch that is read once: writing faster counts for more than being small
    group.create_array(name, data=np.ascontiguousarray(values), chunks=chunks, compressors=None)
