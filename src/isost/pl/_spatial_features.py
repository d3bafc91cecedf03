from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dask.array as da
import numpy as np
from spatialdata import SpatialData

from isost._core.checks import show as listed
from isost._core.requests import as_whole
from isost._core.voxels import Voxels, full_resolution, read_voxels
from isost._tools.targets import VOXELS, representation_of
from isost.pl._orthogonal import cut, depth_scale_of, draw_cut, lay_out
from isost.pl._quantity import Volume
from isost.pl._style import finish, style, unit_label


def spatial_features(
    sdata: SpatialData,
    *,
    components: int | Sequence[int] = (1, 2, 3),
    key: str = "X_spatial",
    position: Sequence[float | None] | None = None,
    depth_scale: float | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    invert_y: bool = False,
    show: bool = False,
    save: str | Path | None = None,
) -> np.ndarray:
    """Plot principal components of the spatial features of voxels in three orthogonal planes, side by side.

    Where domains are, components change in steps; where they change slowly everywhere, they hold gradients or place.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns, with features by `isost.tl.spatial_features`.
    components
        Numbers of the components to draw, from 1.
    key
        ``key_added`` of `isost.tl.spatial_features`.
    position
        (x, y, z) of the planes in the unit of the volume; None, or None in a place, is the middle of the tissue.
    depth_scale
        How many times depth is drawn longer than x and y; None as in `isost.pl.orthoviews`.
    cmap, vmin, vmax
        Colour map, and its limits in each component: a number, a percentile of the tissue in the planes, or None for
        the extreme.
    invert_y
        Let y grow downwards, as in images.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    (n_components, 3) array of Axes: of each component the planes (x, y), (x, z) and (z, y).

    Raises
    ------
    KeyError
        If there is no volume, or no features of that key.
    TypeError
        If `sdata` is not a SpatialData, or a component no whole number.
    ValueError
        If there is no such component, the table has lost rows, or `position` lies outside the volume.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> isost.tl.spatial_features(sdata, n_comps=5)
    >>> axes = isost.pl.spatial_features(sdata, components=[1, 2])
    >>> axes.shape
    (2, 3)
    """
    voxels = read_voxels(sdata)
    values = _features(sdata, voxels, key)
    asked = [components] if np.ndim(components) == 0 else list(components)  # type: ignore[arg-type]
    numbers = [as_whole("components", number, 1) for number in asked]
    if not numbers or max(numbers) > len(values):
        raise ValueError(f"components: expected numbers from 1 to {len(values)}, found {components}. "
                         "Next: isost.tl.spatial_features(sdata, n_comps=...) keeps more.")  # fmt: skip
    unit = unit_label(voxels.unit)
    volumes = [
        Volume(values[number - 1], voxels.lazy_mask, voxels.origin, voxels.size, f"spatial component {number}", unit,
               voxels.section_depths)
        for number in numbers
    ]  # fmt: skip
    indices, stretch = volumes[0].indices(position), depth_scale_of(volumes[0], depth_scale)
    with style():
        figure, sets = lay_out(volumes[0], stretch, len(volumes))
        for volume, (axes, bar) in zip(volumes, sets, strict=True):
            draw_cut(cut(volume, indices, cmap, vmin, vmax), axes, bar, stretch, invert_y=invert_y)
        finish(figure, save, show)
    return np.stack([axes for axes, _ in sets])


def _features(sdata: SpatialData, voxels: Voxels, key: str) -> da.Array:
    """Features (q, z, y, x), of the table or of the image that stands for it."""
    known = dict(sdata.attrs.get("isost", {})).get("features", {})
    if key in known:
        return full_resolution(sdata, "images", known[key]["element"]).data
    table = sdata.tables.get(VOXELS)
    if table is None or key not in table.obsm:
        there = known if table is None else table.obsm
        raise KeyError(f"key: expected features of voxels ({listed(there)}), found {key!r}. "
                       "Next: isost.tl.spatial_features(sdata).")  # fmt: skip
    rows = representation_of(table, key)
    if len(rows) != voxels.mask.sum():
        raise ValueError(f"sdata: expected a row for each of {voxels.mask.sum()} voxels in the table {VOXELS!r}, found "
                         f"{len(rows)}. Next: isost.tl.spatial_features(sdata) again, on all of them.")  # fmt: skip
    # rows are in the order of the voxels inside the tissue, in a crop too, whose rows still tell places in the whole
    image = np.full((rows.shape[1], *voxels.shape), np.nan, dtype=np.float32)
    image[:, voxels.mask] = rows.T
    return da.from_array(image, chunks=-1)
