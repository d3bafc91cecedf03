"""Write spatial domains to the cells that they were found in, and what must not be written over."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.checks import check_adata
from isost._domains.model import Domains, Found, refined
from isost._domains.tissue import Tissue
from isost._logging import logger
from isost._tools.annotate import annotate
from isost._tools.labels_element import checked_key
from isost.pl._palette import palette

_AGREEMENT = 0.8  # of networks (adjusted Rand index), below which borders are not to be relied on


def check_own(adata: AnnData) -> None:
    """Refuse what is no AnnData, and a view, which writing to would copy.

    Raises
    ------
    TypeError
        If it is no AnnData.
    ValueError
        If it is a view.
    """
    check_adata(adata)
    if adata.is_view:
        raise ValueError(
            "adata: expected an AnnData that owns its data, as results are written to it, found a view of another. "
            "Next: adata = adata.copy()."
        )


def checked_names(
    data: AnnData | SpatialData, key_added: str, rep_added: str, spatial_key: str, columns: tuple[str | None, ...]
) -> str:
    """Return the name of the domains, and refuse names that would be written over what is read.

    Raises
    ------
    TypeError
        If a name is no string.
    ValueError
        If it is that of the positions, of a column that is read, or of what holds a reconstruction together.
    """
    for name, value in (("key_added", key_added), ("rep_added", rep_added)):
        if not isinstance(value, str) or not value:
            raise TypeError(f"{name}: expected a name, found {value!r}. Next: leave it out.")
    if spatial_key in (rep_added, f"{rep_added}_spatial", f"{rep_added}_intrinsic"):
        raise ValueError(
            f"rep_added: expected a name under which nothing is that is read, found {rep_added!r}, which would be "
            f"written over the positions in obsm[{spatial_key!r}]. Next: rep_added='X_domains'."
        )
    if key_added in columns:
        raise ValueError(
            f"key_added: expected a name under which nothing is that is read, found {key_added!r}, a column of "
            "batches or samples. Next: key_added='spatial_domain'."
        )
    return checked_key(data, key_added)


def write_domains(
    adata: AnnData, found: Found, tissue: Tissue, params: dict[str, Any], key_added: str, rep_added: str,
    domains: Domains,
) -> None:  # fmt: skip
    """Write latents, domains, their colours and how they were found, after everything was computed."""
    k = domains.n_domains
    codes = refined(found.shares, tissue, int(params["n_votes"]))
    names = [str(number) for number in range(k)]
    adata.obsm[f"{rep_added}_spatial"] = found.spatial
    if found.intrinsic is not None:
        adata.obsm[f"{rep_added}_intrinsic"] = found.intrinsic
    else:
        adata.obsm.pop(f"{rep_added}_intrinsic", None)  # of an earlier call
    adata.obsm[rep_added] = found.joint
    annotate(adata, key_added, codes, names, palette(k))
    adata.uns[key_added] = {"params": {key: value for key, value in params.items() if value is not None}}
    if domains.info["criterion"]:
        adata.uns[key_added]["bic"] = dict(domains.info["criterion"])
    there = len(np.unique(codes))
    agree = "" if params["agreement"] is None else f", networks agree by {params['agreement']:.2f} (ARI)"
    logger.info("spatial_domains: wrote %r, %d domains of %d cells%s", key_added, there, len(codes), agree)
    if there < k:
        logger.warning("spatial_domains: %d of the %d domains have no cells here", k - there, k)
    if params["agreement"] is not None and params["agreement"] < _AGREEMENT:
        logger.warning("spatial_domains: the networks of the fit agree little; other seeds will give other borders. "
                       "Doubt the number of domains first")  # fmt: skip
