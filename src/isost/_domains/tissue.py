"""The AnnData door of the room: expression, places, samples and batches of the cells, checked all at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from isost._core.batches import check_batches, correct_batches
from isost._core.checks import Problems, check_adata, check_names, show
from isost._core.expression import check_expression, expression_of, summarise
from isost._core.lazy import is_lazy
from isost._core.normalise import Normalisation, choose_normalisation, lognormalise
from isost._logging import logger

_FEWEST = 2


@dataclass(frozen=True, eq=False)
class Tissue:
    """Cells to be divided.

    Attributes
    ----------
    matrix
        (n, G) float32, dense or CSR: log-normalised, and corrected where there are batches.
    how
        What it was made from.
    genes
        Names.
    coords
        (n, 2) or (n, 3).
    sample, batch
        (n,) int: what lies apart in space, and what was measured apart (0 for all where nothing was).
    """

    matrix: Any
    how: Normalisation
    genes: list[str]
    coords: np.ndarray
    sample: np.ndarray
    batch: np.ndarray

    def __len__(self) -> int:
        return len(self.coords)


def read_tissue(
    adata: AnnData, *, layer: str | None, spatial_key: str, batch_key: str | None, sample_key: str | None,
    how: Normalisation | None = None, correct: bool = True,
) -> Tissue:  # fmt: skip
    """Read and check cells, which are left as they are.

    Parameters
    ----------
    how
        Of an earlier fit, whose normalisation is followed; else the values decide.
    correct
        Whether ComBat takes out what differs between batches.

    Raises
    ------
    TypeError
        If `adata` is no AnnData.
    ValueError
        With all problems at once.
    """
    check_adata(adata)
    problems = Problems()
    check_names(adata, problems)
    coords = _coords(adata, spatial_key, problems)
    if adata.n_obs < _FEWEST or adata.n_vars < _FEWEST:
        problems.add("adata", expected=f"{_FEWEST} cells and {_FEWEST} genes or more", found=f"shape {adata.shape}",
                     next="look at the subset")  # fmt: skip
    known = batch_key is not None and batch_key in adata.obs
    if known and correct:
        check_batches(adata, str(batch_key), (), problems)
    batch = _codes(adata, "batch_key", batch_key, problems, said=known and correct)
    sample = batch if sample_key is None else _codes(adata, "sample_key", sample_key, problems)
    if len(problems):
        raise problems.error("spatial_domains")
    raw, where = expression_of(adata, layer), "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    summary = summarise(raw)
    check_expression(summary, where, problems)
    if len(problems):
        raise problems.error("spatial_domains")
    found = choose_normalisation(summary, layer=layer) if how is None else replace(how, layer=layer)
    matrix = lognormalise(adata, found)
    if batch_key is not None and correct:
        logger.info("spatial_domains: ComBat takes out what differs between the batches of obs[%r]", batch_key)
        matrix = correct_batches(adata, matrix, batch_key, ())
    matrix = matrix.compute() if is_lazy(matrix) else matrix
    matrix = matrix.tocsr() if sparse.issparse(matrix) else np.asarray(matrix, dtype=np.float32)
    return Tissue(matrix, found, list(map(str, adata.var_names)), coords, sample, batch)


def _coords(adata: AnnData, key: str, problems: Problems) -> np.ndarray:
    if key not in adata.obsm:
        problems.add("spatial_key", expected=f"positions in obsm ({show(adata.obsm)})", found=repr(key),
                     next="adata.obsm['spatial'] = adata.obs[['x', 'y']].to_numpy(), for instance")  # fmt: skip
        return np.zeros((adata.n_obs, 2))
    try:
        coords = np.asarray(adata.obsm[key], dtype=np.float64)
    except (TypeError, ValueError):
        kind = getattr(adata.obsm[key], "dtype", type(adata.obsm[key]).__name__)
        problems.add(f"obsm[{key!r}]", expected="finite positions (n, 2) or (n, 3)", found=f"no numbers ({kind})",
                     next="a dense array of numbers")  # fmt: skip
        return np.zeros((adata.n_obs, 2))
    if coords.ndim != 2 or coords.shape[1] not in (2, 3) or not np.isfinite(coords).all():
        what = " with NaN or infinity" if coords.size and not np.isfinite(coords).all() else ""
        problems.add(f"obsm[{key!r}]", expected="finite positions (n, 2) or (n, 3)", found=f"{coords.shape}{what}",
                     next="leave cells without a position out")  # fmt: skip
        return np.zeros((adata.n_obs, 2))
    return coords


def _codes(adata: AnnData, name: str, key: str | None, problems: Problems, *, said: bool = False) -> np.ndarray:
    if key is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    if key not in adata.obs:
        problems.add(name, expected=f"a column of obs ({show(adata.obs.columns)})", found=repr(key),
                     next="name one of these")  # fmt: skip
        return np.zeros(adata.n_obs, dtype=np.int64)
    codes = pd.factorize(adata.obs[key])[0]
    if (codes < 0).any() and not said:
        problems.add(name, expected=f"a value of obs[{key!r}] for every cell",
                     found=f"{int((codes < 0).sum())} cells without one",
                     next=f"adata = adata[adata.obs[{key!r}].notna()].copy()")  # fmt: skip
    return codes.astype(np.int64)
