from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import mannwhitneyu, norm, ttest_ind

from isost._tools.domain_markers import combine, rank_genes


@pytest.fixture
def cells() -> tuple[np.ndarray, pd.Categorical]:
    """120 cells with many ties and 6 genes, of which the first is higher in "a"."""
    rng = np.random.default_rng(0)
    groups = pd.Categorical(rng.choice(["a", "b", "c"], 120))
    counts = rng.poisson(0.8, (120, 6)).astype(np.float32)
    counts[:, 0] += 2 * (np.asarray(groups) == "a")
    return np.log1p(counts), groups


def test_ranks_are_those_of_mann_and_whitney(cells: tuple) -> None:
    x, groups = cells
    table = rank_genes(x, groups, "wilcoxon", 2).set_index(["group", "gene"])
    inside = np.asarray(groups == "a")
    expected = mannwhitneyu(x[inside], x[~inside], method="asymptotic", use_continuity=False).pvalue
    np.testing.assert_allclose(2 * norm.sf(table.loc["a", "z"].abs()), expected, rtol=1e-6)
    assert table.loc[("a", 0), "z"] > 5
    pd.testing.assert_frame_equal(
        rank_genes(sparse.csr_matrix(x), groups, "wilcoxon", 2), table.reset_index(), check_dtype=False, rtol=1e-5
    )


def test_scores_of_a_t_test_become_normal(cells: tuple) -> None:
    x, groups = cells
    table = rank_genes(x, groups, "t-test", 2).set_index(["group", "gene"])
    inside = np.asarray(groups == "b")
    expected = ttest_ind(x[inside], x[~inside], equal_var=False)
    np.testing.assert_allclose(2 * norm.sf(table.loc["b", "z"].abs()), expected.pvalue, rtol=1e-3)
    assert (np.sign(table.loc["b", "z"]) == np.sign(expected.statistic)).all()


def test_fold_changes_and_shares_by_hand() -> None:
    x = np.log1p(np.array([[3.0, 0], [1, 0], [0, 0], [1, 4], [0, 0]]))
    groups = pd.Categorical(["a", "a", "b", "b", "b"])
    row = rank_genes(x, groups, "t-test", 2).set_index(["group", "gene"])
    assert row.loc[("a", 0), "log2_fold_change"] == pytest.approx(np.log2(((4 + 1) / 2) / ((1 + 1) / 3)))
    assert row.loc[("a", 1), "log2_fold_change"] == pytest.approx(np.log2((1 / 2) / (5 / 3)))
    assert row.loc[("a", 0), ["share_in", "share_out"]].tolist() == pytest.approx([1, 1 / 3])
    assert row["n"].tolist() == pytest.approx([2 * 3 / 5] * 4)


def test_small_groups_are_not_tested_but_count_among_the_rest(cells: tuple) -> None:
    x, groups = cells
    few = pd.Categorical(np.where(np.arange(120) == 0, "lone", np.asarray(groups)))
    table = rank_genes(x, few, "wilcoxon", 2)
    assert set(table["group"]) == {"a", "b", "c"}
    n = np.asarray(few == "a").sum()
    assert table.loc[table["group"] == "a", "n"].iloc[0] == pytest.approx(n * (120 - n) / 120)
    assert not len(rank_genes(x[:3], groups[:3], "wilcoxon", 2))


def test_a_gene_that_does_not_vary_here_says_nothing(cells: tuple) -> None:
    x, groups = cells
    x = x.copy()
    x[:, 3] = 1.0
    for method in ("wilcoxon", "t-test"):
        table = rank_genes(x, groups, method, 2)
        assert (table.loc[table["gene"] == 3, "z"] == 0).all() and np.isfinite(table["z"]).all()


def test_stouffer_by_hand() -> None:
    def test(z: float, n: float, fold: float) -> pd.DataFrame:
        row = {"group": "a", "gene": 0, "z": z, "log2_fold_change": fold, "share_in": 0.5, "share_out": 0.25, "n": n}
        return pd.DataFrame([row, row | {"gene": 1, "z": 0.0, "log2_fold_change": 0.0}])

    both = combine([test(3.0, 16.0, 2.0), test(-1.0, 9.0, -1.0)])
    assert both.loc[0, "score"] == pytest.approx((4 * 3.0 - 3 * 1.0) / 5)
    assert both.loc[0, "p"] == pytest.approx(2 * norm.sf(9 / 5)) and both.loc[1, "p"] == 1
    assert both.loc[0, "padj"] == pytest.approx(2 * both.loc[0, "p"])
    assert both.loc[0, ["log2_fold_change", "n_samples", "n_samples_up"]].tolist() == [0.5, 2, 1]
    one = combine([test(3.0, 16.0, 2.0)])
    assert one.loc[0, "score"] == pytest.approx(3.0)
