from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isost.pl._palette import palette
from isost.pl._style import INK, finish, root_figure, style


def organ_proportions(
    data: pd.DataFrame,
    *,
    kind: Literal["area", "line"] = "area",
    reference: pd.DataFrame | None = None,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the share of the body that belongs to each organ over age; profiled stages are marked.

    Parameters
    ----------
    data
        What `isost.tl.organ_proportions` returned.
    kind
        ``"area"``: bands that add up to 1. ``"line"``: a line an organ.
    reference
        Shares of the same organs at some ages, drawn as dots beside the lines.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    The Axes.

    Raises
    ------
    TypeError
        If `data` is no DataFrame.
    ValueError
        If `kind` is neither, or a reference is given to bands.

    Examples
    --------
    >>> import isost
    >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
    >>> ax = isost.pl.organ_proportions(truth.proportions([9.5, 11.0, 12.5]))
    >>> ax.get_xlabel()
    'age'
    """
    if not isinstance(data, pd.DataFrame):
        raise TypeError(
            f"data: expected a DataFrame of shares, found {type(data).__name__}. "
            "Next: isost.pl.organ_proportions(isost.tl.organ_proportions(organs))."
        )
    if kind not in ("area", "line") or (kind == "area" and reference is not None):
        found = f"{kind!r}" + (" with a reference" if reference is not None else "")
        raise ValueError(f"kind: expected 'area', or 'line' beside a reference, found {found}. Next: kind='line'.")
    ages = data.index.to_numpy(dtype=np.float64)
    colors = data.attrs.get("colors") or palette(data.shape[1])
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
        for age in data.attrs.get("stages", ()):
            ax.axvline(age, color=INK, lw=0.8, ls=":", zorder=3 if kind == "area" else 0)
        if kind == "area":
            ax.stackplot(ages, data.to_numpy().T, colors=colors, labels=data.columns, edgecolor="white", linewidth=0.4)
            ax.set_ylim(0, 1)
        else:
            for name, color in zip(data.columns, colors, strict=False):
                ax.plot(ages, data[name], color=color, label=str(name))
                if reference is not None and name in reference:
                    share = reference[name] / reference.sum(axis=1)
                    ax.plot(
                        reference.index,
                        share,
                        ls="",
                        marker="o",
                        ms=4,
                        mec="white",
                        mew=0.5,
                        color=color,
                        clip_on=False,
                    )
            ax.set_ylim(bottom=0)
        ax.set(xlim=(ages.min(), ages.max()), xlabel=str(data.index.name or "age"), ylabel="share of area")
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        finish(root_figure(ax), save, show)
    return ax
