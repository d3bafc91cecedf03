"""Sections that cannot be told apart or used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost
from isost._core.stack import check_stack, read_stack


def test_one_section(adata, the_problem):
    adata.obs["section"] = "s1"
    adata.obsm["spatial"][:, 2] = 0.0
    problem = the_problem(lambda: read_stack(adata))
    assert "expected two sections or more; found 1 ('s1') with 60 cells" in problem
    assert "isost.pp.stack_sections([first, second], z=[0, 50])" in problem
    del adata.obs["section"]
    assert "depths: expected two sections or more; found 1 ('z0')" in the_problem(lambda: read_stack(adata))


def test_two_sections_at_one_depth(adata, the_problem):
    adata.obsm["spatial"][adata.obs["section"] == "s2", 2] = 100.0
    problem = the_problem(lambda: read_stack(adata))
    assert "every section at a depth of its own" in problem
    assert "found two sections at one depth: s10 and s2 at z = 100" in problem


def test_all_sections_at_one_depth(adata, the_problem):
    adata.obsm["spatial"][:, 2] = 0.0
    problem = the_problem(lambda: read_stack(adata))
    assert "s1 and" in problem
    assert problem.count(" at z = 0") == 2


def test_sections_that_run_through_each_other(adata, the_problem):
    adata.obs["section"] = np.where(np.arange(60) % 2, "odd", "even")
    adata.obsm["spatial"][:, 2] = np.arange(60.0)
    problem = the_problem(lambda: read_stack(adata))
    assert "found sections that run through each other: even and odd (47% of the cells)" in problem
    assert "pandas.cut(adata.obsm['spatial'][:, 2], bins=12)" in problem


def test_unknown_section_key(adata, the_problem):
    adata.obs["slide"] = adata.obs.pop("section")
    problem = the_problem(lambda: read_stack(adata, section_key="slice"))
    assert "section_key: expected a column of adata.obs; found 'slice', while the columns are 'slide'" in problem
    assert "section_key=None" in problem


def test_cells_without_a_section(adata, the_problem):
    adata.obs.loc[adata.obs_names[4], "section"] = None
    problem = the_problem(lambda: read_stack(adata))
    assert "expected a section for every cell; found none for 1 of 60 cells (row 4)" in problem
    remedy = "adata[adata.obs['section'].notna()].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata})).n_cells == 59


def test_an_unused_category_is_no_section(adata):
    assert "unused" in adata.obs["section"].cat.categories
    assert "unused" not in read_stack(adata).names


def test_no_cells_at_all(adata):
    with pytest.raises(ValueError, match=r"adata: expected cells, found an AnnData without any\. Next: "):
        read_stack(adata[:0])


def test_a_section_of_three_cells(adata, the_problem):
    small = adata[np.r_[0:3, 20:60]].copy()
    problem = the_problem(lambda: read_stack(small))
    assert "expected at least 10 cells in every section, for five neighbours" in problem
    assert "found 's10' with 3" in problem
    remedy = "adata[adata.obs['section'].map(adata.obs['section'].value_counts()) >= 10].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": small})).names == ("s1", "s2")


def test_ten_cells_are_enough(adata):
    assert read_stack(adata[np.r_[0:10, 20:30, 40:50]]).n_cells == 30


def test_continuous_depths_without_sections(adata, the_problem):
    del adata.obs["section"]
    adata.obsm["spatial"][:, 2] = np.linspace(0.0, 100.0, 60)
    problem = the_problem(lambda: read_stack(adata))
    assert "found 60 distinct depths among 60 cells, from 0 to 100" in problem
    remedy = "adata.obs['section'] = pandas.cut(adata.obsm['spatial'][:, 2], bins=12).astype(str)"
    assert remedy in problem
    exec(remedy.replace("12", "6"), {"adata": adata, "pandas": pd})
    assert read_stack(adata).n_sections == 6


def test_dense_continuous_depths_are_not_one_section(make_stack, the_problem):
    draw = np.random.default_rng(0)
    n = 60_000
    adata = AnnData(obsm={"spatial": draw.random((n, 3)), "X_pca": draw.random((n, 2))})
    assert "60000 distinct depths among 60000 cells" in the_problem(lambda: read_stack(adata))


def test_several_problems_are_all_listed(adata, problems_of):
    adata.obs_names = [f"c{i // 2}" for i in range(60)]
    adata.obsm["spatial"][2, 0] = np.nan
    adata.obsm["spatial"][adata.obs["section"] == "s2", 2] = 100.0
    adata.obs.loc[adata.obs["section"] == "s1", "section"] = ["s1"] * 3 + ["s10"] * 17
    adata.X[1, 1] = np.inf
    del adata.obsm["X_pca"]
    found = "\n".join(problems_of(lambda: read_stack(adata)))
    for part in (
        "occur more than once",
        "1 of 60 cells (row 2)",
        "'s1' with 3",
        "two sections at one depth",
        "isost.pp.embed(adata)",
        "adata.X: expected finite values",
    ):
        assert part in found


@pytest.mark.parametrize("call", [read_stack, isost.pp.embed, check_stack])
def test_something_else_than_an_anndata(call):
    with pytest.raises(TypeError, match=r"expected an AnnData, found DataFrame\. Next: isost\.pp\.stack_sections"):
        call(pd.DataFrame())


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
def test_duplicate_names(adata, problems_of):
    adata.obs_names = ["twin", "twin", *adata.obs_names[2:]]
    adata.var_names = ["Gad1", "Gad1", *adata.var_names[2:]]
    cells, genes = problems_of(lambda: read_stack(adata))
    assert "adata.obs_names: expected unique names; found 1 names that occur more than once ('twin')" in cells
    assert "adata.obs_names_make_unique()" in cells
    assert "adata.var_names: expected unique names; found 1 names that occur more than once ('Gad1')" in genes
    assert "adata.var_names_make_unique()" in genes
    adata.obs_names_make_unique()
    adata.var_names_make_unique()
    read_stack(adata)
