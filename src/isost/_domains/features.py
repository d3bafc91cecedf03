"""What the networks see of expression: each gene centred and scaled; how it varies in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from isost._domains.components import components
from isost._domains.graph import mean_of_neighbours

_COLUMNS = 256  # genes at a time
_CLIP = 10.0  # standard deviations
_SOME = 20_000  # cells that are looked at, where there are many
_CELLS, _FEWEST = 10, 10  # of each principal component; components that are kept of however few cells


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
        (p, r) of principal components, what lies outside of which is left out; None for nothing.
    """

    matrix: Any
    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def rows(self, index: np.ndarray) -> np.ndarray:
        """(m, p) float32 of some cells."""
        block = self.matrix[index]
        x = ((block.toarray() if sparse.issparse(block) else np.asarray(block)) - self.mean) * self.scale
        x = np.clip(x, -_CLIP, _CLIP).astype(np.float32)
        return x if self.axes is None else x @ self.axes @ self.axes.T


def leading_axes(features: Features, rng: np.random.Generator) -> np.ndarray | None:
    """Find the axes (p, r) float32 of as many principal components as a tenth of the cells; None where p is no more.

    With about as many genes as cells, a network can tell each cell from all others by what is chance in them, and lay
    them out as they lie in the tissue, whatever they express.
    """
    n_cells = min(len(features), _SOME)
    n_comps = max(n_cells // _CELLS, _FEWEST)
    if n_comps >= features.matrix.shape[1]:
        return None
    rows = np.sort(rng.choice(len(features), n_cells, replace=False))
    return components(features.rows(rows).astype(np.float64), n_comps, rng).axes.astype(np.float32)


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


def correlations(features: Features, rng: np.random.Generator, most: int = _SOME) -> np.ndarray:
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
