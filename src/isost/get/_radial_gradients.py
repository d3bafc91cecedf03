from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData


def radial_gradients(
    sdata: SpatialData | AnnData | Mapping[str, SpatialData | AnnData], *, key: str = "radial", what: str = "genes"
) -> pd.DataFrame:
    """Read what `isost.tl.radial_gradients` found.

    Parameters
    ----------
    sdata
        What it was run on; or several, such as time points, by name.
    key
        Its ``key_added``.
    what
        ``"genes"``, a row for each gene; ``"mean"`` or ``"spread"``, (genes, shells), the columns named by the distance
        of the shell's middle; ``"shells"``, a row for each shell.

    Returns
    -------
    pandas.DataFrame
        A copy; columns as in `isost.tl.radial_gradients`. Of several, one under the other, with a first column
        ``"condition"`` that names them.

    Raises
    ------
    KeyError
        If it was not run, or `what` is none of these.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.spinal_cord(n_sections=4, n_cells=100, n_genes=8)
    >>> adata.X = adata.X.astype("float32").log1p()
    >>> isost.tl.radial_gradients(adata, axis="centre", width=200.0)
    >>> isost.get.radial_gradients(adata, what="shells")["inner"].tolist()[:3]
    [0.0, 200.0, 400.0]
    >>> isost.get.radial_gradients({"day 3": adata, "day 7": adata})["condition"].unique().tolist()
    ['day 3', 'day 7']
    """
    if isinstance(sdata, Mapping):
        parts = {str(name): radial_gradients(one, key=key, what=what) for name, one in sdata.items()}
        joined = pd.concat(list(parts.values()))
        joined.insert(0, "condition", [name for name, part in parts.items() for _ in range(len(part))])
        return joined
    found = gradients_of(sdata, key)
    if what not in ("genes", "mean", "spread", "shells"):
        raise KeyError(f"what: expected 'genes', 'mean', 'spread' or 'shells', found {what!r}. Next: leave it out.")
    return found[what].copy()


def gradients_of(sdata: SpatialData | AnnData, key: str) -> dict[str, Any]:
    """All that `isost.tl.radial_gradients` wrote under a key."""
    return table_with(sdata, key).uns[f"{key}_gradients"]


def table_with(sdata: SpatialData | AnnData, key: str) -> AnnData:
    """Find the table that holds it."""
    if not isinstance(sdata, SpatialData | AnnData):
        raise TypeError(
            f"sdata: expected a SpatialData or an AnnData, found {type(sdata).__name__}. "
            "Next: isost.tl.reconstruct(adata) makes a SpatialData."
        )
    tables = list(sdata.tables.values()) if isinstance(sdata, SpatialData) else [sdata]
    for table in tables:
        if f"{key}_gradients" in table.uns:
            return table
    kept = [name.removesuffix("_gradients") for table in tables for name in table.uns if name.endswith("_gradients")]
    raise KeyError(
        f"key: expected one of those that were computed ({', '.join(map(repr, kept)) or 'none'}), found {key!r}. "
        f"Next: isost.tl.radial_gradients(sdata, axis='centre', key_added={key!r})."
    )
