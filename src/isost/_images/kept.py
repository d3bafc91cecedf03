"""Features of images in a folder: their intensities are kept, from which the features are made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from xarray import DataArray

from isost._images.local import edge_distance, local_features, pixel_of

_AXES = ("z", "y", "x")
_ATTRS = ("affine", "unit", "kernel_sizes", "volumetric", "edge", "dark_tissue")


def write_features(path: Path, features: DataArray, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a zarr group with other arrays beside, plane by plane."""
    names = [str(name) for name in features.coords["c"].values]
    attrs = {name: features.attrs[name] for name in _ATTRS if name in features.attrs}
    values, kinds = features.data, 1 + 2 * len(attrs.get("kernel_sizes", ()))
    if "kernel_sizes" in attrs and (len(names) - bool(attrs.get("edge"))) % kinds == 0:
        values = values[: len(values) - bool(attrs.get("edge")) : kinds]
    else:  # not all of them: kept as they are
        attrs.pop("kernel_sizes", None)
    group = zarr.create_group(store=str(path))
    kept = group.create_array(
        "image", shape=values.shape, chunks=(1, 1, *values.shape[2:]), dtype=np.float32, fill_value=np.nan
    )
    for number in range(values.shape[1]):
        kept[:, number] = np.asarray(values[:, number], dtype=np.float32)
    for name in _AXES:
        group.create_array(name, data=np.asarray(features.coords[name].values, dtype=np.float64))
    for name, array in arrays.items():
        group.create_array(name, data=np.asarray(array, dtype=np.float64))
    group.attrs["features"] = json.dumps({"names": names, "attrs": attrs, "arrays": list(arrays)})


def read_features(path: Path) -> tuple[DataArray, dict[str, np.ndarray]]:
    """Read what `write_features` wrote; planes are read when they are asked for."""
    group = zarr.open_group(store=str(path), mode="r")
    header, image = json.loads(str(group.attrs["features"])), da.from_array(group["image"])
    values, attrs = image, header["attrs"]
    coords = {"c": header["names"], **{name: np.asarray(group[name]) for name in _AXES}}
    if "kernel_sizes" in attrs:
        inside = da.isfinite(image).any(axis=0)
        values = local_features(image, inside, attrs["kernel_sizes"], volumetric=bool(attrs["volumetric"]))
        if attrs["edge"]:
            values = da.concatenate([values, edge_distance(inside, pixel_of(coords["y"], coords["x"]))])
    features = DataArray(values, dims=("c", *_AXES), coords=coords, attrs=attrs)
    return features, {name: np.asarray(group[name]) for name in header["arrays"]}
