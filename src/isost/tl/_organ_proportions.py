from __future__ import annotations

import numpy as np
import pandas as pd
from xarray import Dataset

from isost._core.checks import show
from isost._tools.shares import correlate_columns, correlate_shares


def organ_proportions(data: Dataset, *, reference: pd.DataFrame | None = None) -> pd.DataFrame:
    """Tabulate what share of the body belongs to each organ over age.

    Parameters
    ----------
    data
        What `isost.tl.propagate_labels` returned.
    reference
        Shares or amounts of the same organs (columns) at some of the same ages (index, numbers), as measured elsewhere;
        rows are divided by their sums.

    Returns
    -------
    pandas.DataFrame
        A row an age, a column an organ; rows sum to 1. In ``attrs``: ``colors``; ``stages``, the profiled ages; of
        stages in a common frame ``area``, the area of the body at each age in squares of ``unit``; and with a
        `reference` ``pearson``: the correlation with it over all organs and common ages (``overall``), over the organs
        of each age (``groups``), and over the ages of each organ (``columns``), which is NaN where that is constant.
        `isost.pl.organ_proportions` plots it.

    Raises
    ------
    TypeError
        If `data` or `reference` are something else.
    ValueError
        If no age or organ is in the reference.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=100, n_genes=24)
    >>> isost.pp.embed(adata, n_comps=10)
    >>> isost.pp.align_stages(adata)
    >>> stages = {"depth_key": "age", "section_key": "stage", "spatial_key": "spatial_stage"}
    >>> fitted = isost.tl.fit(adata, **stages, epochs=2, progress=False, rng=0)
    >>> organs = isost.tl.propagate_labels(fitted, adata, key="organ", step=0.5, grid=64)
    >>> truth = isost.datasets.embryo_truth(adata).proportions(organs.age.values)
    >>> shares = isost.tl.organ_proportions(organs, reference=truth)
    >>> shares.attrs["pearson"]["overall"] > 0.97
    True
    """
    if not isinstance(data, Dataset) or not {"label", "proportion"} <= set(data.data_vars):
        raise TypeError(
            f"data: expected what isost.tl.propagate_labels returns, found {type(data).__name__}. "
            "Next: isost.tl.propagate_labels(fitted, adata, key=...)."
        )
    names, ages = data["name"].values.tolist(), data["age"].values
    shares = pd.DataFrame(data["proportion"].values, pd.Index(ages, name="age"), pd.Index(names, name="organ"))
    shares = shares.div(shares.sum(axis=1), axis=0)
    shares.attrs = {
        "colors": list(data.attrs["colors"]),
        "stages": list(data.attrs["stages"]),
        "unit": data.attrs["unit"],
    }
    if "growth" in data.coords:
        pixels = (data["label"].values > 0).sum(axis=(1, 2)) * data.attrs["pixel_size"] ** 2
        shares.attrs["area"] = dict(zip(ages.tolist(), (pixels * data["growth"].values ** 2).tolist(), strict=True))
    if reference is not None:
        known = _common_ages(reference, ages)
        if not len(known) or not len(shares.columns.intersection(known.columns)):
            raise ValueError(
                f"reference: expected ages and organs in common ({show(ages)}; {show(names)}), found "
                f"{show(reference.index)}; {show(reference.columns)}. Next: isost.tl.propagate_labels at its ages."
            )
        shares.attrs["pearson"] = correlate_shares(shares, known) | {"columns": correlate_columns(shares, known)}
    return shares


def _common_ages(reference: pd.DataFrame, ages: np.ndarray) -> pd.DataFrame:
    """Rows of the reference whose age is one of `ages`, under that number."""
    if not isinstance(reference, pd.DataFrame) or not pd.api.types.is_numeric_dtype(reference.index):
        raise TypeError(
            "reference: expected a DataFrame with ages as numbers in its index, found "
            f"{type(reference).__name__}. Next: reference.index = [9.5, 10.5, ...]."
        )
    known = reference.index.to_numpy(dtype=np.float64)
    at = np.abs(known[:, None] - ages).argmin(axis=1)
    same = np.abs(known - ages[at]) <= 1e-6 * max(np.ptp(ages), 1e-300)
    return reference.loc[same].set_axis(ages[at[same]], axis=0)
