from __future__ import annotations

import pytest

from isost import Reconstruction
from isost.datasets import phantom
from isost.pp import embed
from isost.tl import fit


def make(n_cells: int = 250, *, use_rep: str = "X_pca") -> Reconstruction:
    adata = phantom(n_sections=4, n_cells=n_cells, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    if use_rep != "X_pca":
        adata.obsm[use_rep] = adata.obsm["X_pca"]
    return fit(adata, use_rep=use_rep, epochs=1, progress=False, rng=0)


@pytest.fixture(scope="session")
def fitted() -> Reconstruction:
    return make()


@pytest.fixture(scope="session")
def without_loadings() -> Reconstruction:
    return make(100, use_rep="X_other")
