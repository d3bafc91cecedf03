from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata import SpatialData, deepcopy, read_zarr

import isost
from isost._tools.measured import measured_values

SIZE = 50.0


@pytest.fixture(scope="module")
def adata() -> AnnData:
    adata = isost.datasets.phantom(n_sections=4, n_cells=300, n_genes=20, rng=1)
    isost.pp.embed(adata, n_comps=6)
    adata.uns["domain_colors"] = ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#00ffff"]
    return adata


@pytest.fixture(scope="module")
def fitted(adata: AnnData) -> isost.Reconstruction:
    return isost.tl.fit(adata, epochs=1, progress=False, rng=0)


@pytest.fixture(scope="module")
def made(fitted: isost.Reconstruction) -> SpatialData:
    return fitted.to_spatialdata(SIZE, rng=0)


@pytest.fixture
def sdata(made: SpatialData) -> SpatialData:
    return deepcopy(made)


def test_what_is_written(sdata: SpatialData, adata: AnnData) -> None:
    before = adata.copy()
    assert isost.tl.transfer_labels(sdata, adata, key="domain") is None
    for name in ("isost_cells", "isost_voxels"):
        table = sdata.tables[name]
        probabilities = table.obsm["domain_probabilities"]
        assert table.obs["domain"].cat.categories.tolist() == adata.obs["domain"].cat.categories.tolist()
        assert table.uns["domain_colors"] == adata.uns["domain_colors"]
        assert np.allclose(probabilities.sum(axis=1), 1) and probabilities.shape == (table.n_obs, 5)
        assert (probabilities.idxmax(axis=1) == table.obs["domain"].astype(str)).all()
    assert before.obs.equals(adata.obs) and list(before.obsm) == list(adata.obsm)


def test_labels_are_those_of_the_truth(sdata: SpatialData, adata: AnnData) -> None:
    isost.tl.transfer_labels(sdata, adata, key="domain")
    truth = isost.datasets.phantom_truth(adata)
    for name in ("isost_cells", "isost_voxels"):
        table = sdata.tables[name]
        domain = truth.domain(table.obsm["spatial"])
        inside = domain != ""
        assert (domain[inside] == table.obs["domain"].astype(str)[inside]).mean() > 0.8


def test_the_labels_element(sdata: SpatialData, adata: AnnData, tmp_path: Path) -> None:
    isost.tl.transfer_labels(sdata, adata, key="domain", key_added="the domain")
    table, element = sdata.tables["isost_voxels"], sdata["isost_the_domain"]
    told = sdata.attrs["isost"]["labels"]["the_domain"]
    assert told["element"] == "isost_the_domain" and told["names"] == list(adata.obs["domain"].cat.categories)
    at = tuple(table.obs[axis].to_numpy() for axis in "zyx")
    values = element.values
    assert np.array_equal(values[at], table.obs["the_domain"].cat.codes + 1)
    assert (values > 0).sum() == table.n_obs
    sdata.write(tmp_path / "out.zarr")
    again = read_zarr(tmp_path / "out.zarr")
    assert np.array_equal(again["isost_the_domain"].values, values)
    assert again.attrs["isost"]["labels"]["the_domain"] == told
    assert again.tables["isost_voxels"].obsm["the_domain_probabilities"].columns.tolist() == told["names"]
    isost.tl.transfer_labels(again, adata, key="domain")
    again.write_element("isost_domain")
    assert "isost_domain" in read_zarr(tmp_path / "out.zarr").labels


def test_without_a_table_of_voxels(sdata: SpatialData, adata: AnnData) -> None:
    isost.tl.transfer_labels(sdata, adata, key="domain")
    labelled = sdata["isost_domain"].values
    del sdata.tables["isost_voxels"]
    isost.tl.transfer_labels(sdata, adata, key="domain")
    assert np.array_equal(sdata["isost_domain"].values, labelled)


def test_counts_are_projected_as_they_were_embedded(sdata: SpatialData, adata: AnnData) -> None:
    table = sdata.tables["isost_cells"]
    counts = AnnData(adata.X[:, ::-1].copy(), obs=adata.obs, var=adata.var[[]].iloc[::-1].copy())
    projected = measured_values(counts, table, "X_pca")
    assert np.allclose(projected, adata.obsm["X_pca"], atol=1e-4)
    assert np.array_equal(measured_values(adata, table, "X_pca"), adata.obsm["X_pca"])
    other = adata.copy()
    isost.pp.embed(other, n_comps=4)
    assert np.allclose(measured_values(other, table, "X_pca"), adata.obsm["X_pca"], atol=1e-4)


def test_cells_without_a_label_are_left_out(sdata: SpatialData, adata: AnnData) -> None:
    some = adata.copy()
    some.obs["domain"] = some.obs["domain"].where(some.obs["domain"] != "nucleus")
    isost.tl.transfer_labels(sdata, some, key="domain")
    assert not (sdata.tables["isost_cells"].obs["domain"] == "nucleus").any()
    assert sdata.tables["isost_cells"].obs["domain"].notna().all()


@pytest.mark.parametrize(("labelled", "tried"), [(["s2"], False), (["s1", "s3"], True), (["s2", "s4"], True)])
def test_sections_that_have_labels_choose_the_weight(sdata, adata, caplog, labelled, tried) -> None:
    some = adata.copy()
    some.obs["domain"] = some.obs["domain"].where(some.obs["section"].isin(labelled))
    isost.tl.transfer_labels(sdata, some, key="domain")
    assert ("of the cells of left-out sections" in caplog.text) is tried
    assert ("one section alone has labels" in caplog.text) is not tried
    assert sdata.tables["isost_cells"].obs["domain"].notna().all()


def test_cells_of_no_section_are_one(sdata: SpatialData, adata: AnnData, caplog) -> None:
    some = adata.copy()
    some.obs["section"] = None
    isost.tl.transfer_labels(sdata, some, key="domain")
    assert "one section alone has labels" in caplog.text


def test_an_anndata_with_positions(adata: AnnData) -> None:
    target = adata[adata.obs["section"] == "s2"].copy()
    told = target.obs.pop("domain")
    isost.tl.transfer_labels(target, adata[adata.obs["section"] != "s2"], key="domain", spatial_weight=1.0)
    assert (told.astype(str) == target.obs["domain"].astype(str)).mean() > 0.7


def test_propagation_smooths(sdata: SpatialData, adata: AnnData) -> None:
    isost.tl.transfer_labels(sdata, adata, key="cell_type")
    before = isost.metrics.plane_consistency(sdata["isost_cell_type"].values)["agreement"]
    isost.tl.transfer_labels(sdata, adata, key="cell_type", propagate=0.9)
    assert isost.metrics.plane_consistency(sdata["isost_cell_type"].values)["agreement"] > before
    assert np.allclose(sdata.tables["isost_cells"].obsm["cell_type_probabilities"].sum(axis=1), 1)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (None, {"key": "nope"}, KeyError, "key: expected a column of adata.obs.*found 'nope'. Next"),
        ("one", {"key": "domain"}, ValueError, "expected two labels or more, found 'all'.*Next"),
        ("genes", {"key": "domain"}, ValueError, "expected the 20 genes of the reconstruction.*found 15.*Next"),
        (None, {"key": "domain", "propagate": 1.0}, ValueError, "propagate: expected a share.*found 1. Next"),
        (None, {"key": "domain", "weights": "x"}, ValueError, "weights: expected 'uniform'.*found 'x'. Next"),
        (None, {"key": "domain", "spatial_weight": -1.0}, ValueError, "spatial_weight: expected 0.*found -1. Next"),
        (None, {"key": "domain", "use_rep": "X_scVI"}, KeyError, "use_rep: expected one of obsm.*'X_scVI'. Next"),
    ],
)
def test_errors(sdata, adata, unchanged, change, options, error, message) -> None:
    if change == "one":
        adata = adata.copy()
        adata.obs["domain"] = pd.Categorical(["all"] * adata.n_obs)
    if change == "genes":
        adata = adata[:, :15].copy()
    with unchanged(sdata), pytest.raises(error, match=message):
        isost.tl.transfer_labels(sdata, adata, **options)


@pytest.mark.parametrize(
    "name", ["region", "Region", "instance_id", "z", "cells", "volume", "density", "voxel ids", "pca"]
)
def test_names_that_are_kept(sdata: SpatialData, adata: AnnData, unchanged, name: str) -> None:
    labelled = adata.copy()
    labelled.obs[name] = labelled.obs["domain"]
    message = "key_added: expected a name that nothing else is kept under.*Next: key_added='.*_label'"
    with unchanged(sdata):
        with pytest.raises(ValueError, match=message):
            isost.tl.transfer_labels(sdata, labelled, key=name)
        with pytest.raises(ValueError, match=message):
            isost.tl.transfer_labels(sdata, adata, key="domain", key_added=name)
        with pytest.raises(ValueError, match=message):
            isost.tl.spatial_clusters(sdata, n_clusters=3, key_added=name)


def test_names_are_free_in_other_tables(sdata: SpatialData, adata: AnnData, unchanged) -> None:
    own = adata.copy()
    isost.tl.transfer_labels(own, adata, key="domain", key_added="region")
    assert (own.obs["region"].astype(str) == adata.obs["domain"].astype(str)).mean() > 0.7
    with unchanged(sdata), pytest.raises(ValueError, match="found 'region'. Next: key_added='region_label'"):
        isost.tl.transfer_labels(sdata.tables["isost_cells"], adata, key="domain", key_added="region")


def test_a_name_that_differs_in_capitals_from_labels(sdata: SpatialData, adata: AnnData, unchanged) -> None:
    isost.tl.transfer_labels(sdata, adata, key="domain")
    isost.tl.transfer_labels(sdata, adata, key="domain")  # in place of the first
    with unchanged(sdata), pytest.raises(ValueError, match="found 'Domain'. Next"):
        isost.tl.transfer_labels(sdata, adata, key="domain", key_added="Domain")


def test_nothing_is_written_where_voxels_cannot_be_labelled(sdata: SpatialData, adata: AnnData, unchanged) -> None:
    del sdata.tables["isost_voxels"].obsm["X_pca"]
    with unchanged(sdata), pytest.raises(KeyError, match="use_rep: expected one of obsm"):
        isost.tl.transfer_labels(sdata, adata, key="domain")
    sdata.tables["isost_voxels"].obsm["X_pca"] = np.zeros((sdata.tables["isost_voxels"].n_obs, 5), dtype=np.float32)
    with unchanged(sdata), pytest.raises(ValueError, match="features"):
        isost.tl.transfer_labels(sdata, adata, key="domain")
    del sdata.images["isost_volume"]
    with unchanged(sdata), pytest.raises(KeyError, match="expected 'isost_volume' among its images"):
        isost.tl.transfer_labels(sdata, adata, key="domain")


def test_a_volume_of_genes(fitted: isost.Reconstruction, adata: AnnData, unchanged) -> None:
    sdata = fitted.to_spatialdata(SIZE, genes=adata.var_names[:6].tolist(), rng=0)
    with_table = deepcopy(sdata)
    isost.tl.transfer_labels(with_table, adata[:, :6], key="domain")
    assert with_table.tables["isost_voxels"].obs["domain"].nunique() > 1
    del sdata.tables["isost_voxels"]
    with unchanged(sdata):
        with pytest.raises(
            ValueError, match=f"use_rep: expected 'X_pca' as the channels.*'{adata.var_names[0]}'.*Next"
        ):
            isost.tl.transfer_labels(sdata, adata, key="domain")
        with pytest.raises(
            ValueError, match=f"use_rep: expected 'X_pca' as the channels.*'{adata.var_names[0]}'.*Next"
        ):
            isost.tl.spatial_clusters(sdata, n_clusters=3, use_rep="X_pca")
