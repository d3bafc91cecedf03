"""Principal components of a matrix that may be sparse, or on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import linalg, sparse
from sklearn.utils.extmath import svd_flip

from isost._core.expression import row_blocks
from isost._core.lazy import is_lazy
from isost._core.random import Rng, numpy_generator
from isost._logging import logger

# Up to so many genes their covariance is computed, in one pass over the cells; beyond, Lanczos steps take less time.
# That is sooner for a matrix with few values that are not zero, as the product of dense blocks does not gain by zeros.
COVARIANCE_GENES, COVARIANCE_GENES_SPARSE = 4000, 500
LANCZOS_COST = 50_000  # of a value that is not zero, in products of the covariance

# Components whose variance is this far below the first are rounding errors of float32.
LEAST_VARIANCE = 1e-7


def decompose(matrix: Any, mean: np.ndarray, n_comps: int, rng: Rng) -> tuple[np.ndarray, ...]:
    """Find the scores (n, P), the loadings (G, P), and the variance and its ratio (P,) of the principal components."""
    n_cells, n_genes = matrix.shape
    most = min(n_cells, n_genes) - 1
    if n_comps > most:
        logger.info("embed: %d components, as %d cells x %d genes have no more", most, n_cells, n_genes)
    if is_lazy(matrix) and n_genes > COVARIANCE_GENES:
        logger.info("embed: %d genes are too many for their covariance, so their expression is read into memory; "
                    "n_top_genes=... takes fewer", n_genes)  # fmt: skip
        matrix = matrix.compute()
    n_comps, few = min(n_comps, most), COVARIANCE_GENES
    if sparse.issparse(matrix):
        few = np.clip(LANCZOS_COST * matrix.nnz / (n_cells * n_genes), COVARIANCE_GENES_SPARSE, COVARIANCE_GENES)
    by_covariance = n_genes <= few or is_lazy(matrix)
    parts = _of_covariance(matrix, mean, n_comps) if by_covariance else _of_lanczos(matrix, n_comps, rng)
    variance = parts[2]
    keep = variance > LEAST_VARIANCE * variance[0]
    if not keep.all():
        logger.info("embed: %d of %d components vary, the others are left out", keep.sum(), len(keep))
    return tuple(part[..., keep] for part in parts)


def _of_covariance(matrix: Any, mean: np.ndarray, n_comps: int) -> tuple[np.ndarray, ...]:
    # A product of dense blocks takes much less time than one of sparse matrices, and in float64 rounding is no matter.
    n_cells, n_genes = matrix.shape
    covariance = np.zeros((n_genes, n_genes), order="F")
    for _, block in row_blocks(matrix):
        centred = (block if isinstance(block, np.ndarray) else block.toarray()) - mean
        # its upper half alone: half the work of a product
        covariance = linalg.blas.dsyrk(1.0, centred.T, beta=1.0, c=covariance, overwrite_c=True)
    covariance /= n_cells - 1
    total = np.trace(covariance)
    chosen = (n_genes - n_comps, n_genes - 1)
    variance, vectors = linalg.eigh(covariance, subset_by_index=chosen, lower=False, overwrite_a=True)
    variance = variance[::-1]
    loadings = svd_flip(None, vectors.T[::-1], u_based_decision=False)[1].T
    scores = project(matrix, mean, loadings)
    return scores, loadings, variance.astype(np.float32), (variance / total).astype(np.float32)


def project(matrix: Any, mean: np.ndarray, loadings: np.ndarray) -> np.ndarray:
    """Scores (n, P) float32 of rows (n, G) on loadings (G, P)."""
    scores = np.empty((matrix.shape[0], loadings.shape[1]), dtype=np.float32)
    for rows, block in row_blocks(matrix):
        scores[rows] = block @ loadings - mean @ loadings
    return scores


def _of_lanczos(matrix: np.ndarray | sparse.csr_matrix, n_comps: int, rng: Rng) -> tuple[np.ndarray, ...]:
    pca, seed = AnnData(matrix), int(numpy_generator(rng).integers(2**31))
    sc.pp.pca(pca, n_comps=n_comps, svd_solver="arpack", random_state=seed, mask_var=None)
    return pca.obsm["X_pca"], pca.varm["PCs"], *(pca.uns["pca"][name] for name in ("variance", "variance_ratio"))
