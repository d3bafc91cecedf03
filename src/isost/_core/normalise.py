"""What a matrix of expression is taken to be, and how it becomes log-normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.decoder import MEAN_KEY
from isost._core.expression import Summary, expression_of, row_blocks, summarise
from isost._core.lazy import as_dask, is_lazy
from isost._logging import logger

# log2 of a million, the largest value that log-transformed counts per million reach; linear scales go beyond.
LARGEST_LOG = 20.0

COUNTS = "counts (whole numbers)"
_BELOW = 0.05  # of the largest value: how far log expression that was told by a model may lie below 0


@dataclass(frozen=True)
class Normalisation:
    """How a matrix becomes log-normalised.

    Attributes
    ----------
    found
        What the matrix was taken to be.
    target_sum
        Total of each cell before the logarithm; None leaves totals as they are.
    log1p
        Whether log(1 + x) is taken.
    layer
        Layer that holds the matrix; None is `X`.
    """

    found: str
    target_sum: float | None
    log1p: bool
    layer: str | None

    def __str__(self) -> str:
        total = f"totals to {self.target_sum:g}" if self.target_sum is not None else "totals as they are"
        return f"{self.found}: {total}, {'log1p' if self.log1p else 'no logarithm'}"

    def to_uns(self) -> dict[str, Any]:
        """Make a plain dictionary that `uns` can hold and files can store, without the fields that are None."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> Normalisation:
        """Read back what `to_uns` wrote."""
        target = stored.get("target_sum")
        layer = stored.get("layer")
        return cls(
            found=str(stored["found"]),
            target_sum=None if target is None else float(target),
            log1p=bool(stored["log1p"]),
            layer=None if layer is None else str(layer),
        )


def choose_normalisation(
    summary: Summary, *, target_sum: float | None = None, log1p: bool | None = None, layer: str | None = None
) -> Normalisation:
    """Tell from its values what a matrix is; `target_sum` and `log1p` given by the user win.

    ========================================== ==================== ==========
    values                                     totals               logarithm
    ========================================== ==================== ==========
    whole numbers: counts                      to the median total  log1p
    fractions up to 20: log-normalised         as they are          none
    fractions beyond 20: normalised, linear    as they are          log1p
    fractions, some negative: scaled           as they are          none
    ========================================== ==================== ==========

    The median over cells that hold anything is the default of `scanpy.pp.normalize_total`.
    """
    if summary.negative.any():
        found, normalise, logarithm = "scaled values (some negative)", False, False
    elif summary.integer:
        found, normalise, logarithm = COUNTS, True, True
    elif summary.largest <= LARGEST_LOG:
        found, normalise, logarithm = f"log-normalised (fractions up to {summary.largest:g})", False, False
    else:
        found, normalise, logarithm = f"normalised, not yet log (fractions up to {summary.largest:g})", False, True
    if target_sum is None and normalise:
        positive = summary.totals[summary.totals > 0]
        target_sum = float(np.median(positive)) if len(positive) else None
    return Normalisation(found, target_sum, logarithm if log1p is None else log1p, layer)


def barely_negative(summary: Summary) -> bool:
    """Whether values are log expression as models tell it, a little below 0 here and there, and not scaled ones."""
    return summary.largest <= LARGEST_LOG and summary.smallest >= -_BELOW * summary.largest


def recorded_normalisation(adata: AnnData) -> Normalisation:
    """Look up what `isost.pp.embed` assumed, or tell it from the matrix that `scanpy.pp.pca` decomposed.

    The record does not count where plain PCA has run since, or where counts have been normalised in place since.
    """
    params = adata.uns.get("pca", {}).get("params", {})
    if params.get("mean") == MEAN_KEY and "embed" in adata.uns.get("isost", {}):
        how = Normalisation.from_uns(adata.uns["isost"]["embed"])
        first = next(row_blocks(expression_of(adata, how.layer)), (None, None))[1]
        if first is None or not how.found.startswith(COUNTS) or summarise(first).integer:
            return how
        logger.warning("expression was counts when it was embedded and holds fractions now; it is judged anew")
        return choose_normalisation(summarise(expression_of(adata, how.layer)), layer=how.layer)
    layer = params.get("layer")
    return choose_normalisation(summarise(expression_of(adata, layer)), layer=layer)


def lognormalise(adata: AnnData, normalisation: Normalisation | None = None) -> Any:
    """Compute the log-normalised matrix that the representation of `adata` describes.

    Parameters
    ----------
    adata
        Any cells of an AnnData, also a view; not changed.
    normalisation
        How to do it; by default as `isost.pp.embed` did it and recorded in `uns["isost"]["embed"]`, else as the values
        of the matrix suggest.

    Returns
    -------
    (n_cells, n_genes) float32, CSR where the matrix is sparse; dask of either where it is on disk.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> adata = AnnData(np.array([[1.0, 3.0], [0.0, 8.0]], dtype=np.float32))
    >>> lognormalise(adata, Normalisation("counts", target_sum=4.0, log1p=True, layer=None)).round(2)
    array([[0.69, 1.39],
           [0.  , 1.61]], dtype=float32)
    """
    how = recorded_normalisation(adata) if normalisation is None else normalisation
    raw = expression_of(adata, how.layer)
    if is_lazy(raw):
        rows = as_dask(raw)
        return rows.map_blocks(lognormal, how, dtype=np.float32, meta=rows._meta.astype(np.float32))  # type: ignore[arg-type]
    return lognormal(raw, how)


def lognormal(raw: np.ndarray | sparse.spmatrix, how: Normalisation) -> np.ndarray | sparse.csr_matrix:
    """Log-normalise rows (n, G) of a matrix, which is left as it is: float32, CSR where it is sparse."""
    matrix = sparse.csr_matrix(raw, dtype=np.float32, copy=True) if sparse.issparse(raw) else np.array(raw, np.float32)
    values: np.ndarray = matrix if isinstance(matrix, np.ndarray) else matrix.data
    if how.target_sum is not None:
        # Summed in float64 from what was stored: a uint8 total would wrap around at 255.
        totals = np.asarray(raw.sum(axis=1, dtype=np.float64)).ravel()
        factor = np.divide(how.target_sum, totals, out=np.zeros_like(totals), where=totals > 0).astype(np.float32)
        values *= factor[:, None] if isinstance(matrix, np.ndarray) else np.repeat(factor, np.diff(matrix.indptr))
    if how.log1p:
        np.log1p(values, out=values)
    return matrix
