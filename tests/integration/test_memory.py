"""A volume that is streamed takes no more memory for more planes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isost
from isost._core import export, slabs, stream
from isost._core.volume import Volume, compute_slab


@lru_cache
def plane_of(field: Any, grid: Any, request: Any) -> Volume:
    middle = grid.shape[0] // 2
    return compute_slab(field, grid, slice(middle, middle + 1), request)


def repeated(field: Any, grid: Any, planes: slice, request: Any) -> Volume:
    """Stand for a slab, by its middle plane over and over: what it takes to make one does not depend on the others."""
    one, n = plane_of(field, grid, request), planes.stop - planes.start
    again = {name: np.repeat(getattr(one, name), n, axis=-3) for name in ("mean", "std", "remainder")}
    again |= {name: np.repeat(getattr(one, name), n, axis=0) for name in ("density", "mask", "ids")}
    again["ids"][again["mask"]] = np.arange(1, again["mask"].sum() + 1)
    voxels = np.argwhere(again["mask"]).astype(np.int32) + np.array([planes.start, 0, 0], dtype=np.int32)
    return replace(
        one, **again, voxels=voxels, n_cells=np.tile(one.n_cells, n), scores=np.tile(one.scores, (n, 1))
    )  # fmt: skip


def test_memory_does_not_grow_with_the_number_of_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "compute_slab", repeated)
    monkeypatch.setattr(stream, "SLAB_BYTES", 2**23)
    monkeypatch.setattr(export, "LARGEST_TABLE", 0)  # the table of voxels is what would grow
    for module in (export, slabs):
        monkeypatch.setattr(module, "EDGE", 16)  # of chunks, so that the thin volume has many too
    fits, found = [], []
    for spacing in (64.0, 256.0):
        adata = isost.datasets.phantom(
            "still", n_sections=3, n_cells=60, n_genes=30, spacing=spacing, extent=500.0, rng=0
        )
        isost.pp.embed(adata, n_comps=20)
        fits.append(isost.tl.fit(adata, epochs=1, progress=False, rng=0))
    for number, fitted in enumerate([*fits, *fits]):  # once to make what stays, such as compiled code and solved gaps
        tracemalloc.start()
        output = tmp_path / f"{number}.zarr"
        sdata = isost.tl.reconstruct(None, fitted=fitted, voxel_size=8, output=output, progress=False, rng=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        arrays = [sdata["isost_volume"]["scale0"].image, sdata["isost_uncertainty"]]
        found.append((sum(array.nbytes for array in arrays), peak))
    (small, thin), (large, thick) = found[2:]
    assert large - small > 2**24
    assert thick < thin + (large - small) / 4, found
