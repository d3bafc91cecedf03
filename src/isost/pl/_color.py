"""What a point plot is coloured by: a gene, a column of `obs`, a component, or nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.colors import is_color_like, to_hex

from isost._logging import logger
from isost.pl._palette import palette

_MOST_CATEGORIES = 60


@dataclass(frozen=True)
class Coloring:
    """One value a cell, and how to read it.

    `values` is (n,) float64: the number, or the position of the cell's category in `categories`; NaN where missing.
    """

    values: np.ndarray
    label: str
    categories: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()

    @classmethod
    def joined(cls, parts: Sequence[Coloring]) -> Coloring:
        """Put parts one after another, their categories united."""
        colors = {name: color for part in parts for name, color in zip(part.categories, part.colors, strict=True)}
        place = {name: float(k) for k, name in enumerate(colors)}
        values = [_recoded(part, place) if part.categories else part.values for part in parts]
        return cls(np.concatenate(values), parts[0].label, tuple(colors), tuple(colors.values()))


def coloring(adata: AnnData, color: str, *, layer: str | None, use_rep: str) -> Coloring:
    """Look `color` up in `obs`, then the genes, then as a component such as "PC1"."""
    in_obs, in_var = color in adata.obs, color in adata.var_names
    if in_obs and in_var:
        raise ValueError(
            f"color: expected a name of one thing, found {color!r} both in adata.obs and among the genes. "
            f"Next: adata.obs = adata.obs.rename(columns={{{color!r}: {color + '_obs'!r}}})."
        )
    if in_obs:
        return _from_obs(adata, color)
    if in_var:
        return _from_gene(adata, color, layer)
    component = re.fullmatch(r"PC([1-9]\d*)", color)
    if component and use_rep in adata.obsm:
        return _from_component(adata, int(component[1]), use_rep)
    known = [*map(str, adata.obs.columns), *map(str, adata.var_names)]
    close = ", ".join(repr(name) for name in difflib.get_close_matches(color, known, n=3, cutoff=0.5))
    raise KeyError(
        f"color: expected a gene, a column of obs, or a component such as 'PC1'; found {color!r}, which is none of "
        f"them (close: {close or 'none'}). Next: look names up in adata.var_names and adata.obs.columns."
    )


def _recoded(part: Coloring, place: dict[str, float]) -> np.ndarray:
    codes = np.array([*(place[name] for name in part.categories), np.nan])
    return codes[np.where(np.isfinite(part.values), part.values, -1).astype(int)]


def _from_obs(adata: AnnData, key: str) -> Coloring:
    column = adata.obs[key]
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric:
        return Coloring(column.to_numpy(dtype=np.float64, na_value=np.nan), key)
    categorical = column.astype("category").cat
    categories = tuple(map(str, categorical.categories))
    codes = categorical.codes.to_numpy().astype(np.float64)
    if len(categories) > _MOST_CATEGORIES:
        raise ValueError(
            f"color: expected at most {_MOST_CATEGORIES} categories, found {len(categories)} in obs[{key!r}]. "
            "Next: join rare ones, or make the column numeric if it is a quantity."
        )
    if not categories:
        return Coloring(np.full(adata.n_obs, np.nan), key)
    return Coloring(np.where(codes < 0, np.nan, codes), key, categories, _colors_of(adata, key, len(categories)))


def _colors_of(adata: AnnData, key: str, n: int) -> tuple[str, ...]:
    stored = adata.uns.get(f"{key}_colors")
    if stored is None:
        return palette(n)
    if len(stored) < n or not all(is_color_like(color) for color in stored):
        logger.warning(
            f"uns[{f'{key}_colors'!r}] does not hold a colour for each of the {n} categories: standard colours are used"
        )
        return palette(n)
    return tuple(to_hex(color) for color in stored[:n])


def _from_gene(adata: AnnData, gene: str, layer: str | None) -> Coloring:
    if layer is not None and layer not in adata.layers:
        raise KeyError(
            f"layer: expected one of {list(adata.layers)}, found {layer!r}. Next: leave it out to plot adata.X."
        )
    column = np.flatnonzero(adata.var_names == gene)
    if len(column) > 1:
        raise ValueError(
            f"color: expected one gene {gene!r}, found {len(column)} of that name. Next: adata.var_names_make_unique()."
        )
    data = adata.X if layer is None else adata.layers[layer]
    if data is None:
        raise ValueError(
            f"color: expected expression of {gene!r} in adata.X, found no X. Next: name a layer, or color by 'PC1'."
        )
    values = data[:, int(column[0])]
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    what = "expression" if layer is None else layer
    return Coloring(dense.ravel().astype(np.float64), f"{gene} ({what})")


def _from_component(adata: AnnData, number: int, use_rep: str) -> Coloring:
    scores = adata.obsm[use_rep]
    if number > scores.shape[1]:
        raise KeyError(
            f"color: expected a component from PC1 to PC{scores.shape[1]} of obsm[{use_rep!r}], found PC{number}. "
            "Next: ask for one of these."
        )
    return Coloring(np.asarray(scores)[:, number - 1].astype(np.float64), f"PC{number} (score)")
