from __future__ import annotations

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import isost
from isost.tl import domain_graph


@pytest.fixture
def bands() -> AnnData:
    """Two samples of a lattice with three bands beside one another, whose features change from band to band."""
    x, y = np.meshgrid(np.arange(12.0), np.arange(10.0))
    rng = np.random.default_rng(0)
    place = np.column_stack([x.ravel(), y.ravel()]) + rng.normal(0, 0.01, (120, 2))
    band = np.minimum(x.ravel() // 4, 2).astype(int)
    adata = AnnData(np.zeros((240, 1), dtype=np.float32))
    adata.obs["spatial_domain"] = pd.Categorical.from_codes(np.tile(band, 2), categories=["top", "mid", "deep"])
    adata.obs["section"] = np.repeat(["one", "two"], 120)
    adata.obsm["spatial"] = np.tile(place, (2, 1))
    at = np.array([0.0, 2.0, 9.0])[np.tile(band, 2)]
    adata.obsm["X_domains"] = (at[:, None] + rng.normal(0, 1.0, (240, 4))).astype(np.float32)
    adata.uns["spatial_domain_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    return adata


def test_bands_touch_their_neighbours(bands: AnnData) -> None:
    graph = domain_graph(bands, use_rep=None, sample_key="section", n_spatial_neighbors=4)
    assert graph[["first", "second"]].astype(str).to_numpy().tolist() == [
        ["top", "mid"], ["top", "deep"], ["mid", "deep"],
    ]  # fmt: skip
    assert graph["connectivity"].isna().all()
    touching = graph["contacts"].to_numpy()
    # ten places face ten others on a border, in two sections, seen from both sides
    assert touching[1] == 0 and (np.abs(touching[[0, 2]] - 40) <= 6).all()
    assert graph["contact_share"].iloc[0] == pytest.approx(touching[0] / (touching[0] + touching[2]))
    assert graph.attrs == {"n": {"top": 80, "mid": 80, "deep": 80}, "colors": ["#ff0000", "#00ff00", "#0000ff"]}


def test_likeness_follows_the_features(bands: AnnData) -> None:
    pytest.importorskip("igraph", reason="PAGA needs the extra isost[leiden]")
    graph = domain_graph(bands, sample_key="section")
    assert graph["connectivity"].between(0, 1).all()
    assert graph["connectivity"][0] > 0.1 and graph["connectivity"][1] == 0


def test_few_cells_are_drawn_of_many(bands: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("igraph", reason="PAGA needs the extra isost[leiden]")
    options = {"sample_key": "section", "max_cells": 150}
    one, same, other = (domain_graph(bands, **options, rng=seed)["connectivity"] for seed in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)
    assert one[0] == pytest.approx(domain_graph(bands, sample_key="section")["connectivity"][0], abs=0.25)
    assert "PAGA of 150 of 240 cells" in caplog.text


def test_a_domain_of_one_cell_and_cells_without_domain(bands: AnnData) -> None:
    pytest.importorskip("igraph", reason="PAGA needs the extra isost[leiden]")
    label = bands.obs["spatial_domain"].astype(object).to_numpy()
    label[0], label[1:9] = "lone", None
    bands.obs["spatial_domain"] = pd.Categorical(label, categories=["top", "unused", "mid", "deep", "lone"])
    bands.uns["spatial_domain_colors"] = ["#ff0000", "#aaaaaa", "#00ff00", "#0000ff", "#00ffff"]
    graph = domain_graph(bands, sample_key="section")
    assert len(graph) == 6 and graph.attrs["n"]["lone"] == 1 and "unused" not in graph.attrs["n"]
    assert graph.attrs["colors"] == ["#ff0000", "#00ff00", "#0000ff", "#00ffff"]
    assert np.isfinite(graph["connectivity"]).all()
    # the lone cell is among those drawn, or it is not
    lone, seen = (graph["second"] == "lone").to_numpy(), set()
    for seed in range(6):
        drawn = domain_graph(bands, sample_key="section", max_cells=100, rng=seed)["connectivity"]
        assert np.isfinite(drawn[~lone]).all() and drawn[lone].isna().nunique() == 1
        seen.add(bool(drawn[lone].isna().all()))
    assert seen == {True, False}


def test_the_input_stays_as_it_is(bands: AnnData) -> None:
    keys = [list(part) for part in (bands.obs, bands.obsm, bands.obsp, bands.uns)]
    domain_graph(bands, use_rep=None, sample_key="section")
    domain_graph(bands[:200], use_rep=None)
    assert [list(part) for part in (bands.obs, bands.obsm, bands.obsp, bands.uns)] == keys
    assert bands.obs["section"].dtype == object


def test_igraph_is_asked_for(bands: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(ImportError, match=r"use_rep: expected igraph.*Next: pip install 'isost\[leiden\]'"):
        domain_graph(bands)
    assert len(domain_graph(bands, use_rep=None, sample_key="section")) == 3


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"groupby": "nope"}, KeyError, "groupby: expected a column.*Next"),
        ({"sample_key": "nope"}, KeyError, "sample_key: expected a column.*Next"),
        ({"spatial_key": "nope"}, KeyError, "spatial_key: expected positions.*found 'nope'. Next"),
        ({"spatial_key": ["spatial"]}, KeyError, r"spatial_key: expected positions.*found \['spatial'\]. Next"),
        ({"use_rep": ["X_domains"]}, KeyError, r"use_rep: expected one of obsm.*found \['X_domains'\]. Next"),
        ({"spatial_key": "X_domains"}, ValueError, r"expected finite positions.*\(240, 4\). Next"),
        ({"n_spatial_neighbors": 120, "sample_key": "section"}, ValueError, "n_spatial_neighbors: .*found 120. Next"),
        ({"n_spatial_neighbors": 0}, ValueError, "n_spatial_neighbors: expected a whole number.*Next"),
        ({"groupby": "section_one"}, ValueError, "two domains or more.*'one' alone. Next"),
    ],
)
def test_errors(bands: AnnData, options: dict, error: type[Exception], says: str) -> None:
    bands.obs["section_one"] = "one"
    with pytest.raises(error, match=says):
        domain_graph(bands, **{"use_rep": None} | options)


def test_cells_without_a_domain_need_no_place(bands: AnnData) -> None:
    bands.obs.loc[bands.obs_names[:3], "spatial_domain"] = None
    bands.obsm["spatial"][:3] = np.nan
    without = domain_graph(bands, use_rep=None, n_spatial_neighbors=2)
    assert without["contacts"].equals(domain_graph(bands[3:], use_rep=None, n_spatial_neighbors=2)["contacts"])
    bands.obsm["spatial"][3] = np.nan
    with pytest.raises(ValueError, match="finite positions"):
        domain_graph(bands, use_rep=None)


@pytest.mark.parametrize("kind", ["sparse", "text", "objects", "table"])
def test_positions_that_are_no_numbers(bands: AnnData, kind: str) -> None:
    places = bands.obsm["spatial"]
    words = np.full(places.shape, "here")
    bands.obsm["spatial"] = {
        "sparse": csr_matrix(places), "text": words, "objects": words.astype(object),
        "table": pd.DataFrame(words, index=bands.obs_names, columns=["x", "y"]),
    }[kind]  # fmt: skip
    with pytest.raises(
        ValueError, match=r"obsm\['spatial'\]: expected finite.*found no numbers: .{1,20}\. Next: a dense"
    ):
        domain_graph(bands, use_rep=None)


def test_errors_of_the_representation(bands: AnnData) -> None:
    pytest.importorskip("igraph", reason="PAGA needs the extra isost[leiden]")
    with pytest.raises(KeyError, match="use_rep: expected one of obsm.*Next"):
        domain_graph(bands, use_rep="nope")
    with pytest.raises(ValueError, match="n_neighbors: .*found 240. Next"):
        domain_graph(bands, n_neighbors=500)
    bands.obsm["X_domains"][3, 0] = np.nan
    with pytest.raises(ValueError, match="finite values.*Next"):
        domain_graph(bands)
    with pytest.raises(TypeError, match="adata: expected an AnnData.*Next"):
        domain_graph(bands.obs)


def test_layers_of_the_cortex_touch_in_their_order(data_dir: Path) -> None:
    adata = anndata.read_h5ad(data_dir / "starmap_mpfc.h5ad")
    graph = domain_graph(adata, groupby="domain", use_rep=None, sample_key="section").set_index(["first", "second"])
    touching = graph["contacts"] > 0
    assert touching.index[touching].tolist() == [("L1", "L2/3"), ("L2/3", "L5"), ("L5", "L6")]
    pytest.importorskip("igraph", reason="PAGA needs the extra isost[leiden]")
    isost.pp.embed(adata, n_comps=20)
    linked = domain_graph(adata, groupby="domain", use_rep="X_pca", sample_key="section").set_index(["first", "second"])
    assert linked.loc[("L2/3", "L5"), "connectivity"] > linked.loc[("L2/3", "L6"), "connectivity"]
