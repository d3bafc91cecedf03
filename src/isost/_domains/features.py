"""What the networks see of expression: each gene centred and scaled; how it varies in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from isost._domains.graph import mean_of_neighbours

_COLUMNS = 256  # genes at a time
_CLIP = 10.0  # standard deviations
_CELLS = 10  # for each principal component
_FEWEST = 10  # principal components, of however few cells
_MANY = 10_000  # cells, of which all is kept


@dataclass(frozen=True, eq=False)
class Features:
    """Expression of the chosen genes as the networks take it, made dense a few rows at a time.

    Attributes
    ----------
    matrix
        (n, p) float32, dense or CSR: log-normalised.
    mean, scale
        (p,) that is taken off, and multiplied by: one over the standard deviation. What a single cell can say of a
        gene is bounded, ten standard deviations.
    axes
        (p, r) float32, of principal components; what lies outside of them is left out. None: nothing is.
    """

    matrix: Any
    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def rows(self, index: np.ndarray) -> np.ndarray:
        """(m, p) float32 of some cells, centred, scaled and cut, and of that what lies along the axes."""
        block = self.matrix[index]
        x = ((block.toarray() if sparse.issparse(block) else np.asarray(block)) - self.mean) * self.scale
        x = np.clip(x, -_CLIP, _CLIP).astype(np.float32)
        return x if self.axes is None else x @ self.axes @ self.axes.T


def leading_axes(features: Features) -> np.ndarray | None:
    """Find the axes (p, r) float32 of a principal component for every ten cells, ten at the least.

    With about as many genes as cells, a network can tell each cell from all others by what is chance in them, and lay
    them out as they lie in the tissue, whatever they express. The axes are exact: where most of what varies is chance,
    randomised ones are far from these.

    Returns
    -------
    None where there are no more genes than that, and for more than 10,000 cells.
    """
    n, p = features.matrix.shape
    n_comps = max(n // _CELLS, _FEWEST)
    if n_comps >= p or n > _MANY:
        return None
    x = features.rows(np.arange(n)).astype(np.float64)
    x -= x.mean(axis=0)
    if p <= n:
        return np.linalg.eigh(x.T @ x)[1][:, -n_comps:].astype(np.float32)
    square, left = (found[..., -n_comps:] for found in np.linalg.eigh(x @ x.T))
    real = square > 1e-9 * max(square[-1], 1e-30)  # rounding made the others
    return (x.T @ left[:, real] / np.sqrt(square[real])).astype(np.float32)


def moments(matrix: Any, sample: np.ndarray, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, G) mean and variance of each gene in each sample."""
    which = sparse.csr_matrix((np.ones(len(sample)), (sample, np.arange(len(sample)))), (n_samples, len(sample)))
    size = np.maximum(np.bincount(sample, minlength=n_samples), 1)[:, None]
    mean = np.asarray(_dense(which @ matrix), dtype=np.float64) / size
    square = matrix.astype(np.float64)
    square = square.multiply(square) if sparse.issparse(square) else np.square(square)
    variance = np.asarray(_dense(which @ square)) / size - mean**2
    return mean, np.maximum(variance, 0.0)


def autocorrelation(
    matrix: Any, graph: sparse.csr_matrix, sample: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """(G,) Moran's I of each gene, rows of the graph summing to 1, each sample centred and scaled by itself.

    0 for a gene that does not vary.
    """
    has = np.diff(graph.indptr) > 0
    steps = mean_of_neighbours(graph)
    columns = matrix.tocsc() if sparse.issparse(matrix) else matrix
    found = np.zeros(matrix.shape[1])
    spread = np.sqrt(variance)
    for start in range(0, matrix.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        block = np.asarray(_dense(columns[:, part]), dtype=np.float64) - mean[sample, part]
        scale = spread[:, part][sample]
        block = np.divide(block, scale, out=np.zeros_like(block), where=scale > 1e-8)
        found[part] = (block * (steps @ block))[has].sum(axis=0) / max(int(has.sum()), 1)
    return found


def correlations(features: Features, rng: np.random.Generator, most: int = 20_000) -> np.ndarray:
    """(p, p) Pearson correlation of the genes, over cells drawn at random."""
    rows = np.sort(rng.choice(len(features), min(most, len(features)), replace=False))
    x = features.rows(rows)
    x = x - x.mean(axis=0)
    spread = np.sqrt((x**2).mean(axis=0))
    x = np.divide(x, spread, out=np.zeros_like(x), where=spread > 1e-8)
    found = (x.T @ x / len(x)).astype(np.float64)
    np.fill_diagonal(found, 1.0)
    return np.clip(found, -1.0, 1.0)


def _dense(block: Any) -> Any:
    return block.toarray() if sparse.issparse(block) else block
