"""Genes on a square map on which those that are expressed together lie near each other."""

from __future__ import annotations

import numpy as np
import ot
from scipy.optimize import linear_sum_assignment

_TINY = 1e-12


def place_genes(correlation: np.ndarray, rng: np.random.Generator | None = None) -> tuple[np.ndarray, int]:
    """Place p genes on a map of q x q, q = ceil(sqrt(p)).

    Gromov-Wasserstein: of all couplings of genes with places, the one under which distances between genes,
    sqrt(2 (1 - correlation)), and between places agree best, found by conditional gradients (Peyre, Cuturi & Solomon
    2016, through POT) from the plan that the leading coordinates of classical scaling suggest; then each gene takes one
    place (linear assignment). Places that are left over stay empty.

    Parameters
    ----------
    correlation
        (p, p), 1 on the diagonal.
    rng
        Place genes at random instead.

    Returns
    -------
    (p,) int place of each gene in the flat map, and q.
    """
    p = len(correlation)
    q = int(np.ceil(np.sqrt(p)))
    if rng is not None:
        return rng.permutation(q * q)[:p], q
    if p < 3:
        return np.arange(p), q
    distance = np.sqrt(np.maximum(2 * (1 - correlation), 0.0))
    grid = np.stack(np.meshgrid(np.arange(q), np.arange(q), indexing="ij"), axis=-1).reshape(-1, 2)
    apart = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
    apart, distance = apart / apart.max(), distance / max(distance.max(), _TINY)
    genes, places = np.full(p, 1 / p), np.full(q * q, 1 / q**2)
    start = ot.emd(genes, places, ot.dist(_scaled(distance), _scaled(apart)))
    plan = ot.gromov.gromov_wasserstein(distance, apart, genes, places, "square_loss", G0=start, max_iter=100)
    return linear_sum_assignment(-plan)[1], q


def _scaled(distance: np.ndarray) -> np.ndarray:
    """(n, 2) leading coordinates of classical multidimensional scaling, each spread evenly over [0, 1]."""
    squared = distance**2
    centred = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean())
    values, axes = np.linalg.eigh(centred)
    leading = axes[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0.0))
    order = np.argsort(np.argsort(leading, axis=0, kind="stable"), axis=0, kind="stable")
    return order / max(len(order) - 1, 1)


def neighbour_correlation(correlation: np.ndarray, place: np.ndarray, q: int) -> float:
    """Mean correlation of genes whose places share a side: what a map is worth."""
    at = np.full(q * q, -1)
    at[place] = np.arange(len(place))
    square = at.reshape(q, q)
    pairs = np.concatenate([
        np.column_stack([square[:, :-1].ravel(), square[:, 1:].ravel()]),
        np.column_stack([square[:-1].ravel(), square[1:].ravel()]),
    ])  # fmt: skip
    both = pairs[(pairs >= 0).all(axis=1)]
    return float(correlation[both[:, 0], both[:, 1]].mean()) if len(both) else 0.0
