from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from spatialdata import SpatialData, deepcopy, get_pyramid_levels
from spatialdata.models import Image3DModel, Labels3DModel, TableModel
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

import isost

AXES = ("z", "y", "x")


@pytest.fixture(scope="session")
def gene_volume() -> Callable[..., SpatialData]:
    """Make a volume whose channels are genes, of values (G, z, y, x) and a mask, as isost.tl.reconstruct writes it."""

    def make(
        values: np.ndarray,
        mask: np.ndarray,
        genes: Sequence[str],
        *,
        size: Sequence[float] = (10.0, 10.0, 10.0),
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        density: np.ndarray | None = None,
    ) -> SpatialData:
        to_global = Steps([Scale(list(size[::-1]), axes=AXES), Translation(list(origin[::-1]), axes=AXES)])
        placed = {"global": to_global}
        values = np.where(mask, values, np.nan).astype(np.float32)
        filled = mask.astype(float) if density is None else density
        index = np.argwhere(mask)
        table = AnnData(
            X=values[:, mask].T,
            obs=pd.DataFrame(index, columns=list(AXES), index=pd.RangeIndex(len(index)).astype(str)),
            var=pd.DataFrame(index=list(genes)),
            obsm={"spatial": (index[:, ::-1] + 0.5) * np.array(size) + np.array(origin)},
        )
        return SpatialData(
            images={
                "isost_volume": Image3DModel.parse(
                    values, dims=("c", *AXES), c_coords=list(genes), transformations=placed
                ),
                "isost_density": Image3DModel.parse(
                    filled[None], dims=("c", *AXES), c_coords=["density"], transformations=dict(placed)
                ),
            },
            labels={"isost_mask": Labels3DModel.parse(mask.astype(np.uint8), dims=AXES, transformations=dict(placed))},
            tables={"isost_voxels": TableModel.parse(table)},
            attrs={"isost": {"unit": "um", "channels": "genes", "sections": {"depth": []}}},
        )

    return make


@pytest.fixture(scope="session")
def unchanged() -> Callable[[SpatialData], AbstractContextManager[None]]:
    """Make a context after which a SpatialData is what it was before, in every element, table and attribute."""

    @contextmanager
    def check(sdata: SpatialData) -> Iterator[None]:
        before = deepcopy(sdata)
        yield
        _assert_same(sdata, before)

    return check


def _assert_same(one: SpatialData, other: SpatialData) -> None:
    assert [name for _, name, _ in one.gen_elements()] == [name for _, name, _ in other.gen_elements()]
    assert repr(one.attrs) == repr(other.attrs)
    for kind in ("images", "labels"):
        for name, element in getattr(one, kind).items():
            pairs = [list(get_pyramid_levels(part)) if hasattr(part, "children") else [part]
                     for part in (element, getattr(other, kind)[name])]  # fmt: skip
            for a, b in zip(*pairs, strict=True):
                np.testing.assert_array_equal(a.values, b.values)
    for name, table in one.tables.items():
        before = other.tables[name]
        pd.testing.assert_frame_equal(table.obs, before.obs)
        pd.testing.assert_frame_equal(table.var, before.var)
        assert repr(table.uns) == repr(before.uns)
        assert list(table.obsm) == list(before.obsm)
        for key in table.obsm:
            np.testing.assert_array_equal(np.asarray(table.obsm[key]), np.asarray(before.obsm[key]))


@pytest.fixture(scope="session")
def stained_slides() -> dict[str, tuple[AnnData, AnnData]]:
    """Counts and features of slides of one tissue: "a", "b", "c", and "other", which is "c" in other stains."""
    slides = {}
    for name, how in {"a": {"rng": 0}, "b": {"rng": 1}, "c": {"rng": 2},
                      "other": {"rng": 2, "stain": (1.4, 0.7), "tint": 0.4}}.items():  # fmt: skip
        made = isost.datasets.phantom_slide(n_cells=300, n_genes=40, side=400, library_size=1000, **how)
        features = isost.tl.histology_features(
            made["he_image"], made["nuclei"], pixel_size=0.5, progress=False, device="cpu"
        )
        table = made["table"]
        measured = AnnData(table.X, obsm={"spatial": table.obsm["spatial"]}, var=table.var[["link"]])
        measured.obs_names = features.obs_names = name + table.obs_names
        slides[name] = measured, features
    return slides


@pytest.fixture(scope="session")
def made_up() -> Callable[..., tuple[AnnData, dict[str, AnnData]]]:
    """Make counts and features, which some genes follow, of slides "s0", "s1" and so on."""

    def make(n_slides: int = 1, n: int = 60, n_genes: int = 8, n_features: int = 6, seed: int = 0) -> Any:
        draw = np.random.default_rng(seed)
        x = draw.normal(size=(n_slides * n, n_features)).astype(np.float32)
        follow = draw.normal(size=(n_features, n_genes)) / np.sqrt(n_features)
        counts = draw.poisson(np.exp(x @ follow + np.linspace(0.2, 1.5, n_genes)))
        adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)))
        adata.obs_names = [f"cell{k}" for k in range(len(x))]
        adata.var_names = [f"Gene{k}" for k in range(n_genes)]
        adata.obs["section"] = np.repeat([f"s{k}" for k in range(n_slides)], n)
        adata.obsm["spatial"] = draw.uniform(0, 1000, (len(x), 2))
        features = AnnData(x, obs=pd.DataFrame(index=adata.obs_names))
        features.var_names = [f"feature {k}" for k in range(n_features)]
        features.obsm["spatial"] = adata.obsm["spatial"].copy()
        features.uns["histology"] = {"encoder": "texture", "tile": 128.0, "normalise_stain": True, "radius": 0.0}
        return adata, {f"s{k}": features[k * n : (k + 1) * n].copy() for k in range(n_slides)}

    return make
