"""Expression and representations that cannot be read or embedded."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import read_h5ad
from scipy import sparse

import isost
from isost._core.stack import check_stack, read_stack


def test_representation_that_is_not_finite(adata, the_problem):
    adata.obsm["X_pca"][[0, 59], 1] = np.nan
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['X_pca']: expected finite values; found NaN, infinity or float32 overflow in 2 of 60" in problem
    assert "(rows 0, 59)" in problem


def test_representation_that_overflows_float32(adata, the_problem):
    adata.obsm["X_pca"] = adata.obsm["X_pca"].astype(np.float64)
    adata.obsm["X_pca"][4, 0] = 1e40
    assert "overflow in 1 of 60 cells (row 4)" in the_problem(lambda: read_stack(adata))


def test_missing_representation(adata, the_problem):
    del adata.obsm["X_pca"]
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['X_pca']: expected a representation (n_cells, n_features)" in problem
    assert "found obsm keys 'spatial'" in problem
    assert problem.endswith("Next: isost.pp.embed(adata)")
    isost.pp.embed(adata)
    assert read_stack(adata).n_features == 5
    assert "use_rep=..." in the_problem(lambda: read_stack(adata, use_rep="X_scvi"))


def test_representation_of_text(adata, the_problem):
    adata.obsm["X_pca"] = pd.DataFrame({"a": ["x"] * 60}, index=adata.obs_names)
    assert "expected numbers (n_cells, n_features); found values that are none: 'x'" in the_problem(
        lambda: read_stack(adata)
    )


def test_everything_is_checked_before_a_stack_is_embedded(adata, problems_of):
    del adata.obsm["X_pca"]
    adata.X[1, 1] = np.nan
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :2]
    assert len(problems_of(lambda: check_stack(adata))) == 2


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_expression_that_is_not_finite(make_stack, as_sparse, bad, the_problem):
    adata = make_stack(as_sparse=as_sparse)
    adata.X[4, 2] = adata.X[4, 3] = adata.X[9, 1] = bad
    problem = the_problem(lambda: isost.pp.embed(adata))
    assert "adata.X: expected finite values; found NaN or infinity in 2 of 60 cells (rows 4, 9)" in problem
    remedy = "adata[numpy.isfinite(numpy.ravel(adata.X.sum(axis=1)))].copy()"
    assert remedy in problem
    assert eval(remedy, {"adata": adata, "numpy": np}).n_obs == 58


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_negative_counts(adata, dtype, the_problem):
    adata.X = adata.X.astype(dtype)
    adata.X[3, 0] = -2
    problem = the_problem(lambda: isost.pp.embed(adata))
    assert "expected counts of 0 or more; found whole numbers down to -2" in problem
    assert "negative in 1 of 60 cells (row 3)" in problem
    assert ("int16 may have wrapped around" in problem) == (dtype is np.int16)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64, np.float64])
def test_counts_that_overflowed(adata, dtype, the_problem):
    counts = adata.X.toarray().astype(dtype)
    counts[0, 0] = 2**32 - 1
    adata.X = counts
    problem = the_problem(lambda: isost.pp.embed(adata))
    assert "expected values of at most 2147483647 (2**31 - 1); found 4.29497e+09" in problem
    assert "overflow" in problem


def test_values_that_overflow_float32(adata, the_problem):
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


def test_a_view_is_not_embedded_but_read(adata, the_problem):
    view = adata[:40]
    problem = the_problem(lambda: isost.pp.embed(view))
    assert "adata: expected an AnnData that owns its data" in problem
    assert "found a view" in problem
    assert problem.endswith("Next: adata = adata.copy()")
    assert view.is_view
    assert read_stack(view).n_cells == 40
    assert view.is_view


def test_a_backed_file_is_embedded_and_read(adata, tmp_path):
    adata.write_h5ad(tmp_path / "stack.h5ad")
    backed = read_h5ad(tmp_path / "stack.h5ad", backed="r")
    isost.pp.embed(backed, n_comps=3)
    assert backed.isbacked and backed.obsm["X_pca"].shape == (60, 3)
    assert read_stack(backed).n_cells == 60
    check_stack(backed)
    backed.file.close()


@pytest.mark.parametrize("layer", [None, "log"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_expression_that_a_representation_decodes_to(adata, the_problem, layer, bad):
    sc.pp.log1p(adata)
    adata.layers["log"] = adata.X.copy()
    sc.pp.pca(adata, n_comps=3, layer=layer)
    for row in (3, 59):
        (adata.X if layer is None else adata.layers[layer])[row, 0] = bad
    problem = the_problem(lambda: read_stack(adata))
    where = "adata.X" if layer is None else "adata.layers['log']"
    assert f"{where}: expected finite values; found NaN or infinity in 2 of 60 cells (rows 3, 59)" in problem


def test_expression_that_changed_since_it_was_embedded(adata, the_problem):
    adata.X = adata.X.toarray()
    adata.layers["counts"] = adata.X.copy()
    isost.pp.embed(adata, n_comps=3, layer="counts")
    adata.X[0, 0] = np.nan
    assert read_stack(adata).decoder is not None
    adata.layers["counts"][0, 0] = np.nan
    assert "adata.layers['counts']: expected finite values" in the_problem(lambda: read_stack(adata))


def test_expression_behind_a_representation_without_loadings_is_not_looked_at(adata):
    adata.X = adata.X.toarray()
    adata.X[0, 0] = np.nan
    assert read_stack(adata).decoder is None
