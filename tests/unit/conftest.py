from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import isost

AS_STAGES = {"depth_key": "age", "section_key": "stage", "spatial_key": "spatial_stage"}


@pytest.fixture
def make_stack() -> Callable[..., AnnData]:
    """Counts of three sections whose names sort otherwise than their depths: s1 at 0, s2 at 50, s10 at 100."""

    def make(n: int = 20, n_genes: int = 12, as_sparse: bool = True, seed: int = 0) -> AnnData:
        draw = np.random.default_rng(seed)
        section = np.repeat(["s10", "s1", "s2"], n)
        z = np.repeat([100.0, 0.0, 50.0], n)
        rate = draw.gamma(2.0, 2.0, (1, n_genes)) * draw.gamma(2.0, 1.0, (3 * n, 1))
        counts = draw.poisson(rate).astype(np.float32)
        adata = AnnData(sparse.csr_matrix(counts) if as_sparse else counts)
        adata.obs_names = [f"cell{i}" for i in range(3 * n)]
        adata.var_names = [f"Gene{i}" for i in range(n_genes)]
        adata.obs["section"] = pd.Categorical(section, categories=["s1", "s10", "s2", "unused"])
        adata.obsm["spatial"] = np.column_stack([draw.uniform(-500.0, 1500.0, (3 * n, 2)), z])
        adata.obsm["X_pca"] = draw.normal(size=(3 * n, 4)).astype(np.float32)
        return adata

    return make


@pytest.fixture(scope="session")
def _stages() -> AnnData:
    adata = isost.datasets.embryo(n_cells=150, n_genes=36)
    isost.pp.embed(adata, n_comps=10, rng=0)
    isost.pp.align_stages(adata)
    return adata


@pytest.fixture
def stages(_stages: AnnData) -> AnnData:
    """Five stages of a growing embryo, 2,611 cells and 36 genes, embedded and laid into one frame."""
    return _stages.copy()


@pytest.fixture(scope="session")
def fitted_stages(_stages: AnnData) -> isost.Reconstruction:
    """A short fit of the stages."""
    return isost.tl.fit(_stages, **AS_STAGES, epochs=2, progress=False, rng=0)
