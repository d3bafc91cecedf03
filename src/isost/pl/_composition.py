from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isost.pl._palette import palette
from isost.pl._style import finish, root_figure, style, unit_label


def composition(
    data: pd.DataFrame,
    *,
    kind: Literal["area", "bar"] | None = None,
    reference: bool = False,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the shares of labels along depth, or by section or region.

    Parameters
    ----------
    data
        What `isost.tl.composition` returned.
    kind
        ``"area"``: bands along depth. ``"bar"``: a stacked bar a group. None: bands for slices of depth, else bars.
    reference
        Draw a bar of the whole tissue before those of the groups; with bars only.
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
        If `data` has no rows or columns, `kind` is neither, bands are asked for groups that are not depths or beside a
        bar of the tissue, or the shares in it are not in ``attrs``.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=10)
    >>> ax = isost.pl.composition(isost.tl.composition(adata, key="domain", groupby="section"))
    >>> ax.get_ylabel()
    'share of cells'
    >>> types = isost.tl.composition(adata, key="cell_type", groupby="domain")
    >>> ax = isost.pl.composition(types, reference=True)
    >>> ax.get_xticklabels()[0].get_text()
    'tissue'
    """
    if not isinstance(data, pd.DataFrame):
        raise TypeError(
            f"data: expected a DataFrame of shares, found {type(data).__name__}. "
            "Next: isost.pl.composition(isost.tl.composition(data, key=...))."
        )
    if data.empty:
        raise ValueError(
            f"data: expected shares of labels in groups, found {len(data)} groups and {data.shape[1]} labels. "
            "Next: isost.pl.composition(isost.tl.composition(data, key=...))."
        )
    numeric = pd.api.types.is_numeric_dtype(pd.Index(list(data.index)))
    kind = kind or ("area" if numeric and len(data) > 1 and not reference else "bar")
    if kind not in ("area", "bar") or (kind == "area" and not numeric):
        raise ValueError(
            f"kind: expected 'bar', or 'area' where groups are depths, found {kind!r} and groups such as "
            f"{data.index[0]!r}. Next: leave kind out."
        )
    whole = _whole(data, kind) if reference else None
    colors = data.attrs.get("colors") or palette(data.shape[1])
    with style():
        if ax is None:
            width = 2.2 + 0.45 * (len(data) + 1.3 * reference)
            _, ax = plt.subplots(figsize=(5.6 if kind == "area" else width, 3.4), layout="constrained")
        _bands(ax, data, colors) if kind == "area" else _bars(ax, data, colors, whole)
        what = str(data.index.name or "group")
        ax.set(ylim=(0, 1), ylabel="share of cells")
        ax.set_xlabel(f"z ({unit_label(str(data.attrs.get('unit', 'um')))})" if kind == "area" else what)
        handles, names = ax.get_legend_handles_labels()
        # in the order in which the bands lie upon each other
        ax.legend(
            handles[::-1], names[::-1], title=data.columns.name, loc="center left", bbox_to_anchor=(1.01, 0.5),
            frameon=False, ncols=-(-len(names) // 16),
        )  # fmt: skip
        finish(root_figure(ax), save, show)
    return ax


def _bands(ax: Axes, data: pd.DataFrame, colors: Sequence[str]) -> None:
    depth = np.asarray(list(data.index), dtype=np.float64)
    ax.stackplot(depth, data.to_numpy().T, colors=colors, labels=data.columns, edgecolor="white", linewidth=0.4)
    ax.set_xlim(depth.min(), depth.max())


def _whole(data: pd.DataFrame, kind: str) -> pd.Series:
    """Shares of the labels in the whole tissue."""
    known = data.attrs.get("overall")
    if kind == "area" or known is None or not set(map(str, data.columns)) <= set(known):
        found = "kind='area'" if kind == "area" else "none"
        raise ValueError(
            f"reference: expected bars, and the shares in the tissue in attrs['overall'], found {found}. "
            "Next: isost.pl.composition(isost.tl.composition(data, key=...), kind='bar', reference=True)."
        )
    return pd.Series({name: float(known[str(name)]) for name in data.columns})


def _bars(ax: Axes, data: pd.DataFrame, colors: Sequence[str], whole: pd.Series | None) -> None:
    place = np.arange(len(data), dtype=np.float64)
    if whole is not None:
        data = pd.concat([whole.to_frame("tissue").T, data])
        place = np.append(-1.3, place)  # a little apart
    below = np.zeros(len(data))
    for name, color in zip(data.columns, colors, strict=False):
        share = data[name].to_numpy(dtype=np.float64)
        ax.bar(place, share, bottom=below, color=color, width=0.85, edgecolor="white", linewidth=0.4, label=str(name))
        below = below + share
    names = [f"{group:g}" if isinstance(group, float) else str(group) for group in data.index]
    long = max(map(len, names)) * len(names) > 40
    ax.set_xticks(place, names, rotation=45 if long else 0, ha="right" if long else "center")
    ax.set_xlim(place[0] - 0.6, place[-1] + 0.6)
