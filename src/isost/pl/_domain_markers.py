from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes

from isost._core.checks import check_adata
from isost._core.checks import show as listed
from isost._core.requests import as_whole
from isost._tools.categories import categories_of
from isost._tools.domain_markers import log_expression
from isost.pl._style import finish, root_figure, style

_NEEDED = ("domain", "gene", "score", "marker")


def domain_markers(
    adata: AnnData,
    markers: pd.DataFrame,
    *,
    groupby: str = "spatial_domain",
    layer: str | None = None,
    n_genes: int = 4,
    cmap: str = "Blues",
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> dict[str, Axes]:
    """Plot the best markers of each domain in all domains, as dots by `scanpy.pl.dotplot`.

    Parameters
    ----------
    adata
        The cells; left as they are.
    markers
        What `isost.tl.domain_markers` returned, or some of its rows.
    groupby
        Column of `obs` with the domains.
    layer
        Layer of counts or log-normalised expression; `X` by default. Counts are normalised first.
    n_genes
        Markers of each domain, at most: those of the highest score. A marker of several domains stands with the one
        where its score is highest.
    cmap
        Colour map.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    dict
        Axes by what they hold, as scanpy names them; ``"mainplot_ax"`` has the dots: a row a domain, a column a gene.
        Colour is the mean log-normalised expression, from the lowest (0) to the highest (1) of each gene; the area is
        the share of cells that express it.

    Raises
    ------
    KeyError
        If there is no column of domains, or a gene is not found.
    TypeError
        If `adata` is no AnnData, or `markers` no DataFrame.
    ValueError
        If `markers` lacks a column, or has no markers.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=30)
    >>> markers = isost.tl.domain_markers(adata, groupby="domain")
    >>> axes = isost.pl.domain_markers(adata, markers, groupby="domain", n_genes=2)
    >>> [label.get_text() for label in axes["mainplot_ax"].get_yticklabels()]
    ['layer 1', 'layer 2', 'layer 3', 'layer 4', 'nucleus']
    """
    check_adata(adata)
    genes = _best(markers, as_whole("n_genes", n_genes, 1))
    wanted = [gene for names in genes.values() for gene in names]
    unknown = [gene for gene in wanted if gene not in adata.var_names]
    if unknown:
        raise KeyError(f"markers: expected genes of adata, found others ({listed(unknown)}). "
                       "Next: pass the cells that isost.tl.domain_markers was run on.")  # fmt: skip
    domains = categories_of(adata, groupby, "groupby")
    rows = np.flatnonzero(np.asarray(domains.codes) >= 0)
    columns = adata.var_names.get_indexer(pd.Index(wanted))
    matrix = log_expression(adata, layer)[rows][:, columns]
    obs = pd.DataFrame({groupby: domains[rows]}, index=adata.obs_names[rows])
    part = AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(wanted)))
    # names of domains lie flat where they fit over their genes, about three letters to a gene
    flat = all(len(name) <= 3 * len(names) + 1 for name, names in genes.items())
    with style():
        plot = sc.pl.dotplot(
            part, genes, groupby, standard_scale="var", use_raw=False, ax=ax, return_fig=True, show=False,
            var_group_rotation=0 if flat else 90, colorbar_title="mean expression\n(scaled by gene)",
            size_title="share of\ncells (%)",
        )  # fmt: skip
        plot.style(cmap=cmap, dot_edge_color="none", dot_edge_lw=0, grid=False)
        axes: dict[str, Axes] = plot.get_axes()
        finish(root_figure(axes["mainplot_ax"]), save, show)
    return axes


def _best(markers: pd.DataFrame, n_genes: int) -> dict[str, list[str]]:
    """Genes of each domain that has any, each gene once."""
    if not isinstance(markers, pd.DataFrame):
        raise TypeError(f"markers: expected a DataFrame, found {type(markers).__name__}. "
                        "Next: isost.pl.domain_markers(adata, isost.tl.domain_markers(adata)).")  # fmt: skip
    missing = [name for name in _NEEDED if name not in markers]
    if missing:
        raise ValueError(f"markers: expected the columns {', '.join(_NEEDED)}, found none of {listed(missing)}. "
                         "Next: pass what isost.tl.domain_markers returned.")  # fmt: skip
    rows = markers[markers["marker"].astype(bool)].sort_values("score", ascending=False, kind="stable")
    if not len(rows):
        raise ValueError(f"markers: expected markers among {len(markers)} rows, found none. "
                         "Next: isost.tl.domain_markers(adata, min_log2_fold_change=0.25).")  # fmt: skip
    rows = rows.drop_duplicates("gene")
    domains = rows["domain"].astype(str)
    order = dict.fromkeys(markers["domain"].astype(str))
    best = {name: rows.loc[domains == name, "gene"].astype(str).tolist()[:n_genes] for name in order}
    return {name: genes for name, genes in best.items() if genes}
