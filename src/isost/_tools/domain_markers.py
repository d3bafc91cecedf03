"""Marker genes of domains: tests of scanpy within each sample, and what they say together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import false_discovery_control, norm

from isost._core.batches import CORRECTED
from isost._core.checks import Problems
from isost._core.expression import check_expression, expression_of, summarise
from isost._core.lazy import is_lazy
from isost._core.normalise import barely_negative, choose_normalisation, lognormalise, recorded_normalisation
from isost._logging import logger

_DOMAIN = "domain"


def log_expression(adata: AnnData, layer: str | None) -> np.ndarray | sparse.csr_matrix:
    """Log-normalised expression (n, G) in memory, as `isost.pp.embed` took it, or as its values suggest.

    What ComBat corrected is not taken: fold changes are those of what was measured.

    Raises
    ------
    ValueError
        If values are missing, overflowed, or scaled.
    """
    how = recorded_normalisation(adata) if layer is None and adata.X is not None else None
    if how is None or how.layer == CORRECTED:
        how = choose_normalisation(summarise(expression_of(adata, layer)), layer=layer)
    where, problems = "adata.X" if how.layer is None else f"adata.layers[{how.layer!r}]", Problems()
    summary = summarise(expression_of(adata, how.layer))
    check_expression(summary, where, problems)
    if problems:
        raise problems.error("The expression cannot be tested")
    if summary.negative.any() and not barely_negative(summary):
        raise ValueError(
            f"{where}: expected counts or log-normalised expression, found scaled values (some negative). "
            "Next: layer=... with the layer of counts."
        )
    logger.info("domain_markers: %s holds %s", where, how)
    matrix = lognormalise(adata, how)
    matrix = matrix.compute() if is_lazy(matrix) else matrix
    if summary.negative.any():
        logger.info("domain_markers: values down to %.3g, as models tell them, count as 0", summary.smallest)
        matrix = matrix.maximum(0) if sparse.issparse(matrix) else np.maximum(matrix, 0)
    return matrix


def rank_genes(matrix: Any, groups: pd.Categorical, method: str, min_cells: int) -> pd.DataFrame:
    """Test each gene in each group against all other cells, by `scanpy.tl.rank_genes_groups`.

    Parameters
    ----------
    matrix
        (n, G) log-normalised.
    groups
        (n,) group of each cell, none missing.
    min_cells
        Groups of fewer cells, or with fewer cells outside, are not tested; their cells are among the others.

    Returns
    -------
    A row a group that is tested and a gene (``group``, ``gene``, positions), with ``z``, ``log2_fold_change``,
    ``share_in``, ``share_out`` and ``n``, the effective number of cells n_in n_out / (n_in + n_out).
    """
    counts = groups.value_counts()
    tested = [name for name, size in counts.items() if min_cells <= size <= len(groups) - min_cells]
    if not tested:
        return pd.DataFrame()
    part = AnnData(matrix, obs=pd.DataFrame({_DOMAIN: groups}, index=pd.RangeIndex(len(groups)).astype(str)))
    part.uns["log1p"] = {"base": None}
    correct = {"tie_correct": True} if method == "wilcoxon" else {}
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)  # scanpy adds columns one by one
        sc.tl.rank_genes_groups(part, _DOMAIN, groups=tested, reference="rest", method=method, use_raw=False, **correct)
    parts = []
    for name in tested:
        ranked = sc.get.rank_genes_groups_df(part, group=name).set_index("names").loc[part.var_names]
        # scores of a t test become those of the normal distribution, as a rank test has them; p of 0 stays finite
        z = ranked["scores"].to_numpy(dtype=np.float64)
        if method != "wilcoxon":
            p = np.clip(ranked["pvals"].to_numpy(dtype=np.float64), np.finfo(np.float64).tiny, 1.0)
            z = np.sign(z) * norm.isf(p / 2)
        inside = np.asarray(groups == name)
        n_in, n_out = int(inside.sum()), int((~inside).sum())
        moments = _moments(matrix, inside)
        parts.append(pd.DataFrame({"group": name, "gene": np.arange(part.n_vars), "z": z, **moments,
                                   "n": n_in * n_out / (n_in + n_out)}))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _moments(matrix: Any, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Fold change, with one transcript more on either side, and shares of cells that express each gene (G,)."""
    sums, shares = [], []
    for rows in (inside, ~inside):
        part = matrix[rows]
        linear = part.expm1() if sparse.issparse(part) else np.expm1(part)
        sums.append((np.asarray(linear.sum(axis=0, dtype=np.float64)).ravel() + 1.0) / rows.sum())
        shares.append(np.asarray((part > 0).sum(axis=0)).ravel() / rows.sum())
    return {"log2_fold_change": np.log2(sums[0] / sums[1]), "share_in": shares[0], "share_out": shares[1]}


def combine(tests: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the tests of samples together: Stouffer's z weighted by the root of effective numbers of cells, means else.

    Returns
    -------
    A row a group and a gene that some sample tested: ``group``, ``gene``, ``score``, ``log2_fold_change``, ``p``,
    ``padj`` (Benjamini and Hochberg over the genes of a group), ``share_in``, ``share_out``, ``n_samples`` and
    ``n_samples_up``, in how many of them the gene is higher in the group.
    """
    rows = pd.concat(tests, ignore_index=True)
    rows["weighted"], rows["up"] = rows["z"] * np.sqrt(rows["n"]), rows["log2_fold_change"] > 0
    each = rows.groupby(["group", "gene"], sort=False)
    table = each[["log2_fold_change", "share_in", "share_out"]].mean()
    table.insert(0, "score", each["weighted"].sum() / np.sqrt(each["n"].sum()))
    table.insert(2, "p", np.minimum(2 * norm.sf(np.abs(table["score"])), 1.0))
    table.insert(3, "padj", table.groupby("group", sort=False)["p"].transform(false_discovery_control))
    table["n_samples"], table["n_samples_up"] = each.size(), each["up"].sum()
    return table.reset_index()
