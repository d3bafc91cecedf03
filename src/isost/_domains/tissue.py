"""The AnnData door of the room: expression, places, samples and batches of the cells, checked all at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from isost._core.batches import check_batches, correct_batches
from isost._core.checks import Problems, check_adata, check_names, show
from isost._core.expression import Summary, check_expression, expression_of, summarise
from isost._core.lazy import is_lazy
from isost._core.normalise import Normalisation, barely_negative, choose_normalisation, lognormalise
from isost._core.positions import read_positions
from isost._logging import logger

_FEWEST = 2
_LOOKED_AT = 50  # sections


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
        Of an earlier fit, whose normalisation is followed for values of the same kind; else the values decide.
    correct
        Whether ComBat takes out what differs between batches.

    Raises
    ------
    TypeError
        If `adata` is no AnnData.
    ValueError
        With all problems at once; or if values are of another kind than those of the fit.
    """
    check_adata(adata)
    problems = Problems()
    check_names(adata, problems)
    coords = read_positions(adata, spatial_key, problems)
    if adata.n_obs < _FEWEST or adata.n_vars < _FEWEST:
        problems.add("adata", expected=f"{_FEWEST} cells and {_FEWEST} genes or more", found=f"shape {adata.shape}",
                     next="look at the subset")  # fmt: skip
    known = isinstance(batch_key, str) and batch_key in adata.obs
    if known and correct:
        check_batches(adata, str(batch_key), (), problems)
    batch = _codes(adata, "batch_key", batch_key, problems, said=known and correct)
    sample = batch if sample_key is None else _codes(adata, "sample_key", sample_key, problems)
    if len(problems) or coords is None:
        raise problems.error("spatial_domains")
    raw, where = expression_of(adata, layer), "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    summary = summarise(raw)
    check_expression(summary, where, problems)
    if len(problems):
        raise problems.error("spatial_domains")
    found = choose_normalisation(summary, layer=layer)
    if how is not None:
        found = _like_the_fit(how, found, summary, where)
    elif sample_key is None and batch_key is None:
        _say_overlap(adata, coords)
    matrix = lognormalise(adata, found)
    if batch_key is not None and correct:
        logger.info("spatial_domains: ComBat takes out what differs between the batches of obs[%r]", batch_key)
        matrix = correct_batches(adata, matrix, batch_key, ())
    matrix = matrix.compute() if is_lazy(matrix) else matrix
    matrix = matrix.tocsr() if sparse.issparse(matrix) else np.asarray(matrix, dtype=np.float32)
    return Tissue(matrix, found, list(map(str, adata.var_names)), coords, sample, batch)


def _like_the_fit(how: Normalisation, own: Normalisation, summary: Summary, where: str) -> Normalisation:
    """Follow the normalisation of a fit, where values are of its kind; take log-normalised ones as they are.

    Raises
    ------
    ValueError
        If they are of another kind, or 0.
    """
    if not summary.used.any():
        raise ValueError(
            f"{where}: expected expression, found 0 everywhere. Next: name the layer that holds it by layer=."
        )
    is_log = not own.log1p and (not summary.negative.any() or barely_negative(summary))
    if how.found.split("(")[0] == own.found.split("(")[0]:
        return replace(how, layer=own.layer)
    if is_log and not how.found.startswith("scaled"):
        if how.log1p:
            total = "" if how.target_sum is None else f" of totals of {how.target_sum:g}, as those of the fit"
            logger.warning("spatial_domains: %s is log-normalised, where the fit took %s; taken as the logarithm%s",
                           where, how.found, total)  # fmt: skip
        return Normalisation(own.found, None, log1p=False, layer=own.layer)
    raise ValueError(
        f"{where}: expected what the fit took, {how.found}, found {own.found}. Next: name a layer that holds such by "
        "layer=, or fit anew on what all sections have."
    )


def _say_overlap(adata: AnnData, coords: np.ndarray) -> None:
    """Warn where sections of `obs["section"]` lie over each other at one depth, and are taken for one tissue."""
    if "section" not in adata.obs:
        return
    number, names = pd.factorize(adata.obs["section"])
    boxes = [np.concatenate([np.quantile(coords[number == k], at, axis=0) for at in (0.05, 0.95)])
             for k in range(min(len(names), _LOOKED_AT))]  # fmt: skip
    dims = coords.shape[1]
    for one, other in combinations(boxes, 2):
        low, high = np.maximum(one[:dims], other[:dims]), np.minimum(one[dims:], other[dims:])
        if (low < high)[:2].all() and (dims == 2 or low[2] <= high[2]):
            logger.warning("spatial_domains: sections of obs['section'] lie over each other and are taken for one "
                           "tissue; if they are not, sample_key='section', or batch_key='section'")  # fmt: skip
            return


def _codes(adata: AnnData, name: str, key: str | None, problems: Problems, *, said: bool = False) -> np.ndarray:
    if key is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    if not isinstance(key, str) or key not in adata.obs:
        problems.add(name, expected=f"a column of obs ({show(adata.obs.columns)})", found=repr(key),
                     next="name one of these")  # fmt: skip
        return np.zeros(adata.n_obs, dtype=np.int64)
    codes = pd.factorize(adata.obs[key])[0]
    if (codes < 0).any() and not said:
        problems.add(name, expected=f"a value of obs[{key!r}] for every cell",
                     found=f"{int((codes < 0).sum())} cells without one",
                     next=f"adata = adata[adata.obs[{key!r}].notna()].copy()")  # fmt: skip
    return codes.astype(np.int64)
