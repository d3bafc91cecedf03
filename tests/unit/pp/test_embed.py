from __future__ import annotations

import logging
import tracemalloc

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData, read_h5ad
from scipy import sparse

import isost
from isost._core.normalise import lognormalise
from isost._core.stack import read_stack


@pytest.fixture
def adata(make_stack) -> AnnData:
    adata = make_stack(n=20, n_genes=12)
    del adata.obsm["X_pca"]
    return adata


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else matrix


def test_scores_are_those_of_plain_scanpy(adata):
    plain = adata.copy()
    isost.pp.embed(adata, n_comps=5)
    sc.pp.normalize_total(plain)
    sc.pp.log1p(plain)
    sc.pp.pca(plain, n_comps=5, svd_solver="arpack")
    np.testing.assert_allclose(np.abs(adata.obsm["X_pca"]), np.abs(plain.obsm["X_pca"]), atol=1e-3)
    np.testing.assert_allclose(adata.uns["pca"]["variance_ratio"], plain.uns["pca"]["variance_ratio"], rtol=1e-3)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_components_are_those_of_float64_in_blocks_too(make_stack, monkeypatch, as_sparse):
    adata = make_stack(n=20, n_genes=12, as_sparse=as_sparse)
    monkeypatch.setattr("isost._core.expression.BLOCK", 7 * 12)
    isost.pp.embed(adata, n_comps=5)
    expected = dense(lognormalise(adata)).astype(np.float64)
    expected -= expected.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(expected.T))
    vectors = vectors[:, :-6:-1] * np.sign((vectors[:, :-6:-1] * adata.varm["PCs"]).sum(axis=0))
    np.testing.assert_allclose(adata.varm["PCs"], vectors, atol=1e-6)
    np.testing.assert_allclose(adata.obsm["X_pca"], expected @ vectors, atol=1e-5)
    np.testing.assert_allclose(adata.uns["pca"]["variance"], values[:-6:-1], rtol=1e-6)
    np.testing.assert_allclose(adata.uns["pca"]["variance_ratio"], (values / values.sum())[:-6:-1], rtol=1e-6)


def test_lanczos_steps_find_what_the_covariance_has(adata, monkeypatch):
    few = adata.copy()
    isost.pp.embed(few, n_comps=4)
    monkeypatch.setattr("isost.pp._decompose.COVARIANCE_GENES_SPARSE", 0)
    monkeypatch.setattr("isost.pp._decompose.LANCZOS_COST", 0)
    isost.pp.embed(adata, n_comps=4, rng=0)
    np.testing.assert_allclose(adata.varm["PCs"], few.varm["PCs"], atol=1e-4)
    np.testing.assert_allclose(adata.obsm["X_pca"], few.obsm["X_pca"], atol=1e-3)
    np.testing.assert_allclose(adata.uns["pca"]["variance"], few.uns["pca"]["variance"], rtol=1e-4)


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("n_genes", [30, 600])
def test_all_components_decode_to_the_log_normalised_data(make_stack, as_sparse, n_genes):
    # 20 cells of 30 or more genes have 19 components and no more.
    adata = make_stack(n=20, n_genes=n_genes, as_sparse=as_sparse)[:20].copy()
    isost.pp.embed(adata, rng=0)
    assert adata.obsm["X_pca"].shape == (20, 19)
    adata.obs["section"] = np.repeat(["a", "b"], 10)
    adata.obsm["spatial"][:, 2] = np.repeat([0.0, 50.0], 10)
    stack = read_stack(adata)
    np.testing.assert_allclose(stack.decoder.decode(stack.features), dense(lognormalise(adata))[stack.rows], atol=1e-4)


def test_types_and_shapes_of_what_is_written(adata):
    isost.pp.embed(adata, n_comps=5)
    assert (adata.obsm["X_pca"].shape, adata.obsm["X_pca"].dtype) == ((60, 5), np.float32)
    assert (adata.varm["PCs"].shape, adata.varm["PCs"].dtype) == ((12, 5), np.float32)
    assert adata.var["pca_mean"].dtype == np.float32
    np.testing.assert_allclose(adata.var["pca_mean"], dense(lognormalise(adata)).mean(axis=0), rtol=1e-5)
    record = adata.uns["isost"]["embed"]
    assert record["n_comps"] == 5
    assert record["log1p"]
    assert record["target_sum"] == np.median(dense(adata.X).sum(axis=1))


def test_x_is_untouched_and_a_file_keeps_what_was_written(adata, tmp_path):
    before = adata.X.copy()
    isost.pp.embed(adata, n_comps=5)
    assert (adata.X != before).nnz == 0
    adata.write_h5ad(tmp_path / "stack.h5ad")
    back = read_stack(read_h5ad(tmp_path / "stack.h5ad"))
    np.testing.assert_array_equal(back.decoder.loadings, read_stack(adata).decoder.loadings)
    np.testing.assert_array_equal(back.decoder.mean, adata.var["pca_mean"])


def test_genes_outside_the_pca_get_least_squares_loadings(adata):
    isost.pp.embed(adata, n_comps=4, n_top_genes=7)
    mask = adata.var["highly_variable"].to_numpy()
    assert 7 <= mask.sum() < 12  # scanpy keeps ties
    loadings, x = adata.varm["PCs"], dense(lognormalise(adata)).astype(np.float64)
    np.testing.assert_allclose(loadings[mask].T @ loadings[mask], np.eye(4), atol=1e-5)
    scores = np.column_stack([np.ones(60), adata.obsm["X_pca"]]).astype(np.float64)
    expected = np.linalg.lstsq(scores, x, rcond=None)[0]
    np.testing.assert_allclose(loadings, expected[1:].T, atol=1e-4)
    np.testing.assert_allclose(adata.var["pca_mean"], expected[0], atol=1e-4)


def test_marked_genes_are_used_as_in_scanpy(adata):
    adata.var["highly_variable"] = np.arange(12) < 5
    marked = adata.copy()
    isost.pp.embed(marked, n_comps=3)
    only = adata[:, :5].copy()
    only.X = lognormalise(adata)[:, :5]
    isost.pp.embed(only, n_comps=3, log1p=False)
    np.testing.assert_allclose(np.abs(marked.obsm["X_pca"]), np.abs(only.obsm["X_pca"]), atol=1e-4)


def test_ranking_within_sections_ignores_what_differs_between_them():
    draw = np.random.default_rng(0)
    section = np.repeat(["a", "b", "c"], 100)
    counts = draw.poisson(20.0, (300, 40)).astype(np.float32)
    counts[:, :5] = draw.poisson(20.0 * draw.gamma(2.0, 0.5, (300, 5)))
    counts[:, 5:10] = draw.poisson(np.where(section == "b", 2.0, 40.0)[:, None], (300, 5))
    adata = AnnData(counts, obs={"section": section})
    isost.pp.embed(adata, n_comps=3, n_top_genes=5, section_key="section", target_sum=800.0)
    assert adata.var["highly_variable"].to_numpy().nonzero()[0].tolist() == [0, 1, 2, 3, 4]


def test_volume_normalised_input_is_logged_only(adata, caplog):
    adata.X = adata.X * np.float32(3.7)
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.pp.embed(adata, n_comps=3)
    assert "normalised, not yet log" in caplog.text
    assert "totals as they are, log1p" in caplog.text
    np.testing.assert_allclose(dense(lognormalise(adata)), np.log1p(dense(adata.X)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["log", "scaled"])
def test_log_normalised_and_scaled_input_stay_as_they_are(make_stack, caplog, kind):
    adata = make_stack(as_sparse=False)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    if kind == "scaled":
        sc.pp.scale(adata)
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.pp.embed(adata, n_comps=3)
    assert kind in caplog.text
    np.testing.assert_array_equal(dense(lognormalise(adata)), dense(adata.X).astype(np.float32))


def test_scaled_input_has_no_highly_variable_genes(make_stack):
    adata = make_stack(as_sparse=False)
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    with pytest.raises(ValueError, match=r"n_top_genes: expected counts.*found scaled.*Next"):
        isost.pp.embed(adata, n_top_genes=5)


def test_a_layer_of_counts_is_embedded(adata):
    expected = adata.copy()
    isost.pp.embed(expected, n_comps=3)
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.full(adata.shape, np.nan)
    isost.pp.embed(adata, n_comps=3, layer="counts")
    np.testing.assert_allclose(adata.obsm["X_pca"], expected.obsm["X_pca"], atol=1e-5)
    assert adata.uns["isost"]["embed"]["layer"] == "counts"
    assert read_stack(adata).decoder is not None


def test_components_are_clipped_with_a_word(adata, caplog):
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.pp.embed(adata)
    assert adata.obsm["X_pca"].shape == (60, 11)
    assert "11 components, as 60 cells x 12 genes have no more" in caplog.text


def test_components_that_do_not_vary_are_left_out(caplog):
    draw = np.random.default_rng(0)
    rank_two = draw.normal(size=(40, 2)) @ draw.normal(size=(2, 9))
    adata = AnnData((rank_two + 0.01).astype(np.float32))
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.pp.embed(adata)
    assert adata.obsm["X_pca"].shape == (40, 2)
    assert "2 of 8 components vary" in caplog.text


def test_all_zero_genes_and_cells_stay(adata, caplog):
    counts = dense(adata.X)
    counts[:, 3] = 0.0
    counts[7] = 0.0
    adata.X = sparse.csr_matrix(counts)
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.pp.embed(adata, n_comps=4)
    assert "1 of 12 genes are zero everywhere" in caplog.text
    assert "1 of 60 cells hold nothing" in caplog.text
    assert np.isfinite(adata.obsm["X_pca"]).all()
    stack = read_stack(adata)
    np.testing.assert_allclose(stack.decoder.decode(stack.features, "Gene3"), 0.0, atol=1e-5)


def test_it_runs_again_and_plain_pca_after_it_takes_over(adata):
    isost.pp.embed(adata, n_comps=5)
    isost.pp.embed(adata, n_comps=3)
    assert adata.obsm["X_pca"].shape == (60, 3)
    # Plain PCA of counts leaves the old mean behind; the decoder must not use it.
    sc.pp.pca(adata, n_comps=4, svd_solver="arpack")
    np.testing.assert_allclose(read_stack(adata).decoder.mean, dense(adata.X).mean(axis=0), atol=1e-4)


def test_the_same_seed_gives_the_same_components(make_stack):
    results = []
    for _ in range(2):
        adata = make_stack(n=20, n_genes=600)
        isost.pp.embed(adata, n_comps=5, rng=3)
        results.append(adata.obsm["X_pca"])
    np.testing.assert_array_equal(*results)


def test_sparse_input_is_never_made_dense():
    matrix = sparse.random(2000, 5000, density=0.005, format="csr", dtype=np.float32, random_state=0)
    matrix.data[:] = np.ceil(matrix.data * 5)
    adata = AnnData(matrix)
    tracemalloc.start()
    isost.pp.embed(adata, n_comps=5, n_top_genes=1000, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 2000 * 5000 * 4


def test_a_bad_argument_leaves_nothing_written(adata):
    for options in ({"n_comps": 0}, {"n_top_genes": -1}, {"target_sum": 0.0}, {"section_key": "slide"}, {"layer": "x"}):
        with pytest.raises(ValueError, match=r"(?s)expected .*found .*Next"):
            isost.pp.embed(adata, **options)
    assert not adata.obsm.keys() - {"spatial"}
    assert not adata.varm
    assert not adata.uns


def test_hypothalamus_is_recognised_and_decodes(data_dir, caplog):
    adata = read_h5ad(data_dir / "merfish_hypothalamus.h5ad")[::20].copy()
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.pp.embed(adata, n_comps=154)
    assert "normalised, not yet log" in caplog.text
    stack = read_stack(adata)
    truth = dense(lognormalise(adata))[stack.rows]
    error = stack.decoder.decode(stack.features) - truth
    assert np.square(error).sum() < 0.02 * np.square(truth - truth.mean(axis=0)).sum()


def test_as_many_genes_as_there_are_means_all(adata):
    everything = adata.copy()
    isost.pp.embed(everything, n_comps=4)
    isost.pp.embed(adata, n_comps=4, n_top_genes=12)
    np.testing.assert_array_equal(adata.obsm["X_pca"], everything.obsm["X_pca"])
    assert "highly_variable" not in adata.var


def test_a_dask_matrix_is_embedded_in_blocks(adata):
    dask_array = pytest.importorskip("dask.array")
    lazily = adata.copy()
    lazily.X = dask_array.from_array(dense(adata.X), chunks=(30, 12))
    for each in (adata, lazily):
        isost.pp.embed(each, n_comps=3)
    decoded = [each.obsm["X_pca"] @ each.varm["PCs"].T for each in (adata, lazily)]
    np.testing.assert_allclose(*decoded, atol=1e-3)
    assert isinstance(lazily.X, dask_array.Array)


def test_a_lazy_matrix_by_columns_is_refused_with_the_way_out(adata):
    dask_array = pytest.importorskip("dask.array")
    adata.X = dask_array.from_array(sparse.csc_matrix(dense(adata.X)), chunks=(30, 12), asarray=False)
    with pytest.raises(ValueError, match=r"expected rows that can be read .*CSC.*\n.*adata.to_memory\(\)"):
        isost.pp.embed(adata)
    assert "X_pca" not in adata.obsm
