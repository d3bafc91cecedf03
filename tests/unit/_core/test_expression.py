from __future__ import annotations

import h5py
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from isost._core import expression
from isost._core.checks import Problems
from isost._core.expression import check_expression, expression_of, is_clipped, row_blocks, summarise

KINDS = {"dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "csr_array": sparse.csr_array}


@pytest.fixture
def matrix() -> np.ndarray:
    draw = np.random.default_rng(0)
    values = draw.poisson(1.0, (23, 7)).astype(np.float64)
    values[:, 4] = 0.0
    values[5] = 0.0
    return values


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(expression, "BLOCK", 30)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_put_together_are_the_matrix(matrix, kind, small_blocks):
    blocks = list(row_blocks(KINDS[kind](matrix)))
    assert len(blocks) == 6
    joined = np.concatenate([block if isinstance(block, np.ndarray) else block.toarray() for _, block in blocks])
    np.testing.assert_array_equal(joined, matrix)


@pytest.mark.parametrize("kind", KINDS)
def test_summary_is_that_of_the_whole_matrix(matrix, kind, small_blocks):
    matrix[3, 2], matrix[20, 6] = -1.5, np.nan
    summary = summarise(KINDS[kind](matrix))
    np.testing.assert_array_equal(np.flatnonzero(summary.nonfinite), [20])
    np.testing.assert_array_equal(np.flatnonzero(summary.negative), [3])
    np.testing.assert_array_equal(np.flatnonzero(~summary.used), [4])
    np.testing.assert_allclose(np.delete(summary.totals, 20), np.delete(matrix, 20, axis=0).sum(axis=1))
    assert (summary.smallest, summary.largest, summary.integer) == (-1.5, np.nanmax(matrix), False)


def test_summary_of_a_file(matrix, small_blocks, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        np.testing.assert_array_equal(summarise(file.create_dataset("x", data=matrix)).totals, matrix.sum(axis=1))


def test_totals_do_not_wrap_around():
    summary = summarise(np.full((2, 4), 200, dtype=np.uint8))
    np.testing.assert_array_equal(summary.totals, [800.0, 800.0])
    assert summary.integer


def test_clipped_counts_are_seen():
    assert is_clipped(summarise(np.array([[1, 255]], dtype=np.uint8)))
    assert not is_clipped(summarise(np.array([[1, 254]], dtype=np.uint8)))
    assert not is_clipped(summarise(np.array([[1, 255]], dtype=np.float32)))


def test_clean_counts_have_no_problem(matrix):
    problems = Problems()
    check_expression(summarise(matrix), "adata.X", problems)
    assert len(problems) == 0


def test_a_missing_layer_names_the_layers():
    adata = AnnData(np.ones((2, 2)), layers={"counts": np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"expected one of the layers \('counts'\), found 'raw'.*Next"):
        expression_of(adata, "raw")


@pytest.mark.parametrize("adata", [AnnData(shape=(3, 2)), AnnData(np.full((3, 2), "a", dtype=object))])
def test_a_matrix_without_numbers_is_refused(adata):
    with pytest.raises(ValueError, match=r"adata.X: expected numbers .*found .*Next"):
        expression_of(adata)
