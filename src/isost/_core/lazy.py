"""AnnData whose expression is larger than memory: backed, or opened by `anndata.experimental.read_lazy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

OnDisk = h5py.Dataset | CSRDataset | CSCDataset
_CHUNK = 1 << 23  # entries of a chunk; as many as of a block of rows, which then reads one


def opened(adata: AnnData, *, obsm: Sequence[str] = ()) -> AnnData:
    """Read all but the expression into memory, and of `obsm` what is named.

    What is returned is not to be written to; it is the very AnnData where that is in memory already.
    """
    if isinstance(adata.obs, pd.DataFrame) and not any(isinstance(adata.obsm.get(key), da.Array) for key in obsm):
        return adata
    return AnnData(
        X=adata.X,
        obs=_frame(adata.obs),
        var=_frame(adata.var),
        obsm={key: _array(adata.obsm[key]) for key in obsm if key in adata.obsm},
        varm={key: _array(adata.varm[key]) for key in adata.varm},
        layers=dict(adata.layers),
        uns=dict(adata.uns),
    )


def is_lazy(matrix: Any) -> bool:
    """Whether a matrix lies on disk or is still to be computed."""
    return isinstance(matrix, (da.Array, OnDisk))


def is_by_columns(matrix: Any) -> bool:
    """Whether rows of a lazy matrix cannot be read by themselves."""
    return isinstance(matrix, CSCDataset) or getattr(getattr(matrix, "_meta", None), "format", "csr") == "csc"


def as_dask(matrix: Any) -> da.Array:
    """Make a dask array (n, G) of rows, dense or CSR, of a matrix that is lazy."""
    if isinstance(matrix, da.Array):
        return matrix.rechunk({1: -1})
    n, width = matrix.shape
    step = max(1, _CHUNK // max(1, width))
    rows = tuple(min(step, n - first) for first in range(0, n, step))
    dense = isinstance(matrix, h5py.Dataset)
    meta = np.empty((0, 0), matrix.dtype) if dense else sparse.csr_matrix((0, 0), dtype=matrix.dtype)

    def read(block_info: Any = None) -> Any:
        first, last = block_info[None]["array-location"][0]
        part = matrix[first:last]
        return part if dense else sparse.csr_matrix(part)

    return da.map_blocks(read, chunks=(rows, (width,)), dtype=matrix.dtype, meta=meta)


def _frame(values: Any) -> pd.DataFrame:
    return values if isinstance(values, pd.DataFrame) else values.to_memory()


def _array(values: Any) -> Any:
    return values.compute(scheduler="threads") if isinstance(values, da.Array) else values
