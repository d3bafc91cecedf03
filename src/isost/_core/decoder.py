"""From features back to genes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.expression import expression_of, row_blocks
from isost._logging import logger

MEAN_KEY = "pca_mean"
CHECKED_CELLS = 200


@dataclass(frozen=True, eq=False)
class Decoder:
    """Linear map from features (principal components) to log-normalised genes: x = mean + loadings @ features.

    Attributes
    ----------
    genes
        Names of the G genes.
    loadings
        (G, P) float32.
    mean
        (G,) float32.

    Examples
    --------
    >>> import numpy as np
    >>> decoder = Decoder(("Gad1", "Slc17a6"), np.array([[1, 0], [0, 2]], np.float32), np.ones(2, np.float32))
    >>> decoder.decode([[3, 4]])
    array([[4., 9.]], dtype=float32)
    >>> decoder.decode([[3, 4]], "Slc17a6")
    array([[9.]], dtype=float32)
    """

    genes: tuple[str, ...]
    loadings: np.ndarray
    mean: np.ndarray

    def index(self, genes: str | Sequence[str]) -> np.ndarray:
        """Positions of `genes` among the decoder's genes, (len(genes),) int64.

        Raises
        ------
        TypeError
            If they are no names.
        KeyError
            If a gene is unknown; the message names the closest known ones.
        """
        asked = gene_names(genes)
        index = pd.Index(self.genes).get_indexer(pd.Index(asked, dtype=object))
        unknown = [str(gene) for gene, at in zip(asked, index, strict=True) if at < 0]
        if unknown:
            hints = "; ".join(f"{gene!r} (close: {', '.join(self._close(gene)) or 'none'})" for gene in unknown[:5])
            raise KeyError(
                f"genes: expected names among the {len(self.genes)} genes of the stack, found {len(unknown)} unknown: "
                f"{hints}. Next: look names up in adata.var_names."
            )
        return index.astype(np.int64)

    def decode(self, features: np.ndarray, genes: str | Sequence[str] | None = None) -> np.ndarray:
        """Features (n, P) to log-normalised expression, (n, G) or (n, len(genes)) float32.

        Raises
        ------
        KeyError
            If a gene is unknown.
        """
        rows = slice(None) if genes is None else self.index(genes)
        return np.asarray(features, dtype=np.float32) @ self.loadings[rows].T + self.mean[rows]

    def _close(self, gene: str) -> list[str]:
        lower = {known.lower(): known for known in self.genes}
        return [lower[match] for match in difflib.get_close_matches(gene.lower(), lower, n=3, cutoff=0.5)]


def gene_names(genes: str | Sequence[str]) -> list[str]:
    """List the names that were asked for.

    Raises
    ------
    TypeError
        If they are no names.
    """
    names = [genes] if isinstance(genes, str) else list(genes) if isinstance(genes, Iterable) else [genes]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"genes: expected names, found {genes!r}. Next: pass genes=['Gad1', 'Slc17a6'], for instance.")
    return names


def loadings_key(use_rep: str) -> str:
    """Name the key of `varm` where scanpy keeps the loadings of a representation."""
    return "PCs" if use_rep == "X_pca" else use_rep


def read_decoder(adata: AnnData, use_rep: str) -> Decoder | None:
    """Read the decoder of `obsm[use_rep]`, or None where no loadings belong to it.

    Loadings are `varm["PCs"]` for `"X_pca"` and `varm[use_rep]` for others, as `scanpy.pp.pca` writes them. The mean
    is `var["pca_mean"]` where `isost.pp.embed` left it. After plain `scanpy.pp.pca` it is taken from the matrix that
    was decomposed: it is the intercept of the least-squares line of X on the scores, which is the mean of X on all
    cells and stays right on a subset of them; genes outside the mask of the PCA get least-squares loadings.
    """
    key = loadings_key(use_rep)
    scores = np.asarray(adata.obsm[use_rep], dtype=np.float64)
    loadings = np.asarray(adata.varm[key], dtype=np.float64) if key in adata.varm else None
    if loadings is None or loadings.ndim != 2 or loadings.shape[1] != scores.shape[1] or adata.n_vars == 0:
        return None
    params = pca_params(adata, use_rep)
    if params.get("mean") == MEAN_KEY and MEAN_KEY in adata.var:
        mean = adata.var[MEAN_KEY].to_numpy()
    else:
        layer = params.get("layer")
        if adata.X is None and layer not in adata.layers:
            logger.warning("genes cannot be decoded: varm[%r] has no mean and there is no adata.X to take it from", key)
            return None
        matrix = expression_of(adata, layer if layer in adata.layers else None)
        if not _describes(matrix, scores, loadings):
            logger.warning(
                "genes cannot be decoded: obsm[%r] is not the projection of adata.X on varm[%r], so X was changed "
                "after the PCA. Next: isost.pp.embed(adata), or put the matrix that was decomposed back into X.",
                use_rep,
                key,
            )
            return None
        mean, loadings = _complete(matrix, scores, loadings)
    return Decoder(tuple(map(str, adata.var_names)), loadings.astype(np.float32), np.asarray(mean, dtype=np.float32))


def least_squares_loadings(matrix: Any, scores: np.ndarray) -> np.ndarray:
    """Find the loadings L (G, P) that minimise |X - mean - (S - mean) L^T|^2, X (n, G) dense or sparse, S (n, P)."""
    centred = scores - scores.mean(axis=0)
    cross = np.zeros((matrix.shape[1], centred.shape[1]))
    for rows, block in row_blocks(matrix):
        cross += block.T @ centred[rows]
    return np.linalg.lstsq(centred.T @ centred, cross.T, rcond=1e-10)[0].T


def pca_params(adata: AnnData, use_rep: str) -> Mapping[str, Any]:
    """Look up what `scanpy.pp.pca` or `isost.pp.embed` noted of how a representation was made."""
    run = adata.uns.get("pca" if use_rep == "X_pca" else use_rep, {})
    params = run.get("params", {}) if isinstance(run, Mapping) else {}
    return params if isinstance(params, Mapping) else {}


def layer_behind(adata: AnnData, use_rep: str) -> str | None:
    """Name the layer of the expression that `obsm[use_rep]` was made of; None is X."""
    params = pca_params(adata, use_rep)
    if params.get("mean") == MEAN_KEY:
        params = adata.uns.get("isost", {}).get("embed", {})
    layer = params.get("layer")
    return layer if layer in adata.layers else None


def _describes(matrix: Any, scores: np.ndarray, loadings: np.ndarray) -> bool:
    # Differences between cells are compared, so that it does not matter what was taken off as the mean.
    projected = np.asarray(next(row_blocks(matrix))[1][:CHECKED_CELLS] @ loadings)
    scores = scores[: len(projected)]
    error = (projected - projected.mean(axis=0)) - (scores - scores.mean(axis=0))
    return bool(np.linalg.norm(error) <= 1e-2 * np.linalg.norm(scores - scores.mean(axis=0)))


def _complete(matrix: Any, scores: np.ndarray, loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    outside = np.logical_and.reduce(loadings == 0, axis=1)
    if outside.any():
        loadings = np.where(outside[:, None], least_squares_loadings(matrix, scores), loadings)
    total = sum(np.asarray(block.sum(axis=0, dtype=np.float64)).ravel() for _, block in row_blocks(matrix))
    return total / len(scores) - loadings @ scores.mean(axis=0), loadings
