from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes

from isost.pl._color import coloring
from isost.pl._panels import Cloud, Shade, bounds, draw_clouds, explain, given_axes, panel_grid
from isost.pl._planes import Planes, read_planes
from isost.pl._style import finish, position_labels, style


def sections(
    adata: AnnData,
    color: str | None = None,
    *,
    section_key: str = "section",
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    layer: str | None = None,
    use_rep: str = "X_pca",
    ncols: int = 4,
    size: float | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = None,
    vmax: float | str | None = "p99",
    invert_y: bool = False,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot the sections of a stack side by side, in order of depth.

    All panels share their limits, scale and colours, so that shapes and values can be compared between sections. Titles
    are depths; sections at one depth are named.

    Parameters
    ----------
    adata
        Stack of sections; left as it is.
    color
        A gene, a column of `obs` or a component such as ``"PC1"``; None draws the cells in one colour. Categories
        take the colours of ``uns[f"{color}_colors"]`` where there are any, otherwise colours that stay apart for
        colour-blind readers.
    section_key
        Column of `obs` that names the section of a cell; without such a column each distinct depth is a section.
    spatial_key
        Key of `obsm` with the positions, (n_cells, 3), or (n_cells, 2) together with `depth_key`.
    depth_key
        Column of `obs` with the depth; None takes the third column of the positions.
    layer
        Layer to read genes from; None reads `X`.
    use_rep
        Key of `obsm` that components are read from.
    ncols
        Most panels in a row.
    size
        Area of a dot in points squared; None lets the cells of the densest section fill their tissue.
    cmap
        Colour map of numbers.
    vmin, vmax
        Limits of the colour scale, common to all sections: a number, a percentile such as ``"p99"``, or None for the
        extreme.
    invert_y
        Let y grow downwards, as in images.
    axes
        Axes to draw into, one a section; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (n_sections,) array of Axes, from the lowest depth to the highest.

    Raises
    ------
    KeyError
        If `color`, `layer` or positions are not found.
    TypeError
        If `adata` is not an AnnData.
    ValueError
        If depths are missing or not numbers, or there are fewer `axes` than sections.

    Examples
    --------
    >>> import isost
    >>> axes = isost.pl.sections(isost.datasets.letters())
    >>> axes[0].get_aspect()
    1.0
    """
    planes = read_planes(adata, section_key=section_key, spatial_key=spatial_key, depth_key=depth_key)
    chosen = None if color is None else coloring(adata, color, layer=layer, use_rep=use_rep)
    clouds = [
        Cloud(planes.xy[rows], title, None if chosen is None else chosen.values[rows])
        for rows, title in zip(planes.rows, _titles(planes, depth_key), strict=True)
    ]
    shade = None if chosen is None else Shade.of(chosen, cmap, vmin, vmax)
    limits = bounds(clouds)
    with style():
        if axes is None:
            figure, panels = panel_grid(len(clouds), limits, ncols)
        else:
            figure, panels = given_axes(axes, len(clouds))
        draw_clouds(panels, clouds, limits, shade=shade, size=size, unit=planes.unit, invert_y=invert_y)
        if shade is not None:
            explain(figure, panels, shade, outside=axes is None)
        finish(figure, save, show)
    return panels


def _titles(planes: Planes, depth_key: str | None) -> list[str]:
    """Depths in the unit of the plane; or what a column says, such as an age, of which the unit is not known.

    Where several sections lie at one, it does not tell them apart, and their names do.
    """
    depths = position_labels(planes.depths)
    own = depth_key in (None, "z")
    titles = [f"z = {depth} {planes.unit}" if own else f"{depth_key} = {depth}" for depth in depths]
    if planes.names is None or len(set(titles)) == len(titles):
        return titles
    if len(set(titles)) == 1:
        return list(planes.names)
    return [f"{name}\n{title}" if titles.count(title) > 1 else title
            for name, title in zip(planes.names, titles, strict=True)]  # fmt: skip
