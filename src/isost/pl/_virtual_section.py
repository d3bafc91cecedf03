from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

from isost._core.checks import show as listed
from isost.pl._style import INK, OUTSIDE, contrast, extend, finish, root_figure, style, unit_label


def virtual_section(
    sdata: SpatialData,
    color: str | None = None,
    *,
    cells: bool = False,
    size: float = 4.0,
    cmap: str = "viridis",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    invert_y: bool = False,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot a section that `isost.tl.virtual_section` cut.

    Parameters
    ----------
    sdata
        What it returned.
    color
        A channel of its image: a gene it was asked for, or a feature; None for the first.
    cells
        Draw the cells of the slab over the image, in the same colours where the table has the gene.
    size
        Area of a cell in points squared.
    cmap
        Colour map.
    vmin, vmax
        Limits of the colour scale: a number, a percentile of the tissue, or None for the extreme.
    invert_y
        Let the second axis grow downwards, as in images.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    Axes, in the unit of the volume; the title says where the plane lies.

    Raises
    ------
    KeyError
        If `sdata` holds no section, or the image no such channel.
    TypeError
        If `sdata` is not a SpatialData.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> section = isost.tl.virtual_section(sdata, origin=(0, 500, 50), normal=(0, 1, 1), genes=["gene_1"])
    >>> isost.pl.virtual_section(section, "gene_1").get_aspect()
    1.0
    """
    if not isinstance(sdata, SpatialData):
        raise TypeError(
            f"sdata: expected a SpatialData, found {type(sdata).__name__}. Next: isost.tl.virtual_section cuts one."
        )
    if "isost_section" not in sdata.images:
        raise KeyError(
            f"sdata: expected the image 'isost_section', found {listed(sdata.images)}. "
            "Next: isost.tl.virtual_section(sdata, origin=..., normal=..., genes=...) cuts a section."
        )
    image, run = sdata.images["isost_section"], sdata.attrs["isost"]
    names = [str(name) for name in image.coords["c"].values]
    channel = names[0] if color is None else color
    if channel not in names:
        raise KeyError(
            f"color: expected a channel of the section ({listed(names)}), found {channel!r}. "
            f"Next: isost.tl.virtual_section(sdata, ..., genes=[{channel!r}])."
        )
    values = np.asarray(image.data[names.index(channel)], dtype=np.float64)
    limits = contrast(values, vmin, vmax)
    norm, unit = Normalize(*limits), unit_label(str(run["unit"]))
    table = sdata.tables.get("isost_section_cells")
    decoded = table is not None and channel in table.var_names
    with style():
        height = float(np.clip(4.2 * values.shape[0] / values.shape[1], 1.6, 7.0))
        panel = plt.subplots(figsize=(5.6, height + 1.1), layout="compressed")[1] if ax is None else ax
        panel.set_facecolor(OUTSIDE)
        drawn = panel.imshow(values, extent=_extent(image, run), origin="lower", cmap=cmap, norm=norm,
                             interpolation="nearest", aspect="equal")  # fmt: skip
        if cells and table is not None:
            _draw_cells(panel, table, channel if decoded else None, size, cmap, norm)
        panel.spines[:].set_visible(False)
        panel.set(xlabel=_axis("x", run["right"], unit), ylabel=_axis("y", run["up"], unit))
        where = f"through {_vector(run['origin'])} {unit}, across {_vector(run['normal'])}"
        panel.set_title(where, fontsize=9, loc="left")
        if invert_y:
            panel.yaxis.set_inverted(True)
        label = f"{channel} ({run['values'][channel]})"
        figure, ends = root_figure(panel), extend(values, limits)
        bar = figure.colorbar(drawn, ax=panel, label=label, extend=ends, shrink=0.85, pad=0.02)
        bar.outline.set_visible(False)
        finish(figure, save, show)
    return panel


def _extent(image: Any, run: dict[str, Any]) -> tuple[float, float, float, float]:
    matrix = get_transformation(image, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    left, bottom = matrix[:2, 2]
    rows, columns = image.shape[1:]
    return (
        float(left),
        float(left + columns * run["pixel_size"]),
        float(bottom),
        float(bottom + rows * run["pixel_size"]),
    )


def _draw_cells(ax: Axes, table: Any, gene: str | None, size: float, cmap: str, norm: Normalize) -> None:
    x, y = np.asarray(table.obsm["spatial"]).T
    look: dict[str, Any] = {"s": size, "linewidths": 0.3, "edgecolors": INK, "rasterized": True}
    if gene is None or table.X is None:
        ax.scatter(x, y, facecolors="none", **look)
        return
    values = table[:, gene].X
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    ax.scatter(x, y, c=dense.ravel(), cmap=cmap, norm=norm, **look)


def _axis(name: str, direction: list[float], unit: str) -> str:
    """Name an axis of the volume where the section follows one, and an axis of the section otherwise."""
    for letter, unit_vector in zip("xyz", np.eye(3), strict=True):
        if np.allclose(direction, unit_vector):
            return f"{letter} ({unit})"
    return f"{name} in the plane ({unit})"


def _vector(numbers: list[float]) -> str:
    return "(" + ", ".join(f"{number + 0.0:.3g}".replace("-", "−") for number in numbers) + ")"
