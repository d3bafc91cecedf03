from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost.tl import composition


@pytest.fixture
def adata() -> AnnData:
    """Eight cells at depths 0 to 70 in two sections, one of them without a label."""
    kind = ["a", "a", "b", None, "b", "b", "a", "c"]
    adata = AnnData(np.zeros((8, 1), dtype=np.float32))
    adata.obs["kind"] = pd.Categorical(kind, categories=["c", "b", "a"])
    adata.obs["section"] = pd.Categorical(["s1"] * 4 + ["s10"] * 4, categories=["s1", "s10", "unused"])
    adata.obsm["spatial"] = np.column_stack([np.zeros((8, 2)), np.arange(8) * 10.0])
    adata.obsm["kind_probabilities"] = pd.DataFrame(
        np.tile([0.1, 0.2, 0.7], (8, 1)), index=adata.obs_names, columns=["c", "b", "a"]
    )
    adata.uns["kind_colors"] = ["red", "#00ff00", "blue"]
    return adata


def test_by_section(adata: AnnData) -> None:
    shares = composition(adata, key="kind", groupby="section")
    assert shares.columns.tolist() == ["c", "b", "a"] and shares.index.tolist() == ["s1", "s10"]
    assert np.allclose(shares, [[0, 1 / 3, 2 / 3], [0.25, 0.5, 0.25]])
    assert shares.attrs["colors"] == ["#ff0000", "#00ff00", "#0000ff"]
    assert shares.attrs["n"] == {"s1": 3, "s10": 4} and shares.attrs["unit"] == "um"


def test_by_depth(adata: AnnData) -> None:
    shares = composition(adata, key="kind", bins=7)
    assert np.allclose(shares.index, [5, 15, 25, 45, 55, 65])  # the slice around 35 holds a cell without a label
    assert shares.loc[65.0].tolist() == [0.5, 0, 0.5]  # the last slice owns its upper edge
    assert composition(adata, key="kind", bins=[20, 40]).index.tolist() == [30.0]


def test_depth_is_that_of_positions_whatever_columns_there_are(adata: AnnData) -> None:
    expected = composition(adata, key="kind", bins=[20, 40])
    adata.obs["depth"] = "shallow"
    assert composition(adata, key="kind", bins=[20, 40]).equals(expected)


def test_by_probabilities(adata: AnnData) -> None:
    assert np.allclose(composition(adata, key="kind", bins=2, use_probabilities=True), [[0.1, 0.2, 0.7]] * 2)


def test_beside_a_reference(adata: AnnData) -> None:
    shares = composition(adata, key="kind", groupby="section")
    counts = (shares * 100).drop(columns="c")
    counts.loc["s10"] = [50, 25]
    counts.loc["other"] = [1, 1]
    pearson = composition(adata, key="kind", groupby="section", reference=counts).attrs["pearson"]
    assert pearson["groups"]["s1"] == pytest.approx(1)
    assert pearson["groups"]["s10"] == pytest.approx(np.corrcoef([0.25, 0.5, 0.25], [0, 2 / 3, 1 / 3])[0, 1])
    assert pearson["groups"]["s10"] < pearson["overall"] < 1 and set(pearson["groups"]) == {"s1", "s10"}


def test_order_of_cells_does_not_matter(adata: AnnData) -> None:
    shares = composition(adata[::-1].copy(), key="kind", bins=4)
    assert shares.equals(composition(adata, key="kind", bins=4))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"key": ["kind"]}, TypeError, r"key: expected the name of one column.*found \['kind'\]. Next"),
        ({"key": "kind", "groupby": ["section"]}, TypeError, "groupby: expected the name of one column.*Next"),
        ({"key": "nope"}, KeyError, "key: expected a column of obs.*found 'nope'. Next"),
        ({"key": "kind", "groupby": "nope"}, KeyError, "groupby: expected 'depth' or a column.*'nope'. Next"),
        ({"key": "kind", "bins": ["a", "b"]}, TypeError, "bins: expected depths of edges, found 'a', 'b'. Next"),
        ({"key": "kind", "bins": [1, 1]}, ValueError, "bins: expected two rising edges.*Next"),
        ({"key": "kind", "bins": [900, 990]}, ValueError, "expected cells with a label.*found none. Next"),
        ({"key": "section", "use_probabilities": True}, KeyError, "use_probabilities: expected obsm.*Next"),
        ({"key": "kind", "reference": 3}, TypeError, "reference: expected a DataFrame.*found int. Next"),
        ({"key": "kind", "reference": pd.DataFrame({"a": [1]}, index=["x"])}, ValueError, "in common.*Next"),
    ],
)
def test_errors(adata: AnnData, options, error, message) -> None:
    with pytest.raises(error, match=message):
        composition(adata, **options)


def test_beside_the_tissue(adata: AnnData) -> None:
    shares = composition(adata, key="kind", groupby="section")
    assert shares.attrs["overall"] == pytest.approx({"c": 1 / 7, "b": 3 / 7, "a": 3 / 7})
    log2 = shares.attrs["log2_enrichment"]
    # of 3 cells with a label in s1, and one of the tissue's mean composition, c has 1/7, b 1 + 3/7 and a 2 + 3/7
    assert log2["s1"] == pytest.approx({"c": np.log2(1 / 4), "b": np.log2(10 / 12), "a": np.log2(17 / 12)})
    assert log2["s10"]["b"] == pytest.approx(np.log2((2 + 3 / 7) / 5 / (3 / 7)))
    assert pd.DataFrame(log2).T.shape == (2, 3)


def test_the_tissue_holds_cells_without_a_group(adata: AnnData) -> None:
    adata.obs["region"] = [None] * 4 + ["r"] * 4
    shares = composition(adata, key="kind", groupby="region")
    assert shares.attrs["overall"] == pytest.approx({"c": 1 / 7, "b": 3 / 7, "a": 3 / 7})


def test_enrichment_of_a_group_that_is_the_tissue_is_none(adata: AnnData) -> None:
    adata.obs["all"] = "all"
    log2 = composition(adata, key="kind", groupby="all").attrs["log2_enrichment"]["all"]
    assert np.allclose(list(log2.values()), 0)
    adata.obs["kind"] = adata.obs["kind"].cat.add_categories("never")
    found = composition(adata, key="kind", groupby="section").attrs
    assert found["overall"]["never"] == 0 and np.isnan(found["log2_enrichment"]["s1"]["never"])


def test_enrichment_by_probabilities(adata: AnnData) -> None:
    attrs = composition(adata, key="kind", groupby="section", use_probabilities=True).attrs
    assert attrs["overall"] == pytest.approx({"c": 0.1, "b": 0.2, "a": 0.7})
    assert np.allclose(list(attrs["log2_enrichment"]["s1"].values()), 0)


def test_no_cells_have_no_depths(adata: AnnData) -> None:
    with pytest.raises(ValueError, match="data: expected cells, found none. Next"):
        composition(adata[:0].copy(), key="kind")
