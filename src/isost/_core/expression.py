"""One pass over an expression matrix, dense, sparse or on disk: what it holds and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, show, show_rows

BLOCK = 1 << 23  # entries of the rows that are looked at together
LARGEST_COUNT = 2**31 - 1  # no experiment counts that far, but an unsigned integer that wrapped below zero does
LARGEST_VALUE = 1e30  # leaves room for a sum over genes in float32


@dataclass
class Summary:
    """What one pass over a matrix of n cells and G genes saw.

    Attributes
    ----------
    totals
        (n,) float64, sum over genes.
    nonfinite, negative
        (n,) bool, cells that hold such a value.
    used
        (G,) bool, genes that are not zero everywhere.
    smallest, largest
        Extremes of the finite values.
    integer
        Whether every value is a whole number.
    dtype
        Of the matrix.
    """

    totals: np.ndarray
    nonfinite: np.ndarray
    negative: np.ndarray
    used: np.ndarray
    dtype: np.dtype[Any]
    smallest: float = 0.0
    largest: float = 0.0
    integer: bool = True


def expression_of(adata: AnnData, layer: str | None = None) -> Any:
    """Look up the matrix that `layer` names, None for `adata.X`.

    Raises
    ------
    ValueError
        If there is no such layer, or it holds no numbers.
    """
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if layer is not None and (not isinstance(layer, str) or layer not in adata.layers):
        raise ValueError(
            f"layer: expected one of the layers ({show(adata.layers)}), found {layer!r}. "
            "Next: layer=None reads adata.X."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None or np.dtype(matrix.dtype).kind not in "biuf":
        found = "nothing" if matrix is None else f"dtype {matrix.dtype}"
        raise ValueError(
            f"{where}: expected numbers (n_cells, n_genes), found {found}. "
            "Next: put counts or log-normalised expression there, or name the layer that holds them by layer=..."
        )
    return matrix


def row_blocks(matrix: Any) -> Iterator[tuple[slice, np.ndarray | sparse.csr_matrix]]:
    """Yield blocks of rows of a numpy, scipy, on-disk (h5py, anndata) or dask matrix, in memory as ndarray or CSR."""
    n, width = matrix.shape
    step = max(1, BLOCK // max(1, width))
    parts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    if not isinstance(matrix, da.Array):
        if sparse.issparse(matrix):
            matrix = matrix.tocsr()
        yield from ((rows, _in_memory(matrix[rows])) for rows in parts)
        return
    # what is still to be computed is computed one block ahead, while this one is in use
    with ThreadPoolExecutor(1) as pool:

        def begin(rows: slice) -> Future[Any]:
            return pool.submit(matrix[rows].compute, scheduler="threads")

        coming = [begin(rows) for rows in parts[:1]]
        for rows, following in zip(parts, [*parts[1:], None], strict=True):
            block = coming.pop().result()
            if following is not None:
                coming.append(begin(following))
            yield rows, _in_memory(block)


def _in_memory(block: Any) -> np.ndarray | sparse.csr_matrix:
    return block.tocsr() if sparse.issparse(block) else np.asarray(block)


def summarise(matrix: Any) -> Summary:
    """Look at every value of `matrix` (n, G) once, a block of rows at a time."""
    n, n_genes = matrix.shape
    none, dtype = np.zeros(n, dtype=bool), np.dtype(matrix.dtype)
    summary = Summary(np.zeros(n), none, none.copy(), np.zeros(n_genes, dtype=bool), dtype)
    for rows, block in row_blocks(matrix):
        values = block if isinstance(block, np.ndarray) else np.asarray(block.data)
        finite = np.isfinite(values)
        summary.nonfinite[rows] = _any_in_row(block, ~finite)
        summary.negative[rows] = _any_in_row(block, values < 0)
        summary.totals[rows] = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        summary.used |= _any_in_column(block, values != 0)
        if finite.any():
            summary.smallest = min(summary.smallest, float(values.min(where=finite, initial=0)))
            summary.largest = max(summary.largest, float(values.max(where=finite, initial=0)))
        if dtype.kind == "f":
            summary.integer = summary.integer and bool(np.all((values == np.round(values)) | ~finite))
    return summary


def check_finite(matrix: Any, where: str, problems: Problems) -> None:
    """Look for missing and infinite values only."""
    bad = np.zeros(matrix.shape[0], dtype=bool)
    for rows, block in row_blocks(matrix):
        bad[rows] = _any_in_row(block, ~np.isfinite(block if isinstance(block, np.ndarray) else block.data))
    _note_nonfinite(bad, where, problems)


def _note_nonfinite(bad: np.ndarray, where: str, problems: Problems) -> None:
    if bad.any():
        problems.add(
            where,
            expected="finite values",
            found=f"NaN or infinity in {show_rows(bad)}",
            next=f"adata = adata[numpy.isfinite(numpy.ravel({where}.sum(axis=1)))].copy()  # without these cells",
        )


def check_expression(summary: Summary, where: str, problems: Problems) -> None:
    """Look for missing, infinite, overflowed and negative values; all-zero genes and cells are no problem."""
    _note_nonfinite(summary.nonfinite, where, problems)
    if summary.integer and summary.negative.any():
        wrapped = f" ({summary.dtype} may have wrapped around)" if summary.dtype.kind == "i" else ""
        problems.add(
            where,
            expected="counts of 0 or more",
            found=f"whole numbers down to {summary.smallest:g}{wrapped}, negative in {show_rows(summary.negative)}",
            next="go back to the raw counts and store them as float32 or int64 before anything is added or subtracted",
        )
    if summary.largest > (LARGEST_COUNT if summary.integer else LARGEST_VALUE):
        problems.add(
            where,
            expected=f"values of at most {f'{LARGEST_COUNT} (2**31 - 1)' if summary.integer else f'{LARGEST_VALUE:g}'}",
            found=f"{summary.largest:g} in dtype {summary.dtype}, which is an integer or float overflow",
            next="go back to the raw counts and store them as float32 or int64",
        )


def is_clipped(summary: Summary) -> bool:
    """Whether counts in a small integer dtype reach its largest value, which is where larger counts would end."""
    return summary.dtype.kind in "iu" and summary.largest == np.iinfo(summary.dtype).max


def _any_in_row(block: np.ndarray | sparse.csr_matrix, flags: np.ndarray) -> np.ndarray:
    if not flags.any():
        return np.zeros(block.shape[0], dtype=bool)
    if isinstance(block, np.ndarray):
        return np.logical_or.reduce(flags, axis=1)
    return np.bincount(np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))[flags], minlength=block.shape[0]) > 0


def _any_in_column(block: np.ndarray | sparse.csr_matrix, flags: np.ndarray) -> np.ndarray:
    if isinstance(block, np.ndarray):
        return np.logical_or.reduce(flags, axis=0)
    return np.bincount(block.indices[flags], minlength=block.shape[1]) > 0
