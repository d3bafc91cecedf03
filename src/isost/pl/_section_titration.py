from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isost.pl._cross_validation import CEILING, SCORES, check_scores, score_panels
from isost.pl._palette import palette
from isost.pl._style import ACCENT, INK, finish, root_figure, style

_MARKERS = "osD^vP*X"


def section_titration(
    scores: pd.DataFrame,
    *,
    axes: Axes | np.ndarray | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot held-out scores against the spacing of the sections that were kept, one panel a score.

    A line joins the means of a method over the sections that are scored at every spacing, so that the same are
    compared; over all scored ones where there is no such section, or no column that says so. A small dot is a section
    that the first method's line is of. The ceiling, which knows the section, is dotted. Where the line of isost is
    flat, sections are closer than needed.

    Parameters
    ----------
    scores
        What `isost.tl.section_titration` returns: a row a step, method and section, with columns ``method``,
        ``section``, ``spacing`` and at least one of ``pcc``, ``nmse``, ``dice``, ``dens``, ``energy``; ``common``, if
        there, is True for sections that are scored at every spacing.
    axes
        Axes to draw into, one a score; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (n_scores,) array of Axes.

    Raises
    ------
    TypeError
        If `scores` is not a DataFrame.
    ValueError
        If it lacks rows or columns.

    Examples
    --------
    >>> import isost, pandas
    >>> rows = {"method": ["isost"] * 2, "section": ["s2"] * 2, "spacing": [100.0, 200.0], "nmse": [0.4, 0.5]}
    >>> axes = isost.pl.section_titration(pandas.DataFrame(rows))
    >>> axes[0].get_lines()[0].get_ydata().tolist()
    [0.4, 0.5]
    """
    names = check_scores(scores, needed=("method", "section", "spacing"), source="isost.tl.section_titration(adata)")
    methods = list(dict.fromkeys(scores["method"].astype(str)))
    if "common" in scores and scores["common"].any():
        scores = scores[scores["common"]]
    with style():
        panels = score_panels(len(names), (2.6 * len(names) + 1.2, 2.6), axes)
        for ax, name in zip(panels, names, strict=True):
            _draw(ax, scores, name, methods)
        # every method has a field, but not every one has cells
        handles, labels = max((ax.get_legend_handles_labels() for ax in panels), key=lambda found: len(found[1]))
        panels[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.02, 0.5))
        finish(root_figure(panels[0]), save, show)
    return panels


def _draw(ax: Axes, scores: pd.DataFrame, name: str, methods: list[str]) -> None:
    label, more_is_better = SCORES[name]
    of_method = scores["method"].astype(str)
    own = scores[of_method == methods[0]]
    ax.scatter(own["spacing"], own[name], s=12, color=ACCENT, alpha=0.35, linewidths=0, zorder=2, label="_sections")
    colors = [ACCENT, *palette(len(methods))]
    for number, method in enumerate(methods):
        mean = scores[of_method == method].groupby("spacing")[name].mean()
        if not mean.notna().any():
            continue
        first, ceiling = number == 0, method == CEILING
        ax.plot(
            mean.index,
            mean,
            label=method,
            color=INK if ceiling else colors[number],
            ls=":" if ceiling else "-",
            lw=2.0 if first else 1.1,
            marker=None if ceiling else _MARKERS[number % len(_MARKERS)],
            ms=5 if first else 4,
            zorder=4 if first else 3,
        )
    ax.set_title(label)
    ax.set_xlabel("spacing of sections")
    ax.set_ylabel("better →" if more_is_better else "← better")
    ax.set_xticks(sorted(set(scores["spacing"])))
    ax.margins(x=0.12)
