from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal

from spatialdata import SpatialData

from isost._core.channels import lazy_channels
from isost._core.folder import written_beside
from isost._core.ngff import VERSIONS, Image, write_ome_zarr
from isost._core.voxels import read_voxels
from isost._logging import logger


def to_ome_zarr(
    sdata: SpatialData,
    path: str | Path,
    *,
    genes: str | Sequence[str] | None = None,
    version: Literal["0.4", "0.5"] = "0.5",
    overwrite: bool = False,
) -> None:
    """Write the volume as an OME-Zarr image, which napari, Fiji, vizarr and others open without isost.

    It has the axes c, z, y, x with names of the channels, a pyramid of means, and scale and translation of every level
    in the unit of the volume, the translation that of the centre of the first voxel. It is written a block at a time,
    beside `path`, and moved there when it is complete.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns, in memory or on disk.
    path
        Folder to write, such as ``"genes.ome.zarr"``.
    genes
        Genes or channels of the volume; None for the channels of the volume, as they are.
    version
        Of the format: ``"0.5"`` (zarr 3), or ``"0.4"`` (zarr 2), which older readers take too.
    overwrite
        Replace what is at `path`.

    Raises
    ------
    FileExistsError
        If `path` exists and is not to be overwritten.
    KeyError
        If there is no volume, or a gene is unknown.
    TypeError
        If `sdata` is no SpatialData.
    ValueError
        If `version` is unknown, or no gene is named.
    OSError
        If it cannot be written; nothing is left there then.

    Notes
    -----
    Values are float32, log-normalised expression or scores of components, NaN outside the tissue.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> isost.tl.to_ome_zarr(sdata, "genes.ome.zarr", genes=["gene_1", "gene_2"])
    >>> import zarr
    >>> axes = zarr.open_group("genes.ome.zarr", mode="r").attrs["ome"]["multiscales"][0]["axes"]
    >>> [axis["name"] for axis in axes], axes[1]["unit"]
    (['c', 'z', 'y', 'x'], 'micrometer')
    """
    started = perf_counter()
    if version not in VERSIONS:
        raise ValueError(f"version: expected one of {', '.join(VERSIONS)}, found {version!r}. Next: version='0.5'.")
    voxels = read_voxels(sdata)
    names, channels = lazy_channels(voxels, genes)
    about = {"unit": voxels.unit, "values": " or ".join(sorted({voxels.kind(name) for name in names}))}
    with written_beside(path, overwrite=overwrite) as part:
        image = Image(channels, names, voxels.origin, voxels.size, voxels.unit)
        shapes = write_ome_zarr(part, image, version=version, about=about)
    logger.info(
        "to_ome_zarr: %.1f s; %d channels, levels %s (z, y, x); wrote %s", perf_counter() - started, len(names),
        ", ".join(" x ".join(map(str, shape[1:])) for shape in shapes), os.fspath(path),
    )  # fmt: skip
