from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData, read_h5ad
from scipy import sparse

import isost
from isost._core.expression import summarise
from isost._core.normalise import Normalisation, choose_normalisation, lognormalise


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(2.0, (30, 8)).astype(np.float32)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_counts_become_what_scanpy_makes_of_them(counts, as_sparse):
    adata = AnnData(sparse.csr_matrix(counts) if as_sparse else counts)
    ours = lognormalise(adata)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    assert sparse.issparse(ours) == as_sparse
    assert ours.dtype == np.float32
    difference = ours - adata.X
    assert abs(difference).max() < 1e-5


def test_cells_without_counts_stay_zero_and_leave_the_median_alone(counts):
    with_empty = np.vstack([counts, np.zeros((5, 8), np.float32)])
    expected = np.vstack([lognormalise(AnnData(counts)), np.zeros((5, 8))])
    np.testing.assert_allclose(lognormalise(AnnData(with_empty)), expected, rtol=1e-6)
    np.testing.assert_allclose(lognormalise(AnnData(sparse.csr_matrix(with_empty))).toarray(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_array])
def test_other_sparse_kinds_come_back_as_csr(counts, kind):
    result = lognormalise(AnnData(kind(counts)))
    assert isinstance(result, sparse.csr_matrix)
    np.testing.assert_allclose(result.toarray(), lognormalise(AnnData(counts)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float64, bool])
def test_the_dtype_of_counts_does_not_matter(dtype):
    counts = np.random.default_rng(0).integers(0, 2 if dtype is bool else 200, (10, 6))
    np.testing.assert_allclose(
        lognormalise(AnnData(counts.astype(dtype))), lognormalise(AnnData(counts.astype(np.float64))), rtol=1e-6
    )


def test_input_is_left_as_it_is(counts):
    adata = AnnData(sparse.csr_matrix(counts))
    before = adata.X.copy()
    lognormalise(adata)
    assert (adata.X != before).nnz == 0


@pytest.mark.parametrize(
    ("values", "found", "scaled", "log1p"),
    [
        ([[1.0, 3.0], [2.0, 6.0]], "counts", True, True),
        ([[0.5, 3.1], [2.2, 8.9]], "log-normalised", False, False),
        ([[0.5, 227.3], [2.2, 80.9]], "normalised, not yet log", False, True),
        ([[-0.5, 3.1], [2.2, 30.9]], "scaled", False, False),
    ],
)
def test_values_tell_what_they_are(values, found, scaled, log1p):
    how = choose_normalisation(summarise(np.array(values)))
    assert how.found.startswith(found)
    assert (how.target_sum is not None, how.log1p) == (scaled, log1p)
    assert how.target_sum in (None, 6.0)


def test_the_user_wins():
    summary = summarise(np.array([[0.5, 227.3], [2.2, 80.9]]))
    how = choose_normalisation(summary, target_sum=100.0, log1p=False, layer="x")
    assert (how.target_sum, how.log1p, how.layer) == (100.0, False, "x")


@pytest.mark.parametrize("how", [Normalisation("a", 3.0, True, "b"), Normalisation("a", None, False, None)])
def test_the_record_survives_uns_and_a_file(how, tmp_path, counts):
    adata = AnnData(counts, uns={"how": how.to_uns()})
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert Normalisation.from_uns(read_h5ad(tmp_path / "a.h5ad").uns["how"]) == how


def test_a_part_of_the_cells_is_normalised_like_the_whole(counts):
    adata = AnnData(counts)
    whole = lognormalise(adata, Normalisation("counts", 16.0, True, None))
    isost.pp.embed(adata, n_comps=3, target_sum=16.0)
    np.testing.assert_array_equal(lognormalise(adata), whole)
    np.testing.assert_array_equal(lognormalise(adata[3:7]), whole[3:7])


def test_after_plain_scanpy_the_decomposed_matrix_is_returned(counts):
    adata = AnnData(counts)
    adata.layers["log"] = np.log1p(counts)
    sc.pp.pca(adata, n_comps=3, layer="log")
    np.testing.assert_array_equal(lognormalise(adata), adata.layers["log"])


def test_a_plain_pca_after_embed_makes_its_record_void(counts):
    adata = AnnData(counts)
    isost.pp.embed(adata, n_comps=3)
    adata.layers["log"] = np.log1p(counts)
    sc.pp.pca(adata, n_comps=3, layer="log")
    np.testing.assert_array_equal(lognormalise(adata), adata.layers["log"])


def test_counts_normalised_in_place_after_embed_are_not_normalised_twice(counts, caplog):
    adata = AnnData(counts)
    isost.pp.embed(adata, n_comps=3)
    expected = lognormalise(adata)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(lognormalise(adata), expected, atol=1e-5)
    assert "holds fractions now" in caplog.text
