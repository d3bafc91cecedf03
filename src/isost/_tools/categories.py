"""Columns of labels, such as domains, samples and conditions, read and checked."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import show


def categories_of(adata: AnnData, key: str, argument: str) -> pd.Categorical:
    """Read a column of `obs` as labels: names are text, those that no cell has are left out, missing ones stay so.

    Raises
    ------
    KeyError
        If there is no such column; the message names the `argument`.
    TypeError
        If it holds fractions.
    ValueError
        If no cell has a label, or two labels read the same.
    """
    if not isinstance(key, str) or key not in adata.obs:
        raise KeyError(
            f"{argument}: expected a column of obs ({show(adata.obs.columns)}), found {key!r}. Next: name one of these."
        )
    column = adata.obs[key]
    if pd.api.types.is_float_dtype(column):
        raise TypeError(
            f"{argument}: expected labels in obs[{key!r}], found numbers ({column.dtype}). "
            f"Next: adata.obs[{key!r}].astype('Int64').astype('category') where they are numbers of clusters."
        )
    labels = pd.Categorical(column).remove_unused_categories()
    if not len(labels.categories):
        raise ValueError(
            f"{argument}: expected labels in obs[{key!r}], found none in {adata.n_obs} cells. "
            "Next: name another column."
        )
    names = [str(name) for name in labels.categories]
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise ValueError(
            f"{argument}: expected labels of one type in obs[{key!r}], found some that read the same ({show(twice)}). "
            f"Next: adata.obs[{key!r}] = adata.obs[{key!r}].astype(str)."
        )
    return labels.rename_categories(names)


def check_every_cell(labels: pd.Categorical, key: str, argument: str, which: np.ndarray) -> None:
    """Refuse a column that lacks a label for some of the cells `which` (n,) bool.

    Raises
    ------
    ValueError
        If there are such cells.
    """
    missing = int((np.asarray(labels.codes)[which] < 0).sum())
    if missing:
        raise ValueError(
            f"{argument}: expected a value of obs[{key!r}] for every labelled cell, found {missing} without. "
            f"Next: adata = adata[adata.obs[{key!r}].notna()].copy()."
        )
