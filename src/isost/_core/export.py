"""The SpatialData door: a volume and the cells that fill it as elements, in the input's unit."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image3DModel, Labels3DModel, PointsModel, TableModel
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

from isost._core.carry import Cells
from isost._core.folder import absolute_path
from isost._core.grid import Grid
from isost._core.partial import Partial
from isost._core.stack import Stack
from isost._core.tables import LARGEST_TABLE, REMAINDER, cells_obs, feature_names, make_table
from isost._core.volume import EDGE, Volume
from isost._logging import logger

FORMAT_VERSION = 1


def build_spatialdata(
    stack: Stack,
    grid: Grid,
    volume: Volume,
    *,
    genes: Sequence[str] | None,
    params: dict[str, Any],
) -> SpatialData:
    """Put everything into one SpatialData, coordinate system "global"; arrays that lie on disk stay there.

    Parameters
    ----------
    genes
        Names of the volume's channels where it holds genes; None where it holds features.
    params
        JSON-able, kept under `attrs["isost"]`.

    Raises
    ------
    ValueError
        If no voxel lies inside the tissue.
    """
    if not len(volume.voxels):
        raise ValueError(
            f"voxel_size: expected voxels whose centres lie inside the tissue, found none of {grid.n_voxels} with "
            f"{grid.voxel_size:g} {stack.unit}. Next: a smaller voxel_size, or leave it out to have one chosen."
        )
    names = feature_names(stack.use_rep, stack.n_features) if genes is None else list(genes)
    # one plane of a voxel's thickness holds the cells of one section
    per_volume = (volume.density / grid.voxel_size)[None]
    images = {
        "isost_volume": _image(volume.mean, names, grid, scale_factors=grid.scale_factors),
        "isost_uncertainty": _image(volume.std, names, grid),
        "isost_density": _image(per_volume, ["density"], grid),
    }
    if volume.remainder.shape[0]:
        channels = feature_names(REMAINDER, volume.remainder.shape[0])
        images["isost_remainder"] = _image(volume.remainder, channels, grid)
    labels = {"isost_mask": _labels(volume.mask.astype(np.uint8), grid)}
    tables = {"isost_cells": _cells_table(stack, volume.cells, genes)}
    if len(volume.voxels) * stack.n_scores <= LARGEST_TABLE:
        # rows of a table belong to a label, so that SpatialData crops and colours them with it
        labels["isost_voxel_ids"] = _labels(volume.ids, grid)
        tables["isost_voxels"] = _voxels_table(stack, grid, volume, genes)
    else:
        logger.warning(
            "isost_voxels and isost_voxel_ids are left out: a table of %d voxels is too large to be read at once. "
            "A coarser voxel_size has them; the images hold the same.", len(volume.voxels),
        )  # fmt: skip
    return SpatialData(
        images=images,
        labels=labels,
        points={"isost_points": _points(volume.cells)},
        tables=tables,
        attrs={"isost": _attrs(stack, grid, genes, params)},
    )


def open_zarr(path: str | os.PathLike[str]) -> SpatialData:
    """Open a store that was written, lazily."""
    with _without_chatter():
        return read_zarr(absolute_path(path))


def move_zarr(sdata: SpatialData, partial: Partial) -> SpatialData:
    """Write a zarr store in the folder of an output, move it into place, and open it lazily."""
    # here, whatever scheduler is active: the slabs are read once and written once
    with _without_chatter(), dask.config.set(scheduler="threads"):
        fresh = partial.fresh()
        try:
            sdata.write(fresh)
        finally:
            sdata.path = None
        partial.finish(fresh)
        return read_zarr(partial.target)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what zarr and ome-zarr say of their own defaults, a line for each array."""
    reader = logging.getLogger("ome_zarr.reader")
    level = reader.level
    reader.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="zarr v3 autosharding", category=UserWarning)
            yield
    finally:
        reader.setLevel(level)


def _to_global(grid: Grid) -> Steps:
    # the centre of voxel i is at i + 0.5 in an element's own coordinates
    axes = ("z", "y", "x")
    return Steps([Scale([grid.voxel_size] * 3, axes=axes), Translation(grid.origin[::-1], axes=axes)])


def _image(values: Any, channels: list[str], grid: Grid, scale_factors: list[dict[str, int]] | None = None) -> Any:
    chunks = dict(zip("czyx", (min(EDGE, length) for length in values.shape), strict=True))
    return Image3DModel.parse(
        _in_chunks(values),
        dims=("c", "z", "y", "x"),
        c_coords=channels,
        transformations={"global": _to_global(grid)},
        scale_factors=scale_factors,
        chunks=chunks,
    )


def _labels(values: Any, grid: Grid) -> Any:
    return Labels3DModel.parse(_in_chunks(values), dims=("z", "y", "x"), transformations={"global": _to_global(grid)})


def _in_chunks(values: Any) -> da.Array:
    return values.rechunk(EDGE) if isinstance(values, da.Array) else da.from_array(values, chunks=EDGE)


def _points(cells: Cells) -> Any:
    frame = pd.DataFrame(cells.coords, columns=["x", "y", "z"])
    return PointsModel.parse(frame, npartitions=1 + len(frame) // 1_000_000)


def _cells_table(stack: Stack, cells: Cells, genes: Sequence[str] | None) -> AnnData:
    table = make_table(stack, cells.coords, cells.features, cells_obs(stack, cells), genes)
    return _annotating("isost_points", table, np.arange(table.n_obs))


def _voxels_table(stack: Stack, grid: Grid, volume: Volume, genes: Sequence[str] | None) -> AnnData:
    index = volume.voxels
    obs = pd.DataFrame(index, columns=["z", "y", "x"], index=pd.RangeIndex(len(index)).astype(str))
    obs["n_cells"] = volume.n_cells
    centres = grid.origin + (index[:, ::-1] + 0.5) * grid.voxel_size
    table = make_table(stack, centres, volume.scores, obs, genes)
    return _annotating("isost_voxel_ids", table, np.arange(1, len(index) + 1, dtype=np.int32))


def _annotating(element: str, table: AnnData, instances: np.ndarray) -> AnnData:
    table.obs["region"] = pd.Categorical([element] * table.n_obs, categories=[element])
    table.obs["instance_id"] = instances
    return TableModel.parse(table, region=element, region_key="region", instance_key="instance_id")


def _attrs(stack: Stack, grid: Grid, genes: Sequence[str] | None, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "unit": stack.unit,
        "voxel_size": grid.voxel_size,
        "origin": [float(value) for value in grid.origin],
        "shape": list(grid.shape),
        "use_rep": stack.use_rep,
        "channels": "features" if genes is None else "genes",
        "sections": {
            "name": list(stack.names),
            "depth": [float(depth) for depth in stack.depths],
            "n_cells": [int(size) for size in np.diff(stack.starts)],
        },
        "density": {
            "unit": f"cells / {stack.unit}^3",
            "definition": "cells per unit area of a section, divided by voxel_size: each plane of voxels holds the "
            "cells of one section. Times voxel_size it is the areal density; divided by a section's true thickness, "
            "that is the density of the tissue.",
        },
        "params": params,
    }
