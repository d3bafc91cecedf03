"""Labels of the cells that were fitted on, such as organs, as the user's tables have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import check_adata, show
from isost._core.stack import Stack
from isost._tools.annotate import category_colors
from isost.pl._palette import palette


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of the cells of a stack.

    Attributes
    ----------
    code
        (n,) int, of each row of the stack, -1 for none.
    names, colors
        Of the labels.
    """

    code: np.ndarray
    names: tuple[str, ...]
    colors: tuple[str, ...]


def read_labels(
    stack: Stack, adata: AnnData, key: str, mapping: Mapping[str, str] | pd.Series | pd.DataFrame | None
) -> Labels:
    """Labels of the cells of a stack, in its order.

    Raises
    ------
    KeyError
        If there is no such column.
    TypeError
        If `adata` is no AnnData, or the table none.
    ValueError
        If cells of the stack are not in `adata`, none has a label, or the table lacks a value.
    """
    check_adata(adata)
    at = pd.Index(np.asarray(adata.obs_names, dtype=str)).get_indexer(stack.obs_names)
    if (at < 0).any():
        raise ValueError(
            f"adata: expected the cells that were fitted on, found that {(at < 0).sum()} of {len(at)} are missing. "
            "Next: pass the AnnData that isost.tl.fit was given."
        )
    labels = labels_of(adata, key, mapping)
    return replace(labels, code=labels.code[at])


def labels_of(adata: AnnData, key: str, mapping: Mapping[str, str] | pd.Series | pd.DataFrame | None) -> Labels:
    """Read `obs[key]` of all cells, and say by a table what each value belongs to, if there is one."""
    if key not in adata.obs:
        raise KeyError(f"key: expected a column of obs ({show(adata.obs.columns)}), found {key!r}. Next: name one.")
    column = adata.obs[key].astype("category")
    if mapping is None:
        names = tuple(str(name) for name in column.cat.categories)
        labels = Labels(column.cat.codes.to_numpy(np.int64), names, category_colors(adata, key, len(names)))
    else:
        table, used = _as_series(mapping), column.cat.remove_unused_categories().cat.categories
        missing = [name for name in used if str(name) not in table.index]
        if missing:
            raise ValueError(
                f"mapping: expected what each value of obs[{key!r}] belongs to, found nothing for {show(missing)}. "
                "Next: add them; None leaves cells out."
            )
        code, known = pd.factorize(column.astype(str).map(table).where(column.notna().to_numpy()), sort=True)
        labels = Labels(code.astype(np.int64), tuple(map(str, known)), palette(len(known)))
    if not (labels.code >= 0).any():
        raise ValueError(f"key: expected cells with a label in obs[{key!r}], found none. Next: name another column.")
    return labels


def _as_series(mapping: Mapping[str, str] | pd.Series | pd.DataFrame) -> pd.Series:
    if isinstance(mapping, pd.DataFrame):
        if mapping.shape[1] not in (1, 2):
            raise TypeError(
                "mapping: expected a table of two columns, values and what they belong to, or one with values as its "
                f"index, found {mapping.shape[1]} columns. Next: mapping[['cell_type', 'organ']]."
            )
        mapping = mapping.set_index(mapping.columns[0]).iloc[:, 0] if mapping.shape[1] == 2 else mapping.iloc[:, 0]
    elif not isinstance(mapping, Mapping | pd.Series):
        raise TypeError(
            f"mapping: expected a dict, Series or DataFrame, found {type(mapping).__name__}. "
            "Next: {'cardiomyocyte': 'heart', ...}."
        )
    table = pd.Series(mapping, dtype=object)
    table.index = table.index.astype(str)
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()].unique()
        raise ValueError(f"mapping: expected each value once, found {show(repeated)} again. Next: drop duplicates.")
    return table
