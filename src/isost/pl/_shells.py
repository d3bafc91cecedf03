from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from spatialdata import SpatialData

from isost.get._radial_gradients import table_with
from isost.pl._orthogonal import depth_scale_of, draw_planes, lay_out, planes_of
from isost.pl._quantity import read_volume
from isost.pl._style import finish, style

_MOST_TICKS = 12


def shells(
    sdata: SpatialData,
    *,
    key: str = "radial",
    position: Sequence[float | None] | None = None,
    depth_scale: float | None = None,
    cmap: str = "viridis",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot the shells of `isost.tl.radial_gradients` in three orthogonal planes through the volume.

    Parameters
    ----------
    sdata
        What `isost.tl.radial_gradients` was run on, with a table of voxels.
    key
        Its ``key_added``.
    position
        (x, y, z) of the planes in the unit of the volume; None, or None in a place, is the middle of the tissue.
    depth_scale
        How many times depth is drawn longer than x and y; None as in `isost.pl.orthoviews`.
    cmap
        Colour map, from the innermost shell to the outermost.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (3,) array of Axes: the planes (x, y), (x, z) and (z, y). Places in no shell are grey.

    Raises
    ------
    KeyError
        If it was not run, or the table has no row for each voxel.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If `position` lies outside the volume, or `depth_scale` is not positive.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.spinal_cord(n_sections=4, n_cells=150, n_genes=16)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=150, epochs=1, progress=False, rng=0)
    >>> isost.tl.radial_gradients(sdata, axis="centre")
    >>> isost.pl.shells(sdata)[0].get_ylabel()
    'y (µm)'
    """
    volume = read_volume(sdata, "density")
    table = table_with(sdata, key)
    column = f"{key}_shell"
    if column not in table.obs or not {"z", "y", "x"} <= set(table.obs):
        raise KeyError(
            f"sdata: expected obs[{column!r}] of a table of voxels, found none. "
            "Next: a coarser voxel_size has that table; then isost.tl.radial_gradients(sdata, ...)."
        )
    edges = table.uns[f"{key}_gradients"]["shells"]
    bounds = np.append(edges["inner"].to_numpy(), edges["outer"].to_numpy()[-1])
    values = np.full(volume.values.shape, np.nan, dtype=np.float32)
    shell = table.obs[column].to_numpy()
    inside = shell >= 0
    at = table.obs[["z", "y", "x"]].to_numpy()[inside]
    values[tuple(at.T)] = edges["distance"].to_numpy()[shell[inside]]
    volume = replace(volume, values=da.from_array(values), label=f"distance ({volume.unit})")
    colors = ListedColormap(plt.get_cmap(cmap)(np.linspace(0.0, 1.0, len(bounds) - 1)))
    norm = BoundaryNorm(bounds, len(bounds) - 1)
    indices = volume.indices(position)
    stretch = depth_scale_of(volume, depth_scale)
    with style():
        figure, ((axes, bar),) = lay_out(volume, stretch)
        planes = planes_of(volume, indices)
        draw_planes(volume, indices, axes, planes, norm, colors, stretch, invert_y=invert_y)
        ticks = bounds[:: -(-len(bounds) // _MOST_TICKS)]
        drawn = figure.colorbar(ScalarMappable(norm, colors), cax=bar, label=volume.label, ticks=ticks)
        drawn.outline.set_visible(False)
        bar.set_yticklabels([f"{at:.4g}" for at in ticks])
        finish(figure, save, show)
    return axes
