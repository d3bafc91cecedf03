from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._logging import logger
from isost._tools.descent import descend
from isost._tools.organs import read_labels
from isost.reconstruction import Reconstruction
from isost.tl._propagate_labels import check_along_age


def growth(
    fitted: Reconstruction,
    adata: AnnData,
    *,
    key: str,
    mapping: Mapping[str, str] | pd.Series | pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Report how each region grows, dies and appears from stage to stage.

    The cells of a stage are carried along the learned flow of shape to the age of the next, noise-free. Each cell
    that is measured there descends from the carried cell nearest to it, unless none lies within reach (4 times the
    spacing of cells of the thinner stage): then it appears. A carried cell without a measured one within reach dies. Of
    n cells of a region with d descendants, whatever these have become, the growth is d / n over the gap and its rate
    log(d / n) per unit of age: exponential growth. Cells or spots count as they were sampled: where stages were sampled
    at different densities, thin the denser ones first.

    Parameters
    ----------
    fitted
        What `isost.tl.fit` returned.
    adata
        What it was fitted on, with regions in ``obs[key]``; cells without one are left out. Not changed.
    key
        Column of regions, such as organs.
    mapping
        What each value of that column belongs to, as in `isost.tl.propagate_labels`.

    Returns
    -------
    pandas.DataFrame
        A row for each gap and region with cells before or after it: ``from_age``, ``to_age``, ``label``, ``cells``
        before, ``descendants`` after, ``growth``, ``rate``, ``dying`` (share of the cells before), ``cells_after`` of
        the region, and ``appearing`` (share of these). NaN where there are no cells to divide by, and a rate of -inf
        where none is left.

    Raises
    ------
    KeyError
        If there is no such column.
    TypeError
        If an argument is of another type.
    ValueError
        If the cells are others, or the mapping lacks a value.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=100, n_genes=24)
    >>> isost.pp.embed(adata, n_comps=10)
    >>> isost.pp.align_stages(adata)
    >>> stages = {"depth_key": "age", "section_key": "stage", "spatial_key": "spatial_stage"}
    >>> fitted = isost.tl.fit(adata, **stages, epochs=2, progress=False, rng=0)
    >>> table = isost.tl.growth(fitted, adata, key="organ")
    >>> bool((table.groupby("from_age")["descendants"].sum() > 100).all())
    True
    """
    started = perf_counter()
    check_along_age(fitted)
    stack, labels = fitted.stack, read_labels(fitted.stack, adata, key, mapping)
    rows = []
    for gap in range(stack.n_sections - 1):
        before, after = stack.slice_of(gap), stack.slice_of(gap + 1)
        low, high = (float(age) for age in stack.depths[gap : gap + 2])
        ancestor, alive = descend(fitted.field.paths.at(gap, high), stack.coords[after, :2])
        here, there = labels.code[before], labels.code[after]
        for number, name in enumerate(labels.names):
            cells, later = int((here == number).sum()), int((there == number).sum())
            if not cells + later:
                continue
            descendants = int((here[ancestor[ancestor >= 0]] == number).sum())
            rows.append({
                "from_age": low, "to_age": high, "label": name, "cells": cells, "descendants": descendants,
                "growth": descendants / cells if cells else np.nan,
                "dying": float((~alive[here == number]).mean()) if cells else np.nan,
                "cells_after": later,
                "appearing": float((ancestor[there == number] < 0).mean()) if later else np.nan,
            })  # fmt: skip
    table = pd.DataFrame(rows)
    with np.errstate(divide="ignore"):
        rate = np.log(table["growth"]) / (table["to_age"] - table["from_age"])
    table.insert(6, "rate", rate)
    logger.info(
        "growth: %d regions over %d gaps, %.1f s", len(labels.names), stack.n_sections - 1, perf_counter() - started
    )
    return table
