from __future__ import annotations

from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, check_adata, check_names, show
from isost._core.requests import as_number, as_whole
from isost._logging import logger
from isost._tools.categories import categories_of, check_every_cell
from isost._tools.domain_markers import combine, log_expression, rank_genes

Method = Literal["wilcoxon", "t-test"]


def domain_markers(
    adata: AnnData,
    *,
    groupby: str = "spatial_domain",
    layer: str | None = None,
    sample_key: str | None = None,
    method: Method = "wilcoxon",
    alpha: float = 0.05,
    min_log2_fold_change: float = 0.5,
    min_cells: int = 5,
) -> pd.DataFrame:
    """Find the genes that are higher in each domain than in the rest of the tissue.

    The tests are those of `scanpy.tl.rank_genes_groups`, of each domain against all other labelled cells, on
    log-normalised expression: counts are normalised first, as `isost.pp.embed` does it.

    Cells of one section are not independent, and domains were themselves found from expression, so that p-values of
    cells are too small: they rank genes, and are no proof. With a `sample_key` each sample is tested apart, which
    leaves differences between samples out and tells whether a marker repeats.

    Parameters
    ----------
    adata
        Cells; left as they are.
    groupby
        Column of `obs` with domains; cells without one are left out.
    layer
        Layer of counts or log-normalised expression; `X` by default.
    sample_key
        Column of `obs` of samples, such as animals or sections. Their z-scores are combined by Stouffer's method, each
        weighted by the root of n_in n_out / (n_in + n_out), of its cells inside and outside the domain; fold changes
        and shares are means over samples.
    method
        ``"wilcoxon"``: rank sums, corrected for ties. ``"t-test"``: Welch's.
    alpha, min_log2_fold_change
        Largest adjusted p and smallest fold change of a marker.
    min_cells
        Domains with fewer cells in a sample, or fewer outside it, are not tested there.

    Returns
    -------
    pandas.DataFrame
        A row for each domain and each gene that varies, domains in their order and genes from the highest score:

        ``domain``, ``gene`` and ``score``, the z-score, positive where the gene is higher in the domain;
        ``log2_fold_change`` of means of normalised counts, with one transcript more on either side, so that it stays
        finite; ``p``, two-sided; ``padj`` by Benjamini and Hochberg over the genes of a domain; ``share_in`` and
        ``share_out``, of cells inside and outside that express it; ``n_samples`` that were tested and ``n_samples_up``,
        those where it is higher inside; ``marker``: `padj`, `log2_fold_change` as asked, and higher in more than half
        of the samples.

        ``isost.tl.enrichment(markers, gene_sets, domain=...)`` and ``isost.pl.domain_markers(adata, markers)`` take it.

    Raises
    ------
    KeyError
        If a column is not found.
    TypeError
        If `adata` is no AnnData, or an argument is of another type.
    ValueError
        If there is only one domain, none has enough cells, no gene varies, a labelled cell has no sample, expression is
        scaled or missing, or an option is out of range.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=20)
    >>> markers = isost.tl.domain_markers(adata, groupby="domain", sample_key="section")
    >>> best = markers[markers["marker"]].groupby("domain", observed=True).head(1)
    >>> best.loc[best["domain"] == "layer 2", ["gene", "n_samples_up"]].values.tolist()
    [['marker_2', 3]]
    """
    started = perf_counter()
    check_adata(adata)
    _check(adata, method, alpha, min_log2_fold_change)
    min_cells = as_whole("min_cells", min_cells, 2)
    domains = categories_of(adata, groupby, "groupby")
    labelled = np.asarray(domains.codes) >= 0
    if len(domains.categories) < 2:
        raise ValueError(
            f"groupby: expected two domains or more in obs[{groupby!r}], found {show(domains.categories)} alone. "
            "Next: a domain is compared with the rest of the tissue."
        )
    samples = _samples(adata, sample_key, labelled)
    matrix = log_expression(adata, layer)
    rows = np.flatnonzero(labelled)
    varying = _varying(matrix[rows])
    if not varying.any():
        raise ValueError("adata: expected genes that vary, found none. Next: name the layer of counts by layer=....")
    tests = []
    for number in np.unique(samples[rows]):
        here = rows[samples[rows] == number]
        tests.append(rank_genes(matrix[here][:, varying], domains[here], method, min_cells))
    tests = [test for test in tests if len(test)]
    if not tests:
        raise ValueError(
            f"groupby: expected a domain with {min_cells} cells or more inside and outside, found "
            f"{show(f'{name}: {size}' for name, size in domains.value_counts().items())}. Next: a smaller min_cells."
        )
    table = _tidy(combine(tests), adata.var_names.astype(str)[varying], domains)
    table["marker"] = (table["padj"] <= alpha) & (table["log2_fold_change"] >= min_log2_fold_change)
    table["marker"] &= 2 * table["n_samples_up"] > table["n_samples"]
    left_out = [name for name in domains.categories if name not in set(table["domain"])]
    if left_out:
        logger.warning("domain_markers: fewer than %d cells, so not tested: %s", min_cells, show(left_out))
    logger.info("domain_markers: %d domains, %d of %d genes vary, %d markers; %.1f s", table["domain"].nunique(),
                varying.sum(), adata.n_vars, table["marker"].sum(), perf_counter() - started)  # fmt: skip
    return table


def _check(adata: AnnData, method: str, alpha: float, least: float) -> None:
    if method not in get_args(Method):
        raise ValueError(f"method: expected 'wilcoxon' or 't-test', found {method!r}. Next: leave it out.")
    if not 0 < as_number("alpha", alpha) <= 1:
        raise ValueError(f"alpha: expected above 0 and at most 1, found {alpha!r}. Next: leave it out.")
    if not np.isfinite(as_number("min_log2_fold_change", least)):
        raise ValueError(f"min_log2_fold_change: expected a number, found {least!r}. Next: leave it out.")
    problems = Problems()
    if not adata.var_names.is_unique:
        check_names(adata, problems)
        raise problems.error("Markers cannot be named")


def _samples(adata: AnnData, sample_key: str | None, labelled: np.ndarray) -> np.ndarray:
    if sample_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    samples = categories_of(adata, sample_key, "sample_key")
    check_every_cell(samples, sample_key, "sample_key", labelled)
    return np.asarray(samples.codes)


def _varying(matrix: Any) -> np.ndarray:
    low, high = matrix.min(axis=0), matrix.max(axis=0)
    if sparse.issparse(low):
        low, high = low.toarray(), high.toarray()
    return np.asarray(high > low).ravel()


def _tidy(table: pd.DataFrame, genes: pd.Index, domains: pd.Categorical) -> pd.DataFrame:
    order = [name for name in domains.categories if name in set(table["group"])]
    table.insert(0, "domain", pd.Categorical(table.pop("group"), categories=order))
    table["gene"] = genes.to_numpy()[table["gene"]]
    return table.sort_values(["domain", "score"], ascending=[True, False], kind="stable", ignore_index=True)
