from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import isost
from isost._tools.moments_by_stage import moments_by_stage

STAGE = np.repeat([0, 1, 2], 20)
LABEL = np.tile([0, 1, 1, -1], 15)


@pytest.fixture
def values() -> np.ndarray:
    """Log-normalised expression, half of it 0; one cell in all of label 2."""
    draw = np.random.default_rng(0)
    return (draw.uniform(0.0, 5.0, (60, 6)) * (draw.random((60, 6)) < 0.5)).astype(np.float32)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_they_are_those_of_numpy(values: np.ndarray, as_sparse: bool) -> None:
    moments = moments_by_stage(AnnData(sparse.csr_matrix(values) if as_sparse else values), STAGE, LABEL, 3, 2)
    for part, own in ((moments.of(1), LABEL == 1), (moments.of_rest(1), LABEL == 0)):
        count, mean, variance = part
        for k in range(3):
            cells = values[own & (STAGE == k)].astype(np.float64)
            assert count[k] == len(cells)
            np.testing.assert_allclose(mean[k], cells.mean(axis=0))
            np.testing.assert_allclose(variance[k], cells.var(axis=0, ddof=1))


def test_one_cell_has_no_variance(values: np.ndarray) -> None:
    label = LABEL.copy()
    label[0] = 2
    count, mean, variance = moments_by_stage(AnnData(values), STAGE, label, 3, 3).of(2)
    assert count.tolist() == [1, 0, 0]
    assert np.isnan(mean).all() and np.isnan(variance).all()


def test_blocks_add_up(values: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = moments_by_stage(AnnData(values), STAGE, LABEL, 3, 2)

    def by_seven(matrix: np.ndarray):
        for start in range(0, len(matrix), 7):
            yield slice(start, start + 7), matrix[start : start + 7]

    monkeypatch.setattr("isost._tools.moments_by_stage.row_blocks", by_seven)
    parts = moments_by_stage(AnnData(values), STAGE, LABEL, 3, 2)
    np.testing.assert_array_equal(parts.count, whole.count)
    np.testing.assert_allclose(parts.total, whole.total)
    np.testing.assert_allclose(parts.square, whole.square)


def test_counts_are_taken_as_they_were_embedded(toy: AnnData) -> None:
    isost.pp.embed(toy, n_comps=3, target_sum=500.0)
    counts = toy.X.toarray().astype(np.float64)
    known = np.log1p(500.0 * counts / counts.sum(axis=1, keepdims=True))
    zero = np.zeros(toy.n_obs, dtype=int)
    _, mean, _ = moments_by_stage(toy, zero, zero, 1, 1).of(0)
    np.testing.assert_allclose(mean[0], known.mean(axis=0), rtol=1e-5)
