"""Which genes are told from a slide, and the components that their expression has in common."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from isost._core.checks import show

_RARE = 0.05  # share of cells, below which a gene says nothing of what genes have in common
_COMMON = 3000  # genes that components are made of, at most
_VARIABLE, _CLUSTERS = 2000, 8  # of the markers
_FEWEST = 10  # cells of a section that say which genes vary
_RIDGE = 10.0
_SAME = 1e-10  # variance of log1p


@dataclass(frozen=True, eq=False)
class Components:
    """Expression as a mean and what its components add.

    Attributes
    ----------
    mean
        (G,) log1p.
    loadings
        (G, r).
    scores
        (n, r) float32, of the cells of the fit, centred in each section; (0, r) once it is done.
    """

    mean: np.ndarray
    loadings: np.ndarray
    scores: np.ndarray

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """(n, G) float32 log1p, no less than 0."""
        return np.maximum(scores @ self.loadings.T + self.mean, 0).astype(np.float32)

    def without_cells(self) -> Components:
        """Leave the scores out, which a prediction does not ask for."""
        return Components(self.mean, self.loadings, self.scores[:0])

    def learned_on(self, rows: np.ndarray, expression: np.ndarray, section: np.ndarray | None) -> Components:
        """Mean and loadings of some rows only, so that others are held out."""
        centred = _centred(expression[rows], None if section is None else section[rows])
        return Components(expression[rows].mean(axis=0), _loadings(self.scores[rows], centred), self.scores)


def find_components(
    whole: Any, expression: np.ndarray, section: np.ndarray | None, n_components: int, rng: np.random.Generator
) -> Components:
    """Principal components of the genes that many cells express, and what the genes (n, G) of interest have of each.

    Parameters
    ----------
    whole
        (n, all) log1p, CSR or dense; the 3,000 of largest variance count.
    expression
        (n, G) log1p, of the genes of interest.
    section
        (n,) sections, each of which is centred; None: all cells together.
    """
    common = _common(whole)
    values = whole[:, common]
    dense = np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float32)
    dense = np.concatenate([_centred(dense, section), _centred(expression, section)], axis=1)
    n_components = min(n_components, *(length - 1 for length in dense.shape))
    seed = int(rng.integers(2**31))
    scores = PCA(n_components, svd_solver="randomized", random_state=seed).fit_transform(dense)
    loadings = _loadings(scores, _centred(expression, section))
    return Components(expression.mean(axis=0), loadings, scores.astype(np.float32))


def _loadings(scores: np.ndarray, centred: np.ndarray) -> np.ndarray:
    scores = scores - scores.mean(axis=0)
    return np.linalg.solve(scores.T @ scores + _RIDGE * np.eye(scores.shape[1]), scores.T @ centred).T


def _centred(values: np.ndarray, section: np.ndarray | None) -> np.ndarray:
    centred = np.array(values, dtype=np.float32)
    for rows in [slice(None)] if section is None else [section == number for number in np.unique(section)]:
        centred[rows] -= centred[rows].mean(axis=0)
    return centred


def _common(whole: Any) -> np.ndarray:
    """Columns of the genes that enough cells express, those of largest variance."""
    n = whole.shape[0]
    share = np.asarray((whole > 0).sum(axis=0)).ravel() / n
    mean = np.asarray(whole.mean(axis=0)).ravel()
    square = whole.multiply(whole) if sparse.issparse(whole) else whole**2
    variance = np.asarray(square.mean(axis=0)).ravel() - mean**2
    variance[share < min(_RARE, share.max())] = -1
    order = np.argsort(-variance, kind="stable")[:_COMMON]
    return np.sort(order[variance[order] >= 0])


def choose_genes(
    logged: Any, names: pd.Index, genes: str | Sequence[str], n_genes: int, section: np.ndarray, seed: int
) -> list[str]:
    """Highly variable genes by section, markers of clusters, or those that are asked for.

    Raises
    ------
    ValueError
        If some that are asked for are missing, none varies, or the way is unknown.
    """
    if not isinstance(genes, str):
        if not isinstance(genes, Iterable):
            raise TypeError(f"genes: expected 'hvg', 'markers' or a list of genes, found {genes!r}. Next: genes='hvg'.")
        listed = list(dict.fromkeys(str(gene) for gene in genes))
        missing = [gene for gene in listed if gene not in names]
        if missing or not listed:
            found = f"{len(missing)} that adata has not ({show(missing)})" if missing else "none"
            raise ValueError(f"genes: expected names of genes of adata, found {found}. Next: genes='hvg'.")
        return listed
    if genes not in ("hvg", "markers"):
        raise ValueError(f"genes: expected 'hvg', 'markers' or a list of genes, found {genes!r}. Next: genes='hvg'.")
    obs = pd.DataFrame({"section": pd.Categorical(section)}, index=np.arange(len(section)).astype(str))
    adata = AnnData(logged, obs, pd.DataFrame(index=names))
    expressed = np.asarray((logged > 0).sum(axis=0)).ravel()
    adata = adata[:, expressed >= min(10, max(1, adata.n_obs // 20))].copy()
    square = adata.X.multiply(adata.X) if sparse.issparse(adata.X) else adata.X**2
    if not adata.n_vars or (np.asarray(square.mean(axis=0)) - np.asarray(adata.X.mean(axis=0)) ** 2).max() < _SAME:
        raise ValueError("adata.X: expected genes that several cells express and that vary, found none. Next: look at "
                         "adata.X; of a single gene, normalised counts are all the same.")  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy, on small sections
        large = np.bincount(section)[section] >= _FEWEST
        some = adata[large].copy() if large.any() else adata
        sc.pp.highly_variable_genes(
            some, n_top_genes=min(n_genes if genes == "hvg" else _VARIABLE, adata.n_vars),
            batch_key="section" if large.any() else None,
        )  # fmt: skip
        if genes == "hvg":
            return adata.var_names[some.var["highly_variable"]].tolist()
        adata = adata[:, some.var["highly_variable"]].copy()
        sc.pp.pca(adata, n_comps=min(30, *(size - 1 for size in adata.shape)), random_state=seed)
        groups = KMeans(min(_CLUSTERS, adata.n_obs // 2), n_init=10, random_state=seed).fit_predict(adata.obsm["X_pca"])
        adata.obs["cluster"] = pd.Categorical(groups.astype(str))
        counted = adata.obs["cluster"].value_counts()
        adata = adata[adata.obs["cluster"].isin(counted.index[counted > 1])].copy()
        sc.tl.rank_genes_groups(adata, "cluster", method="wilcoxon", n_genes=min(n_genes, adata.n_vars))
    ranked = pd.DataFrame(adata.uns["rank_genes_groups"]["names"]).to_numpy().ravel()  # the first of each cluster first
    return list(dict.fromkeys(ranked))[:n_genes]
