from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from spatialdata import SpatialData

from isost.pl._orthogonal import cut, depth_scale_of, draw_cut, lay_out
from isost.pl._quantity import read_volume
from isost.pl._style import finish, style


def orthoviews(
    sdata: SpatialData,
    color: str,
    *,
    label: str | None = None,
    position: Sequence[float | None] | None = None,
    depth_scale: float | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot three orthogonal planes through a reconstructed volume.

    The plane across depth is large, the planes across y and x lie under it and beside it and share its axes. Lines mark
    where the planes cut each other, triangles point at the measured sections, and places outside the tissue are grey.
    Only the three planes are read, also from a volume on disk.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns.
    color
        A gene (log-normalised expression, decoded from the components), a channel of the volume such as ``"PC1"``,
        ``"density"`` or ``"uncertainty"``.
    label
        What the colour bar calls it, for instance the symbol of a gene that is named by an identifier.
    position
        (x, y, z) of the planes in the unit of the volume; None, or None in a place, is the middle of the tissue.
    depth_scale
        How many times depth is drawn longer than x and y. None is 1, or the least whole number at which a thin
        volume can be read; the axis says so.
    cmap
        Colour map.
    vmin, vmax
        Limits of the colour scale: a number, a percentile of the tissue in the three planes, or None for the extreme.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (3,) array of Axes: the planes (x, y), (x, z) and (z, y).

    Raises
    ------
    KeyError
        If an element of the volume, the gene or the channel is not found.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If `position` lies outside the volume, or `depth_scale` is not positive.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> axes = isost.pl.orthoviews(sdata, "gene_1", position=(0, None, 50))
    >>> axes[0].get_xlabel(), axes[1].get_xlabel()
    ('', 'x (µm)')
    """
    volume = read_volume(sdata, color, label)
    planes = cut(volume, volume.indices(position), cmap, vmin, vmax)
    stretch = depth_scale_of(volume, depth_scale)
    with style():
        figure, ((axes, bar),) = lay_out(volume, stretch)
        draw_cut(planes, axes, bar, stretch, invert_y=invert_y)
        finish(figure, save, show)
    return axes
