"""What streaming a volume holds in memory does not grow with the number of its planes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from isost import Reconstruction
from isost._core import export, slabs, tables
from isost.datasets import phantom
from isost.pp import embed
from isost.tl import fit, reconstruct

SPACING, VOXEL, GENES, MAX_MEMORY = 60.0, 8.0, 100, 1 / 16


def fitted(n_sections: int) -> Reconstruction:
    adata = phantom("still", n_sections=n_sections, n_cells=150, n_genes=GENES, spacing=SPACING, extent=400.0, rng=0)
    embed(adata, n_comps=10)
    return fit(adata, progress=False, rng=0)


def peak_of(few: Reconstruction, path: Path) -> tuple[float, float]:
    """Peak of what the call allocates beside its input, and bytes of the image of all genes and their deviations."""
    genes = list(few.stack.decoder.genes)
    tracemalloc.start()
    sdata = reconstruct(
        None, fitted=few, voxel_size=VOXEL, genes=genes, output=path, max_memory=MAX_MEMORY, progress=False, rng=0
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, 2 * 4 * GENES * float(np.prod(sdata.attrs["isost"]["shape"]))


def test_memory_does_not_grow_with_the_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGEST_X", 0)  # tables, which are read whole, without decoded genes
    for module in (slabs, export):  # chunks that are small beside this volume, as they are beside a large one
        monkeypatch.setattr(module, "EDGE", 16)
    few, many = fitted(3), fitted(9)
    peak_of(few, tmp_path / "first.zarr")  # modules and caches that stay
    little, small = peak_of(few, tmp_path / "few.zarr")
    much, large = peak_of(many, tmp_path / "many.zarr")
    assert large > 3.5 * small
    assert much < 0.5 * large
    # columns of tables and indices of chunks are what is more
    assert much - little < 0.2 * (large - small)
