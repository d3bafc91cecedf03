from __future__ import annotations

from time import perf_counter

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import check_adata, show
from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_whole
from isost._logging import logger
from isost._tools.annotate import category_colors
from isost._tools.categories import categories_of, check_every_cell
from isost._tools.domain_graph import check_igraph, connectivities, contact_shares, contacts
from isost._tools.targets import positions_of, representation_of


def domain_graph(
    adata: AnnData,
    *,
    groupby: str = "spatial_domain",
    use_rep: str | None = "X_domains",
    spatial_key: str = "spatial",
    sample_key: str | None = None,
    n_neighbors: int = 15,
    n_spatial_neighbors: int = 6,
    max_cells: int = 20_000,
    rng: Rng = 0,
) -> pd.DataFrame:
    """Tell for each pair of domains how alike they are, and how often they touch in the tissue.

    Likeness is the connectivity of PAGA (`scanpy.tl.paga`; Wolf et al. 2019) on the graph of nearest neighbours in the
    representation; it needs igraph (``pip install 'isost[leiden]'``). Contacts are counted by
    `squidpy.gr.interaction_matrix` on the graph of nearest neighbours in space. Their enrichment over shuffled cells is
    not given: domains are coherent, so all pairs of different domains would be depleted.

    Parameters
    ----------
    adata
        Cells; left as they are.
    groupby
        Column of `obs` with domains; cells without one are left out.
    use_rep
        Key of `obsm` with features of the cells; None leaves the connectivity out, as NaN.
    spatial_key
        Key of `obsm` with positions.
    sample_key
        Column of `obs` of sections or samples, in which neighbours in space are looked for; None where all cells lie in
        one space.
    n_neighbors
        Nearest neighbours in the representation.
    n_spatial_neighbors
        Nearest neighbours in space.
    max_cells
        If there are more, PAGA takes so many, drawn at random.
    rng
        Seed or generator that draws them.

    Returns
    -------
    pandas.DataFrame
        A row a pair of domains, ``first`` and ``second``, each pair once: ``connectivity``, edges between them
        relative to those expected at random, 0 to 1, NaN where no cell of one was drawn; ``contacts``, pairs of a cell
        and one of its nearest neighbours that lie one in each; ``contact_share``, these as a share of all contacts that
        either domain has with another one, 0 to 1, which is 1 where two domains touch no other.
        ``graph.pivot(index="first", columns="second", values="contacts")`` makes a matrix of them. In ``attrs``:
        ``n``, cells by domain in their order; ``colors``. `isost.pl.domain_graph` plots it.

    Raises
    ------
    ImportError
        If igraph is missing and `use_rep` is given.
    KeyError
        If a column, the representation or positions are not found.
    TypeError
        If `adata` is no AnnData, or an argument is of another type.
    ValueError
        If there is only one domain, positions are no numbers, positions or features are not finite, a cell has no
        sample, or there are too few cells for so many neighbours.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=20)
    >>> graph = isost.tl.domain_graph(adata, groupby="domain", sample_key="section", use_rep=None)
    >>> graph.sort_values("contacts").iloc[-1][["first", "second"]].tolist()
    ['layer 1', 'layer 2']
    """
    started = perf_counter()
    check_adata(adata)
    sizes = [as_whole("n_neighbors", n_neighbors, 2), as_whole("n_spatial_neighbors", n_spatial_neighbors, 1)]
    max_cells = as_whole("max_cells", max_cells, 100)
    domains = categories_of(adata, groupby, "groupby")
    rows = np.flatnonzero(np.asarray(domains.codes) >= 0)
    names = list(domains.categories)
    if len(names) < 2:
        raise ValueError(f"groupby: expected two domains or more in obs[{groupby!r}], found {show(names)} alone. "
                         "Next: another column, or more domains.")  # fmt: skip
    samples = None
    if sample_key is not None:
        samples = categories_of(adata, sample_key, "sample_key")
        check_every_cell(samples, sample_key, "sample_key", np.asarray(domains.codes) >= 0)
        samples = samples[rows].remove_unused_categories()
    places = positions_of(adata[rows], spatial_key, (2, 3))
    least = len(rows) if samples is None else int(samples.value_counts().min())
    _check_enough(least, sizes[1], "n_spatial_neighbors")
    linked = np.full((len(names), len(names)), np.nan)
    if use_rep is not None:
        check_igraph()
        features = representation_of(adata, use_rep)
        drawn = rows
        if len(rows) > max_cells:
            drawn = np.sort(numpy_generator(rng).choice(rows, max_cells, replace=False))
            logger.info("domain_graph: PAGA of %d of %d cells", max_cells, len(rows))
        _check_enough(len(drawn), sizes[0], "n_neighbors")
        part = domains[drawn].remove_unused_categories()
        there = [names.index(name) for name in part.categories]
        linked[np.ix_(there, there)] = connectivities(features[drawn], part, sizes[0]) if len(there) > 1 else np.nan
    touching = contacts(places, domains[rows], samples, sizes[1])
    first, second = np.triu_indices(len(names), 1)
    table = pd.DataFrame({
        "first": pd.Categorical.from_codes(first, categories=names),
        "second": pd.Categorical.from_codes(second, categories=names),
        "connectivity": linked[first, second],
        "contacts": touching[first, second],
        "contact_share": contact_shares(touching)[first, second],
    })  # fmt: skip
    counts = domains.value_counts()
    table.attrs = {"n": {name: int(counts[name]) for name in names}, "colors": _colors(adata, groupby, names)}
    logger.info("domain_graph: %d domains, %d cells, %d pairs touch; %.1f s", len(names), len(rows),
                (table["contacts"] > 0).sum(), perf_counter() - started)  # fmt: skip
    return table


def _check_enough(n_cells: int, k: int, argument: str) -> None:
    if n_cells <= k:
        raise ValueError(f"{argument}: expected more than {k} labelled cells in all that neighbours are looked for in, "
                         f"found {n_cells}. Next: a smaller {argument}, or leave small samples out.")  # fmt: skip


def _colors(adata: AnnData, groupby: str, names: list[str]) -> list[str]:
    """Colours of the domains that have cells; those of `uns` belong to all categories of the column."""
    column = adata.obs[groupby]
    every = [str(name) for name in column.cat.categories] if isinstance(column.dtype, pd.CategoricalDtype) else names
    colors = dict(zip(every, category_colors(adata, groupby, len(every)), strict=True))
    return [colors[name] for name in names]
