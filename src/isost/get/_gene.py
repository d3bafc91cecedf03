from __future__ import annotations

from spatialdata import SpatialData
from xarray import DataArray

from isost._core.voxels import read_voxels


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
    voxels = read_voxels(sdata)
    if not isinstance(name, str):
        raise TypeError(f"name: expected the name of one gene, found {name!r}. Next: one of adata.var_names.")
    coords = {axis: voxels.axis(axis) for axis in ("z", "y", "x")}
    return DataArray(voxels.gene(name), dims=tuple(coords), coords=coords, name=name, attrs={"unit": voxels.unit})
