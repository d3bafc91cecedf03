from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import false_discovery_control
from spatialdata import SpatialData

from isost._core.checks import show
from isost._core.requests import as_whole
from isost._logging import logger
from isost._tools.shells import CLASSES
from isost.get._radial_gradients import radial_gradients


def enrichment(
    sdata: SpatialData | AnnData | pd.DataFrame,
    gene_sets: Mapping[str, Iterable[str]] | str | os.PathLike[str],
    *,
    gradient: str = "rising",
    key: str = "radial",
    domain: str | None = None,
    n_top: int | None = None,
    min_size: int = 5,
    max_size: int = 500,
) -> pd.DataFrame:
    """Find the gene sets that genes of one class of gradient, or markers of a domain, are in more often than others.

    The hypergeometric test of gseapy, without the network: how many of the class are in a set, against all genes that
    `isost.tl.radial_gradients` or `isost.tl.domain_markers` tested, whether they are in a set or not. p-values are
    adjusted by Benjamini and Hochberg over all sets, also those that no gene of the class is in. It needs
    ``pip install "isost[enrichment]"``.

    Parameters
    ----------
    sdata
        What `isost.tl.radial_gradients` was run on; or all rows of what `isost.tl.domain_markers` returned, with a
        `domain`: its markers are then the class.
    gene_sets
        Genes by the name of the set, or a GMT file (a line for each set: name, description, genes, between tabs). Names
        of genes are compared as they are written: sets of another species or in other capitals have none in common.
    gradient
        ``"rising"``, ``"falling"`` or ``"peaked"``; of gradients only.
    key
        ``key_added`` of `isost.tl.radial_gradients`; of gradients only.
    domain
        A domain of `isost.tl.domain_markers`.
    n_top
        How many genes of the class to take, those of the largest ``eta_squared`` or score; None for all.
    min_size, max_size
        Of the sets that are tested, counted in genes that were tested.

    Returns
    -------
    pandas.DataFrame
        A row for each set that is tested, from the smallest p: ``overlap`` (genes of the class in the set), ``size``
        (tested genes in the set), ``odds_ratio`` (as gseapy, with 1/2 added to each count; NaN without overlap), ``p``,
        ``padj`` and ``genes`` (joined by ";").

    Raises
    ------
    ImportError
        If gseapy is missing.
    FileNotFoundError
        If there is no such file.
    KeyError
        If `isost.tl.radial_gradients` was not run.
    TypeError
        If `gene_sets` is neither a dict nor a path.
    ValueError
        If the class or domain is unknown, not said or has no genes, the file holds no sets, or none is of a size that
        is tested.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.spinal_cord(n_sections=4, n_cells=200, n_genes=20)
    >>> adata.X = adata.X.astype("float32").log1p()
    >>> isost.tl.radial_gradients(adata, axis=adata.uns["spinal_cord"]["canal"])
    >>> kinds = {kind: list(genes) for kind, genes in adata.var.groupby("kind", observed=True).groups.items()}
    >>> found = isost.tl.enrichment(adata, kinds, gradient="falling", min_size=2)
    >>> found.index[0]
    'canal_falling'
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=40)
    >>> markers = isost.tl.domain_markers(adata, groupby="domain")
    >>> kinds = {kind: list(genes) for kind, genes in adata.var.groupby("kind", observed=True).groups.items()}
    >>> found = isost.tl.enrichment(markers, kinds, domain="nucleus", min_size=2)
    >>> bool(found.loc["radial", "overlap"] > 0)
    True
    """
    tested, chosen = _tested(sdata, gradient, key, domain)
    chosen = chosen[: None if n_top is None else as_whole("n_top", n_top, 1)]
    least, most = as_whole("min_size", min_size, 1), as_whole("max_size", max_size, 1)
    background = set(map(str, tested))
    sets = {name: sorted(background.intersection(genes)) for name, genes in _read(gene_sets).items()}
    sets = {name: genes for name, genes in sets.items() if least <= len(genes) <= most}
    if not sets:
        raise ValueError(
            f"gene_sets: expected sets with {least} to {most} of the {len(background)} genes that were tested (such as "
            f"{show(tested, 3)}), found none. Next: sets with the same names of genes, or a smaller min_size."
        )
    table = _table(sets, _gseapy(chosen, sets, background))
    which = f"{gradient} genes" if domain is None else f"genes of {str(domain)!r}"
    logger.info("enrichment: %d %s in %d sets, %d with padj <= 0.05", len(chosen), which, len(table),
                int((table["padj"] <= 0.05).sum()))  # fmt: skip
    return table


def _tested(
    data: SpatialData | AnnData | pd.DataFrame, gradient: str, key: str, domain: str | None
) -> tuple[pd.Index, list[str]]:
    """Genes that were tested, and those of the class, from the surest."""
    if isinstance(data, pd.DataFrame):
        return _markers_of(data, domain)
    if domain is not None:
        raise ValueError(
            f"domain: expected it with what isost.tl.domain_markers returned, found {type(data).__name__}. "
            f"Next: isost.tl.enrichment(isost.tl.domain_markers(adata), gene_sets, domain={domain!r})."
        )
    tested = radial_gradients(data, key=key)
    return tested.index, _of_class(tested, gradient)


def _markers_of(table: pd.DataFrame, domain: str | None) -> tuple[pd.Index, list[str]]:
    missing = [name for name in ("domain", "gene", "score", "marker") if name not in table]
    if missing:
        raise ValueError(
            f"sdata: expected the columns of isost.tl.domain_markers, found a DataFrame without {show(missing)}. "
            "Next: isost.tl.domain_markers(adata)."
        )
    names = list(dict.fromkeys(table["domain"].astype(str)))
    if domain is None or str(domain) not in names:
        raise ValueError(
            f"domain: expected one of {show(names)}, found {domain!r}. Next: domain={names[0] if names else ''!r}."
        )
    rows = table[table["domain"].astype(str) == str(domain)].sort_values("score", ascending=False, kind="stable")
    chosen = rows.loc[rows["marker"].astype(bool), "gene"]
    if not len(chosen):
        raise ValueError(
            f"domain: expected markers of {domain!r}, found none among {len(rows)} genes. "
            "Next: another domain, or isost.tl.domain_markers(adata, min_log2_fold_change=0.25)."
        )
    if len(chosen) == len(rows):
        raise ValueError(
            f"sdata: expected all genes that were tested in {domain!r}, found markers alone ({len(rows)}). "
            "Next: pass all rows of isost.tl.domain_markers(adata): the others are what markers are compared with."
        )
    return pd.Index(rows["gene"].astype(str)), list(map(str, chosen))


def _of_class(tested: pd.DataFrame, gradient: str) -> list[str]:
    classes = CLASSES[:3]
    if gradient not in classes:
        raise ValueError(
            f"gradient: expected one of {', '.join(classes)}, found {gradient!r}. Next: gradient='rising'."
        )
    found = tested[tested["class"] == gradient].sort_values("eta_squared", ascending=False, kind="stable")
    if not len(found):
        raise ValueError(
            f"gradient: expected genes that are {gradient}, found none of {len(tested)}. "
            "Next: another class, or isost.tl.radial_gradients(sdata, ..., alpha=0.2)."
        )
    return list(map(str, found.index))


def _read(gene_sets: Mapping[str, Iterable[str]] | str | os.PathLike[str]) -> dict[str, list[str]]:
    if isinstance(gene_sets, Mapping):
        return {str(name): list(map(str, genes)) for name, genes in gene_sets.items()}
    if not isinstance(gene_sets, str | os.PathLike):
        raise TypeError(
            f"gene_sets: expected a dict or the path of a GMT file, found {type(gene_sets).__name__}. "
            "Next: {'name': ['Gad1', 'Gad2']}, for instance."
        )
    path = Path(gene_sets)
    if not path.is_file():
        raise FileNotFoundError(
            f"gene_sets: expected a GMT file, found none at {os.fspath(gene_sets)!r}. Next: download one, from "
            "https://www.gsea-msigdb.org for instance; names of online libraries are not looked up."
        )
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not rows or any(len(row) < 3 for row in rows):
        bad = next((number for number, row in enumerate(rows, start=1) if len(row) < 3), 0)
        found = f"another one in line {bad}" if bad else "an empty file"
        raise ValueError(
            f"gene_sets: expected lines of a name, a description and genes between tabs, found {found}. "
            "Next: pass a dict instead."
        )
    return {row[0]: [gene.strip() for gene in row[2:] if gene.strip()] for row in rows}


def _gseapy(chosen: list[str], sets: dict[str, list[str]], background: set[str]) -> Any:
    try:
        from gseapy.stats import calc_pvalues
    except ImportError as error:
        raise ImportError(
            'enrichment: expected gseapy, found none. Next: pip install "isost[enrichment]", or pip install gseapy.'
        ) from error
    # a dict of sets and a set of genes: nothing is looked up, and no name is written in other capitals
    return calc_pvalues(query=set(chosen), gene_sets=sets, background=background)


def _table(sets: dict[str, list[str]], found: Any) -> pd.DataFrame:
    hit = {name: row for name, *row in zip(*found, strict=True)}
    rows = {
        name: (hit[name][2], len(genes), hit[name][1], hit[name][0], ";".join(sorted(hit[name][4])))
        if name in hit
        else (0, len(genes), np.nan, 1.0, "")
        for name, genes in sets.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["overlap", "size", "odds_ratio", "p", "genes"])
    table.insert(4, "padj", false_discovery_control(table["p"].to_numpy(dtype=np.float64)))
    return table.sort_values(["p", "overlap"], ascending=[True, False], kind="stable")
