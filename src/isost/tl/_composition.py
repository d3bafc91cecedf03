from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.checks import show, to_numbers
from isost._core.requests import as_whole
from isost._core.units import read_unit
from isost._tools.annotate import category_colors
from isost._tools.shares import correlate_shares, depth_bins, log2_enrichment, shares_by_group
from isost._tools.targets import positions_of, table_of


def composition(
    data: AnnData | SpatialData,
    *,
    key: str,
    groupby: str = "depth",
    bins: int | Sequence[float] = 10,
    use_probabilities: bool = False,
    reference: pd.DataFrame | None = None,
    table_key: str = "isost_cells",
    spatial_key: str = "spatial",
) -> pd.DataFrame:
    """Count what share each label has in every section, region or slice of depth.

    Parameters
    ----------
    data
        What `isost.tl.reconstruct` made, with labels such as those of `isost.tl.transfer_labels`; or an AnnData.
    key
        Column of `obs` with labels; cells without one are left out.
    groupby
        ``"depth"`` for slices along z, also where `obs` has a column of that name; or a column of `obs`, such as
        ``"section_of_origin"`` or a region.
    bins
        Slices of depth: how many of equal width, or their edges.
    use_probabilities
        Add up ``obsm[f"{key}_probabilities"]`` in place of labels: for voxels, which hold mixtures, or where labels
        are uncertain.
    reference
        Counts or shares of the same labels (columns) in the same groups (rows), for instance of measured sections.
    table_key
        Table of a SpatialData.
    spatial_key
        Key of `obsm` of the positions.

    Returns
    -------
    pandas.DataFrame
        Shares, a row a group and a column a label in the order of its categories; rows sum to 1, and groups without
        cells are left out. The index is named `groupby`; of slices it holds their middles. In ``attrs``: ``n``, the
        cells with a label of each group; ``colors`` of the labels; ``unit`` of depth; ``overall``: the share of each
        label of all labelled cells, also those without a group; ``log2_enrichment``: of each group, log2 of a label's
        share there to that in the tissue, ``pandas.DataFrame(shares.attrs["log2_enrichment"]).T`` as a table. To each
        group one cell of the tissue's mean composition is added, so that it is finite where a label is absent and goes
        to 0 in groups of few cells; it is NaN of labels that no cell has. With a `reference`, ``pearson``: the
        correlation with it over the labels of each common group (``groups``) and over all of these (``overall``).
        `isost.pl.composition` plots it.

    Raises
    ------
    KeyError
        If a column, the probabilities or the table is not found.
    TypeError
        If `data` is neither, `key` or `groupby` no name, or `reference` no DataFrame.
    ValueError
        If edges do not rise, nothing has a label and a group, or no group is in the reference.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=10)
    >>> shares = isost.tl.composition(adata, key="domain", groupby="section")
    >>> shares.shape, shares.index.tolist()
    ((3, 5), ['s1', 's2', 's3'])
    >>> types = isost.tl.composition(adata, key="cell_type", groupby="domain")
    >>> enriched = types.attrs["log2_enrichment"]["nucleus"]
    >>> max(enriched, key=enriched.get) in types.columns
    True
    >>> halves = isost.tl.composition(adata, key="domain", bins=[0, 50, 100])
    >>> halves.index.tolist()
    [25.0, 75.0]
    """
    for argument, name in (("key", key), ("groupby", groupby)):
        if not isinstance(name, str):
            raise TypeError(
                f"{argument}: expected the name of one column of obs, found {name!r}. Next: {argument}='cell_type', "
                "for instance."
            )
    table = table_of(data, table_key)
    parts = _parts(table, key, use_probabilities)
    groups = _groups(table, groupby, bins, spatial_key)
    shares, sizes = shares_by_group(groups, parts)
    if not len(shares):
        raise ValueError(
            f"data: expected cells with a label in {key!r} and a group of {groupby!r}, found none. "
            "Next: look at obs, or give other bins."
        )
    shares.index.name, shares.columns.name = groupby, key
    overall = parts.sum() / parts.to_numpy().sum()
    log2 = log2_enrichment(shares, sizes, overall)
    shares.attrs = {
        "overall": {str(label): float(share) for label, share in overall.items()},
        "log2_enrichment": {str(group): row.to_dict() for group, row in log2.iterrows()},
        "n": {str(group): int(size) for group, size in sizes.items()},
        "colors": list(category_colors(table, key, shares.shape[1])),
        "unit": _unit(data),
    }
    if reference is not None:
        _check_reference(reference, shares)
        shares.attrs["pearson"] = correlate_shares(shares, reference)
    return shares


def _parts(table: AnnData, key: str, use_probabilities: bool) -> pd.DataFrame:
    if key not in table.obs:
        raise KeyError(
            f"key: expected a column of obs ({show(table.obs.columns)}), found {key!r}. "
            "Next: isost.tl.transfer_labels(sdata, adata, key=...) writes one."
        )
    if use_probabilities:
        if f"{key}_probabilities" not in table.obsm:
            raise KeyError(
                f"use_probabilities: expected obsm[{key + '_probabilities'!r}], found {show(table.obsm)}. "
                "Next: isost.tl.transfer_labels(sdata, adata, key=...) writes it."
            )
        parts = pd.DataFrame(table.obsm[f"{key}_probabilities"])
    else:
        parts = pd.get_dummies(table.obs[key].astype("category"), dtype=np.float64)
    parts.columns = [str(name) for name in parts.columns]
    return parts.reset_index(drop=True)


def _groups(table: AnnData, groupby: str, bins: int | Sequence[float], spatial_key: str) -> pd.Categorical:
    if groupby != "depth":
        if groupby not in table.obs:
            raise KeyError(
                f"groupby: expected 'depth' or a column of obs ({show(table.obs.columns)}), found {groupby!r}. "
                "Next: name one of these."
            )
        return pd.Categorical(table.obs[groupby])
    edges: Any = as_whole("bins", bins, 1) if np.ndim(bins) == 0 else to_numbers(np.asarray(bins))
    if isinstance(edges, list):
        raise TypeError(f"bins: expected depths of edges, found {show(edges)}. Next: bins=10.")
    if np.ndim(edges) and (len(edges) < 2 or not np.all(np.diff(edges) > 0)):
        raise ValueError(f"bins: expected two rising edges or more, found {show(edges)}. Next: bins=10.")
    if not table.n_obs:
        raise ValueError("data: expected cells, found none. Next: look at the subset.")
    number, middles = depth_bins(positions_of(table, spatial_key)[:, 2], edges)
    return pd.Categorical.from_codes(number, categories=pd.Index(middles))


def _unit(data: AnnData | SpatialData) -> str:
    return read_unit(data) if isinstance(data, AnnData) else str(data.attrs.get("isost", {}).get("unit", "um"))


def _check_reference(reference: pd.DataFrame, shares: pd.DataFrame) -> None:
    if not isinstance(reference, pd.DataFrame):
        raise TypeError(
            f"reference: expected a DataFrame of groups x labels, found {type(reference).__name__}. "
            "Next: isost.tl.composition(adata, key=..., groupby=...) of measured cells makes one."
        )
    if not len(shares.index.intersection(reference.index)) or not len(shares.columns.intersection(reference.columns)):
        raise ValueError(
            f"reference: expected groups and labels in common ({show(shares.index)}; {show(shares.columns)}), found "
            f"{show(reference.index)}; {show(reference.columns)}. Next: the same groupby and bins for both."
        )
