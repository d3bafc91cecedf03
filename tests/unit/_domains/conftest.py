from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from anndata import AnnData

import isost


@pytest.fixture(scope="session")
def _bands() -> AnnData:
    """200 cells in three bands, each with five genes of its own, and five that tell nothing: counts."""
    draw = np.random.default_rng(0)
    place = draw.uniform(0, [600, 300], (200, 2))
    band = np.minimum(place[:, 0] // 200, 2).astype(int)
    rate = np.full((200, 20), 2.0)
    for number in range(3):
        rate[np.ix_(band == number, np.arange(5 * number, 5 * number + 5))] = 6.0
    adata = AnnData(draw.poisson(rate).astype(np.float32))
    adata.obsm["spatial"] = place
    adata.obs["band"] = np.array(["left", "mid", "right"])[band]
    return adata


@pytest.fixture
def bands(_bands: AnnData) -> AnnData:
    return _bands.copy()


@pytest.fixture(scope="session")
def fit_quickly() -> Callable[..., isost.SpatialDomains]:
    def fit(adata: AnnData, **options: object) -> isost.SpatialDomains:
        quick = {"n_domains": 3, "n_networks": 2, "epochs": 6, "n_init": 4, "progress": False, "device": "cpu"}
        return isost.SpatialDomains.fit(adata, **quick | options)

    return fit


@pytest.fixture(scope="session")
def fitted(_bands: AnnData, fit_quickly: Callable[..., isost.SpatialDomains]) -> isost.SpatialDomains:
    return fit_quickly(_bands)
