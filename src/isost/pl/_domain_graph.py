from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy.sparse.csgraph import shortest_path

from isost._core.checks import show as listed
from isost._core.requests import as_number
from isost.pl._palette import palette
from isost.pl._style import INK, finish, root_figure, style

Value = Literal["connectivity", "contact_share", "contacts"]
_NAMES = {"connectivity": "connectivity", "contact_share": "share of contacts", "contacts": "contacts"}
_EDGE, _WIDEST = "#8a8a8a", 7.0
_SMALLEST, _LARGEST = 120.0, 900.0  # nodes, points squared


def domain_graph(
    data: pd.DataFrame,
    *,
    value: Value | None = None,
    threshold: float = 0.05,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot domains as the nodes of a graph, whose edges tell how alike they are or how often they touch.

    Parameters
    ----------
    data
        What `isost.tl.domain_graph` returned.
    value
        Column that edges are drawn by: ``"connectivity"``, ``"contact_share"`` or ``"contacts"``. None: connectivity
        where there is any, else the share of contacts.
    threshold
        Edges below this share of the largest value are not drawn.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    The Axes. Nodes have the colours of the domains and an area that grows with their cells; the width of an edge is
    proportional to the value. What wide edges join lies near; where a node lies means nothing more.

    Raises
    ------
    TypeError
        If `data` is no DataFrame.
    ValueError
        If it lacks a column or rows, `value` is no such column or has no numbers, or `threshold` is out of range.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=20)
    >>> graph = isost.tl.domain_graph(adata, groupby="domain", sample_key="section", use_rep=None)
    >>> ax = isost.pl.domain_graph(graph)
    >>> ax.get_legend().get_title().get_text()
    'share of contacts'
    """
    column = _checked(data, value)
    if not 0 <= as_number("threshold", threshold) <= 1:
        raise ValueError(f"threshold: expected a share, 0 to 1, found {threshold!r}. Next: leave it out.")
    names = [str(name) for name in dict.fromkeys([*data["first"], *data["second"]])]
    known = data.attrs.get("n", {})
    if set(known) == set(names):
        names = list(known)  # the order of the domains, which is that of their colours
    colors = data.attrs.get("colors") or []
    colors = colors if len(colors) == len(names) else palette(len(names))
    sizes = np.array([float(known.get(name, 1)) for name in names])
    weight = np.zeros((len(names), len(names)))
    for first, second, one in zip(data["first"], data["second"], data[column], strict=True):
        i, j = names.index(str(first)), names.index(str(second))
        weight[i, j] = weight[j, i] = np.nan_to_num(float(one))
    top = weight.max()
    places = _lay_out(np.where(weight >= threshold * top, weight, 0.0) / max(top, 1e-300))
    with style():
        if ax is None:
            _, ax = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
        _edges(ax, weight, places, threshold, _NAMES[column])
        area = _SMALLEST + (_LARGEST - _SMALLEST) * sizes / sizes.max()
        ax.scatter(places[:, 0], places[:, 1], s=area, c=list(colors), edgecolors="white", linewidths=1.2, zorder=3)
        for number, name in enumerate(names):
            linked = (weight[number] > 0) & (weight[number] >= threshold * top)
            _name(ax, name, number, places, linked, np.sqrt(area[number]) / 2 + 3)
        half = 0.7 * np.maximum(np.ptp(places, axis=0), 0.6 * np.ptp(places, axis=0).max())  # room for names
        middle = (places.min(axis=0) + places.max(axis=0)) / 2
        low, high = middle - half, middle + half
        ax.set(xticks=[], yticks=[], aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.spines[:].set_visible(False)
        finish(root_figure(ax), save, show)
    return ax


def _checked(data: pd.DataFrame, value: str | None) -> str:
    if not isinstance(data, pd.DataFrame):
        raise TypeError(f"data: expected a DataFrame of pairs of domains, found {type(data).__name__}. "
                        "Next: isost.pl.domain_graph(isost.tl.domain_graph(adata)).")  # fmt: skip
    missing = [name for name in ("first", "second", *_NAMES) if name not in data]
    if missing or not len(data):
        raise ValueError(f"data: expected the rows of isost.tl.domain_graph, found {len(data)} rows without "
                         f"{listed(missing)}. Next: isost.tl.domain_graph(adata).")  # fmt: skip
    if value is None:
        return "connectivity" if data["connectivity"].notna().any() else "contact_share"
    if value not in _NAMES or not data[value].notna().any():
        why = "which has no numbers" if value in _NAMES else "which is none of them"
        raise ValueError(f"value: expected one of {', '.join(_NAMES)}, found {value!r}, {why}. Next: leave it out.")
    return value


def _lay_out(weight: np.ndarray) -> np.ndarray:
    """Places (K, 2) of nodes, such that paths along heavy edges, of weights 0 to 1, are short."""
    apart = shortest_path(np.where(weight > 0, 1.6 - weight, 0.0), directed=False)
    far = 1.5 * apart[np.isfinite(apart)].max(initial=1.0)
    apart = np.where(np.isfinite(apart), apart, far)
    # from the places of principal coordinates, as from a circle it ends where edges cross
    centre = np.eye(len(apart)) - 1.0 / len(apart)
    value, vector = np.linalg.eigh(-0.5 * centre @ apart**2 @ centre)
    start = vector[:, -2:] * np.sqrt(np.maximum(value[-2:], 1e-6))
    graph = nx.complete_graph(len(weight))
    places = nx.kamada_kawai_layout(graph, dist={i: dict(enumerate(row)) for i, row in enumerate(apart)},
                                    pos=dict(enumerate(start)))  # fmt: skip
    found = np.array([places[k] for k in graph])
    # the longest extent lies across
    centred = found - found.mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2].T


def _name(ax: Axes, name: str, number: int, places: np.ndarray, linked: np.ndarray, apart: float) -> None:
    """Write a name beside its node, where no edge leaves it; rather above or below, as names are wide."""
    ways = np.array([(0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0)], dtype=np.float64)
    unit = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    edges = places[linked] - places[number]
    edges = edges / np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-9)
    nearest = (unit @ edges.T).max(axis=1, initial=-1.0)  # cosine to the edge that is nearest in angle
    best = int((nearest - 0.3 * np.abs(unit[:, 1])).argmin())
    across, along = (("right", "top"), ("center", "center"), ("left", "bottom")), np.sign(ways[best]).astype(int) + 1
    ax.annotate(name, (places[number, 0], places[number, 1]), (unit[best, 0] * apart, unit[best, 1] * apart),
                textcoords="offset points", ha=across[along[0]][0], va=across[along[1]][1], zorder=4,
                path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip


def _edges(ax: Axes, weight: np.ndarray, places: np.ndarray, threshold: float, title: str) -> None:
    first, second = np.triu_indices(len(weight), 1)
    values, top = weight[first, second], weight.max()
    drawn = (values > 0) & (values >= threshold * top)
    lines = np.stack([places[first[drawn]], places[second[drawn]]], axis=1)
    ax.add_collection(LineCollection(list(lines), linewidths=list(_WIDEST * values[drawn] / max(top, 1e-300)),
                                     colors=_EDGE, capstyle="round", zorder=1))  # fmt: skip
    steps = [top * share for share in (1.0, 0.5, 0.25)] if drawn.any() else []
    shown = [Line2D([], [], color=_EDGE, lw=_WIDEST * step / top, label=f"{step:.2g}" if top <= 1 else f"{step:.0f}")
             for step in steps]  # fmt: skip
    ax.legend(handles=shown, title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False,
              labelcolor=INK)  # fmt: skip
