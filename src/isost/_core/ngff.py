"""OME-Zarr: an image of channels with its pyramid, as version 0.4 or 0.5 of the format (NGFF) says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from isost._core.downsample import block_mean, halved
from isost._core.volume import EDGE

VERSIONS = ("0.4", "0.5")
UNITS = {"nm": "nanometer", "um": "micrometer", "mm": "millimeter", "cm": "centimeter"}
_LEAST = 96  # longest side at which a pyramid ends
_COLORS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")
_SHOWN = 3  # channels that a viewer turns on at first


@dataclass(frozen=True, eq=False)
class Image:
    """What is written.

    Attributes
    ----------
    channels
        Lazy (c, z, y, x) float32, NaN outside the tissue.
    names
        Of the channels.
    origin, size
        (3,) x, y, z of the outer corner of the first voxel, and the edges of a voxel.
    unit
        Of lengths.
    """

    channels: da.Array
    names: Sequence[str]
    origin: np.ndarray
    size: np.ndarray
    unit: str


def write_ome_zarr(path: Path, image: Image, *, version: str, about: dict[str, Any]) -> list[tuple[int, ...]]:
    """Write a new store, a block at a time and each level from the one before; return the shapes of the levels."""
    root = zarr.open_group(store=str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    level, factors = image.channels, np.ones(3)
    datasets, shapes = [], []
    for number, by in enumerate([None, *halved(image.channels.shape[1:], least=_LEAST)]):
        if by is not None:
            level, factors = block_mean(level, by), factors * by
        stored = _store(root, str(number), level.astype(np.float32), version)
        level = da.from_zarr(stored)
        shapes.append(stored.shape)
        datasets.append({"path": str(number), "coordinateTransformations": _placed(image, factors)})
    axes: list[dict[str, Any]] = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space"} | _unit(image.unit) for name in ("z", "y", "x")]
    entry: dict[str, Any] = {"name": path.stem, "axes": axes, "datasets": datasets, "type": "mean"}
    described: dict[str, Any] = {
        "multiscales": [entry],
        "omero": {"channels": _channels(np.asarray(level), image.names)},
    }
    if version == "0.4":
        entry["version"] = version
        root.attrs.update(described)
    else:
        root.attrs["ome"] = {"version": version, **described}
    root.attrs["isost"] = about
    return shapes


def _store(root: zarr.Group, name: str, values: da.Array, version: str) -> zarr.Array:
    chunks = (1, *(min(EDGE, length) for length in values.shape[1:]))
    options: dict[str, Any] = {"dimension_names": ("c", "z", "y", "x")}
    if version == "0.4":
        options = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    array = root.create_array(
        name, shape=values.shape, chunks=chunks, dtype=np.float32, fill_value=float("nan"), **options
    )
    # here, whatever scheduler is active: blocks are written where the store is
    with dask.config.set(scheduler="threads"):
        da.store(values.rechunk(chunks), array, lock=False)  # type: ignore[arg-type]
    return array


def _placed(image: Image, factors: np.ndarray) -> list[dict[str, Any]]:
    """Edges of the voxels of a level, and where the centre of its first one lies, along c, z, y, x."""
    size = image.size[::-1] * factors
    return [
        {"type": "scale", "scale": [1.0, *map(float, size)]},
        {"type": "translation", "translation": [0.0, *map(float, image.origin[::-1] + size / 2)]},
    ]


def _unit(unit: str) -> dict[str, str]:
    return {"unit": UNITS[unit]} if unit in UNITS else {}


def _channels(coarsest: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Say what a viewer calls the channels, their colours and the limits of their contrast."""
    described = []
    for number, (name, values) in enumerate(zip(names, coarsest, strict=True)):
        tissue = values[np.isfinite(values)]
        low, high = map(float, np.percentile(tissue, (1, 99.5))) if tissue.size else (0.0, 1.0)
        least, most = (float(tissue.min()), float(tissue.max())) if tissue.size else (0.0, 1.0)
        window = {"start": low, "end": high if high > low else low + 1.0, "min": least, "max": max(most, least + 1e-6)}
        described.append(
            {"label": name, "color": _COLORS[number % len(_COLORS)], "active": number < _SHOWN, "window": window}
        )
    return described
