from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isost.pl._style import ACCENT, INK, PLAIN, finish, root_figure, style

# What each score compares, and whether more of it is better; see isost.tl.cross_validate.
SCORES = {
    "pcc": ("expression\ncorrelation (pcc)", True),
    "nmse": ("expression\nerror (nmse)", False),
    "dice": ("tissue\noverlap (dice)", True),
    "dens": ("cell density\ncorrelation (dens)", True),
    "energy": ("cell distribution\ndistance (energy)", False),
}

# Sees the held-out section itself: a reference, not a method that could be best.
CEILING = "ceiling"


def cross_validation(
    scores: pd.DataFrame,
    *,
    axes: Axes | np.ndarray | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot the held-out scores of each method, one panel a score.

    A small dot is a held-out section, a diamond the mean over sections; the best mean of each score is filled with
    colour. An arrow says which way is better. A dotted line stands at the mean of the ceiling, which knows the section.

    Parameters
    ----------
    scores
        What `isost.tl.cross_validate` returns: a row a method and held-out section, with columns ``method``,
        ``section`` and at least one of ``pcc``, ``nmse``, ``dice``, ``dens``, ``energy``. A score that a method
        does not have is NaN.
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
    >>> scores = pandas.DataFrame({"method": ["isost", "kernel"], "section": ["s2", "s2"], "pcc": [0.3, 0.2]})
    >>> axes = isost.pl.cross_validation(scores)
    >>> [label.get_text() for label in axes[0].get_yticklabels()]
    ['isost', 'kernel']
    """
    names = check_scores(scores)
    methods = list(dict.fromkeys(scores["method"].astype(str)))
    with style():
        panels = score_panels(len(names), (1.2 + 1.75 * len(names), 1.0 + 0.32 * len(methods)), axes, sharey=True)
        for ax, name in zip(panels, names, strict=True):
            _draw(ax, scores, name, methods)
        panels[0].set_yticks(range(len(methods)), methods)
        panels[0].set_ylim(len(methods) - 0.5, -0.5)
        finish(root_figure(panels[0]), save, show)
    return panels


def score_panels(
    n: int, size: tuple[float, float], axes: Axes | np.ndarray | None, *, sharey: bool = False
) -> np.ndarray:
    """Make n panels in a row, or take those that were given."""
    if axes is None:
        return plt.subplots(1, n, figsize=size, sharey=sharey, squeeze=False, layout="constrained")[1][0]
    flat = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(flat) < n:
        raise ValueError(f"axes: expected one for each of {n} scores, found {len(flat)}. Next: plt.subplots(1, {n}).")
    return flat[:n]


def _draw(ax: Axes, scores: pd.DataFrame, name: str, methods: list[str]) -> None:
    label, more_is_better = SCORES[name]
    means = scores.groupby(scores["method"].astype(str))[name].mean().reindex(methods)
    for row, method in enumerate(methods):
        values = scores.loc[scores["method"].astype(str) == method, name].to_numpy(dtype=np.float64)
        ax.scatter(values, np.full(len(values), row), s=14, color=PLAIN, linewidths=0, zorder=4, label="section")
    competing = means.drop(CEILING, errors="ignore")
    best = means.eq(competing.max() if more_is_better else competing.min()) & (means.index != CEILING)
    ax.scatter(
        means,
        range(len(methods)),
        s=44,
        marker="D",
        zorder=3,
        facecolors=np.where(best, ACCENT, "white").tolist(),
        edgecolors=np.where(best, ACCENT, INK).tolist(),
        linewidths=1.1,
        label="mean",
    )
    if CEILING in means.index and np.isfinite(means[CEILING]):
        ax.axvline(means[CEILING], color=INK, lw=0.8, ls=":", zorder=1)
    ax.set_title(label)
    ax.set_xlabel("better →" if more_is_better else "← better")
    ax.grid(axis="y", color="#e5e5e5", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.12)
    ax.locator_params(axis="x", nbins=3)
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3), useMathText=True)


def check_scores(
    scores: pd.DataFrame,
    *,
    needed: tuple[str, ...] = ("method", "section"),
    source: str = "isost.tl.cross_validate(adata)",
) -> list[str]:
    """Name the scores that a table has values of, or refuse it."""
    if not isinstance(scores, pd.DataFrame):
        raise TypeError(f"scores: expected a pandas.DataFrame, found {type(scores).__name__}. Next: {source}.")
    names = [name for name in SCORES if name in scores and scores[name].notna().any()]
    missing = [name for name in needed if name not in scores]
    if missing or not names:
        raise ValueError(
            f"scores: expected columns {', '.join(needed)} and a score among {', '.join(SCORES)} with values, found "
            f"columns {list(map(str, scores.columns))} and {len(scores)} rows. Next: {source}."
        )
    return names
