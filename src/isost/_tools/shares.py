"""Shares of categories in groups, and how far two tables of them agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def depth_bins(depth: np.ndarray, bins: int | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each depth, -1 outside all, and the middle of each bin; a number makes as many of equal width."""
    edges = np.asarray(bins, dtype=np.float64)
    if edges.ndim == 0:
        low, high = float(depth.min()), float(depth.max())
        edges = np.linspace(low, high if high > low else low + 1.0, int(edges) + 1)
    number = np.searchsorted(edges, depth, side="right") - 1
    number[depth == edges[-1]] = len(edges) - 2  # the last bin owns its upper edge
    number[(depth < edges[0]) | (depth > edges[-1])] = -1
    return number, (edges[1:] + edges[:-1]) / 2


def shares_by_group(groups: pd.Categorical, parts: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Shares of each group, whose rows sum to 1, and how many rows have a share in it; groups without any are left out.

    Parameters
    ----------
    groups
        (n,) group of each row; rows without one are left out.
    parts
        (n, C), what each row adds to each category: 0 and 1, or probabilities; nothing where it has no label.
    """
    labelled = parts.sum(axis=1).to_numpy() > 0
    each = parts[labelled].groupby(groups[labelled], observed=True)
    totals = each.sum()
    return totals.div(totals.sum(axis=1), axis=0), each.size()


def log2_enrichment(shares: pd.DataFrame, sizes: pd.Series, overall: pd.Series) -> pd.DataFrame:
    """Log2 of the shares of groups (rows) to those `overall`, with one cell of that composition added to each group.

    It is finite where a share is 0, and NaN where that overall is 0.
    """
    whole = overall.to_numpy(dtype=np.float64)
    n = sizes.to_numpy(dtype=np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (shares.to_numpy() * n + whole) / ((n + 1.0) * whole)
        return pd.DataFrame(np.log2(ratio), shares.index, shares.columns)


def correlate_shares(shares: pd.DataFrame, reference: pd.DataFrame) -> dict[str, object]:
    """Pearson correlation with a reference over the categories of each common group, and over all of them at once.

    A category that one of the two lacks has share 0 there. The correlation of a group is NaN where one of the two has
    the same share of every category.
    """
    groups = [group for group in shares.index if group in reference.index]
    categories = [*shares.columns, *(name for name in reference.columns if name not in shares.columns)]
    first, second = (
        table.loc[groups].reindex(columns=categories).fillna(0.0).to_numpy(dtype=np.float64)
        for table in (shares, reference)
    )
    second = second / np.maximum(second.sum(axis=1, keepdims=True), 1e-300)
    each = {str(group): _pearson(one, other) for group, one, other in zip(groups, first, second, strict=True)}
    return {"overall": _pearson(first.ravel(), second.ravel()), "groups": each}


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def correlate_columns(shares: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """Pearson correlation with a reference over the groups of each common category; NaN where one is constant."""
    groups = [group for group in shares.index if group in reference.index]
    known = reference.loc[groups]
    known = known.div(known.sum(axis=1), axis=0)
    return {
        str(name): _pearson(shares.loc[groups, name].to_numpy(), known[name].to_numpy())
        for name in shares.columns
        if name in known.columns
    }
