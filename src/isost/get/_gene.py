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

    Notes
    -----
    Unit and log scale: values are the estimated mean of what the fit took as expression, for counts ln(1 + count x
    target / total of the cell), where the target is the median total of the cells (`isost.pp.embed`). A difference of
    ln 2 = 0.69 is about a factor of two where a gene is high, and less than that where it is low, because of the 1. A
    mean of logarithms lies below the logarithm of a mean: to compare with summed counts, compare ranks or patterns.
    Data that came log-normalised keep their own scale, and scaled data (negative values) theirs.

    Saturation: a value is a mean over neighbouring cells and the patterns that genes share. It stays far below the
    highest single cells, and a gene in few cells is spread over its neighbourhood; what no component carries is drawn
    towards the gene's mean. Where expression is near 0 the linear decoding can fall slightly below it; values are not
    clipped, so that means stay means: ``gene.clip(min=0)`` does it for a picture.

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
