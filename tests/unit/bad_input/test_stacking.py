"""Sections that cannot be put together."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost


def test_empty_section(adata, the_problem):
    parts = {name: adata[adata.obs["section"] == name] for name in ["s1", "s2", "unused"]}
    problem = the_problem(lambda: isost.pp.stack_sections(parts, z=[0, 1, 2]))
    assert "section 'unused': expected cells; found none" in problem


def test_no_shared_genes(adata, the_problem):
    upper = adata.copy()
    upper.var_names = upper.var_names.str.upper()
    problem = the_problem(lambda: isost.pp.stack_sections({"a": adata, "b": upper}, z=[0, 1]))
    assert "var_names: expected genes that all sections share; found none in common" in problem
    assert "'a' has 'Gene0', 'Gene1', 'Gene2' and 3 more; 'b' has 'GENE0'" in problem
    assert "6 genes differ in case only" in problem
    upper.var_names = [f"ENSG{i}" for i in range(6)]
    problem = the_problem(lambda: isost.pp.stack_sections({"a": adata, "b": upper}, z=[0, 1], join="outer"))
    assert "use one kind of names" in problem


@pytest.mark.parametrize(
    ("z", "found"),
    [
        ([0], "1 depths"),
        ([0, 1, 2], "3 depths"),
        (5.0, "1 depths"),
        ("ab", "1 depths"),
        ({"a": 0}, "depths of 'a'"),
        ({"a": 0, "c": 1}, "depths of 'a', 'c'"),
        (["0", "50"], "'0', '50'"),
        ([0, None], "nan"),
        ([0, np.inf], "inf"),
        ([7, 7.0], "'a', 'b' at 7"),
    ],
)
def test_depths_that_do_not_fit_the_sections(adata, z, found, the_problem):
    problem = the_problem(lambda: isost.pp.stack_sections({"a": adata, "b": adata}, z=z))
    assert re.search(rf"z: expected .*; found {re.escape(found)}\.", problem)


def test_problems_of_all_sections_are_listed(adata, problems_of):
    other = adata.copy()
    other.obsm["spatial"] = np.full((60, 1), 0.0)
    third = adata.copy()
    third.obsm["spatial"][6, 1] = np.nan
    third.var_names = ["twin", "twin", *third.var_names[2:]]
    bare = adata.copy()
    del bare.obsm["spatial"]
    found = "\n".join(
        problems_of(lambda: isost.pp.stack_sections([adata, other, third, bare], z=[0, 1, 1], join="left"))
    )
    for part in (
        "found 'left'",
        "found 3 depths",
        "section 'section_1', obsm['spatial']: expected (n_cells, 2) x, y or (n_cells, 3); found shape (60, 1)",
        "section 'section_2', obsm['spatial']: expected finite x and y; found NaN or infinity in 1 of 60 cells (row 6)",
        "section 'section_2', var_names: expected every gene once",
        "section 'section_3', obsm['spatial']: expected (n_cells, 2) x, y; found obsm keys 'X_pca'",
    ):
        assert part in found


@pytest.mark.parametrize("adatas", [AnnData(np.ones((3, 2))), [AnnData(np.ones((3, 2))), pd.DataFrame()]])
def test_something_else_than_sections(adatas):
    with pytest.raises(TypeError, match=r"adatas: expected a list or mapping of AnnData, found '(AnnData|DataFrame)'"):
        isost.pp.stack_sections(adatas, z=[0, 1])


@pytest.mark.parametrize("adatas", [[], [AnnData(np.ones((3, 2)), obsm={"spatial": np.ones((3, 2))})]])
def test_fewer_than_two_sections(adatas, the_problem):
    problem = the_problem(lambda: isost.pp.stack_sections(adatas, z=[0.0] * len(adatas)))
    assert f"adatas: expected two sections or more; found {len(adatas)}" in problem
