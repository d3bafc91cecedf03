"""Neuroglancer's precomputed volumes, written by tensorstore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

from isost._core.downsample import block_mean, halved
from isost._core.ngff import Image
from isost._core.optional import load_extra
from isost._core.units import MILLIMETRE
from isost._core.volume import EDGE

_LEAST = 96
TRANSFORM = "transform.json"


def write_precomputed(path: Path, image: Image, *, outside: float) -> list[tuple[int, ...]]:
    """Write a new folder, a block at a time; return the shapes (z, y, x) of the levels.

    The format counts places in whole voxels. Where the volume lies is in `TRANSFORM`, as the transform of a source in
    the state of the viewer.
    """
    tensorstore = load_extra("tensorstore", "neuroglancer")
    to_nm = 1e6 / MILLIMETRE[image.unit] if image.unit in MILLIMETRE else 1.0
    level, factors, shapes = image.channels, np.ones(3, dtype=int), []
    for by in [None, *halved(image.channels.shape[1:], least=_LEAST)]:
        if by is not None:
            level, factors = block_mean(level, by), factors * by
        size = image.size * factors[::-1]
        values = da.where(da.isnan(level), np.float32(outside), level).astype(np.float32).transpose(3, 2, 1, 0)
        chunk = [min(EDGE, length) for length in values.shape[:3]]
        scale = {
            "size": list(values.shape[:3]), "resolution": [float(length) for length in size * to_nm],
            "voxel_offset": [0, 0, 0], "chunk_size": chunk, "encoding": "raw",
        }  # fmt: skip
        spec = {
            "driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{path}/"},
            "multiscale_metadata": {"type": "image", "data_type": "float32", "num_channels": values.shape[3]},
            "scale_metadata": scale,
        }  # fmt: skip
        target = _Target(tensorstore.open(spec, create=True).result())
        with dask.config.set(scheduler="threads"):
            da.store(values.rechunk((*chunk, -1)), target, lock=False)  # type: ignore[arg-type]
        shapes.append(tuple(level.shape[1:]))
    _write_transform(path, image, to_nm)
    return shapes


class _Target:
    """What dask stores blocks into."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __setitem__(self, at: Any, block: np.ndarray) -> None:
        self.store[at].write(block).result()


def _write_transform(path: Path, image: Image, to_nm: float) -> None:
    """Write where the volume lies: the output counts voxels from the origin of the frame."""
    matrix = np.column_stack([np.eye(3), image.origin / image.size])
    dimensions = {name: [float(length) * to_nm * 1e-9, "m"] for name, length in zip("xyz", image.size, strict=True)}
    (path / TRANSFORM).write_text(json.dumps({"matrix": matrix.tolist(), "outputDimensions": dimensions}, indent=1))
