"""Genes as linear functions of few scores at many places, read a block of places at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

_BLOCK = 1 << 23  # scores in memory at once


@dataclass(frozen=True, eq=False)
class Linear:
    """Genes x = mean + loadings @ scores at n places.

    Attributes
    ----------
    n
        Number of places.
    loadings, mean
        (G, P) and (G,) float64.
    read
        Rows in, their scores (b, P) out: a slice, or sorted positions.
    """

    n: int
    loadings: np.ndarray
    mean: np.ndarray
    read: Callable[[slice | np.ndarray], np.ndarray]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows and their scores (b, P) float64, all of them once."""
        step = max(1, _BLOCK // max(1, self.loadings.shape[1]))
        for start in range(0, self.n, step):
            rows = slice(start, min(start + step, self.n))
            yield rows, np.asarray(self.read(rows), dtype=np.float64)

    def kept(self, rows: np.ndarray) -> Linear:
        """Take the same genes at some of the places, sorted positions (k,)."""
        return Linear(len(rows), self.loadings, self.mean, lambda part: self.read(rows[part]))

    def genes(self, scores: np.ndarray) -> np.ndarray:
        """Genes (..., G) of scores (..., P)."""
        return scores @ self.loadings.T + self.mean

    def sums(self, group: np.ndarray, n_groups: int) -> np.ndarray:
        """Sum scores over groups of places, (n,) int: (n_groups, P); places with a negative group do not count."""
        total = np.zeros((n_groups, self.loadings.shape[1]))
        for rows, scores in self.blocks():
            total += one_hot(group[rows], n_groups) @ scores
        return total

    def variances(self, covariance: np.ndarray) -> np.ndarray:
        """Variances (G,) of genes whose scores have a covariance (P, P)."""
        return np.maximum(((self.loadings @ covariance) * self.loadings).sum(axis=1), 0.0)


def one_hot(group: np.ndarray, n_groups: int) -> sparse.csr_matrix:
    """Matrix (n_groups, n) with 1 where a place is in a group."""
    inside = np.flatnonzero(group >= 0)
    ones = np.ones(len(inside))
    return sparse.csr_matrix((ones, (group[inside], inside)), shape=(n_groups, len(group)))


def minus(linear: Linear, other: Linear, means: np.ndarray, group: np.ndarray) -> Linear:
    """Genes of `linear` (n places in groups, (n,) int) minus those of `other` where its scores are (n_groups, P')."""

    def read(rows: slice | np.ndarray) -> np.ndarray:
        return np.hstack([linear.read(rows), -means[group[rows]]])

    return Linear(linear.n, np.hstack([linear.loadings, other.loadings]), linear.mean - other.mean, read)
