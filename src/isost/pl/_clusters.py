from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from spatialdata import SpatialData

from isost._core.voxels import read_voxels
from isost._tools.labels_element import LabelVolume, read_labels
from isost.pl._orthogonal import depth_scale_of, draw_planes, lay_out, planes_of
from isost.pl._quantity import Volume
from isost.pl._style import finish, style, unit_label

_PER_COLUMN = 16


def clusters(
    sdata: SpatialData,
    color: str = "spatial_clusters",
    *,
    position: Sequence[float | None] | None = None,
    depth_scale: float | None = None,
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot clusters or labels of voxels in three orthogonal planes through a reconstructed volume.

    The planes are laid out as in `isost.pl.orthoviews`; only these are read, also from a volume on disk.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns, with labels.
    color
        Key that `isost.tl.spatial_clusters` or `isost.tl.transfer_labels` wrote labels under.
    position
        (x, y, z) of the planes in the unit of the volume; None, or None in a place, is the middle of the tissue.
    depth_scale
        How many times depth is drawn longer than x and y; None as in `isost.pl.orthoviews`.
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
        If there is no volume, or no labels of that key.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If `position` lies outside the volume, or `depth_scale` is not positive.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=100, n_genes=20)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=80, epochs=2, progress=False, rng=0)
    >>> isost.tl.spatial_clusters(sdata, n_clusters=4)
    >>> axes = isost.pl.clusters(sdata)
    >>> axes[1].get_xlabel()
    'x (µm)'
    """
    voxels = read_voxels(sdata)
    labels = read_labels(sdata, color)
    volume = Volume(
        labels.values, labels.values, voxels.origin, voxels.size, color, unit_label(voxels.unit), voxels.section_depths
    )
    indices = volume.indices(position)
    stretch = depth_scale_of(volume, depth_scale)
    with style():
        figure, ((axes, bar),) = lay_out(volume, stretch)
        shades, norm = ListedColormap(list(labels.colors)), Normalize(0.5, len(labels.names) + 0.5)
        planes = planes_of(volume, indices)
        draw_planes(volume, indices, axes, planes, norm, shades, stretch, invert_y=invert_y)
        left, top = bar.get_position().x0, bar.get_position().y1
        bar.remove()
        _explain(figure, labels, color, (left, top))
        finish(figure, save, show)
    return axes


def _explain(figure: Figure, labels: LabelVolume, title: str, at: tuple[float, float]) -> None:
    handles = [Patch(color=color, label=name) for name, color in zip(labels.names, labels.colors, strict=True)]
    figure.legend(
        handles=handles, title=title, loc="upper left", bbox_to_anchor=at, frameon=False, borderaxespad=0,
        ncols=-(-len(handles) // _PER_COLUMN), handlelength=1.0, handleheight=1.0, alignment="left",
    )  # fmt: skip
