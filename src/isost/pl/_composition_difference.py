from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isost._core.checks import show as listed
from isost._core.requests import as_number
from isost._tools.permute import smallest_p
from isost.pl._style import INK, MISSING, finish, root_figure, style

_NEEDED = ("domain", "label", "condition", "reference", "difference", "log2_ratio", "padj")
_TITLES = {"difference": "difference in share", "log2_ratio": "log2 ratio of shares"}


def composition_difference(
    data: pd.DataFrame,
    *,
    value: Literal["difference", "log2_ratio"] = "difference",
    condition: str | None = None,
    alpha: float = 0.05,
    cmap: str = "RdBu_r",
    vmax: float | None = None,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot how the shares of labels in domains differ between two conditions.

    Parameters
    ----------
    data
        What `isost.tl.composition_difference` returned.
    value
        ``"difference"`` of shares, or their ``"log2_ratio"``.
    condition
        Condition that is compared with the reference; None where there is one alone.
    alpha
        Adjusted p up to which a difference is marked by a dot.
    cmap
        Diverging colour map.
    vmax
        Value at both ends of the colour scale; None for the largest.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    The Axes: a row a domain, a column a label, grey where a condition has no samples. Below it stands whether
    differences were tested, and whether there are samples enough for a p of `alpha`.

    Raises
    ------
    TypeError
        If `data` is no DataFrame.
    ValueError
        If it lacks a column or rows, `value` is neither, the condition is unknown or has to be said, or a number is out
        of range.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=4, n_cells=200, n_genes=10)
    >>> adata.obs["half"] = adata.obs["section"].isin(["s1", "s2"]).map({True: "near", False: "far"})
    >>> found = isost.tl.composition_difference(
    ...     adata, key="cell_type", condition_key="half", groupby="domain", sample_key="section", min_cells=5
    ... )
    >>> ax = isost.pl.composition_difference(found)
    >>> ax.get_title()
    'near against far'
    """
    table = _checked(data, value, condition)
    if not 0 < as_number("alpha", alpha) <= 1:
        raise ValueError(f"alpha: expected above 0 and at most 1, found {alpha!r}. Next: leave it out.")
    if vmax is not None and not 0 < as_number("vmax", vmax) < np.inf:
        raise ValueError(f"vmax: expected a positive number, found {vmax!r}. Next: leave it out.")
    wide = table.pivot(index="domain", columns="label", values=value)
    sure = table.pivot(index="domain", columns="label", values="padj").to_numpy(dtype=np.float64) <= alpha
    values = wide.to_numpy(dtype=np.float64)
    finite = np.abs(values[np.isfinite(values)])
    top = float(vmax) if vmax is not None else float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    rows, columns = np.nonzero(sure)
    with style():
        if ax is None:
            size = (2.4 + 0.36 * values.shape[1], 1.3 + 0.36 * values.shape[0])
            _, ax = plt.subplots(figsize=size, layout="constrained")
        colors = plt.get_cmap(cmap).with_extremes(bad=MISSING)
        image = ax.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=-top, vmax=top, aspect="auto")
        ax.scatter(columns, rows, s=20, color=INK, edgecolors="white", linewidths=0.8, label=f"padj ≤ {alpha:g}")
        names = [str(name) for name in wide.columns]
        long = max(map(len, names)) > 2
        ax.set_xticks(range(len(names)), names, rotation=45 if long else 0, ha="right" if long else "center",
                      rotation_mode="anchor")  # fmt: skip
        ax.set_yticks(range(len(wide)), [str(name) for name in wide.index])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(len(wide) + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", lw=1.0)
        ax.tick_params(which="minor", length=0)
        ax.set_title(f"{table['condition'].iloc[0]} against {table['reference'].iloc[0]}")
        ax.set_ylabel(str(table.attrs.get("groupby", "domain")))
        ax.set_xlabel(_tested(table, alpha, len(rows)))
        figure = root_figure(ax)
        bar = figure.colorbar(image, ax=ax, aspect=max(6.0, 2.2 * len(wide)), pad=0.02, label=_TITLES[value],
                              extend="both" if finite.size and finite.max() > top else "neither")  # fmt: skip
        bar.outline.set_visible(False)
        finish(figure, save, show)
    return ax


def _tested(table: pd.DataFrame, alpha: float, n_sure: int) -> str:
    if not table["padj"].notna().any():
        return "not tested: no replicates"
    least = _smallest_p(table)
    if not n_sure and least > alpha:
        return f"too few samples to test:\np is {least:.2g} at least"
    return f"● padj ≤ {alpha:g}" if n_sure else f"none with padj ≤ {alpha:g}"


def _smallest_p(table: pd.DataFrame) -> float:
    """Find the smallest p that samples of this condition could have had; 0 where the table does not know."""
    least = float(table.attrs.get("smallest_p", 0.0))  # of all conditions
    if {"n_samples", "n_samples_reference"} <= set(table):
        tested = table.loc[table["padj"].notna(), ["n_samples", "n_samples_reference"]].drop_duplicates()
        least = max(least, min(smallest_p(*pair) for pair in tested.to_numpy(dtype=np.int64).tolist()))
    return least


def _checked(data: pd.DataFrame, value: str, condition: str | None) -> pd.DataFrame:
    """Rows of one condition."""
    if not isinstance(data, pd.DataFrame):
        raise TypeError(f"data: expected a DataFrame of differences, found {type(data).__name__}. "
                        "Next: isost.tl.composition_difference(adata, key=..., condition_key=...).")  # fmt: skip
    missing = [name for name in _NEEDED if name not in data]
    if missing or not len(data):
        raise ValueError(f"data: expected the rows of isost.tl.composition_difference, found {len(data)} rows without "
                         f"{listed(missing)}. Next: isost.tl.composition_difference(adata, ...).")  # fmt: skip
    if value not in _TITLES:
        raise ValueError(f"value: expected 'difference' or 'log2_ratio', found {value!r}. Next: leave it out.")
    names = list(dict.fromkeys(data["condition"].astype(str)))
    if condition is None and len(names) > 1 or condition is not None and str(condition) not in names:
        raise ValueError(f"condition: expected one of {listed(names)}, found {condition!r}. "
                         f"Next: condition={names[0]!r}.")  # fmt: skip
    return data[data["condition"].astype(str) == (names[0] if condition is None else str(condition))]
