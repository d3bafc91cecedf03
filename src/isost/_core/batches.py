"""Technical differences between batches, taken out of log-normalised expression by ComBat."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, show
from isost._core.lazy import is_lazy, opened

CORRECTED = "combat"  # layer
_LARGEST = 2**31  # values: ComBat holds several such matrices of float64 at once
_FEWEST = 2  # cells of a batch


def check_batches(adata: AnnData, batch_key: str, covariates: Sequence[str], problems: Problems) -> None:
    """Note what is wrong with columns of batches and of what is to be kept."""
    for name, key in [("batch_key", batch_key), *(("covariates", one) for one in covariates)]:
        if key not in adata.obs:
            found = f"{key!r}, while the columns are {show(adata.obs)}"
            problems.add(name, expected="a column of adata.obs", found=found, next="name one of these")
            return
    column = opened(adata).obs[batch_key]
    if column.isna().any():
        problems.add("batch_key", expected="the batch of every cell", found=f"{column.isna().sum()} cells without one",
                     next=f"adata = adata[adata.obs[{batch_key!r}].notna()].copy()")  # fmt: skip
    sizes = column.value_counts()
    sizes = sizes[sizes > 0]
    if len(sizes) < 2 or sizes.min() < _FEWEST:
        problems.add(
            "batch_key",
            expected=f"two batches or more, of {_FEWEST} cells or more",
            found=show(f"{name}: {size}" for name, size in sizes.items()),
            next="leave batch_key out, or join batches",
        )
    if adata.n_obs * adata.n_vars > _LARGEST:
        problems.add(
            "batch_key",
            expected=f"at most {_LARGEST:.0e} values, as ComBat takes a dense matrix",
            found=f"{adata.n_obs} cells x {adata.n_vars} genes",
            next="adata = adata[:, highly_variable].copy(), or correct by other means and embed that layer",
        )


def correct_batches(adata: AnnData, matrix: Any, batch_key: str, covariates: Sequence[str]) -> np.ndarray:
    """Correct log-normalised expression (n, G): (n, G) float32, dense.

    Raises
    ------
    ValueError
        If batches and covariates cannot be told apart.
    """
    values = matrix.compute() if is_lazy(matrix) else matrix
    dense = values.toarray() if sparse.issparse(values) else np.array(values)
    obs = opened(adata).obs[[batch_key, *covariates]].copy()
    obs[batch_key] = obs[batch_key].astype(str).astype("category")
    one = np.ptp(dense, axis=0) > 0  # a gene that is the same everywhere stays so
    part = AnnData(dense[:, one].astype(np.float64), obs=obs)
    try:
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.simplefilter("ignore")  # of pandas, within ComBat
            corrected = sc.pp.combat(part, key=batch_key, covariates=list(covariates) or None, inplace=False)
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"covariates: expected what differs within batches, found that {show(covariates)} and {batch_key!r} "
            "say the same. Next: leave covariates out."
        ) from error
    finite = np.isfinite(corrected).all(axis=0)  # a gene that does not vary within a batch cannot be scaled there
    kept = np.flatnonzero(one)[finite]
    dense[:, kept] = corrected[:, finite]
    return np.asarray(dense, dtype=np.float32)
