"""Moments, Moran's I and what the networks are given of expression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from isost._domains.features import Features, autocorrelation, correlations, leading_axes, moments
from isost._domains.graph import spatial_graph


@pytest.fixture(scope="module")
def expression() -> np.ndarray:
    """180 cells of two samples, 300 genes: more than are looked at in one go, a constant one, and some trends."""
    draw = np.random.default_rng(0)
    x = draw.gamma(1.0, 1.0, (180, 300)) * (draw.random((180, 300)) < 0.4)
    x[:, 5:9] += np.linspace(0, 5, 180)[:, None]
    x[90:] += 0.7 * (x[90:] > 0)
    x[:, 4] = 1.3
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return np.repeat([0, 1], 90)


@pytest.fixture(scope="module")
def graph(sample: np.ndarray) -> sparse.csr_matrix:
    place = np.random.default_rng(1).uniform(0, 10, (180, 2))
    place[:, 0] = np.sort(place[:, 0])
    return spatial_graph(place, sample)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_moments(expression: np.ndarray, sample: np.ndarray, as_sparse: bool) -> None:
    mean, variance = moments(sparse.csr_matrix(expression) if as_sparse else expression, sample, 2)
    for number in range(2):
        rows = expression[sample == number].astype(np.float64)
        np.testing.assert_allclose(mean[number], rows.mean(axis=0), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(variance[number], rows.var(axis=0), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_a_gene_of_one_value_has_no_variance(as_sparse: bool) -> None:
    """Whatever the value: 1e-10 is what counts as some."""
    x = np.tile(np.linspace(0.1, 9, 40, dtype=np.float32), (25, 1))
    _, variance = moments(sparse.csr_matrix(x) if as_sparse else x, np.zeros(25, dtype=np.int64), 1)
    assert variance.max() < 1e-10


@pytest.mark.parametrize("as_sparse", [False, True])
def test_morans_i_by_formula(
    expression: np.ndarray, sample: np.ndarray, graph: sparse.csr_matrix, as_sparse: bool
) -> None:
    """Each sample taken to mean 0 and variance 1, then (n / W) sum_ij w_ij x_i x_j / sum_i x_i^2, sum_j w_ij = 1."""
    matrix = sparse.csr_matrix(expression) if as_sparse else expression
    found = autocorrelation(matrix, graph, sample, *moments(matrix, sample, 2))
    w = graph.toarray().astype(float)
    assert (w.sum(axis=1) > 0).all()
    w /= w.sum(axis=1, keepdims=True)
    z = expression.astype(np.float64)
    for number in range(2):
        rows = sample == number
        spread = z[rows].std(axis=0)
        z[rows] = (z[rows] - z[rows].mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
    varies = np.arange(300) != 4
    truth = (z * (w @ z)).sum(axis=0)[varies] / (z**2).sum(axis=0)[varies]
    np.testing.assert_allclose(found[varies], truth, rtol=1e-4, atol=1e-5)
    assert found[4] == 0.0
    assert found[5:9].min() > 0.2 > abs(np.median(found))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_morans_i_is_squidpys(expression: np.ndarray, graph: sparse.csr_matrix) -> None:
    import squidpy as sq
    from anndata import AnnData

    one = graph[:90][:, :90]
    adata = AnnData(expression[:90])
    adata.obsp["spatial_connectivities"] = one.astype(np.float64)
    genes = adata.var_names[5:40].tolist()
    sq.gr.spatial_autocorr(adata, mode="moran", genes=genes, transformation=True, n_jobs=1, show_progress_bar=False)
    none = np.zeros(90, dtype=np.int64)
    found = autocorrelation(expression[:90], one, none, *moments(expression[:90], none, 1))
    np.testing.assert_allclose(found[5:40], adata.uns["moranI"].loc[genes, "I"], rtol=1e-4, atol=1e-5)


def test_cells_without_neighbours_do_not_count(expression: np.ndarray) -> None:
    """Alone, no cell says anything of its surroundings."""
    none = np.zeros(180, dtype=np.int64)
    found = autocorrelation(expression, sparse.csr_matrix((180, 180), dtype=bool), none, *moments(expression, none, 1))
    np.testing.assert_array_equal(found, 0.0)


def features_of(expression: np.ndarray, *, as_sparse: bool) -> Features:
    mean, deviation = expression.mean(axis=0, dtype=np.float64), expression.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
    return Features(sparse.csr_matrix(expression) if as_sparse else expression, mean, scale)


def test_dense_and_sparse_are_equal(expression: np.ndarray) -> None:
    dense, thin = (features_of(expression, as_sparse=kind) for kind in (False, True))
    rows = np.array([170, 3, 3, 91])
    assert dense.rows(rows).dtype == thin.rows(rows).dtype == np.float32
    np.testing.assert_allclose(dense.rows(rows), thin.rows(rows), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        correlations(dense, np.random.default_rng(0)), correlations(thin, np.random.default_rng(0)), atol=1e-6
    )


def test_genes_are_centred_and_of_deviation_one(expression: np.ndarray) -> None:
    features = features_of(expression, as_sparse=True)
    x = features.rows(np.arange(180)).astype(np.float64)
    varies = np.arange(300) != 4
    inside = (np.abs(x) < 9.99).all(axis=0) & varies
    np.testing.assert_allclose(x[:, inside].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x[:, inside].std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(x[:, 4], 0.0, atol=1e-6)


def test_a_single_cell_cannot_say_more_than_ten_deviations() -> None:
    x = np.zeros((400, 2), dtype=np.float32)
    x[0, 0], x[1:200, 1] = 100.0, 1.0
    features = features_of(x, as_sparse=False)
    found = features.rows(np.arange(400))
    assert found[0, 0] == pytest.approx(10)
    assert np.abs(found[:, 1]).max() < 2


@pytest.mark.parametrize(("n", "p", "n_comps"), [(180, 40, 18), (60, 290, 10), (180, 18, None), (60, 10, None)])
def test_a_component_for_ten_cells(expression: np.ndarray, n: int, p: int, n_comps: int | None) -> None:
    """The leading ones of a singular value decomposition; what lies outside of them is left out, once and for all."""
    features = features_of(expression[:n, 10 : 10 + p], as_sparse=True)
    axes = leading_axes(features)
    if n_comps is None:
        assert axes is None
        return
    assert axes is not None and axes.shape == (p, n_comps) and axes.dtype == np.float32
    x = features.rows(np.arange(n)).astype(np.float64)
    x -= x.mean(axis=0)
    truth = np.linalg.svd(x, full_matrices=False)[2][:n_comps]
    np.testing.assert_allclose(axes @ axes.T, truth.T @ truth, atol=1e-4)
    found = replace(features, axes=axes).rows(np.array([5, 3]))
    np.testing.assert_allclose(found, features.rows(np.array([5, 3])) @ truth.T @ truth, atol=1e-3)


def test_of_many_cells_all_is_kept() -> None:
    """Who has them with more than a thousand genes asked for so many genes."""
    for n, kept in ((10_000, False), (10_001, True)):
        thin = sparse.random_array((n, 1001), density=1e-3, rng=np.random.default_rng(0), format="csr")
        assert (leading_axes(Features(thin, np.zeros(1001), np.ones(1001))) is None) == kept


def test_correlations(expression: np.ndarray) -> None:
    found = correlations(features_of(expression, as_sparse=True), np.random.default_rng(0))
    varies = np.arange(300) != 4
    truth = np.corrcoef(expression[:, varies].astype(np.float64).T)
    np.testing.assert_allclose(found[np.ix_(varies, varies)], truth, atol=0.05)  # where a cell was cut at ten
    np.testing.assert_array_equal(found.diagonal(), 1.0)
    np.testing.assert_allclose(np.delete(found[4], 4), 0.0, atol=1e-6)
