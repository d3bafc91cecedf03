from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import isost
from isost.pp import embed


@pytest.fixture(scope="module")
def _batched() -> AnnData:
    return isost.datasets.phantom("still", n_sections=4, n_cells=120, n_genes=20, section_effects=0.6, rng=3)


@pytest.fixture
def adata(_batched: AnnData) -> AnnData:
    """Four sections of one tissue, each stained in its own way."""
    return _batched.copy()


def _spread(values: np.ndarray, adata: AnnData) -> float:
    """Root mean square, over genes, of what means differ by between sections."""
    means = [values[(adata.obs["section"] == name).to_numpy()].mean(axis=0) for name in adata.obs["section"].unique()]
    return float(np.sqrt(np.var(means, axis=0).mean()))


def test_components_and_loadings_are_those_of_the_corrected_expression(adata: AnnData) -> None:
    embed(adata, n_comps=19, batch_key="section")
    decoded = adata.var["pca_mean"].to_numpy() + adata.obsm["X_pca"] @ adata.varm["PCs"].T
    corrected = adata.layers["combat"]
    assert corrected.dtype == np.float32
    assert np.abs(decoded - corrected).max() > 0 and np.square(decoded - corrected).mean() < 0.02 * corrected.var()


def test_with_all_components_it_decodes_exactly(adata: AnnData) -> None:
    some = adata[:, :8].copy()
    some.X = some.X.astype(np.float32)
    embed(some, n_comps=7, batch_key="section")
    left = some.layers["combat"] - some.var["pca_mean"].to_numpy() - some.obsm["X_pca"] @ some.varm["PCs"].T
    whole = some.layers["combat"] - some.layers["combat"].mean(axis=0)
    least = np.linalg.svd(whole.astype(np.float64), compute_uv=False)[-1]
    assert np.linalg.norm(left) == pytest.approx(least, rel=1e-3)


def test_sections_come_to_agree_and_raw_counts_stay(adata: AnnData) -> None:
    before = adata.copy()
    embed(adata, n_comps=5, batch_key="section")
    assert (adata.X != before.X).nnz == 0 and sparse.issparse(adata.X)
    plain = before.copy()
    embed(plain, n_comps=5)
    assert _spread(adata.obsm["X_pca"], adata) < 0.1 * _spread(plain.obsm["X_pca"], adata)
    assert "combat" not in plain.layers


def test_what_was_done_is_recorded(adata: AnnData) -> None:
    embed(adata, n_comps=5, batch_key="section")
    record = adata.uns["isost"]["embed"]
    assert record["batch_key"] == "section" and record["layer"] == "combat" and not record["log1p"]
    assert record["before"]["log1p"] and record["before"]["target_sum"] > 0
    embed(adata, n_comps=5)
    assert {"batch_key", "before"}.isdisjoint(adata.uns["isost"]["embed"])


def test_a_fit_decodes_to_the_corrected_expression(adata: AnnData) -> None:
    embed(adata, n_comps=10, batch_key="section")
    fitted = isost.tl.fit(adata, epochs=1, progress=False, rng=0)
    cells = fitted.section(float(fitted.stack.depths[1]), rng=0)
    known = adata[cells.obs["cell_of_origin"].astype(str)].layers["combat"]
    np.testing.assert_allclose(cells.X.mean(axis=0), known.mean(axis=0), atol=0.1)


def test_it_is_written_and_read(adata: AnnData, tmp_path: Any) -> None:
    import anndata as ad

    embed(adata, n_comps=5, batch_key="section")
    adata.write_h5ad(tmp_path / "batched.h5ad")
    again = ad.read_h5ad(tmp_path / "batched.h5ad")
    np.testing.assert_array_equal(again.layers["combat"], adata.layers["combat"])
    scores = isost.tl.cross_validate(again, hold_out=["s2"], n_draws=1, n_comps=4, epochs=1, progress=False, rng=0)
    assert len(scores)


def test_sections_held_out_are_scored_against_expression_as_it_was(
    adata: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"hold_out": ["s2"], "n_draws": 1, "n_comps": 5, "epochs": 1, "progress": False, "rng": 0}
    plain, caplog_level = adata.copy(), caplog.at_level("INFO", logger="isost")
    embed(plain, n_comps=5)
    embed(adata, n_comps=5, batch_key="section")
    with caplog_level:
        corrected = isost.tl.cross_validate(adata, **options)
    assert "batches are not corrected where sections are held out" in caplog.text
    expected = isost.tl.cross_validate(plain, **options)
    numbers = expected.select_dtypes("number").columns.drop("seconds", errors="ignore")
    np.testing.assert_allclose(corrected[numbers], expected[numbers])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_key": "slide"}, "batch_key: expected a column of adata.obs.*'slide'"),
        ({"batch_key": "section", "covariates": ["age"]}, "covariates: expected a column of adata.obs.*'age'"),
        ({"covariates": ["section"]}, "covariates: expected a batch_key with them; found none"),
        ({"batch_key": "one"}, "batch_key: expected two batches or more.*found .*all: "),
        ({"batch_key": "lone"}, "batch_key: expected two batches or more.*found .*alone: 1"),
        ({"batch_key": "lacking"}, "batch_key: expected the batch of every cell.*found 3 cells without one"),
        ({"batch_key": "section", "covariates": ["region"]}, "covariates: expected what differs within batches"),
    ],
)
def test_batches_that_cannot_be_corrected(adata: AnnData, options: dict[str, Any], words: str) -> None:
    adata.obs["one"] = "all"
    adata.obs["lone"] = ["alone", *["others"] * (adata.n_obs - 1)]
    adata.obs["lacking"] = adata.obs["section"].astype(object)
    adata.obs.iloc[:3, adata.obs.columns.get_loc("lacking")] = None
    adata.obs["region"] = adata.obs["section"].astype(str) + "!"
    with pytest.raises(ValueError, match=f"(?s){words}.*Next: "):
        embed(adata, n_comps=5, **options)
    assert "X_pca" not in adata.obsm and "combat" not in adata.layers


def test_a_matrix_that_is_too_large(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost._core.batches._LARGEST", 1000)
    with pytest.raises(ValueError, match=r"(?s)batch_key: expected at most .* values.*Next"):
        embed(adata, batch_key="section")
