"""Cells, means and variances of the log-normalised expression of every stage and label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.expression import expression_of, row_blocks
from isost._core.normalise import lognormal, recorded_normalisation


@dataclass(frozen=True, eq=False)
class Moments:
    """Of K stages and L labels, and G genes.

    Attributes
    ----------
    count
        (K, L).
    total, square
        (K, L, G) sums of expression and of its square.
    """

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray

    def of(self, label: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells (K,), means and unbiased variances (K, G) of one label; NaN without two cells."""
        return _moments(self.count[:, label], self.total[:, label], self.square[:, label])

    def of_rest(self, label: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Those of all the others."""
        sums = (self.count, self.total, self.square)
        return _moments(*(part.sum(axis=1) - part[:, label] for part in sums))


def moments_by_stage(adata: AnnData, stage: np.ndarray, label: np.ndarray, n_stages: int, n_labels: int) -> Moments:
    """Add up, a block of cells at a time; cells of label -1 are left out."""
    how = recorded_normalisation(adata)
    group = np.where(label >= 0, stage * n_labels + label, -1)
    shape = (n_stages * n_labels, adata.n_vars)
    total, square = np.zeros(shape), np.zeros(shape)
    for block, values in row_blocks(expression_of(adata, how.layer)):
        matrix = sparse.csr_matrix(lognormal(values, how), dtype=np.float64)
        own = np.flatnonzero(group[block] >= 0)
        entries = (np.ones(len(own)), (group[block][own], own))
        member = sparse.csr_matrix(entries, shape=(shape[0], matrix.shape[0]))
        total += (member @ matrix).toarray()
        square += (member @ matrix.multiply(matrix)).toarray()
    count = np.bincount(group[group >= 0], minlength=shape[0])
    whole = (n_stages, n_labels, adata.n_vars)
    return Moments(count.reshape(whole[:2]), total.reshape(whole), square.reshape(whole))


def _moments(count: np.ndarray, total: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = np.where(count > 1, count, np.nan)[:, None]
    mean = total / n
    return count, mean, np.maximum(square / n - mean**2, 0.0) * n / (n - 1)
