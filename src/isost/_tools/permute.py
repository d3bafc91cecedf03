"""Permutation of whole samples between two conditions."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

_BLOCK = 1024
_SAME = 1e-9  # differences of shares that are the same but for rounding


def permutation_p(
    values: np.ndarray, of_first: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Find two-sided p-values of differences in means between two groups of samples.

    Parameters
    ----------
    values
        (S, L), of each sample.
    of_first
        (S,) bool, which samples are of the first group.
    most
        If there are at most so many ways to divide the samples, all are gone through, and p is exact; else so many are
        drawn, and the observed one counts as one of them.

    Returns
    -------
    p (L,), NaN where a group has no samples, and the smallest p that could have been.
    """
    n, n_first = len(of_first), int(of_first.sum())
    if n_first in (0, n):
        return np.full(values.shape[1], np.nan), float("nan")
    observed = np.abs(_difference(values, of_first[None]))[0]
    n_ways = comb(n, n_first)
    exact = n_ways <= most
    ways = combinations(range(n), n_first) if exact else (rng.permutation(n)[:n_first] for _ in range(most))
    beyond, block = np.zeros(values.shape[1]), []
    for number, chosen in enumerate(ways, start=1):
        row = np.zeros(n, dtype=bool)
        row[list(chosen)] = True
        block.append(row)
        if len(block) == _BLOCK or number == (n_ways if exact else most):
            beyond += (np.abs(_difference(values, np.array(block))) >= observed - _SAME).sum(axis=0)
            block = []
    least = smallest_p(n_first, n - n_first)
    if exact:
        return beyond / n_ways, least
    return (beyond + 1) / (most + 1), max(1 / (most + 1), least)


def smallest_p(n_first: int, n_second: int) -> float:
    """Say which p samples of two groups can reach; of one size, swapped groups differ by as much."""
    return (1 + (n_first == n_second)) / comb(n_first + n_second, n_first)


def _difference(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Mean of the samples in `first` (R, S) less that of the others: (R, L)."""
    n_first = first.sum(axis=1, keepdims=True)
    total = first.astype(np.float64) @ values
    return total / n_first - (values.sum(axis=0) - total) / (first.shape[1] - n_first)
