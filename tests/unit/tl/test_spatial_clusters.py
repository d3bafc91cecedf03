from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from spatialdata import SpatialData, deepcopy, read_zarr

import isost


@pytest.fixture(scope="module")
def adata() -> AnnData:
    adata = isost.datasets.phantom(n_sections=4, n_cells=300, n_genes=20, rng=1)
    isost.pp.embed(adata, n_comps=6)
    return adata


@pytest.fixture(scope="module")
def made(adata: AnnData) -> SpatialData:
    return isost.tl.fit(adata, epochs=1, progress=False, rng=0).to_spatialdata(50.0, rng=0)


@pytest.fixture
def sdata(made: SpatialData) -> SpatialData:
    return deepcopy(made)


@pytest.mark.parametrize(("include", "width"), [(True, 6 * 5 + 3), (False, 6 * 4 + 3)])
def test_features_of_voxels(sdata: SpatialData, caplog, include: bool, width: int) -> None:
    assert isost.tl.spatial_features(sdata, n_comps=5, include_unsmoothed=include) is None
    table = sdata.tables["isost_voxels"]
    scores = table.obsm["X_spatial"]
    assert scores.shape == (table.n_obs, 5) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert len(table.uns["X_spatial"]["variance_ratio"]) == 5
    assert f"5 components of {width} features" in caplog.text


def test_features_of_a_volume_without_a_table(sdata: SpatialData) -> None:
    isost.tl.spatial_features(sdata, n_comps=4)
    scores = sdata.tables["isost_voxels"].obsm["X_spatial"]
    isost.tl.spatial_clusters(sdata, n_clusters=4)
    labels = sdata["isost_spatial_clusters"].values
    del sdata.tables["isost_voxels"], sdata.labels["isost_spatial_clusters"]
    isost.tl.spatial_features(sdata, n_comps=4)
    image = sdata["isost_spatial"].values
    mask = sdata["isost_mask"].values > 0
    assert np.array_equal(image[:, mask].T, scores) and np.isnan(image[:, ~mask]).all()
    isost.tl.spatial_clusters(sdata, n_clusters=4)
    assert np.array_equal(sdata["isost_spatial_clusters"].values, labels)
    del sdata.images["isost_spatial"]
    isost.tl.spatial_clusters(sdata, n_clusters=3, use_rep="X_pca", key_added="pcs")
    assert set(np.unique(sdata["isost_pcs"].values)) == {0, 1, 2, 3}


def test_clusters_of_voxels(sdata: SpatialData, tmp_path: Path) -> None:
    assert isost.tl.spatial_clusters(sdata, rng=0) is None
    table, labels = sdata.tables["isost_voxels"], sdata["isost_spatial_clusters"].values
    clusters = table.obs["spatial_clusters"]
    assert clusters.cat.categories.tolist() == [str(k) for k in range(len(clusters.cat.categories))]
    assert clusters.value_counts().sort_index().is_monotonic_decreasing
    assert len(table.uns["spatial_clusters_colors"]) == len(clusters.cat.categories)
    assert np.array_equal(labels[tuple(table.obs[axis] for axis in "zyx")], clusters.cat.codes + 1)
    tried = table.uns["spatial_clusters"]["valley"]
    assert str(len(clusters.cat.categories)) in tried, "a number that was tried, and is reported with its valley"
    again = deepcopy(sdata)
    isost.tl.spatial_clusters(again, rng=0)
    assert np.array_equal(again["isost_spatial_clusters"].values, labels)
    sdata.write(tmp_path / "out.zarr")
    assert read_zarr(tmp_path / "out.zarr").tables["isost_voxels"].uns["spatial_clusters"]["valley"] == tried


def test_clusters_of_cells(sdata: SpatialData, adata: AnnData) -> None:
    isost.tl.spatial_clusters(sdata, table_key="isost_cells", n_clusters=4)
    assert sdata.tables["isost_cells"].obs["spatial_clusters"].nunique() == 4
    assert "isost_spatial_clusters" not in sdata.labels
    own = adata.copy()
    isost.tl.spatial_features(own, n_neighbors=12, n_comps=7, key_added="X_around")
    assert own.obsm["X_around"].shape == (own.n_obs, 7)
    isost.tl.spatial_clusters(own, use_rep="X_around", n_clusters=3)
    assert own.obs["spatial_clusters"].nunique() == 3


def test_leiden(sdata: SpatialData) -> None:
    pytest.importorskip("igraph", reason="leiden needs the extra isost[leiden]")
    isost.tl.spatial_clusters(sdata, method="leiden", resolution=0.5)
    table = sdata.tables["isost_voxels"]
    assert table.obs["spatial_clusters"].nunique() > 2
    assert table.uns["spatial_clusters"]["params"]["resolution"] == 0.5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "x"}, ValueError, "method: expected 'mixture' or 'leiden', found 'x'. Next"),
        ({"resolution": 0}, ValueError, "resolution: expected a positive number, found 0. Next"),
        ({"table_key": "nope"}, KeyError, "table_key: expected one of the tables.*found 'nope'. Next"),
        ({"use_rep": "nope"}, KeyError, "use_rep: expected one of obsm.*found 'nope'. Next"),
        ({"spatial_key": "nope"}, KeyError, "spatial_key: expected positions in obsm.*found 'nope'. Next"),
        ({"n_clusters": 0}, ValueError, "n_clusters: expected a whole number of 1 or more, found 0. Next"),
        ({"n_clusters": 501}, ValueError, "n_clusters: expected 500 or less.*found 501. Next"),
        ({"n_clusters": 11, "n_landmarks": 10}, ValueError, "n_clusters: expected 10 or less.*found 11. Next"),
        ({"n_landmarks": 1.5}, TypeError, "n_landmarks: expected a whole number.*found 1.5. Next"),
        ({"method": "leiden", "n_neighbors": 0}, ValueError, "n_neighbors: expected a whole number.*found 0. Next"),
        ({"rng": -1}, ValueError, "rng"),
    ],
)
def test_errors(sdata: SpatialData, unchanged, options, error, message) -> None:
    with unchanged(sdata), pytest.raises(error, match=message):
        isost.tl.spatial_clusters(sdata, **options)


def test_leiden_without_igraph(sdata: SpatialData, unchanged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    with unchanged(sdata), pytest.raises(ImportError, match=r"pip install 'isost\[leiden\]'"):
        isost.tl.spatial_clusters(sdata, method="leiden")


def test_one_section_chooses_a_number(adata: AnnData) -> None:
    one = adata[adata.obs["section"] == "s1"].copy()
    isost.tl.spatial_clusters(one, use_rep="X_pca")
    assert one.uns["spatial_clusters"]["valley"] and one.obs["spatial_clusters"].nunique() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0}, "sigma: expected voxels, above 0 and below 100, found 0. Next"),
        ({"gradient_weight": -1}, "gradient_weight: expected 0 or a positive number, found -1. Next"),
        ({"key_added": "X_pca"}, "key_added: expected a name that nothing else is kept under, found 'X_pca'. Next"),
        ({"key_added": "X_volume"}, "key_added: expected a name that nothing else is kept under.*'X_volume'. Next"),
    ],
)
def test_errors_of_features(sdata: SpatialData, unchanged, options, message) -> None:
    del sdata.tables["isost_voxels"]
    with unchanged(sdata), pytest.raises(ValueError, match=message):
        isost.tl.spatial_features(sdata, **options)


def test_features_need_three_dimensions(adata: AnnData) -> None:
    flat = adata.copy()
    flat.obsm["spatial"] = flat.obsm["spatial"][:, :2]
    with pytest.raises(ValueError, match=r"expected finite positions \(n, 3\), found shape"):
        isost.tl.spatial_features(flat)
    with pytest.raises(TypeError, match="data: expected an AnnData or a SpatialData, found str. Next"):
        isost.tl.spatial_features("volume")
