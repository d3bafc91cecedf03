from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from spatialdata import SpatialData

from isost._core.checks import show as listed
from isost._core.decoder import gene_names
from isost._tools.shells import CLASSES, counting
from isost.get._radial_gradients import gradients_of
from isost.pl._palette import palette
from isost.pl._style import INK, finish, style, unit_label

_MOST_NAMED = 60  # rows of the heat map that can be read


def radial_gradients(
    sdata: SpatialData | AnnData | Mapping[str, SpatialData | AnnData],
    *,
    genes: str | Sequence[str] | None = None,
    key: str = "radial",
    n_genes: int = 12,
    n_rows: int = 50,
    cmap: str = "RdBu_r",
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot genes against distance: profiles with bands, and a heat map of genes over shells, sorted by class.

    Profiles are shell means; bands are the standard deviation of the voxels of a shell, not an error of the mean. In
    the heat map each gene is centred on the mean of its shells and divided by the largest difference from it; genes
    are sorted by class and by where they are highest. Shells that hold less than 1 % of the voxels, and less than an
    eighth of the mean of the shells, are left out.

    Parameters
    ----------
    sdata
        What `isost.tl.radial_gradients` was run on; or several, such as time points, by name: profiles then have a
        line for each, and the heat maps stand side by side with the genes in the order of the first.
    genes
        Genes to plot; None for those of the largest ``eta_squared`` of each class that is not flat.
    key
        ``key_added`` of `isost.tl.radial_gradients`.
    n_genes
        Most profiles, where `genes` is None.
    n_rows
        Most genes in the heat map, where `genes` is None.
    cmap
        Diverging colour map of the heat map.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (n + m,) array of Axes: a profile for each gene, then a heat map for each condition.

    Raises
    ------
    KeyError
        If `isost.tl.radial_gradients` was not run, or a gene was not tested.
    TypeError
        If `sdata` is neither a SpatialData nor an AnnData.
    ValueError
        If there is nothing to plot.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.spinal_cord(n_sections=4, n_cells=200, n_genes=10)
    >>> adata.X = adata.X.astype("float32").log1p()
    >>> isost.tl.radial_gradients(adata, axis=adata.uns["spinal_cord"]["canal"])
    >>> axes = isost.pl.radial_gradients(adata, genes=["canal_rising_1", "canal_falling_2"])
    >>> [ax.get_title(loc="left") for ax in axes[:2]]
    ['canal_rising_1', 'canal_falling_2']
    """
    conditions = dict(sdata) if isinstance(sdata, Mapping) else {"": sdata}
    if not conditions:
        raise ValueError("sdata: expected one or more, found none. Next: {'day 3': sdata}, for instance.")
    found = {str(name): gradients_of(one, key) for name, one in conditions.items()}
    first = next(iter(found.values()))
    drawn, rows = _chosen(first["genes"], genes, n_genes, n_rows)
    missing = {gene for one in found.values() for gene in [*drawn, *rows] if gene not in one["genes"].index}
    if missing:
        raise KeyError(
            f"genes: expected genes that were tested, found {listed(sorted(missing))}. "
            "Next: isost.get.radial_gradients(sdata).index lists them."
        )
    with style():
        figure, profiles, maps = _layout(len(drawn), len(rows), len(found))
        for number, (ax, gene) in enumerate(zip(profiles, drawn, strict=True)):
            _draw_profile(ax, gene, found, legend=number == 0)
        order = _order(first, rows)
        for ax, (name, one) in zip(maps, found.items(), strict=True):
            mesh = _draw_map(ax, one, order, cmap, name, first=ax is maps[0])
        bar = figure.colorbar(mesh, ax=maps, label="relative to the mean of shells", shrink=0.5, aspect=25, pad=0.08)
        bar.outline.set_visible(False)
        finish(figure, save, show)
    return np.array([*profiles, *maps])


def _chosen(
    table: pd.DataFrame, genes: str | Sequence[str] | None, n_genes: int, n_rows: int
) -> tuple[list[str], list[str]]:
    """Genes to have profiles of, and genes of the heat map."""
    if genes is not None:
        asked = list(dict.fromkeys(gene_names(genes)))
        if asked:
            return asked, asked
    strong = table[table["class"] != "flat"]
    strong = (strong if len(strong) else table).sort_values("eta_squared", ascending=False, kind="stable")
    if not len(strong) or (genes is not None):
        raise ValueError("genes: expected one or more, found none. Next: leave genes out.")
    kinds = [part for _, part in strong.groupby("class", observed=True, sort=True)]
    each = max(1, n_genes // len(kinds))
    drawn = [gene for part in kinds for gene in part.index[:each]][:n_genes]
    return drawn, list(strong.index[:n_rows])


def _layout(n: int, n_rows: int, n_maps: int) -> tuple[Figure, list[Axes], list[Axes]]:
    columns = min(3, n)
    lines = -(-n // columns)
    tall = max(1.9 * lines, min(0.6 + 0.17 * n_rows, 9.0), 2.6)
    wide_map = 4.0 + 2.0 * (n_maps - 1)
    figure = plt.figure(figsize=(2.4 * columns + wide_map, tall + 0.4), layout="constrained")
    outer = figure.add_gridspec(1, 2, width_ratios=(2.4 * columns, wide_map))
    left = outer[0].subgridspec(lines, columns)
    profiles = [figure.add_subplot(left[k // columns, k % columns]) for k in range(n)]
    right = outer[1].subgridspec(1, n_maps)
    return figure, profiles, [figure.add_subplot(right[k]) for k in range(n_maps)]


def _used(one: dict[str, Any]) -> np.ndarray:
    return counting(one["shells"]["n"].to_numpy())


def _label(one: dict[str, Any]) -> str:
    about = {"centre": "the centre line", "lumen": "the lumen", "axis": "the axis", "point": "the point",
             "surface": "the surface", "region": "the region"}  # fmt: skip
    params = one["params"]
    return f"distance from {about.get(str(params['about']), 'the axis')} ({unit_label(str(params['unit']))})"


def _draw_profile(ax: Axes, gene: str, found: dict[str, dict[str, Any]], *, legend: bool) -> None:
    colors = palette(len(found))
    for (name, one), color in zip(found.items(), colors, strict=True):
        used = _used(one)
        distance = one["shells"]["distance"].to_numpy()[used]
        mean, spread = (one[what].loc[gene].to_numpy(dtype=np.float64)[used] for what in ("mean", "spread"))
        ax.fill_between(distance, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)
        ax.plot(distance, mean, color=color, lw=1.8, label=name)
    one = next(iter(found.values()))
    row = one["genes"].loc[gene]
    ax.set_title(gene, loc="left", pad=14 if len(found) == 1 else 4, fontsize=9)
    if len(found) == 1:
        text = f"{row['class']}, {_adjusted(row['padj'])}"
        ax.text(0.0, 1.02, text, transform=ax.transAxes, ha="left", va="bottom", fontsize=8, color=INK)
    elif legend:
        ax.legend(frameon=False, fontsize=8, handlelength=1.2)
    spec = ax.get_subplotspec()
    if spec is not None and spec.is_first_col():
        ax.set_ylabel("difference" if one["params"]["baseline"] else "expression")
    if spec is not None and spec.is_last_row():
        ax.set_xlabel(_label(one).replace("distance from", "from"))
    ax.margins(x=0.0)


def _adjusted(p: float) -> str:
    if p < 1e-10:
        return "p < 1e-10"
    return f"p = {p:.2g}" if p >= 1e-3 else f"p = {p:.0e}".replace("e-0", "e-")


def _order(one: dict[str, Any], rows: list[str]) -> list[str]:
    """Sort genes by class, and within it by the distance at which they are highest."""
    table = one["genes"].loc[rows]
    place = table["class"].map({kind: number for number, kind in enumerate(CLASSES)}).astype(int)
    mean = one["mean"].loc[rows].to_numpy(dtype=np.float64)[:, _used(one)]
    above = mean - mean.min(axis=1, keepdims=True)
    centre = (above * np.arange(mean.shape[1])).sum(axis=1) / np.maximum(above.sum(axis=1), 1e-12)
    return [rows[k] for k in np.lexsort([centre, place.to_numpy()])]


def _draw_map(ax: Axes, one: dict[str, Any], order: list[str], cmap: str, name: str, *, first: bool) -> Any:
    used = _used(one)
    mean = one["mean"].loc[order].to_numpy(dtype=np.float64)[:, used]
    centred = mean - mean.mean(axis=1, keepdims=True)
    scaled = centred / np.maximum(np.abs(centred).max(axis=1, keepdims=True), 1e-12)
    shells = one["shells"][used]
    edges = np.append(shells["inner"].to_numpy(), shells["outer"].to_numpy()[-1])
    mesh = ax.pcolormesh(edges, np.arange(len(order) + 1), scaled, cmap=cmap, vmin=-1, vmax=1, rasterized=True)
    ax.yaxis.set_inverted(True)
    ax.set(xlabel=_label(one), title=name)
    kinds = one["genes"].loc[order, "class"].astype(str).to_numpy()
    borders = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
    for at in borders.tolist():
        ax.axhline(at, color="white", lw=2.0)
    named = first and len(order) <= _MOST_NAMED
    ax.set_yticks(np.arange(len(order)) + 0.5 if named else [], order if named else [], fontsize=7)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
    starts = [0, *borders.tolist(), len(order)]
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        ax.text(1.01, (start + stop) / 2, kinds[start], transform=ax.get_yaxis_transform(), rotation=270, va="center",
                ha="left", fontsize=8, clip_on=False)  # fmt: skip
    return mesh
