from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from spatialdata import SpatialData

from isost._core.channels import lazy_channels
from isost._core.folder import written_beside
from isost._core.ngff import Image
from isost._core.precomputed import TRANSFORM, write_precomputed
from isost._core.voxels import read_voxels
from isost._logging import logger


def to_neuroglancer(
    sdata: SpatialData,
    path: str | Path,
    *,
    genes: str | Sequence[str] | None = None,
    outside: float = 0.0,
    overwrite: bool = False,
) -> None:
    """Write the volume as a precomputed volume of Neuroglancer, to be looked at in a browser.

    It is a float32 image, a channel a gene, with a pyramid of means. The format counts places in whole voxels: where
    the volume lies is written as ``transform.json``, to be put in as ``"transform"`` of the source in the state of the
    viewer. It is written a block at a time, beside `path`, and moved there when it is complete.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns, in memory or on disk.
    path
        Folder to write; serve it by a web server that allows requests from other sites (CORS).
    genes
        Genes or channels of the volume; None for the channels of the volume, as they are.
    outside
        Value outside the tissue, where shaders expect a number.
    overwrite
        Replace what is at `path`.

    Raises
    ------
    FileExistsError
        If `path` exists and is not to be overwritten.
    ImportError
        If tensorstore is not installed: ``pip install 'isost[neuroglancer]'``.
    KeyError
        If there is no volume, or a gene is unknown.
    TypeError
        If `sdata` is no SpatialData.
    ValueError
        If no gene is named.
    OSError
        If it cannot be written; nothing is left there then.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> isost.tl.to_neuroglancer(sdata, "genes", genes=["gene_1", "gene_2"])
    >>> import json, pathlib
    >>> info = json.loads(pathlib.Path("genes/info").read_text())
    >>> info["num_channels"], info["scales"][0]["resolution"]
    (2, [50000.0, 50000.0, 50000.0])
    """
    started = perf_counter()
    voxels = read_voxels(sdata)
    names, channels = lazy_channels(voxels, genes)
    with written_beside(path, overwrite=overwrite) as part:
        image = Image(channels, names, voxels.origin, voxels.size, voxels.unit)
        shapes = write_precomputed(part, image, outside=outside)
    logger.info(
        "to_neuroglancer: %.1f s; channels %s, levels %s (z, y, x); wrote %s, with %s", perf_counter() - started,
        ", ".join(names), ", ".join(" x ".join(map(str, shape)) for shape in shapes), os.fspath(path), TRANSFORM,
    )  # fmt: skip
