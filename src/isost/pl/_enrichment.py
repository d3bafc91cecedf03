from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isost._core.checks import show as listed
from isost._core.requests import as_whole
from isost.pl._style import INK, PLAIN, finish, root_figure, style

_NEEDED = ("overlap", "size", "p", "padj")


def enrichment(
    data: pd.DataFrame,
    *,
    n_sets: int = 15,
    alpha: float = 0.05,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the gene sets of the smallest p: how sure each is, and how many of its genes are in the class.

    Parameters
    ----------
    data
        What `isost.tl.enrichment` returned.
    n_sets
        Sets to draw, at most.
    alpha
        Adjusted p where the dashed line lies.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    The Axes: a row a set, the surest on top, -log10 of the adjusted p to the right. The area of a dot is the share of
    the set's genes that are in the class; the counts stand beside it.

    Raises
    ------
    TypeError
        If `data` is no DataFrame.
    ValueError
        If it has no rows, or lacks a column.

    Examples
    --------
    >>> import isost, pandas
    >>> rows = {"overlap": [4, 1], "size": [5, 8], "p": [1e-4, 0.4], "padj": [2e-4, 0.4]}
    >>> ax = isost.pl.enrichment(pandas.DataFrame(rows, index=["myelin", "cycle"]))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['myelin', 'cycle']
    """
    if not isinstance(data, pd.DataFrame):
        raise TypeError(f"data: expected a DataFrame of gene sets, found {type(data).__name__}. "
                        "Next: isost.pl.enrichment(isost.tl.enrichment(sdata, gene_sets)).")  # fmt: skip
    missing = [name for name in _NEEDED if name not in data]
    if missing or not len(data):
        raise ValueError(f"data: expected rows with {', '.join(_NEEDED)}, found {len(data)} rows without "
                         f"{listed(missing)}. Next: pass what isost.tl.enrichment returned.")  # fmt: skip
    best = data.sort_values(["p", "overlap"], ascending=[True, False], kind="stable")
    best = best.iloc[: as_whole("n_sets", n_sets, 1)]
    sure = -np.log10(np.maximum(best["padj"].to_numpy(dtype=np.float64), np.finfo(np.float64).tiny))
    share = (best["overlap"] / best["size"]).to_numpy(dtype=np.float64)
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(5.2, 0.8 + 0.28 * len(best)), layout="constrained")
        rows = np.arange(len(best))
        ax.hlines(rows, 0, sure, color=PLAIN, lw=1.0, alpha=0.5)
        ax.scatter(sure, rows, s=15 + 105 * share, color=PLAIN, linewidths=0, zorder=3)
        for row, at, overlap, size in zip(rows, sure, best["overlap"], best["size"], strict=True):
            ax.annotate(f"{overlap} of {size}", (at, row), (9, 0), textcoords="offset points", va="center", fontsize=8)
        ax.axvline(-np.log10(alpha), color=INK, lw=0.8, ls=(0, (4, 3)), label=f"padj = {alpha:g}")
        ax.set_yticks(rows, [str(name) for name in best.index])
        ax.set(ylim=(len(best) - 0.5, -0.5), xlabel="−log10 adjusted p")
        ax.set_xlim(0, 1.25 * max(float(sure.max()), -np.log10(alpha)))
        ax.legend(loc="lower right", frameon=False, fontsize=8)
        finish(root_figure(ax), save, show)
    return ax
