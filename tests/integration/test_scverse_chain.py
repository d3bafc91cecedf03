"""The tables of a reconstruction, straight into scanpy and squidpy."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
import squidpy as sq
from spatialdata import SpatialData, read_zarr

import isost

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> SpatialData:
    adata = isost.datasets.phantom(n_sections=3, n_cells=300, n_genes=20, rng=1)
    isost.pp.embed(adata, n_comps=8)
    path = tmp_path_factory.mktemp("zarr") / "block.zarr"
    isost.tl.reconstruct(adata, voxel_size=40, output=path, epochs=1, progress=False, rng=0)
    return read_zarr(path)


@pytest.mark.parametrize("name", ["isost_cells", "isost_voxels"])
def test_neighbours_by_expression(read: SpatialData, name: str) -> None:
    table = read.tables[name]
    sc.pp.neighbors(table, n_neighbors=10, use_rep="X_pca", transformer="sklearn")
    assert table.obsp["connectivities"].shape == (table.n_obs, table.n_obs)
    sc.pp.neighbors(table, n_neighbors=10, transformer="sklearn", key_added="by_default")
    assert table.uns["by_default"]["params"]["n_neighbors"] == 10


@pytest.mark.parametrize("name", ["isost_cells", "isost_voxels"])
def test_leiden(read: SpatialData, name: str) -> None:
    pytest.importorskip("igraph", reason="leiden needs the extra isost[leiden]")
    pytest.importorskip("leidenalg", reason="leiden needs the extra isost[leiden]")
    table = read.tables[name]
    sc.pp.neighbors(table, n_neighbors=10, use_rep="X_pca", transformer="sklearn")
    sc.tl.leiden(table, flavor="igraph", n_iterations=2, random_state=0)
    assert table.obs["leiden"].nunique() > 1


@pytest.mark.parametrize("name", ["isost_cells", "isost_voxels"])
def test_spatial_statistics_in_three_dimensions(read: SpatialData, name: str) -> None:
    table = read.tables[name]
    sq.gr.spatial_neighbors(table, coord_type="generic", n_neighs=6)
    distances = table.obsp["spatial_distances"].tocoo()
    there = np.linalg.norm(table.obsm["spatial"][distances.row] - table.obsm["spatial"][distances.col], axis=1)
    assert np.allclose(distances.data, there)
    sq.gr.spatial_autocorr(table, mode="moran", genes=table.var_names[:5].tolist(), n_jobs=1, show_progress_bar=False)
    assert table.uns["moranI"]["I"].max() > 0.1
    table.obs["high"] = (table.obsm["X_pca"][:, 0] > np.median(table.obsm["X_pca"][:, 0])).astype(str)
    table.obs["high"] = table.obs["high"].astype("category")
    sq.gr.nhood_enrichment(table, cluster_key="high", seed=0, n_jobs=1, n_perms=50, show_progress_bar=False)
    score = table.uns["high_nhood_enrichment"]["zscore"]
    assert score[0, 0] > 0 > score[0, 1]


def test_cells_know_their_section(read: SpatialData) -> None:
    table = read.tables["isost_cells"]
    sq.gr.spatial_neighbors(table, coord_type="generic", n_neighs=6)
    sq.gr.nhood_enrichment(
        table, cluster_key="section_of_origin", seed=0, n_jobs=1, n_perms=20, show_progress_bar=False
    )
    assert table.uns["section_of_origin_nhood_enrichment"]["zscore"].shape == (3, 3)


def test_a_table_can_be_fitted_itself(read: SpatialData) -> None:
    cells = read.tables["isost_cells"]
    halves = cells.copy()
    halves.obs["half"] = np.where(halves.obsm["spatial"][:, 2] < 50, "low", "high")
    again = isost.tl.fit(halves, section_key="half", epochs=1, progress=False, rng=0)
    assert again.stack.decoder.genes == tuple(cells.var_names)
    assert np.allclose(again.stack.decoder.mean, cells.var["pca_mean"])
