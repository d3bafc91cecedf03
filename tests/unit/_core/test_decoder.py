from __future__ import annotations

import logging

import numpy as np
import pytest
import scanpy as sc
from anndata import read_h5ad

from isost._core.decoder import Decoder, least_squares_loadings
from isost._core.stack import read_stack


@pytest.fixture
def decomposed(make_stack):
    adata = make_stack(n=20, n_genes=12)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=6, svd_solver="arpack")
    return adata


def dense(adata) -> np.ndarray:
    return adata.X.toarray().astype(np.float64)


def test_decode_is_the_affine_map():
    draw = np.random.default_rng(0)
    decoder = Decoder(
        ("a", "b", "c"), draw.normal(size=(3, 2)).astype(np.float32), draw.normal(size=3).astype(np.float32)
    )
    features = draw.normal(size=(5, 2))
    expected = features @ decoder.loadings.T.astype(np.float64) + decoder.mean
    assert decoder.decode(features).dtype == np.float32
    np.testing.assert_allclose(decoder.decode(features), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoder.decode(features, ["c", "a"]), expected[:, [2, 0]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(decoder.index(["c", "a"]), [2, 0])


def test_unknown_genes_are_named_with_close_matches():
    decoder = Decoder(("Gad1", "Gad2", "Slc17a6"), np.zeros((3, 1), np.float32), np.zeros(3, np.float32))
    with pytest.raises(KeyError, match=r"expected names among the 3 genes.*2 unknown.*'GAD1' \(close: Gad1.*Next"):
        decoder.decode(np.zeros((1, 1)), ["GAD1", "Gad1", "xyz"])


def test_plain_scanpy_pca_decodes_with_the_mean_of_x(decomposed):
    stack = read_stack(decomposed)
    x = dense(decomposed)
    np.testing.assert_allclose(stack.decoder.mean, x.mean(axis=0), atol=1e-5)
    expected = decomposed.obsm["X_pca"] @ decomposed.varm["PCs"].T + x.mean(axis=0)
    np.testing.assert_allclose(stack.decoder.decode(stack.features), expected[stack.rows], atol=1e-4)


def test_plain_scanpy_pca_of_all_components_decodes_exactly(make_stack):
    adata = make_stack(n=20, n_genes=12)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=12, svd_solver="covariance_eigh")
    stack = read_stack(adata)
    np.testing.assert_allclose(stack.decoder.decode(stack.features), dense(adata)[stack.rows], atol=2e-4)


def test_a_subset_of_the_cells_keeps_the_mean_of_the_pca(decomposed):
    whole = read_stack(decomposed).decoder
    part = read_stack(decomposed[decomposed.obs["section"] != "s2"])
    # The mean of the subset alone is elsewhere; what the components miss of it may remain.
    x = dense(decomposed)[decomposed.obs["section"] != "s2"]
    shift = np.linalg.norm(x.mean(axis=0) - whole.mean)
    assert np.linalg.norm(part.decoder.mean - whole.mean) < shift
    np.testing.assert_allclose(part.decoder.decode(part.features).mean(axis=0), x.mean(axis=0), atol=1e-4)


def test_genes_outside_the_mask_get_least_squares_loadings(decomposed):
    decomposed.var["highly_variable"] = np.arange(12) < 8
    sc.pp.pca(decomposed, n_comps=5, svd_solver="arpack")
    stack = read_stack(decomposed)
    np.testing.assert_allclose(stack.decoder.loadings[:8], decomposed.varm["PCs"][:8], atol=1e-6)
    design = np.column_stack([np.ones(60), decomposed.obsm["X_pca"]]).astype(np.float64)
    expected = np.linalg.lstsq(design, dense(decomposed), rcond=None)[0]
    np.testing.assert_allclose(stack.decoder.mean, expected[0], atol=1e-5)
    np.testing.assert_allclose(stack.decoder.loadings, expected[1:].T, atol=1e-5)


def test_scaled_and_uncentred_pca_decode_to_what_was_decomposed(make_stack):
    adata = make_stack(as_sparse=False)
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    sc.pp.pca(adata, n_comps=11, svd_solver="covariance_eigh")
    stack = read_stack(adata)
    assert np.corrcoef(stack.decoder.decode(stack.features).ravel(), adata.X[stack.rows].ravel())[0, 1] > 0.99
    sc.pp.pca(adata, n_comps=11, zero_center=False)
    stack = read_stack(adata)
    assert np.corrcoef(stack.decoder.decode(stack.features).ravel(), adata.X[stack.rows].ravel())[0, 1] > 0.99


def test_the_layer_that_scanpy_decomposed_is_read(make_stack):
    adata = make_stack()
    adata.layers["log"] = adata.X.log1p()
    sc.pp.pca(adata, n_comps=4, layer="log", svd_solver="arpack")
    mean = np.asarray(adata.layers["log"].mean(axis=0)).ravel()
    np.testing.assert_allclose(read_stack(adata).decoder.mean, mean, atol=1e-5)


def test_key_added_by_scanpy_finds_its_loadings(decomposed):
    sc.pp.pca(decomposed, n_comps=3, key_added="mine", svd_solver="arpack")
    decoder = read_stack(decomposed, use_rep="mine").decoder
    np.testing.assert_allclose(decoder.loadings, decomposed.varm["mine"], atol=1e-6)


def test_a_representation_without_loadings_has_no_decoder(make_stack):
    assert read_stack(make_stack()).decoder is None


def test_counts_put_back_into_x_are_not_taken_for_what_was_decomposed(decomposed, caplog):
    decomposed.X = decomposed.X.expm1()
    with caplog.at_level(logging.WARNING, logger="isost"):
        assert read_stack(decomposed).decoder is None
    assert "X was changed after the PCA" in caplog.text
    assert "isost.pp.embed(adata)" in caplog.text


def test_a_backed_matrix_gives_the_mean(decomposed, tmp_path):
    decomposed.write_h5ad(tmp_path / "stack.h5ad")
    backed = read_h5ad(tmp_path / "stack.h5ad", backed="r")
    np.testing.assert_allclose(read_stack(backed).decoder.mean, read_stack(decomposed).decoder.mean, atol=1e-6)
    backed.file.close()


def test_least_squares_loadings_solve_the_normal_equations():
    draw = np.random.default_rng(0)
    scores, loadings = draw.normal(size=(40, 3)), draw.normal(size=(7, 3))
    matrix = scores @ loadings.T + 5.0
    np.testing.assert_allclose(least_squares_loadings(matrix, scores), loadings, atol=1e-10)


def test_loadings_without_a_mean_and_without_x_do_not_decode(decomposed, caplog):
    decomposed.X = None
    assert read_stack(decomposed).decoder is None
    assert "no adata.X to take it from" in caplog.text
