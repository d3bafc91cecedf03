"""What principal components leave of the genes, where neighbouring cells share it.

Components are ordered by the variance of single cells, which is mostly noise: a gene that follows the tissue but varies
little beside the others is left out of the first fifty. The remainder R of the standardised genes is searched for the
directions whose scores neighbouring cells share: eigenvectors of R' W R / n, with W the mean over the nearest
neighbours in a section, made symmetric (the positive part of MULTISPATI, Dray, Said & Debias 2008). As many are kept as
stand out from the same eigenvalues after the cells of each section were permuted (parallel analysis, Horn 1965).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.spatial import cKDTree

from isost._core.decoder import MEAN_KEY, Decoder, pca_params
from isost._core.expression import expression_of, row_blocks
from isost._core.normalise import Normalisation, lognormal, recorded_normalisation
from isost._logging import logger

_MOST = 40
_NEIGHBOURS = 20
_MARGIN = 1.3  # over the eigenvalue of permuted cells
_LOOKED_AT = 20_000  # cells
_FEWEST = 50
_FEW = 500  # cells by which components are checked
_MANY_GENES = 2000  # beyond which no matrix of genes by genes is made


@dataclass(frozen=True, eq=False)
class Remainder:
    """Directions of gene space beside the components: x = mean + loadings of the components @ g + loadings @ scores.

    Attributes
    ----------
    scores
        (n, Q) float32 of every cell.
    loadings
        (G, Q) float32.
    """

    scores: np.ndarray
    loadings: np.ndarray


def read_remainder(
    adata: AnnData, use_rep: str, rows: np.ndarray, *,
    coords: np.ndarray, starts: np.ndarray, features: np.ndarray, decoder: Decoder, sections: Sequence[int],
) -> Remainder | None:  # fmt: skip
    """Find the remainder of the expression of cells, or None where nothing of it is shared by neighbours.

    Parameters
    ----------
    adata, use_rep
        Holds the expression that was decomposed, and where the components are.
    rows
        (n,) row of `adata` of each cell.
    coords, starts, features
        (n, 2 or more) positions, first cells of the sections and the end, and (n, P) components.
    decoder
        Of the components.
    sections
        Numbers of the sections whose neighbours are asked: the measured ones.
    """
    if len(coords) < _FEWEST or adata.n_vars <= features.shape[1]:
        return None
    how = _as_decomposed(adata, use_rep)
    if how.layer is None and adata.X is None:
        return None
    raw = expression_of(adata, how.layer)
    chosen, ends = _patches(coords, starts, sections)
    at = rows[chosen]
    order = np.argsort(at)
    sample = np.empty(len(at), dtype=np.int64)
    sample[order] = np.arange(len(at))
    expression = lognormal(_some_rows(raw, at[order]), how)[sample]
    left = _Left(expression, features[chosen].astype(np.float64), decoder)
    if not left.is_less():
        logger.warning("expression has changed since the components were made; the field is of the components alone")
        return None
    directions = _shared(left, coords[chosen], ends)
    if not directions.shape[1]:
        return None
    read = directions / left.scale[:, None]
    scores = np.empty((adata.n_obs, directions.shape[1]), dtype=np.float32)
    for block, values in row_blocks(raw):
        scores[block] = lognormal(values, how) @ read
    scores = scores[rows] - decoder.mean @ read - features @ (decoder.loadings.T @ read)
    return Remainder(scores.astype(np.float32), (left.scale[:, None] * directions).astype(np.float32))


def _as_decomposed(adata: AnnData, use_rep: str) -> Normalisation:
    """Tell what was done to the matrix before the components were taken: by `isost.pp.embed`, or nothing."""
    params = pca_params(adata, use_rep)
    if params.get("mean") == MEAN_KEY and "embed" in adata.uns.get("isost", {}):
        return recorded_normalisation(adata)
    layer = params.get("layer")
    return Normalisation("as it is", None, False, layer if layer in adata.layers else None)


class _Left:
    """R of some cells: standardised expression less what the components say, as an operator or some rows at a time.

    All is float32, as the expression is: a product with float64 would copy it.
    """

    def __init__(self, expression: np.ndarray | sparse.csr_matrix, features: np.ndarray, decoder: Decoder) -> None:
        self._expression, self._features = expression, features.astype(np.float32)
        self._mean, self._loadings = decoder.mean, decoder.loadings
        self.scale = _spread(expression).astype(np.float32)
        self.rank = len(self.scale) - features.shape[1]

    def is_less(self) -> bool:
        """Whether the components explain something of the expression of a few cells."""
        some = slice(None, None, max(1, len(self._features) // _FEW))
        whole = self._centred(some)
        return float(((whole - self._features[some] @ self._loadings.T) ** 2).sum()) < float((whole**2).sum())

    def rows(self, rows: slice) -> np.ndarray:
        """Make some rows of R."""
        return (self._centred(rows) - self._features[rows] @ self._loadings.T) / self.scale

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        v = v.ravel() / self.scale
        return self._expression @ v - self._mean @ v - self._features @ (self._loadings.T @ v)

    def transposed(self, u: np.ndarray) -> np.ndarray:
        product = self._expression.T @ u - self._mean * u.sum() - self._loadings @ (self._features.T @ u)
        return product / self.scale

    def _centred(self, rows: slice) -> np.ndarray:
        some = self._expression[rows]
        return (some if isinstance(some, np.ndarray) else some.toarray()) - self._mean


def _shared(left: _Left, coords: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Orthonormal directions (G, Q) of the standardised genes, the most shared first."""
    weights = _neighbour_mean(coords, ends)
    rng = np.random.default_rng(0)
    permuted = np.concatenate([rng.permutation(np.arange(*pair)) for pair in zip(ends[:-1], ends[1:], strict=True)])
    chance = _eigen(left, weights[permuted][:, permuted], ends)[0]
    values, vectors = _eigen(left, weights, ends)
    stands_out = np.cumprod(values > _MARGIN * np.maximum(chance, 0.0)).astype(bool)
    return vectors[:, stands_out]


def _eigen(left: _Left, weights: sparse.csr_matrix, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n_genes, k = len(left.scale), min(_MOST, left.rank)
    operator = _operator(left, weights, ends)
    if isinstance(operator, np.ndarray):
        values, vectors = eigh(operator, subset_by_index=(n_genes - k, n_genes - 1))
    else:
        start = np.random.default_rng(0).standard_normal(n_genes)
        values, vectors = eigsh(operator, k=k, which="LA", v0=start, tol=1e-3)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def _operator(left: _Left, weights: sparse.csr_matrix, ends: np.ndarray) -> np.ndarray | LinearOperator:
    """R' W R / n; of many genes only its products with vectors."""
    n, n_genes = weights.shape[0], len(left.scale)
    if n_genes > _MANY_GENES:
        shape = (n_genes, n_genes)
        return LinearOperator(shape, matvec=lambda v: left.transposed(weights @ (left @ v)) / n, dtype=np.float32)
    total = np.zeros((n_genes, n_genes))
    for first, last in zip(ends[:-1], ends[1:], strict=True):
        rest = left.rows(slice(first, last))
        total += rest.T @ (weights[first:last, first:last] @ rest)
    return total / n


def _neighbour_mean(coords: np.ndarray, ends: np.ndarray) -> sparse.csr_matrix:
    """Mean over the nearest neighbours in each section, made symmetric."""
    blocks = []
    for first, last in zip(ends[:-1], ends[1:], strict=True):
        place, n = coords[first:last, :2], last - first
        k = min(_NEIGHBOURS, n - 1)
        near = cKDTree(place).query(place, k=np.arange(2, k + 2))[1]
        mean = sparse.csr_matrix((np.full(n * k, 1 / k), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
        blocks.append((mean + mean.T) / 2)
    return sparse.block_diag(blocks, format="csr", dtype=np.float32)


def _patches(coords: np.ndarray, starts: np.ndarray, sections: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Cells to look at, in whole neighbourhoods: the nearest to one cell of each section; and their first and end."""
    firsts, sizes = starts[:-1][sections], np.diff(starts)[sections]
    share = min(1.0, _LOOKED_AT / sizes.sum())
    rng = np.random.default_rng(0)
    chosen, ends = [], [0]
    for first, size in zip(firsts, sizes, strict=True):
        rows = np.arange(first, first + size)
        if share < 1.0:
            distance = ((coords[rows, :2] - coords[rng.choice(rows), :2]) ** 2).sum(axis=1)
            rows = np.sort(rows[np.argpartition(distance, int(share * size))[: max(int(share * size), 2)]])
        chosen.append(rows)
        ends.append(ends[-1] + len(rows))
    return np.concatenate(chosen), np.array(ends)


def _some_rows(raw: Any, rows: np.ndarray) -> np.ndarray | sparse.csr_matrix:
    """Take rows, in rising order, a block at a time, so that a matrix on disk will do."""
    parts = []
    for block, values in row_blocks(raw):
        first, last = np.searchsorted(rows, (block.start, block.stop))
        if last > first:
            parts.append(values[rows[first:last] - block.start])
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)


def _spread(expression: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    """Compute the standard deviation (G,) of each gene, 1 for one that does not vary."""
    square = expression**2 if isinstance(expression, np.ndarray) else expression.multiply(expression)
    mean, mean_square = (np.asarray(part.mean(axis=0, dtype=np.float64)).ravel() for part in (expression, square))
    spread = np.sqrt(np.maximum(mean_square - mean**2, 0.0))
    return np.where(spread > 1e-6 * max(spread.max(), 1e-300), spread, 1.0)
