from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from spatialdata import SpatialData

from isost._core.voxels import read_voxels
from isost.pl._orthogonal import cut, depth_scale_of, draw_cut, lay_out, mark_depths
from isost.pl._quantity import read_deviation, read_volume
from isost.pl._style import finish, style


def uncertainty(
    sdata: SpatialData,
    color: str | None = None,
    *,
    label: str | None = None,
    position: Sequence[float | None] | None = None,
    depth_scale: float | None = None,
    cmap: str = "viridis",
    std_cmap: str = "magma",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    std_vmin: float | str | None = "p0.5",
    std_vmax: float | str | None = "p99.5",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot an estimate beside its standard deviation, on three orthogonal planes through the volume.

    Triangles point at the measured sections and dashed lines lie at their depths in the planes that run along depth:
    there the estimate is surest, and between them it is not. Only the planes are read, also from a volume on disk.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns.
    color
        A gene (log-normalised expression) or a channel of the volume; None is the first channel, such as ``"PC1"``. The
        standard deviation of a gene that is decoded from components is theirs alone, and leaves out what the
        gene has beside them; a volume made by ``genes=`` has the gene's own, calibrated on sections that were left out.
    label
        What the colour bars call it.
    position
        (x, y, z) of the planes in the unit of the volume; None, or None in a place, is the middle of the tissue.
    depth_scale
        How many times depth is drawn longer than x and y. None is 1, or the least whole number at which a thin
        volume can be read; the axis says so.
    cmap, std_cmap
        Colour maps of the estimate and of its standard deviation.
    vmin, vmax
        Limits of the colours of the estimate: a number, a percentile of the tissue in the planes, or None for the
        extreme.
    std_vmin, std_vmax
        The same of the standard deviation; ``std_vmin=0`` shows how much it varies in all.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (2, 3) array of Axes: of the estimate and of its standard deviation the planes (x, y), (x, z) and (z, y).

    Raises
    ------
    KeyError
        If an element of the volume, the gene or the channel is not found.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If `color` has no standard deviation, or `position` lies outside the volume.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> axes = isost.pl.uncertainty(sdata, "gene_1")
    >>> axes.shape
    (2, 3)
    """
    name = read_voxels(sdata).channels[0] if color is None else color
    deviation = read_deviation(sdata, name, label)
    mean = read_volume(sdata, name, label)
    indices, stretch = mean.indices(position), depth_scale_of(mean, depth_scale)
    cuts = [cut(mean, indices, cmap, vmin, vmax), cut(deviation, indices, std_cmap, std_vmin, std_vmax)]
    with style():
        figure, sets = lay_out(mean, stretch, len(cuts))
        for planes, (axes, bar) in zip(cuts, sets, strict=True):
            draw_cut(planes, axes, bar, stretch, invert_y=invert_y)
            mark_depths(axes, mean)
        finish(figure, save, show)
    return np.stack([axes for axes, _ in sets])
