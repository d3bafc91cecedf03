from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import false_discovery_control

from isost.tl import composition_difference

# of 20 cells of "core" in each sample, how many are "x"
CORE = {"c1": 4, "c2": 6, "c3": 5, "t1": 14, "t2": 10, "t3": 12}


@pytest.fixture
def adata() -> AnnData:
    """Six samples, three of a control and three treated; in "core" the share of x differs, in "rim" it does not."""
    rows = []
    for sample, n in CORE.items():
        condition = "treated" if sample.startswith("t") else "control"
        rows += [(sample, condition, "core", "x")] * n + [(sample, condition, "core", "y")] * (20 - n)
        rows += [(sample, condition, "rim", "x"), (sample, condition, "rim", "y")] * 10
    table = pd.DataFrame(rows, columns=["sample", "condition", "spatial_domain", "kind"])
    table.index = table.index.astype(str)
    return AnnData(np.zeros((len(table), 1), dtype=np.float32), obs=table.sample(frac=1.0, random_state=0))


OPTIONS = {"key": "kind", "condition_key": "condition"}


def test_by_hand(adata: AnnData) -> None:
    found = composition_difference(adata, **OPTIONS, sample_key="sample")
    row = found.set_index(["domain", "label"]).loc[("core", "x")]
    assert row["share"] == pytest.approx(0.6) and row["share_reference"] == pytest.approx(0.25)
    assert row["difference"] == pytest.approx(0.35)
    assert row["log2_ratio"] == pytest.approx(np.log2((0.6 + 1 / 120) / (0.25 + 1 / 120)))
    # all three above all three: of 20 ways the one that is and its mirror image
    assert row["p"] == pytest.approx(2 / 20) and found.attrs["smallest_p"] == pytest.approx(0.1)
    assert row[["condition", "reference", "n_samples", "n_samples_reference"]].tolist() == ["treated", "control", 3, 3]
    rim = found[found["domain"] == "rim"]
    assert (rim["difference"] == 0).all() and (rim["p"] == 1).all() and (rim["log2_ratio"] == 0).all()
    np.testing.assert_allclose(found["padj"], false_discovery_control(found["p"]))


def test_the_share_is_the_mean_of_samples_not_of_cells(adata: AnnData) -> None:
    many = adata[(adata.obs["sample"] == "t1") & (adata.obs["spatial_domain"] == "core")]
    more = anndata.concat([adata, many, many, many], index_unique="-", keys=list("abcd"))
    row = composition_difference(more, **OPTIONS, sample_key="sample").set_index(["domain", "label"]).loc[("core", "x")]
    assert row["share"] == pytest.approx(0.6)
    pooled = composition_difference(more, **OPTIONS).set_index(["domain", "label"]).loc[("core", "x")]
    assert pooled["share"] == pytest.approx((14 * 4 + 10 + 12) / (20 * 6))


def test_the_reference_can_be_chosen(adata: AnnData) -> None:
    one = composition_difference(adata, **OPTIONS, sample_key="sample")
    other = composition_difference(adata, **OPTIONS, sample_key="sample", reference="treated")
    np.testing.assert_allclose(one["difference"], -other["difference"])
    np.testing.assert_allclose(one["log2_ratio"], -other["log2_ratio"])
    np.testing.assert_allclose(one["p"], other["p"])
    assert other["reference"].unique().tolist() == ["treated"]


def test_three_conditions(adata: AnnData) -> None:
    adata.obs["condition"] = adata.obs["condition"].where(adata.obs["sample"] != "t3", "other")
    found = composition_difference(adata, **OPTIONS, sample_key="sample")
    assert found["condition"].drop_duplicates().tolist() == ["other", "treated"] and len(found) == 8
    row = found.set_index(["condition", "domain", "label"]).loc[("other", "core", "x")]
    assert row["p"] == pytest.approx(1 / 4) and row["n_samples"] == 1


def test_without_samples_there_is_no_p(adata: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    found = composition_difference(adata, **OPTIONS)
    assert found["p"].isna().all() and found["padj"].isna().all() and np.isnan(found.attrs["smallest_p"])
    assert (found["n_samples"] == 0).all() and found["difference"].notna().all()
    assert "no replicates and no p-values" in caplog.text


def test_too_few_samples_are_said(adata: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    composition_difference(adata, **OPTIONS, sample_key="sample")
    assert "cannot give p <= 0.05" in caplog.text


def test_samples_with_few_cells_do_not_count(adata: AnnData) -> None:
    few = adata[~((adata.obs["sample"] == "t3") & (adata.obs["spatial_domain"] == "core"))
                | (adata.obs["kind"] == "y")].copy()  # fmt: skip
    found = composition_difference(few, **OPTIONS, sample_key="sample").set_index(["domain", "label"])
    assert found.loc[("core", "x"), "n_samples"] == 2 and found.loc[("core", "x"), "p"] == pytest.approx(1 / 10)
    assert found.loc[("rim", "x"), "n_samples"] == 3
    found = composition_difference(few, **OPTIONS, sample_key="sample", min_cells=5).set_index(["domain", "label"])
    assert found.loc[("core", "x"), "share"] == pytest.approx((14 / 20 + 10 / 20 + 0) / 3)


def test_a_domain_that_a_condition_lacks(adata: AnnData) -> None:
    part = adata[(adata.obs["condition"] == "control") | (adata.obs["spatial_domain"] == "core")].copy()
    found = composition_difference(part, **OPTIONS, sample_key="sample").set_index(["domain", "label"])
    assert found.loc["rim", ["share", "difference", "p", "padj"]].isna().all(axis=None)
    assert found.loc["core", "padj"].notna().all()


def test_missing_labels_and_types_of_labels(adata: AnnData) -> None:
    expected = composition_difference(adata, **OPTIONS, sample_key="sample")
    more = anndata.concat([adata, adata[:4]], index_unique="-", keys=list("ab"))
    for column, value in (("kind", None), ("spatial_domain", None)):
        more.obs[column] = more.obs[column].astype(object)
        more.obs.iloc[-2:, more.obs.columns.get_loc(column)] = value
    more.obs.iloc[-4:-2, more.obs.columns.get_loc("kind")] = None
    found = composition_difference(more, **OPTIONS, sample_key="sample")
    pd.testing.assert_frame_equal(found, expected)
    more.obs["sample"] = more.obs["sample"].map({name: k for k, name in enumerate(CORE)})
    pd.testing.assert_frame_equal(composition_difference(more, **OPTIONS, sample_key="sample"), expected)


def test_labels_that_a_domain_lacks_are_not_tested(adata: AnnData) -> None:
    adata.obs["kind"] = adata.obs["kind"].where(
        ~((adata.obs["spatial_domain"] == "rim") & (adata.obs["kind"] == "y")), "z"
    )
    found = composition_difference(adata, **OPTIONS, sample_key="sample").set_index(["domain", "label"])
    assert np.isnan(found.loc[("core", "z"), "p"]) and found.loc[("core", "z"), "log2_ratio"] == 0
    assert found.loc[("rim", "z"), "p"] == 1


def test_the_input_stays_as_it_is(adata: AnnData) -> None:
    before = adata.obs.copy()
    composition_difference(adata, **OPTIONS, sample_key="sample")
    pd.testing.assert_frame_equal(adata.obs, before)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"key": "nope"}, KeyError, "key: expected a column.*Next"),
        ({"groupby": "nope"}, KeyError, "groupby: expected a column.*Next"),
        ({"condition_key": "nope"}, KeyError, "condition_key: expected a column.*Next"),
        ({"sample_key": "nope"}, KeyError, "sample_key: expected a column.*Next"),
        ({"condition_key": "one"}, ValueError, "condition_key: expected two conditions.*'one' alone. Next"),
        ({"reference": "nope"}, ValueError, "reference: expected one of 'control', 'treated', found 'nope'. Next"),
        ({"sample_key": "one"}, ValueError, "sample_key: expected samples of one condition.*'one'.*Next"),
        ({"min_cells": 1000}, ValueError, "min_cells: expected 1000 labelled cells.*Next"),
        ({"n_permutations": 0}, ValueError, "n_permutations: .*Next"),
        ({"condition_key": "holes"}, ValueError, "condition_key: .*without. Next"),
        ({"sample_key": "sample", "rng": "a"}, TypeError, "rng: .*Next"),
    ],
)
def test_errors(adata: AnnData, options: dict, error: type[Exception], says: str) -> None:
    adata.obs["one"] = "one"
    adata.obs["holes"] = adata.obs["condition"].where(adata.obs["sample"] != "c1", None)
    with pytest.raises(error, match=says):
        composition_difference(adata, **OPTIONS | options)


def test_three_animals_are_too_few(data_dir: Path) -> None:
    adata = anndata.read_h5ad(data_dir / "starmap_mpfc.h5ad")
    adata.obs["group"] = adata.obs["section"].astype(str).map({"BZ5": "one", "BZ9": "two", "BZ14": "two"})
    found = composition_difference(
        adata, key="cell_type", groupby="domain", condition_key="group", sample_key="section"
    )
    assert found.attrs["smallest_p"] == pytest.approx(1 / 3) and found["p"].min() >= 1 / 3 - 1e-9
    assert found.groupby("domain", observed=True)["share"].sum().to_numpy() == pytest.approx(1)
