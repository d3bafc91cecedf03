from __future__ import annotations

import dask.array as da
import numpy as np
from spatialdata import SpatialData, get_pyramid_levels
from spatialdata.transformations import get_transformation
from xarray import DataArray

from isost._core.decoder import MEAN_KEY, Decoder, loadings_key
from isost._core.tables import REMAINDER, feature_names


def gene(sdata: SpatialData, name: str) -> DataArray:
    """Take one gene of a reconstructed volume, decoded from the features when it is computed.

    A volume of features g and remainder r is decoded as x = mean + L @ g + M @ r, voxel by voxel.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` made, in memory or opened from disk, whole or cropped.
    name
        Gene, or channel of ``isost_volume`` such as ``"PC1"``.

    Returns
    -------
    xarray.DataArray
        Lazy (z, y, x) float32, log-normalised expression, NaN outside the tissue; coordinates are the voxel centres
        in the input's unit, which is in ``attrs["unit"]``.

    Raises
    ------
    TypeError
        If `sdata` is no SpatialData, or `name` no name.
    KeyError
        If there is no volume, or the gene is unknown.
    ValueError
        If the volume was rotated.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> isost.get.gene(sdata, "gene_3").dims
    ('z', 'y', 'x')
    """
    if not isinstance(sdata, SpatialData):
        raise TypeError(
            f"sdata: expected a SpatialData, found {type(sdata).__name__}. Next: isost.tl.reconstruct(adata) makes one."
        )
    if not isinstance(name, str):
        raise TypeError(f"name: expected the name of one gene, found {name!r}. Next: one of adata.var_names.")
    if "isost_volume" not in sdata.images:
        raise KeyError(
            f"Expected the image 'isost_volume', found {', '.join(map(repr, sdata.images)) or 'no image'}. "
            "Next: isost.tl.reconstruct(adata) makes one."
        )
    element = sdata.images["isost_volume"]
    image = next(iter(get_pyramid_levels(element))) if hasattr(element, "children") else element
    run = sdata.attrs.get("isost", {})
    if name in image.coords["c"].values:
        values = image.sel(c=name).data
    else:
        decoder, beside = _decoder(sdata, image.coords["c"].values.tolist(), run.get("use_rep", "X_pca"))
        at = decoder.index(name)[0]
        values = da.tensordot(decoder.loadings[at], image.data, axes=(0, 0)) + decoder.mean[at]
        if beside is not None and "isost_remainder" in sdata.images:
            values = values + da.tensordot(beside[at], sdata.images["isost_remainder"].data, axes=(0, 0))
    coords = _centres(element, dict(zip(("z", "y", "x"), values.shape, strict=True)))
    return DataArray(values, dims=("z", "y", "x"), coords=coords, name=name, attrs={"unit": run.get("unit", "um")})


def _decoder(sdata: SpatialData, channels: list[str], use_rep: str) -> tuple[Decoder, np.ndarray | None]:
    """Find what the features of the volume, and the remainder beside them, decode by, which the tables keep."""
    key = loadings_key(use_rep)
    for table in (sdata.tables[name] for name in ("isost_voxels", "isost_cells") if name in sdata.tables):
        if key in table.varm and channels == feature_names(use_rep, table.varm[key].shape[1]):
            mean = table.var[MEAN_KEY].to_numpy(dtype=np.float32)
            beside = np.asarray(table.varm[REMAINDER], dtype=np.float32) if REMAINDER in table.varm else None
            return Decoder(tuple(table.var_names), np.asarray(table.varm[key], dtype=np.float32), mean), beside
    raise KeyError(
        f"name: expected a channel of the volume ({', '.join(channels[:5])}{', ...' * (len(channels) > 5)}), "
        "which holds no features that genes could be decoded from. Next: reconstruct without genes=, or with this one."
    )


def _centres(element: object, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Voxel centres along each axis, in the coordinate system "global"."""
    axes = tuple(sizes)
    matrix = get_transformation(element, "global").to_affine_matrix(axes, axes)
    if np.any(matrix[:3, :3] != np.diag(np.diag(matrix[:3, :3]))):
        raise ValueError("Expected a volume along the axes, found a rotated one. Next: take the gene before rotating.")
    return {axis: matrix[i, i] * (np.arange(sizes[axis]) + 0.5) + matrix[i, 3] for i, axis in enumerate(axes)}
