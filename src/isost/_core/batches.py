"""Technical differences between batches, taken out of log-normalised expression by ComBat."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, show
from isost._core.lazy import is_lazy, opened

CORRECTED = "combat"  # layer
_LARGEST = 2**29  # values: ComBat holds several such matrices at once, of 4 GiB then
_FEWEST = 2  # cells of a batch


def check_batches(adata: AnnData, batch_key: str, covariates: Sequence[str], problems: Problems) -> None:
    """Note what is wrong with columns of batches and of what is to be kept."""
    for name, key in [("batch_key", batch_key), *(("covariates", one) for one in covariates)]:
        if key not in adata.obs:
            found = f"{key!r}, while the columns are {show(adata.obs)}"
            problems.add(name, expected="a column of adata.obs", found=found, next="name one of these")
            return
    for key in covariates:
        if opened(adata).obs[key].isna().any():
            problems.add("covariates", expected="a value for every cell", found=f"cells without one in {key!r}",
                         next="leave these cells out")  # fmt: skip
    if batch_key in covariates:
        problems.add("covariates", expected="other columns than batch_key", found=f"{batch_key!r} among them",
                     next="leave it out")  # fmt: skip
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
    obs = opened(adata).obs
    batch = obs[batch_key].astype(str)
    others = _columns(obs, covariates)
    design = np.column_stack([pd.get_dummies(batch).to_numpy(np.float64), others])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            f"covariates: expected what differs within batches, found that {show(covariates)} and {batch_key!r} say in "
            "part the same. Next: leave covariates out, or join values of them."
        )
    values = matrix.compute() if is_lazy(matrix) else matrix
    dense = values.toarray() if sparse.issparse(values) else np.array(values)
    one = np.ptp(dense, axis=0) > 0  # a gene that is the same everywhere stays so
    # of text ComBat makes a column for every value, which it cannot tell from batches; numbers it takes as they are
    table = pd.DataFrame(others.astype(np.float64), adata.obs_names, [f"covariate {k}" for k in range(others.shape[1])])
    part = AnnData(dense[:, one].astype(np.float64), obs=table.assign(batch=batch.astype("category").to_numpy()))
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")  # of pandas, within ComBat
        corrected = sc.pp.combat(part, key="batch", covariates=list(table.columns) or None, inplace=False)
    finite = np.isfinite(corrected).all(axis=0)  # a gene that does not vary within a batch cannot be scaled there
    kept = np.flatnonzero(one)[finite]
    dense[:, kept] = corrected[:, finite]
    return np.asarray(dense, dtype=np.float32)


def _columns(obs: pd.DataFrame, covariates: Sequence[str]) -> np.ndarray:
    """Covariates as numbers (n, C): names by a column for each but the first."""
    parts = [np.zeros((len(obs), 0))]
    for key in covariates:
        if pd.api.types.is_numeric_dtype(obs[key]) and not pd.api.types.is_bool_dtype(obs[key]):
            parts.append(obs[[key]].to_numpy(np.float64))
        else:
            parts.append(pd.get_dummies(obs[key].astype(str)).to_numpy(np.float64)[:, 1:])
    return np.column_stack(parts)
