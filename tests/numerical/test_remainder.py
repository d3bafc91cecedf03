"""What the components leave of the genes: found where it is, not found where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import isost
from isost._core import remainder as module
from isost._core.stack import Stack, read_stack

N_CELLS, N_GENES = 500, 30


@pytest.fixture
def tissue() -> AnnData:
    """Three sections; loud genes without a place, and three quiet ones that share a pattern."""
    draw = np.random.default_rng(0)
    coords = np.column_stack([draw.uniform(0, 400, (3 * N_CELLS, 2)), np.repeat([0.0, 20.0, 40.0], N_CELLS)])
    values = draw.normal(5.0, 1.0, (3 * N_CELLS, N_GENES))
    values[:, :3] = 5 + 0.2 * draw.normal(size=(3 * N_CELLS, 3)) + 0.2 * np.sin(coords[:, [0]] / 60)
    adata = AnnData(values.astype(np.float32), obsm={"spatial": coords})
    adata.obs["section"] = np.repeat(["a", "b", "c"], N_CELLS)
    return adata


def pattern(stack: Stack) -> np.ndarray:
    return np.sin(stack.coords[:, 0] / 60)


def test_a_quiet_pattern_beside_the_components_is_found(tissue: AnnData) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    stack = read_stack(tissue)
    assert np.abs(stack.decoder.loadings[:3]).max() < 0.1  # the components do not know it
    found = stack.remainder
    assert found.scores.shape == (1500, 1) and found.loadings.shape == (N_GENES, 1)
    assert found.scores.dtype == found.loadings.dtype == np.float32
    assert abs(np.corrcoef(found.scores[:, 0], pattern(stack))[0, 1]) > 0.7  # the mean of three genes has 0.77
    size = np.abs(found.loadings[:, 0])
    assert size[:3].min() > 2 * size[3:].max() * 0.2  # in the genes' own units, of which the loud ones have five times


def test_scores_are_what_components_leave_along_the_directions(tissue: AnnData) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    stack = read_stack(tissue)
    expression = tissue.X[stack.rows].astype(np.float64)
    left = expression - stack.decoder.decode(stack.features)
    scale = expression.std(axis=0)
    direction = stack.remainder.loadings / scale[:, None]
    np.testing.assert_allclose(direction.T @ direction, np.eye(1), atol=1e-3)
    np.testing.assert_allclose(stack.remainder.scores, left / scale @ direction, atol=1e-3)


def test_the_field_of_the_quiet_genes_is_better_for_it(tissue: AnnData) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    fitted = isost.tl.fit(tissue, epochs=2, progress=False, rng=0)
    at = np.column_stack([np.linspace(30, 370, 60), np.full(60, 200.0), np.full(60, 30.0)])
    predicted, std = fitted.expression(at, genes=["0", "1", "2"], return_std=True)
    truth = 5 + 0.2 * np.sin(at[:, [0]] / 60)
    assert np.sqrt(((predicted - truth) ** 2).mean()) < 0.06  # the pattern has a spread of 0.14
    assert (std > 0).all()


@pytest.mark.parametrize("shuffle", [True, False])
def test_noise_leaves_none(tissue: AnnData, shuffle: bool) -> None:
    draw = np.random.default_rng(1)
    if shuffle:
        tissue.X = tissue.X[draw.permutation(tissue.n_obs)]
    else:
        tissue.X = draw.poisson(0.3, tissue.shape).astype(np.float32)
    isost.pp.embed(tissue, n_comps=8, rng=0)
    assert read_stack(tissue).remainder is None


def test_sparse_and_blocks_and_patches_agree(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    whole = read_stack(tissue).remainder
    monkeypatch.setattr("isost._core.expression.BLOCK", 7 * N_GENES)
    tissue.X = sparse.csr_matrix(tissue.X)
    np.testing.assert_allclose(np.abs(read_stack(tissue).remainder.scores), np.abs(whole.scores), atol=1e-2)
    monkeypatch.setattr(module, "_LOOKED_AT", 900)
    stack = read_stack(tissue)
    assert abs(np.corrcoef(stack.remainder.scores[:, 0], pattern(stack))[0, 1]) > 0.65


@pytest.mark.parametrize("as_sparse", [False, True])
def test_many_genes_give_the_same(tissue: AnnData, monkeypatch: pytest.MonkeyPatch, as_sparse: bool) -> None:
    if as_sparse:
        tissue.X = sparse.csr_matrix(tissue.X)
    isost.pp.embed(tissue, n_comps=8, rng=0)
    few = read_stack(tissue).remainder
    monkeypatch.setattr(module, "_MANY_GENES", 0)
    many = read_stack(tissue).remainder
    np.testing.assert_allclose(np.abs(many.loadings), np.abs(few.loadings), atol=1e-4)
    np.testing.assert_allclose(np.abs(many.scores), np.abs(few.scores), atol=1e-3)


def test_plain_scanpy_components_will_do(tissue: AnnData) -> None:
    sc.pp.pca(tissue, n_comps=8)
    stack = read_stack(tissue)
    assert abs(np.corrcoef(stack.remainder.scores[:, 0], pattern(stack))[0, 1]) > 0.7


def test_a_few_cells_have_none(tissue: AnnData) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    assert read_stack(tissue[np.r_[0:10, 500:510, 1000:1010]]).remainder is None


def test_no_more_is_found_than_the_components_leave(tissue: AnnData) -> None:
    isost.pp.embed(tissue, n_comps=N_GENES - 1, rng=0)
    found = read_stack(tissue).remainder
    assert found is None or found.scores.shape[1] == 1


def test_expression_that_changed_since_is_not_taken(tissue: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    tissue.X = tissue.X[::-1] + 100
    assert read_stack(tissue).remainder is None


def test_it_is_saved_and_selected(tissue: AnnData, tmp_path) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    fitted = isost.tl.fit(tissue, epochs=1, progress=False, rng=0)
    fitted.save(tmp_path / "model")
    again = isost.Reconstruction.load(tmp_path / "model")
    np.testing.assert_array_equal(again.stack.remainder.scores, fitted.stack.remainder.scores)
    at = [[200.0, 200.0, 10.0]]
    np.testing.assert_array_equal(again.expression(at), fitted.expression(at))
    part = fitted.stack.select([0, 2])
    np.testing.assert_array_equal(part.remainder.scores[N_CELLS:], fitted.stack.remainder.scores[2 * N_CELLS :])


def test_the_volume_holds_it_and_genes_decode_with_it(tissue: AnnData) -> None:
    isost.pp.embed(tissue, n_comps=8, rng=0)
    fitted = isost.tl.fit(tissue, epochs=1, progress=False, rng=0)
    sdata = fitted.to_spatialdata(20, rng=0)
    assert sdata.images["isost_remainder"].sizes["c"] == fitted.stack.remainder.scores.shape[1]
    decoded = isost.get.gene(sdata, "0").values
    asked = fitted.to_spatialdata(20, genes=["0"], rng=0)
    assert "isost_remainder" not in asked.images
    np.testing.assert_allclose(decoded, isost.get.gene(asked, "0").values, atol=1e-4)
    voxels = sdata.tables["isost_voxels"]
    inside = sdata.labels["isost_mask"].values > 0
    np.testing.assert_allclose(voxels[:, "0"].X[:, 0], decoded[inside], atol=1e-4)
