from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost.pl import domain_markers


@pytest.fixture
def adata() -> AnnData:
    rng = np.random.default_rng(0)
    domain = np.repeat(["a", "b", "c"], 20)
    rate = np.ones((60, 5))
    for number, name in enumerate("abc"):
        rate[domain == name, number] = 20.0
    adata = AnnData(rng.poisson(rate).astype(np.float32))
    adata.var_names = ["A", "B", "C", "D", "E"]
    adata.obs["spatial_domain"] = pd.Categorical(domain, categories=["c", "b", "a"])
    return adata


@pytest.fixture
def markers() -> pd.DataFrame:
    rows = [("c", "C", 9, True), ("c", "D", 2, True), ("c", "E", 1, False), ("b", "B", 8, True), ("b", "D", 3, True),
            ("a", "A", 7, True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["domain", "gene", "score", "marker"])


def test_the_best_of_each_domain(adata: AnnData, markers: pd.DataFrame, tmp_path: Path) -> None:
    axes = domain_markers(adata, markers, save=tmp_path / "markers.png")
    main = axes["mainplot_ax"]
    assert [label.get_text() for label in main.get_yticklabels()] == ["c", "b", "a"]
    # D is listed with b, where its score is highest; E is no marker
    assert [label.get_text() for label in main.get_xticklabels()] == ["C", "B", "D", "A"]
    assert (tmp_path / "markers.png").stat().st_size
    best = domain_markers(adata, markers, n_genes=1)["mainplot_ax"]
    assert [label.get_text() for label in best.get_xticklabels()] == ["C", "B", "A"]
    colors = np.array(best.collections[0].get_facecolors()).reshape(3, 3, 4)
    assert (colors[:, :, 0].argmin(axis=1) == [0, 1, 2]).all(), "darkest where they belong"


def test_it_draws_into_given_axes_and_leaves_cells_as_they_are(adata: AnnData, markers: pd.DataFrame) -> None:
    before = adata.X.copy()
    figure, ax = plt.subplots()
    axes = domain_markers(adata, markers, ax=ax)
    assert axes["mainplot_ax"].get_figure() is figure
    assert (adata.X == before).all() and not adata.uns and list(adata.obs) == ["spatial_domain"]
    adata.obs.loc[adata.obs_names[:5], "spatial_domain"] = np.nan
    domain_markers(adata, markers)


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        (lambda m: 3, {}, TypeError, "markers: expected a DataFrame, found int. Next"),
        (lambda m: m.drop(columns="score"), {}, ValueError, "markers: expected the columns.*'score'. Next"),
        (lambda m: m.assign(marker=False), {}, ValueError, "expected markers among 6 rows, found none. Next"),
        (lambda m: m.assign(gene=m["gene"] + "x"), {}, KeyError, "markers: expected genes of adata.*'Cx'.*Next"),
        (lambda m: m, {"groupby": "nope"}, KeyError, "groupby: expected a column.*Next"),
        (lambda m: m, {"n_genes": 0}, ValueError, "n_genes: .*Next"),
    ],
)
def test_errors(adata: AnnData, markers: pd.DataFrame, change, options, error, says) -> None:
    with pytest.raises(error, match=says):
        domain_markers(adata, change(markers), **options)
