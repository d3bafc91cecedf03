"""Expression on disk gives what expression in memory gives."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from anndata.experimental import read_lazy
from scipy import sparse

from isost._core import expression, lazy
from isost._core.lazy import as_dask, is_lazy, opened
from isost._core.normalise import lognormalise
from isost._core.stack import read_stack
from isost.pp import embed
from isost.tl import fit, reconstruct


@pytest.fixture(params=["backed sparse", "backed dense", "lazy h5ad", "lazy zarr", "lazy dense"])
def on_disk(request: pytest.FixtureRequest, toy: AnnData, tmp_path: Path, monkeypatch: Any) -> Any:
    """The toy stack on disk, in blocks of a few rows."""
    monkeypatch.setattr(expression, "BLOCK", 37 * toy.n_vars)
    monkeypatch.setattr(lazy, "_CHUNK", 53 * toy.n_vars)
    how, stored = request.param, toy.copy()
    if "dense" in how:
        stored.X = stored.X.toarray()
    path = tmp_path / ("stack.zarr" if "zarr" in how else "stack.h5ad")
    if "zarr" in how:
        with ad.settings.override(zarr_write_format=3), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consolidated metadata")
            stored.write_zarr(path)
    else:
        stored.write_h5ad(path)
    opened_one = ad.read_h5ad(path, backed="r") if how.startswith("backed") else read_lazy(path)
    yield opened_one
    if opened_one.isbacked:
        opened_one.file.close()


def test_embedding_is_the_same(on_disk: AnnData, toy: AnnData) -> None:
    assert is_lazy(on_disk.X)
    embed(on_disk, n_comps=5)
    embed(toy, n_comps=5)
    aligned = np.sign((np.asarray(on_disk.varm["PCs"]) * toy.varm["PCs"]).sum(axis=0))
    np.testing.assert_allclose(np.asarray(on_disk.obsm["X_pca"]) * aligned, toy.obsm["X_pca"], atol=2e-3)
    np.testing.assert_allclose(np.asarray(on_disk.varm["PCs"]) * aligned, toy.varm["PCs"], atol=2e-3)
    np.testing.assert_allclose(np.asarray(on_disk.var["pca_mean"]), toy.var["pca_mean"], atol=1e-6)
    assert is_lazy(on_disk.X)


def test_few_genes_are_embedded_and_the_others_decode(on_disk: AnnData, toy: AnnData) -> None:
    embed(on_disk, n_comps=3, n_top_genes=8)
    embed(toy, n_comps=3, n_top_genes=8)
    assert np.array_equal(np.asarray(on_disk.var["highly_variable"]), toy.var["highly_variable"])
    here, there = (np.asarray(a.obsm["X_pca"]) @ np.asarray(a.varm["PCs"]).T for a in (on_disk, toy))
    np.testing.assert_allclose(here, there, atol=2e-3)


def test_the_stack_is_the_same(on_disk: AnnData, toy: AnnData) -> None:
    embed(toy, n_comps=5)
    for part in ("obsm", "varm"):
        for key, values in getattr(toy, part).items():
            getattr(on_disk, part)[key] = values
    on_disk.var["pca_mean"] = toy.var["pca_mean"].to_numpy()
    on_disk.uns["pca"], on_disk.uns["isost"] = toy.uns["pca"], toy.uns["isost"]
    one, other = read_stack(on_disk), read_stack(toy)
    assert one.names == other.names and one.decoder.genes == other.decoder.genes
    np.testing.assert_array_equal(one.obs_names, other.obs_names)
    np.testing.assert_array_equal(one.coords, other.coords)
    np.testing.assert_array_equal(one.features, other.features)
    assert (one.remainder is None) == (other.remainder is None)
    if one.remainder is not None and other.remainder is not None:
        np.testing.assert_allclose(one.remainder.scores, other.remainder.scores, atol=1e-4)


def test_it_can_be_fitted_and_reconstructed(on_disk: AnnData) -> None:
    sdata = reconstruct(on_disk, voxel_size=100, epochs=1, progress=False, rng=0)
    assert sdata.tables["isost_cells"].n_vars == on_disk.n_vars
    embed(on_disk, n_comps=4)
    assert fit(on_disk, epochs=1, progress=False, rng=0).stack.n_cells == on_disk.n_obs


def test_no_block_holds_everything(on_disk: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    lognormal = expression.row_blocks

    def look(matrix: Any) -> Any:
        for rows, block in lognormal(matrix):
            seen.append(block.shape[0])
            yield rows, block

    modules = ("_core.expression", "pp._embed", "pp._decompose", "_core.remainder", "_core.decoder")
    for module in (f"isost.{name}" for name in modules):
        monkeypatch.setattr(f"{module}.row_blocks", look)
    embed(on_disk, n_comps=4)
    read_stack(on_disk)
    assert seen and max(seen) <= 37


def test_lognormalised_on_disk_is_dask_of_the_same(on_disk: AnnData, toy: AnnData) -> None:
    lazily = lognormalise(opened(on_disk))
    assert isinstance(lazily, da.Array) and lazily.dtype == np.float32
    values = lazily.compute()
    values = values.toarray() if sparse.issparse(values) else values
    np.testing.assert_allclose(values, lognormalise(toy).toarray(), rtol=1e-6)


def test_what_is_in_memory_is_given_back(toy: AnnData) -> None:
    assert opened(toy, obsm=("spatial",)) is toy
    assert not is_lazy(toy.X)


def test_a_chunk_of_columns_is_joined() -> None:
    whole = np.random.default_rng(0).random((30, 8))
    assert as_dask(da.from_array(whole, chunks=(10, 3))).chunks[1] == (8,)
