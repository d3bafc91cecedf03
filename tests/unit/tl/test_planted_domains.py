"""Domains of a phantom are found in its true volume with noise; the benchmark does it with reconstructed ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.decomposition import PCA
from spatialdata import SpatialData

import isost

STEP, N_COMPS = 25.0, 15


@pytest.mark.parametrize(("shape", "noise", "least"), [("bending", 0.5, 0.9), ("still", 0.8, 0.8)])
def test_planted_domains_are_found(
    gene_volume: Callable[..., SpatialData], shape: str, noise: float, least: float
) -> None:
    adata = isost.datasets.phantom(shape, n_cells=50, rng=0)
    truth = isost.datasets.phantom_truth(adata)
    low, high = (getattr(adata.obsm["spatial"], side)(axis=0) for side in ("min", "max"))
    grid = tuple(np.ceil((high - low + 2 * STEP) / STEP).astype(int)[::-1])
    places = (np.indices(grid).reshape(3, -1).T[:, ::-1] + 0.5) * STEP + low - STEP
    inside = truth.inside(places)
    genes = truth.expression(places[inside])
    values = np.zeros((N_COMPS, len(places)))
    noisy = genes + np.random.default_rng(0).normal(0, noise, genes.shape)
    values[:, inside] = PCA(N_COMPS, random_state=0).fit_transform(noisy).T
    names = [f"PC{number}" for number in range(1, N_COMPS + 1)]
    sdata = gene_volume(values.reshape(N_COMPS, *grid), inside.reshape(grid), names, size=[STEP] * 3, origin=low - STEP)
    sdata.attrs["isost"] |= {"channels": "features", "use_rep": "X_pca"}
    table = sdata.tables["isost_voxels"]
    table.obsm["X_pca"] = table.X
    domain = truth.domain(table.obsm["spatial"])

    def found(**options: object) -> float:
        isost.tl.spatial_clusters(sdata, **options)
        return isost.metrics.label_agreement(table.obs["spatial_clusters"].astype(str), domain)["ari"]

    around = found()
    assert table.obs["spatial_clusters"].nunique() == len(np.unique(domain)) == 5
    assert around >= least
    assert around > found(use_rep="X_pca") + 0.01
