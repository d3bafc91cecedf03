"""How alike domains are, by scanpy's PAGA, and how often they touch, by squidpy."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from isost._core.optional import load_extra

_DOMAIN, _SAMPLE = "domain", "sample"


def check_igraph() -> None:
    """Refuse where igraph is missing, which PAGA needs and only an extra brings, as it is under the GPL.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        load_extra("igraph", "leiden")
    except ImportError as error:
        raise ImportError(
            "use_rep: expected igraph for the connectivities of PAGA, found none. "
            "Next: pip install 'isost[leiden]' (igraph is licensed under the GPL), or use_rep=None for contacts alone."
        ) from error


def connectivities(features: np.ndarray, domains: pd.Categorical, n_neighbors: int) -> np.ndarray:
    """PAGA connectivities (K, K) of domains, each of which has cells, in the graph of nearest neighbours of features.

    They are edges between two domains relative to those expected were edges drawn at random, 1 at most.
    """
    index = pd.RangeIndex(len(domains)).astype(str)
    part = AnnData(obs=pd.DataFrame({_DOMAIN: domains}, index=index), obsm={"X": features})
    # exact neighbours, whichever pynndescent there is; PAGA reads their distances, so the cheapest weights will do
    sc.pp.neighbors(part, n_neighbors=n_neighbors, use_rep="X", method="gauss", transformer="sklearn")
    sc.tl.paga(part, groups=_DOMAIN)
    return np.asarray(part.uns["paga"]["connectivities"].toarray(), dtype=np.float64)


def contacts(places: np.ndarray, domains: pd.Categorical, samples: pd.Categorical | None, k: int) -> np.ndarray:
    """Count pairs (K, K) of a cell and one of its k nearest neighbours in its sample, of either order, by domain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what squidpy imports
        import squidpy as sq

    obs = {_DOMAIN: domains} if samples is None else {_DOMAIN: domains, _SAMPLE: samples}
    part = AnnData(obs=pd.DataFrame(obs, index=pd.RangeIndex(len(domains)).astype(str)), obsm={"spatial": places})
    log = logging.getLogger("spatialdata._logging")  # squidpy's: what it says of a graph, it says to standard output
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        sq.gr.spatial_neighbors_knn(part, n_neighs=k, library_key=None if samples is None else _SAMPLE)
    finally:
        log.setLevel(level)
    directed = np.asarray(sq.gr.interaction_matrix(part, _DOMAIN, copy=True), dtype=np.int64)
    return directed + directed.T - np.diag(np.diag(directed))


def contact_shares(counts: np.ndarray) -> np.ndarray:
    """Contacts (K, K) of two domains, as a share of those that either has with any other domain; 0 where none has."""
    between = counts - np.diag(np.diag(counts))
    border = between.sum(axis=1)
    either = border[:, None] + border[None, :] - between
    return np.divide(between, either, out=np.zeros(counts.shape), where=either > 0)
