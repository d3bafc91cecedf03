from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, Normalize
from xarray import Dataset

from isost.pl._panels import Shade, explain
from isost.pl._style import bare, contrast, extend, finish, position_labels, scale_bar, style, unit_label

if TYPE_CHECKING:
    from isost.reconstruction import Reconstruction

_WIDTH = 1.7  # inches of a panel


def timeline(
    data: Dataset,
    *,
    ages: Sequence[float] | np.ndarray | None = None,
    n_ages: int = 6,
    fitted: Reconstruction | None = None,
    genes: str | Sequence[str] | None = None,
    confidence: bool = False,
    grown: bool = True,
    cmap: str = "viridis",
    vmin: float | str | None = None,
    vmax: float | str | None = "p99",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot organs over age, a column an age: their map, and below it what is asked for.

    Parameters
    ----------
    data
        What `isost.tl.propagate_labels` returned.
    ages
        Ages to show: the nearest of those in `data`. None: `n_ages` of them, evenly spaced, first and last included.
    n_ages
        Number of ages.
    fitted
        What `isost.tl.fit` returned, to show genes.
    genes
        Genes: a row each, of the best estimate of their mean expression at every pixel, on one scale.
    confidence
        Whether to show, in a row, the share of the votes that the label of each pixel has.
    grown
        Show stages of a growing tissue at their own size, if it is known; else in the common frame.
    cmap
        Colour map of genes.
    vmin, vmax
        Limits of the colour scale of each gene: a number, a percentile such as ``"p99"``, or None for the extreme.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (n_rows, n_ages) array of Axes.

    Raises
    ------
    KeyError
        If a gene is unknown.
    TypeError
        If `data` is something else, or genes are asked for without `fitted`.
    ValueError
        If there are no ages to show.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=100, n_genes=24)
    >>> isost.pp.embed(adata, n_comps=10)
    >>> isost.pp.align_stages(adata)
    >>> stages = {"depth_key": "age", "section_key": "stage", "spatial_key": "spatial_stage"}
    >>> fitted = isost.tl.fit(adata, **stages, epochs=2, progress=False, rng=0)
    >>> organs = isost.tl.propagate_labels(fitted, adata, key="organ", step=1.0, grid=64)
    >>> axes = isost.pl.timeline(organs, n_ages=4, fitted=fitted, genes="marker_2")
    >>> axes.shape, axes[0, 1].get_title()
    ((2, 4), '11.5')
    """
    if not isinstance(data, Dataset) or not {"label", "confidence"} <= set(data.data_vars):
        raise TypeError(
            f"data: expected what isost.tl.propagate_labels returns, found {type(data).__name__}. "
            "Next: isost.tl.propagate_labels(fitted, adata, key=...)."
        )
    if genes is not None and fitted is None:
        raise TypeError("genes: expected what isost.tl.fit returned with them, found None. Next: fitted=fitted.")
    chosen = _chosen(data, ages, n_ages)
    names = [str(name) for name in data["name"].values]
    colors = ListedColormap(list(data.attrs["colors"]))
    label = np.where(data["label"].values > 0, data["label"].values - 1.0, np.nan)[chosen]
    rows = [(label, Shade(colors, Normalize(-0.5, len(names) - 0.5), "", "neither", tuple(names)))]
    if confidence:
        sure = Shade(plt.get_cmap("cividis"), Normalize(0, 1), "confidence", "neither")
        rows.append((data["confidence"].values[chosen], sure))
    if genes is not None and fitted is not None:
        for gene in [genes] if isinstance(genes, str) else genes:
            values = _expression(data, fitted, gene, chosen)
            limits = contrast(values, vmin, vmax)
            shade = Shade(plt.get_cmap(cmap), Normalize(*limits), gene, extend(values, limits))
            rows.append((values, shade))
    with style():
        figure, axes = plt.subplots(
            len(rows), len(chosen), squeeze=False, layout="compressed",
            figsize=(_WIDTH * len(chosen) + 1.4, (_WIDTH + 0.1) * len(rows) + 0.5),
        )  # fmt: skip
        scale = data["growth"].values[chosen] if grown and "growth" in data.coords else np.ones(len(chosen))
        for panels, (values, shade) in zip(axes, rows, strict=True):
            _draw(panels, values, shade, data, scale, invert_y)
            explain(figure, panels, shade, outside=False)
        _titles(axes[0], data, chosen)
        scale_bar(axes[-1, 0], unit_label(str(data.attrs["unit"])))
        finish(figure, save, show)
    return axes


def _chosen(data: Dataset, ages: Sequence[float] | np.ndarray | None, n_ages: int) -> list[int]:
    known = data["age"].values
    wanted = np.linspace(known[0], known[-1], max(int(n_ages), 0)) if ages is None else np.asarray(ages, np.float64)
    chosen = list(dict.fromkeys(int(np.abs(known - age).argmin()) for age in np.atleast_1d(wanted)))
    if not chosen:
        raise ValueError("ages, n_ages: expected one age or more, found none. Next: leave them out.")
    return chosen


def _expression(data: Dataset, fitted: Reconstruction, gene: str, chosen: list[int]) -> np.ndarray:
    """Field (n, y, x) of a gene, NaN outside the tissue."""
    label = data["label"].values[chosen]
    values = np.full(label.shape, np.nan, np.float32)
    x, y = np.meshgrid(data["x"].values, data["y"].values)
    for number, at in enumerate(chosen):
        inside = label[number] > 0
        coords = np.column_stack([x[inside], y[inside], np.full(inside.sum(), data["age"].values[at])])
        values[number][inside] = fitted.expression(coords, genes=[gene])[:, 0]
    return values


def _draw(
    panels: np.ndarray, values: np.ndarray, shade: Shade, data: Dataset, scale: np.ndarray, invert_y: bool
) -> None:
    half = data.attrs["pixel_size"] / 2
    x, y = data["x"].values, data["y"].values
    extent = np.array([x[0] - half, x[-1] + half, y[0] - half, y[-1] + half])
    limits = extent * scale.max()
    for ax, image, own in zip(panels, values, scale, strict=True):
        ax.imshow(
            image, origin="lower", extent=tuple(extent * own), cmap=shade.cmap, norm=shade.norm,
            interpolation="nearest",
        )  # fmt: skip
        ax.set(xlim=limits[:2], ylim=limits[2:][::-1] if invert_y else limits[2:])
        ax.set_aspect("equal", adjustable="box")
        bare(ax)


def _titles(panels: np.ndarray, data: Dataset, chosen: list[int]) -> None:
    ages = data["age"].values[chosen]
    for ax, age, text in zip(panels, ages, position_labels(ages), strict=True):
        known = np.isclose(age, data.attrs["stages"], rtol=0, atol=1e-9).any()
        ax.set_title(f"{text}\n(profiled)" if known else text)
