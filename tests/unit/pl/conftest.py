from __future__ import annotations

from collections.abc import Callable, Iterator

import dask.array as da
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image3DModel, Labels3DModel, TableModel
from spatialdata.transformations import Scale, Sequence, Translation

SHAPE = (4, 6, 8)  # z, y, x
VOXEL = 10.0
ORIGIN = (-40.0, 0.0, 100.0)  # x, y, z
PCS = ("PC1", "PC2")
GENES = ("Gad1", "Slc17a6", "Sst")


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    mpl.use("Agg", force=True)
    before = dict(mpl.rcParams)
    yield
    changed = {key for key, value in mpl.rcParams.items() if before[key] != value and key != "backend"}
    assert not changed, "a plot keeps the user's settings as they are"


@pytest.fixture
def stack() -> AnnData:
    """Three sections whose names, rows and depths are in three different orders."""
    rng = np.random.default_rng(0)
    names = np.repeat(["s10", "s2", "s1"], [30, 20, 25])
    depth = {"s10": 5.5, "s2": -20.0, "s1": 40.0}
    xy = np.column_stack([rng.uniform(-100, 900, 75), rng.uniform(0, 400, 75)])
    adata = AnnData(
        X=rng.gamma(2.0, size=(75, 3)).astype(np.float32),
        obs=pd.DataFrame({"section": names}, index=[f"cell{i}" for i in range(75)]),
        var=pd.DataFrame(index=list(GENES)),
        obsm={"spatial": np.column_stack([xy, [depth[name] for name in names]])},
    )
    adata.obs["kind"] = pd.Categorical(rng.choice(["neuron", "glia"], 75))
    adata.obs["area"] = rng.normal(size=75)
    adata.layers["counts"] = adata.X * 2
    adata.obsm["X_pca"] = rng.normal(size=(75, 2))
    return adata[rng.permutation(75)].copy()


@pytest.fixture
def volume() -> SpatialData:
    """A small reconstruction with the elements that isost.tl.reconstruct writes, and another value in every voxel."""
    return _volume()


@pytest.fixture
def bright() -> SpatialData:
    """The volume with "PC1" 0 everywhere but 1 in the voxel 6 along x, 4 along y, 2 along z: about (25, 45, 125)."""
    sdata = _volume()
    image = sdata.images["isost_volume"]["scale0"]["image"]
    values = image.values.copy()
    values[0][np.isfinite(values[0])] = 0.0
    values[0, 2, 4, 6] = 1.0
    image.data = da.from_array(values, chunks=(2, 2, 3, 4))
    return sdata


@pytest.fixture
def volume_of() -> Callable[..., SpatialData]:
    return _volume


def _volume(shape: tuple[int, int, int] = SHAPE, origin: tuple[float, float, float] = ORIGIN) -> SpatialData:
    rng = np.random.default_rng(1)
    pcs = rng.normal(size=(2, *shape)).astype(np.float32)
    mask = np.ones(shape, dtype=np.uint8)
    mask[:, 0, 0] = mask[0, -1] = 0
    pcs[:, mask == 0] = np.nan
    axes = ("z", "y", "x")
    to_global = Sequence([Scale([VOXEL] * 3, axes=axes), Translation(list(origin[::-1]), axes=axes)])

    def image(values: np.ndarray, names: list[str], **options: object) -> object:
        return Image3DModel.parse(
            values, dims=("c", *axes), c_coords=names, transformations={"global": to_global}, **options
        )

    table = AnnData(
        obs=pd.DataFrame(index=["0"]),
        var=pd.DataFrame({"pca_mean": np.array([1.0, 2.0, 3.0], np.float32)}, index=list(GENES)),
        varm={"PCs": np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 1.0]], np.float32)},
    )
    return SpatialData(
        images={
            "isost_volume": image(pcs, list(PCS), scale_factors=[{"z": 1, "y": 2, "x": 2}]),
            "isost_uncertainty": image(np.abs(pcs), list(PCS)),
            "isost_density": image(rng.uniform(1e-5, 1e-4, (1, *shape)), ["density"]),
        },
        labels={"isost_mask": Labels3DModel.parse(mask, dims=axes, transformations={"global": to_global})},
        tables={"isost_voxels": TableModel.parse(table)},
        attrs={
            "isost": {
                "unit": "um",
                "use_rep": "X_pca",
                "channels": "features",
                "sections": {"depth": [origin[2], origin[2] + VOXEL * shape[0]]},
                "density": {"unit": "cells / um^3"},
            }
        },
    )
