"""Every bad input gives one error that says what was expected, what was found and what to run next."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse

import isost
from isost._core.stack import check_stack, read_stack


@pytest.fixture
def adata(make_stack) -> AnnData:
    return make_stack(n=20, n_genes=6)


def problems_of(call: Callable[[], object]) -> list[str]:
    """The numbered problems of the ValueError that `call` raises; each must have its three parts."""
    with pytest.raises(ValueError, match=r"^The .* cannot be \w+: \d+ problems?\.\n1\. ") as caught:
        call()
    text = str(caught.value)
    problems = re.split(r"\n(?=\d+\. )", text)[1:]
    assert text.startswith(f"{text.split(': ')[0]}: {len(problems)} problem")
    for problem in problems:
        assert re.match(r"(?s)\d+\. .+: expected .+; found .+\.\n   Next: \S", problem), problem
    return problems


def the_problem(call: Callable[[], object]) -> str:
    problems = problems_of(call)
    assert len(problems) == 1, problems
    return problems[0]


def test_no_z(adata):
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :2]
    problem = the_problem(lambda: read_stack(adata))
    assert "expected (n_cells, 3) with x, y and the depth z" in problem
    assert "found shape (60, 2), that is coordinates without depth" in problem
    assert "isost.pp.stack_sections(sections, z=depths)" in problem
    assert "depth_key='z'" in problem


def test_no_positions(adata):
    adata.obsm["X_umap"] = adata.obsm.pop("spatial")
    adata.obs[["x", "y", "z"]] = adata.obsm["X_umap"]
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['spatial']: expected coordinates (n_cells, 3)" in problem
    assert "found obsm keys 'X_pca', 'X_umap'" in problem
    assert "adata.obsm['spatial'] = adata.obs[['x', 'y', 'z']].to_numpy()" in problem


@pytest.mark.parametrize("shape", [(60, 1), (60, 4), (60, 2, 2)])
def test_positions_of_another_shape(adata, shape):
    adata.obsm["spatial"] = np.zeros(shape)
    assert f"found shape {shape}" in the_problem(lambda: read_stack(adata))


def test_one_section(adata):
    adata.obs["section"] = "s1"
    adata.obsm["spatial"][:, 2] = 0.0
    problem = the_problem(lambda: read_stack(adata))
    assert "expected two sections or more; found 1 ('s1') with 60 cells" in problem
    assert "isost.pp.stack_sections([first, second], z=[0, 50])" in problem
    del adata.obs["section"]
    assert "depths: expected two sections or more; found 1 ('z0')" in the_problem(lambda: read_stack(adata))


def test_two_sections_at_one_depth(adata):
    adata.obsm["spatial"][adata.obs["section"] == "s2", 2] = 100.0
    problem = the_problem(lambda: read_stack(adata))
    assert "every section at a depth of its own" in problem
    assert "found two sections at one depth: s10 and s2 at z = 100" in problem


def test_all_sections_at_one_depth(adata):
    adata.obsm["spatial"][:, 2] = 0.0
    problem = the_problem(lambda: read_stack(adata))
    assert "s1 and" in problem
    assert problem.count(" at z = 0") == 2


def test_sections_that_run_through_each_other(adata):
    adata.obs["section"] = np.where(np.arange(60) % 2, "odd", "even")
    adata.obsm["spatial"][:, 2] = np.arange(60.0)
    problem = the_problem(lambda: read_stack(adata))
    assert "found sections that run through each other: even and odd (47% of the cells)" in problem
    assert "pandas.cut(adata.obsm['spatial'][:, 2], bins=12)" in problem


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2])
def test_coordinates_that_are_not_finite(adata, bad, column):
    adata.obsm["spatial"][[3, 7, 11], column] = bad
    problem = the_problem(lambda: read_stack(adata))
    assert "expected finite coordinates; found NaN or infinity in 3 of 60 cells (rows 3, 7, 11)" in problem
    remedy = "adata[numpy.isfinite(adata.obsm['spatial']).all(axis=1)].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata, "numpy": np})).n_cells == 57


def test_depths_that_are_not_finite(adata):
    adata.obs["z"] = adata.obsm["spatial"][:, 2]
    adata.obs.loc[adata.obs_names[:2], "z"] = np.nan
    problem = the_problem(lambda: read_stack(adata, depth_key="z"))
    assert "adata.obs['z']: expected finite coordinates; found NaN or infinity in 2 of 60 cells (rows 0, 1)" in problem
    remedy = "adata[numpy.isfinite(adata.obs['z'])].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata, "numpy": np}), depth_key="z").n_cells == 58


def test_coordinates_that_overflowed(adata):
    adata.obsm["spatial"][5, 0] = 1e300
    problem = the_problem(lambda: read_stack(adata))
    assert "expected coordinates within 1e+09; found larger ones in 1 of 60 cells (row 5)" in problem
    remedy = "adata[(abs(adata.obsm['spatial']) < 1e+09).all(axis=1)].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata})).n_cells == 59


def test_cells_that_all_lie_at_one_place(adata):
    adata.obsm["spatial"][:, :2] = 5.0
    assert "found the same x and y for all cells" in the_problem(lambda: read_stack(adata))


def test_representation_that_is_not_finite(adata):
    adata.obsm["X_pca"][[0, 59], 1] = np.nan
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['X_pca']: expected finite values; found NaN, infinity or float32 overflow in 2 of 60" in problem
    assert "(rows 0, 59)" in problem


def test_representation_that_overflows_float32(adata):
    adata.obsm["X_pca"] = adata.obsm["X_pca"].astype(np.float64)
    adata.obsm["X_pca"][4, 0] = 1e40
    assert "overflow in 1 of 60 cells (row 4)" in the_problem(lambda: read_stack(adata))


def test_missing_representation(adata):
    del adata.obsm["X_pca"]
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['X_pca']: expected a representation (n_cells, n_features)" in problem
    assert "found obsm keys 'spatial'" in problem
    assert problem.endswith("Next: isost.pp.embed(adata)")
    isost.pp.embed(adata)
    assert read_stack(adata).n_features == 5
    assert "use_rep=..." in the_problem(lambda: read_stack(adata, use_rep="X_scvi"))


def test_representation_of_text(adata):
    adata.obsm["X_pca"] = pd.DataFrame({"a": ["x"] * 60}, index=adata.obs_names)
    assert "expected numbers (n_cells, n_features); found values that are none: 'x'" in the_problem(
        lambda: read_stack(adata)
    )


def test_unknown_section_key(adata):
    adata.obs["slide"] = adata.obs.pop("section")
    problem = the_problem(lambda: read_stack(adata, section_key="slice"))
    assert "section_key: expected a column of adata.obs; found 'slice', while the columns are 'slide'" in problem
    assert "section_key=None" in problem


def test_unknown_depth_key(adata):
    problem = the_problem(lambda: read_stack(adata, depth_key="depth"))
    assert "adata.obs['depth']: expected a column of depths; found the columns 'section'" in problem


def test_cells_without_a_section(adata):
    adata.obs.loc[adata.obs_names[4], "section"] = None
    problem = the_problem(lambda: read_stack(adata))
    assert "expected a section for every cell; found none for 1 of 60 cells (row 4)" in problem
    remedy = "adata[adata.obs['section'].notna()].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata})).n_cells == 59


def test_an_unused_category_is_no_section(adata):
    assert "unused" in adata.obs["section"].cat.categories
    assert "unused" not in read_stack(adata).names


def test_empty_section(adata):
    parts = {name: adata[adata.obs["section"] == name] for name in ["s1", "s2", "unused"]}
    problem = the_problem(lambda: isost.pp.stack_sections(parts, z=[0, 1, 2]))
    assert "section 'unused': expected cells; found none" in problem


def test_no_cells_at_all(adata):
    with pytest.raises(ValueError, match=r"adata: expected cells, found an AnnData without any\. Next: "):
        read_stack(adata[:0])


def test_a_section_of_three_cells(adata):
    small = adata[np.r_[0:3, 20:60]].copy()
    problem = the_problem(lambda: read_stack(small))
    assert "expected at least 10 cells in every section, for five neighbours" in problem
    assert "found 's10' with 3" in problem
    remedy = "adata[adata.obs['section'].map(adata.obs['section'].value_counts()) >= 10].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": small})).names == ("s1", "s2")


def test_ten_cells_are_enough(adata):
    assert read_stack(adata[np.r_[0:10, 20:30, 40:50]]).n_cells == 30


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
def test_duplicate_names(adata):
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


@pytest.mark.parametrize("categorical", [False, True])
def test_text_depths(adata, categorical):
    adata.obs["z"] = [f"{depth:g} um" for depth in adata.obsm["spatial"][:, 2]]
    if categorical:
        adata.obs["z"] = adata.obs["z"].astype("category")
    problem = the_problem(lambda: read_stack(adata, depth_key="z"))
    assert "adata.obs['z']: expected depths as numbers, in the unit of x and y" in problem
    assert "'100 um'" in problem
    assert "'0 um'" in problem
    assert "adata.obs['z'].map({" in problem


def test_text_that_looks_like_numbers_is_not_guessed(adata):
    adata.obs["z"] = [f"{depth:g}" for depth in adata.obsm["spatial"][:, 2]]
    assert "text: '100', '0', '50'" in the_problem(lambda: read_stack(adata, depth_key="z"))


def test_text_coordinates(adata):
    adata.obsm["spatial"] = pd.DataFrame(adata.obsm["spatial"], index=adata.obs_names, columns=list("xyz")).astype(str)
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['spatial']: expected numbers; found values that are none" in problem


def test_continuous_depths_without_sections(adata):
    del adata.obs["section"]
    adata.obsm["spatial"][:, 2] = np.linspace(0.0, 100.0, 60)
    problem = the_problem(lambda: read_stack(adata))
    assert "found 60 distinct depths among 60 cells, from 0 to 100" in problem
    remedy = "adata.obs['section'] = pandas.cut(adata.obsm['spatial'][:, 2], bins=12).astype(str)"
    assert remedy in problem
    exec(remedy.replace("12", "6"), {"adata": adata, "pandas": pd})
    assert read_stack(adata).n_sections == 6


def test_dense_continuous_depths_are_not_one_section(make_stack):
    draw = np.random.default_rng(0)
    n = 60_000
    adata = AnnData(obsm={"spatial": draw.random((n, 3)), "X_pca": draw.random((n, 2))})
    assert "60000 distinct depths among 60000 cells" in the_problem(lambda: read_stack(adata))


def test_several_problems_are_all_listed(adata):
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


def test_everything_is_checked_before_a_stack_is_embedded(adata):
    del adata.obsm["X_pca"]
    adata.X[1, 1] = np.nan
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :2]
    assert len(problems_of(lambda: check_stack(adata))) == 2


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_expression_that_is_not_finite(make_stack, as_sparse, bad):
    adata = make_stack(as_sparse=as_sparse)
    adata.X[4, 2] = adata.X[4, 3] = adata.X[9, 1] = bad
    problem = the_problem(lambda: isost.pp.embed(adata))
    assert "adata.X: expected finite values; found NaN or infinity in 2 of 60 cells (rows 4, 9)" in problem
    remedy = "adata[numpy.isfinite(numpy.ravel(adata.X.sum(axis=1)))].copy()"
    assert remedy in problem
    assert eval(remedy, {"adata": adata, "numpy": np}).n_obs == 58


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_negative_counts(adata, dtype):
    adata.X = adata.X.astype(dtype)
    adata.X[3, 0] = -2
    problem = the_problem(lambda: isost.pp.embed(adata))
    assert "expected counts of 0 or more; found whole numbers down to -2" in problem
    assert "negative in 1 of 60 cells (row 3)" in problem
    assert ("int16 may have wrapped around" in problem) == (dtype is np.int16)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64, np.float64])
def test_counts_that_overflowed(adata, dtype):
    counts = adata.X.toarray().astype(dtype)
    counts[0, 0] = 2**32 - 1
    adata.X = counts
    problem = the_problem(lambda: isost.pp.embed(adata))
    assert "expected values of at most 2147483647 (2**31 - 1); found 4.29497e+09" in problem
    assert "overflow" in problem


def test_values_that_overflow_float32(adata):
    adata.X = adata.X.toarray().astype(np.float64) * 0.3
    adata.X[0, 0] = 1e60
    assert "expected values of at most 1e+30; found 1e+60 in dtype float64" in the_problem(
        lambda: isost.pp.embed(adata)
    )


def test_counts_at_the_largest_value_of_their_dtype_are_pointed_out(adata, caplog):
    adata.X = adata.X.toarray().astype(np.uint8)
    adata.X[0, 0] = 255
    with caplog.at_level(logging.WARNING, logger="isost"):
        isost.pp.embed(adata)
    assert "reaches 255, the largest value of uint8" in caplog.text


def test_expression_without_variation(adata):
    del adata.obsm["X_pca"]
    adata.X = np.ones((60, 6), dtype=np.float32)
    with pytest.raises(ValueError, match=r"expected values that differ between cells, found the same.*Next"):
        isost.pp.embed(adata)
    assert "X_pca" not in adata.obsm
    adata.X = sparse.csr_matrix((60, 6), dtype=np.float32)
    with pytest.raises(ValueError, match=r"expected values that differ between cells, found the same.*Next"):
        isost.pp.embed(adata)


def test_a_view_is_not_embedded_but_read(adata):
    view = adata[:40]
    problem = the_problem(lambda: isost.pp.embed(view))
    assert "adata: expected an AnnData that owns its data" in problem
    assert "found a view" in problem
    assert problem.endswith("Next: adata = adata.copy()")
    assert view.is_view
    assert read_stack(view).n_cells == 40
    assert view.is_view


def test_a_backed_file_is_not_embedded_but_read(adata, tmp_path):
    adata.write_h5ad(tmp_path / "stack.h5ad")
    backed = read_h5ad(tmp_path / "stack.h5ad", backed="r")
    problem = the_problem(lambda: isost.pp.embed(backed))
    assert "expected data in memory; found a backed AnnData" in problem
    assert "adata = adata.to_memory()" in problem
    assert read_stack(backed).n_cells == 60
    check_stack(backed)
    backed.file.close()


@pytest.mark.parametrize("call", [read_stack, isost.pp.embed, check_stack])
def test_something_else_than_an_anndata(call):
    with pytest.raises(TypeError, match=r"expected an AnnData, found DataFrame\. Next: isost\.pp\.stack_sections"):
        call(pd.DataFrame())


def test_no_shared_genes(adata):
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
def test_depths_that_do_not_fit_the_sections(adata, z, found):
    problem = the_problem(lambda: isost.pp.stack_sections({"a": adata, "b": adata}, z=z))
    assert re.search(rf"z: expected .*; found {re.escape(found)}\.", problem)


def test_problems_of_all_sections_are_listed(adata):
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
def test_fewer_than_two_sections(adatas):
    problem = the_problem(lambda: isost.pp.stack_sections(adatas, z=[0.0] * len(adatas)))
    assert f"adatas: expected two sections or more; found {len(adatas)}" in problem
