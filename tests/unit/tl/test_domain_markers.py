from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import isost
from isost.tl import domain_markers


@pytest.fixture(scope="module")
def planted() -> AnnData:
    """Three samples, three domains, and 60 genes, of which each domain has two; samples differ in every gene."""
    rng = np.random.default_rng(0)
    domain, sample = rng.choice(["core", "edge", "rim"], 600), np.repeat(["m1", "m2", "m3"], 200)
    rate = rng.gamma(2.0, 1.0, 60) * np.exp(rng.normal(0.0, 0.7, (3, 60)))[np.repeat([0, 1, 2], 200)]
    for number, name in enumerate(["core", "edge", "rim"]):
        rate[np.ix_(domain == name, [2 * number, 2 * number + 1])] *= 4.0
    adata = AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.var_names = [f"G{k}" for k in range(60)]
    adata.obs["domain"] = pd.Categorical(domain, categories=["rim", "edge", "core"])
    adata.obs["sample"] = sample
    return adata


def planted_of(table: pd.DataFrame) -> dict[str, list[str]]:
    chosen = table[table["marker"]]
    return {name: sorted(chosen.loc[chosen["domain"] == name, "gene"]) for name in table["domain"].cat.categories}


EXPECTED = {"rim": ["G4", "G5"], "edge": ["G2", "G3"], "core": ["G0", "G1"]}


@pytest.mark.parametrize("method", ["wilcoxon", "t-test"])
@pytest.mark.parametrize("sample_key", [None, "sample"])
def test_planted_markers_are_found_and_no_others(planted: AnnData, method: str, sample_key: str | None) -> None:
    # once totals are normalised, what is higher in one domain is a little lower in others: below twofold
    options = {"groupby": "domain", "sample_key": sample_key, "min_log2_fold_change": 1.0}
    table = domain_markers(planted, **options, method=method)
    assert planted_of(table) == EXPECTED and len(table) == 180
    assert table.columns.tolist() == [
        "domain", "gene", "score", "log2_fold_change", "p", "padj", "share_in", "share_out", "n_samples",
        "n_samples_up", "marker",
    ]  # fmt: skip
    best = table[table["marker"]]
    assert (best["n_samples"] == (3 if sample_key else 1)).all() and (best["n_samples_up"] == best["n_samples"]).all()
    assert (best["share_in"] > best["share_out"]).all() and best["log2_fold_change"].between(1.0, 2.5).all()
    assert table["domain"].drop_duplicates().tolist() == ["rim", "edge", "core"]
    assert table.groupby("domain", observed=True)["score"].agg(lambda s: s.is_monotonic_decreasing).all()


def test_p_values_of_other_genes_are_uniform(planted: AnnData) -> None:
    p = []
    for seed in range(6):
        shuffled = planted[:, 6:].copy()
        rng = np.random.default_rng(seed)
        for name in ("m1", "m2", "m3"):
            rows = np.flatnonzero(shuffled.obs["sample"] == name)
            order = rng.permutation(rows)
            shuffled.obs.iloc[rows, 0] = shuffled.obs["domain"].to_numpy()[order]
        table = domain_markers(shuffled, groupby="domain", sample_key="sample")
        assert not table["marker"].any()
        p.append(table["p"])
    p = np.concatenate(p)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.06)


def test_samples_apart_leave_their_differences_out(planted: AnnData) -> None:
    """A gene that one sample has, and a domain that is mostly in that sample."""
    adata = planted.copy()
    rng = np.random.default_rng(1)
    sample = adata.obs["sample"].to_numpy()
    adata.obs["domain"] = np.where(rng.random(600) < np.where(sample == "m1", 0.9, 0.1), "here", "there")
    x = adata.X.toarray()
    x[:, 50] = rng.poisson(np.where(sample == "m1", 12.0, 1.0))
    adata.X = x
    together = domain_markers(adata, groupby="domain").set_index(["domain", "gene"])
    apart = domain_markers(adata, groupby="domain", sample_key="sample").set_index(["domain", "gene"])
    assert together.loc[("here", "G50"), "marker"] and together.loc[("here", "G50"), "p"] < 1e-20
    assert not apart.loc[("here", "G50"), "marker"] and apart.loc[("here", "G50"), "p"] > 1e-3


def test_a_marker_has_to_repeat(planted: AnnData) -> None:
    adata = planted.copy()
    x = adata.X.toarray()
    only = ((adata.obs["sample"] == "m1") & (adata.obs["domain"] == "rim")).to_numpy()
    x[:, 40] = np.random.default_rng(0).poisson(3.0, 600)
    x[only, 40] += 40
    x[(adata.obs["sample"] != "m1") & (adata.obs["domain"] == "rim"), 40] = 1
    adata.X = x
    row = domain_markers(adata, groupby="domain", sample_key="sample").set_index(["domain", "gene"]).loc[("rim", "G40")]
    assert row["n_samples_up"] == 1 and row["n_samples"] == 3 and not row["marker"]


def test_counts_and_their_logarithm_give_the_same(planted: AnnData) -> None:
    expected = domain_markers(planted, groupby="domain")
    embedded = planted.copy()
    isost.pp.embed(embedded, n_comps=5)
    pd.testing.assert_frame_equal(domain_markers(embedded, groupby="domain"), expected)
    logged = planted.copy()
    logged.layers["counts"] = logged.X.copy()
    x = logged.X.toarray()
    total = x.sum(axis=1, keepdims=True)
    logged.X = np.log1p(x / total * np.median(total))
    columns = ["score", "log2_fold_change", "share_in"]
    found = domain_markers(logged, groupby="domain").set_index(["domain", "gene"])[columns]
    wanted = expected.set_index(["domain", "gene"])[columns]
    pd.testing.assert_frame_equal(found.loc[wanted.index], wanted, rtol=1e-3, atol=1e-2)
    pd.testing.assert_frame_equal(domain_markers(logged, groupby="domain", layer="counts"), expected)


def test_cells_without_a_domain_and_small_domains(planted: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    adata = planted.copy()
    label = adata.obs["domain"].astype(object).to_numpy()
    label[:30] = None
    label[30] = "lone"
    adata.obs["domain"] = label
    table = domain_markers(adata, groupby="domain")
    assert table["domain"].cat.categories.tolist() == ["core", "edge", "rim"]
    assert "not tested: 'lone'" in caplog.text
    rest = adata[30:].copy()
    pd.testing.assert_frame_equal(domain_markers(rest, groupby="domain")[["gene", "p"]], table[["gene", "p"]],
                                  rtol=0.2)  # fmt: skip
    adata.obs["domain"] = adata.obs["domain"].map({"core": 1, "edge": 2, "rim": 3, "lone": 3}).astype("Int64")
    assert domain_markers(adata, groupby="domain")["domain"].cat.categories.tolist() == ["1", "2", "3"]


def test_genes_that_do_not_vary_are_left_out(planted: AnnData) -> None:
    adata = planted.copy()
    x = adata.X.toarray()
    x[:, 10] = 0
    adata.X = x
    table = domain_markers(adata, groupby="domain")
    assert "G10" not in set(table["gene"]) and len(table) == 3 * 59
    logged = AnnData(np.full((600, 2), 0.5), obs=planted.obs)
    with pytest.raises(ValueError, match="expected genes that vary, found none. Next"):
        domain_markers(logged, groupby="domain")


def test_the_input_stays_as_it_is(planted: AnnData) -> None:
    adata = planted.copy()
    adata.X.data[3] = 0.0  # scanpy removes stored zeros from what it is given
    before, keys = adata.X.copy(), (list(adata.uns), list(adata.obs), list(adata.layers))
    domain_markers(adata, groupby="domain", sample_key="sample")
    assert adata.X.nnz == before.nnz and (adata.X != before).nnz == 0
    assert (list(adata.uns), list(adata.obs), list(adata.layers)) == keys
    assert adata.obs["sample"].dtype == planted.obs["sample"].dtype
    view = adata[100:500]
    domain_markers(view, groupby="domain")
    assert view.is_view


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"groupby": "nope"}, KeyError, "groupby: expected a column of obs.*'nope'. Next"),
        ({}, KeyError, "groupby: .*'spatial_domain'. Next"),
        ({"groupby": "domain", "sample_key": "nope"}, KeyError, "sample_key: expected a column.*Next"),
        ({"groupby": "domain", "layer": "nope"}, ValueError, "layer: expected one of the layers.*Next"),
        ({"groupby": "domain", "method": "logreg"}, ValueError, "method: expected 'wilcoxon'.*Next"),
        ({"groupby": "domain", "alpha": 0}, ValueError, "alpha: .*Next"),
        ({"groupby": "domain", "min_log2_fold_change": np.nan}, ValueError, "min_log2_fold_change: .*Next"),
        ({"groupby": "domain", "min_cells": 1}, ValueError, "min_cells: .*Next"),
        ({"groupby": "domain", "min_cells": 10_000}, ValueError, "expected a domain with 10000 cells.*Next"),
    ],
)
def test_errors(planted: AnnData, options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        domain_markers(planted, **options)


def test_errors_of_the_input(planted: AnnData) -> None:
    with pytest.raises(TypeError, match="adata: expected an AnnData, found int.*Next"):
        domain_markers(3)
    broken: dict[str, Callable[[AnnData], object]] = {
        "two domains or more.*'one' alone. Next": lambda a: setattr(a, "obs", a.obs.assign(domain="one")),
        "found scaled values.*Next": lambda a: setattr(a, "X", a.X.toarray() - 0.5),
        "expected finite values(.|\\n)*Next": lambda a: a.X.data.__setitem__(0, np.nan),
        "found 1 without. Next": lambda a: setattr(a, "obs", a.obs.assign(sample=[None, *a.obs["sample"][1:]])),
        "names that occur more than once(.|\\n)*Next": lambda a: setattr(a, "var_names", ["G"] * 60),
    }
    for says, break_it in broken.items():
        adata = planted.copy()
        break_it(adata)
        with pytest.raises(ValueError, match=says):
            domain_markers(adata, groupby="domain", sample_key="sample")


def test_layers_of_the_cortex_have_their_known_markers(data_dir: Path) -> None:
    adata = anndata.read_h5ad(data_dir / "starmap_mpfc.h5ad")
    table = domain_markers(adata, groupby="domain", sample_key="section")
    best = {name: list(rows["gene"][:4]) for name, rows in table.groupby("domain", observed=True)}
    assert "Cux2" in best["L2/3"] and "Etv1" in best["L5"] and {"Pcp4", "Syt6", "Ctgf"} & set(best["L6"])
    assert (table.groupby("domain", observed=True).head(3)["n_samples_up"] == 3).all()
