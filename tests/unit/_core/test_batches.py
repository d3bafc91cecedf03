from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from isost._core.batches import correct_batches

N, GENES = 240, 40


@pytest.fixture
def adata() -> AnnData:
    """Two batches alike but for what each gene is shifted by and scaled with in the second; the last gene is 1."""
    draw = np.random.default_rng(0)
    values = 3.0 + draw.normal(size=(N, GENES)) * draw.uniform(0.5, 1.5, GENES)
    second = np.arange(N) >= N // 2
    values[second] = (values[second] - 3.0) * draw.uniform(1.3, 1.8, GENES) + 3.0 + draw.normal(0.0, 1.0, GENES)
    values[:, -1] = 1.0
    adata = AnnData(values.astype(np.float32))
    adata.obs["slide"] = np.where(second, "b", "a")
    return adata


def _gap(values: np.ndarray, adata: AnnData) -> np.ndarray:
    second = (adata.obs["slide"] == "b").to_numpy()
    return values[second].mean(axis=0) - values[~second].mean(axis=0)


def test_batches_come_to_have_the_same_means_and_spreads(adata: AnnData) -> None:
    corrected = correct_batches(adata, adata.X, "slide", ())
    assert corrected.dtype == np.float32 and corrected.shape == adata.shape
    assert np.abs(_gap(adata.X, adata)).max() > 1.0
    assert np.abs(_gap(corrected, adata)).max() < 0.1
    second = (adata.obs["slide"] == "b").to_numpy()
    spread = [corrected[own, :-1].std(axis=0) for own in (second, ~second)]
    np.testing.assert_allclose(*spread, rtol=0.2)
    np.testing.assert_allclose(corrected.mean(axis=0), adata.X.mean(axis=0), atol=0.02)


def test_within_a_batch_the_order_of_cells_stays(adata: AnnData) -> None:
    """ComBat shifts and scales a gene of a batch."""
    corrected = correct_batches(adata, adata.X, "slide", ())
    for slide in ("a", "b"):
        own = (adata.obs["slide"] == slide).to_numpy()
        for gene in (0, 17):
            assert np.corrcoef(adata.X[own, gene], corrected[own, gene])[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_a_constant_gene_stays_and_the_input_too(adata: AnnData) -> None:
    before = adata.X.copy()
    corrected = correct_batches(adata, adata.X, "slide", ())
    np.testing.assert_array_equal(corrected[:, -1], 1.0)
    np.testing.assert_array_equal(adata.X, before)


def test_a_gene_that_does_not_vary_within_a_batch_stays(adata: AnnData) -> None:
    adata.X[:, 3] = np.where(adata.obs["slide"] == "a", 0.0, adata.X[:, 3])
    corrected = correct_batches(adata, adata.X, "slide", ())
    assert np.isfinite(corrected).all()


def test_sparse_is_as_dense(adata: AnnData) -> None:
    dense = correct_batches(adata, adata.X, "slide", ())
    np.testing.assert_allclose(correct_batches(adata, sparse.csr_matrix(adata.X), "slide", ()), dense)


def test_whatever_type_names_the_batches(adata: AnnData) -> None:
    expected = correct_batches(adata, adata.X, "slide", ())
    adata.obs["number"] = np.where(adata.obs["slide"] == "a", 1, 2)
    adata.obs["category"] = pd.Categorical(adata.obs["slide"], categories=["b", "unused", "a"])
    for key in ("number", "category"):
        np.testing.assert_allclose(correct_batches(adata, adata.X, key, ()), expected, atol=1e-4)


def test_what_covariates_explain_is_kept(adata: AnnData) -> None:
    """A type of cell, of which the second batch has more, has more of every gene."""
    draw = np.random.default_rng(1)
    adata.obs["type"] = np.where(draw.random(N) < np.where(adata.obs["slide"] == "a", 0.25, 0.75), "x", "y")
    more = (adata.obs["type"] == "x").to_numpy()
    values = adata.X + 2.0 * more[:, None].astype(np.float32)

    def planted(corrected: np.ndarray) -> float:
        gaps = [corrected[(adata.obs["slide"] == slide) & more, :-1].mean()
                - corrected[(adata.obs["slide"] == slide) & ~more, :-1].mean() for slide in "ab"]  # fmt: skip
        return float(np.mean(gaps))

    kept = correct_batches(adata, values, "slide", ["type"])
    types = _gap(kept[more], adata[more])[:-1], _gap(kept[~more], adata[~more])[:-1]
    assert planted(kept) == pytest.approx(2.0, rel=0.1)
    assert np.mean(types) == pytest.approx(0.0, abs=0.05)
    left_out = correct_batches(adata, values, "slide", ())
    assert np.abs(_gap(left_out[more], adata[more])[:-1].mean()) > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_a_covariate_may_be_of_names_or_of_numbers(adata: AnnData, seed: int) -> None:
    draw = np.random.default_rng(seed)
    adata.obs["number"] = (draw.random(N) < np.where(adata.obs["slide"] == "a", 0.25, 0.75)).astype(float)
    adata.obs["name"] = np.where(adata.obs["number"] > 0, "x", "y")
    one, other = (correct_batches(adata, adata.X, "slide", [key]) for key in ("number", "name"))
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_batches_that_covariates_name_too(adata: AnnData) -> None:
    adata.obs["lab"] = adata.obs["slide"].map({"a": "here", "b": "there"})
    with pytest.raises(ValueError, match=r"covariates: expected what differs within batches, found .*lab.*Next"):
        correct_batches(adata, adata.X, "slide", ["lab"])
