from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost
from isost.tl import dynamic_genes


@pytest.fixture(scope="module")
def adata() -> AnnData:
    return isost.datasets.embryo(n_genes=48, rng=10)


@pytest.fixture(scope="module")
def genes(adata: AnnData) -> pd.DataFrame:
    return dynamic_genes(adata, key="organ")


def _planted(adata: AnnData, kind: str) -> list[tuple[str, str]]:
    own = adata.var[adata.var["kind"] == kind]
    return list(zip(own["target"], own.index, strict=True))


def test_a_row_for_each_organ_and_gene(genes: pd.DataFrame, adata: AnnData) -> None:
    assert len(genes) == 6 * adata.n_vars and not genes.duplicated(["label", "gene"]).any()
    assert genes["label"].is_monotonic_increasing
    for _, own in genes.groupby("label"):
        assert own["height"].is_monotonic_decreasing


def test_planted_markers_are_enriched(genes: pd.DataFrame, adata: AnnData) -> None:
    found = genes.set_index(["label", "gene"])
    for pair in _planted(adata, "marker"):
        assert found.loc[pair, "enriched"]
        assert found.loc[pair, "stages_enriched"] == found.loc[pair, "stages"]
        assert found.loc[pair, "difference"] == genes.loc[genes["gene"] == pair[1], "difference"].max()


def test_planted_peaks_are_found_at_their_age(genes: pd.DataFrame, adata: AnnData) -> None:
    found = genes.set_index(["label", "gene"])
    for pair in _planted(adata, "peak"):
        row = found.loc[pair]
        assert row["dynamic"] and not row["at_edge"]
        assert row["peak"] == pytest.approx(adata.var.loc[pair[1], "peak"], abs=0.2)
        assert row["window_start"] < row["peak"] < row["window_end"]


def test_an_organ_that_comes_late_counts_the_stages_that_have_it(genes: pd.DataFrame) -> None:
    stages = genes.groupby("label")["stages"].first()
    assert stages["brain"] == 5 and 3 <= stages["kidney"] < 5


def test_hardly_a_gene_is_dynamic_where_ages_say_nothing(adata: AnnData) -> None:
    shuffled = adata.copy()
    shuffled.obs["age"] = np.random.default_rng(0).permutation(adata.obs["age"].to_numpy())
    found = dynamic_genes(shuffled, key="organ", min_difference=0.0)
    assert (found["pval"] < 0.05).mean() == pytest.approx(0.05, abs=0.04)
    assert found["dynamic"].sum() <= 2
    by_default = dynamic_genes(shuffled, key="organ")
    assert not by_default["dynamic"].any()


def test_relative_takes_out_what_the_whole_body_does(genes: pd.DataFrame, adata: AnnData) -> None:
    cyclic = adata.var_names[adata.var["kind"] == "cyclic"]
    relative = dynamic_genes(adata, key="organ", relative=True).set_index(["label", "gene"])
    whole = genes.set_index(["label", "gene"])
    large = [("brain", gene) for gene in cyclic], [("trunk", gene) for gene in cyclic]
    for pairs in large:
        assert whole.loc[pairs, "dynamic"].all()
        assert relative.loc[pairs, "height"].max() < 0.25 and not relative.loc[pairs, "dynamic"].any()
    assert relative.loc[("brain", "peak_2"), "dynamic"]


def test_p_values_are_adjusted_together(genes: pd.DataFrame) -> None:
    tested = genes[genes["pval"].notna()].sort_values("pval")
    n = len(tested)
    raw = (tested["pval"] * n / np.arange(1, n + 1)).to_numpy()
    np.testing.assert_allclose(tested["padj"], np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0))


def test_expression_without_noise_gives_means_exactly() -> None:
    adata = isost.datasets.embryo(n_cells=60, n_genes=12, count_noise=False)
    found = dynamic_genes(adata, key="organ").set_index(["label", "gene"])
    own = adata.obs["organ"] == "brain"
    means = [adata.X[(own & (adata.obs["age"] == age)).to_numpy(), 0].mean() for age in adata.obs["age"].unique()]
    assert found.loc[("brain", adata.var_names[0]), "mean"] == pytest.approx(np.mean(means), rel=1e-5)


def test_the_order_of_cells_does_not_matter(genes: pd.DataFrame, adata: AnnData) -> None:
    again = dynamic_genes(adata[::-1].copy(), key="organ")
    pd.testing.assert_frame_equal(again, genes)


def test_a_mapping_gives_the_organs(adata: AnnData) -> None:
    table = adata.uns["organ_of_type"]
    found = dynamic_genes(adata, key="cell_type", mapping=table)
    assert sorted(found["label"].unique()) == sorted(set(table.values()))


def test_too_few_stages_have_no_peak(adata: AnnData) -> None:
    late = adata[(adata.obs["organ"] != "heart") | (adata.obs["age"] > 13)].copy()
    heart = dynamic_genes(late, key="organ").query("label == 'heart'")
    assert (heart["stages"] == 2).all()
    assert heart[["peak", "height", "pval", "padj", "window_start"]].isna().all(axis=None)
    assert not heart["dynamic"].any() and not heart["at_edge"].any()


def test_a_gene_that_is_the_same_everywhere_is_nothing(adata: AnnData) -> None:
    still = AnnData(np.full((adata.n_obs, 2), 1.5, np.float32), obs=adata.obs[["organ", "age"]])
    still.X[:, 1] = np.random.default_rng(0).uniform(0.0, 3.0, adata.n_obs)
    found = dynamic_genes(still, key="organ").query("gene == '0'")
    assert not found["dynamic"].any() and not found["enriched"].any()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"key": "nope"}, KeyError, "key: expected a column of obs.*'nope'"),
        ({"depth_key": "nope"}, KeyError, "depth_key: expected a column of obs.*'nope'"),
        ({"depth_key": "stage"}, ValueError, "expected ages as numbers, found"),
        ({"depth_key": "lacking"}, ValueError, "expected ages as numbers, found NaN"),
        ({"depth_key": "two"}, ValueError, "expected 3 stages or more, found 2"),
        ({"step": 0}, ValueError, "step: expected above 0"),
        ({"step": 9.0}, ValueError, "step: expected above 0 and at most 6"),
        ({"alpha": 1.0}, ValueError, "alpha: expected above 0 and below 1"),
        ({"min_cells": 1}, (TypeError, ValueError), "min_cells: expected"),
        ({"min_cells": 10_000}, ValueError, "expected an organ with 10000 cells or more at 3 stages, found none"),
        ({"min_difference": "a"}, TypeError, "min_difference: expected"),
        ({"mapping": {"brain": "head"}}, ValueError, "mapping: expected what each value.*found nothing for"),
    ],
)
def test_bad_requests(adata: AnnData, options: dict[str, Any], error: Any, words: str) -> None:
    few = adata.copy()
    few.obs["lacking"] = few.obs["age"].where(np.arange(few.n_obs) > 3)
    few.obs["two"] = (few.obs["age"] > 12).astype(float)
    with pytest.raises(error, match=f"(?s){words}.*Next: "):
        dynamic_genes(few, **{"key": "organ"} | options)


def test_another_type() -> None:
    with pytest.raises(TypeError, match="AnnData.*found int"):
        dynamic_genes(3, key="organ")
