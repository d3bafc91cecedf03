"""Domains on through the tools that read them, to disk and back; and on real data."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from sklearn.metrics import normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

import isost

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def stack() -> AnnData:
    adata = isost.datasets.phantom(n_sections=2, n_cells=250, n_genes=20, rng=0)
    isost.tl.spatial_domains(
        adata, n_domains=3, n_networks=2, epochs=15, n_init=8, progress=False, batch_key="section", sample_key=None
    )
    return adata


def test_the_chain(stack: AnnData, tmp_path: Path) -> None:
    markers = isost.tl.domain_markers(stack)
    assert set(markers["domain"]) <= {"0", "1", "2"} and len(markers)
    isost.pl.domain_markers(stack, markers)
    links = isost.tl.domain_graph(stack, use_rep=None, sample_key="section")
    isost.pl.domain_graph(links)
    shares = isost.tl.composition(stack, key="spatial_domain", groupby="section")
    isost.pl.composition(shares)
    stack.write_h5ad(tmp_path / "stack.h5ad")
    again = anndata.read_h5ad(tmp_path / "stack.h5ad")
    assert again.obs["spatial_domain"].equals(stack.obs["spatial_domain"])
    np.testing.assert_array_equal(again.obsm["X_domains"], stack.obsm["X_domains"])
    assert again.uns["spatial_domain"]["params"]["n_domains"] == 3
    assert list(again.uns["spatial_domain_colors"]) == list(stack.uns["spatial_domain_colors"])
    sc.pp.neighbors(again, use_rep="X_domains", n_neighbors=10, transformer="sklearn")
    assert again.obsp["connectivities"].shape == (again.n_obs, again.n_obs)


def test_layers_of_the_cortex(data_dir: Path) -> None:
    """Better than a mixture of cells by their own expression; one network of some seeds alone may end elsewhere."""
    adata = anndata.read_h5ad(data_dir / "starmap_mpfc.h5ad")
    adata = adata[adata.obs["section"] == "BZ5"].copy()
    truth = adata.obs["domain"].astype(str)
    isost.pp.embed(adata, n_comps=20)
    alone = GaussianMixture(4, covariance_type="tied", n_init=10, random_state=0).fit_predict(adata.obsm["X_pca"])
    found = []
    for seed in range(3):
        isost.tl.spatial_domains(
            adata, n_domains=4, variant="spatial", n_networks=1, epochs=60, progress=False, device="cpu", rng=seed
        )
        found.append(normalized_mutual_info_score(truth, adata.obs["spatial_domain"]))
    assert np.median(found) > max(0.6, normalized_mutual_info_score(truth, alone) + 0.1), found
