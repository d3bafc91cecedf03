"""What a tool works on: a table with positions in three dimensions, or the voxels of a volume without one."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.checks import show, to_numbers
from isost._core.voxels import Voxels

CELLS, VOXELS = "isost_cells", "isost_voxels"

_MAKE = {
    True: "adata.obsm['spatial'] = adata.obs[['x', 'y']].to_numpy(), for instance",
    False: "isost.pp.stack_sections(sections, z=depths) puts depths there",
}


def table_of(data: AnnData | SpatialData, table_key: str | None) -> AnnData:
    """Look up the table that a tool reads and writes; an AnnData is its own.

    Raises
    ------
    KeyError
        If a SpatialData has no such table.
    TypeError
        If `data` is neither.
    ValueError
        If the table is a view.
    """
    if isinstance(data, SpatialData):
        if table_key not in data.tables:
            raise KeyError(
                f"table_key: expected one of the tables ({show(data.tables)}), found {table_key!r}. Next: "
                "isost.tl.reconstruct(adata) writes 'isost_cells', and 'isost_voxels' where it is not too large."
            )
        data = data.tables[table_key]
    elif not isinstance(data, AnnData):
        raise TypeError(
            f"data: expected an AnnData or a SpatialData, found {type(data).__name__}. "
            "Next: isost.tl.reconstruct(adata) makes a SpatialData."
        )
    if data.is_view:
        raise ValueError(
            "data: expected an AnnData that owns its data, as results are written to it, found a view of another. "
            "Next: adata = adata.copy()."
        )
    return data


def positions_of(table: AnnData, spatial_key: str = "spatial", dims: tuple[int, ...] = (3,)) -> np.ndarray:
    """(n, 3) float64 positions, or (n, 2) where so many dimensions will do.

    Raises
    ------
    KeyError
        If there are none.
    ValueError
        If they are no numbers, not in so many dimensions, or not finite.
    """
    if not isinstance(spatial_key, str) or spatial_key not in table.obsm:
        raise KeyError(
            f"spatial_key: expected positions in obsm ({show(table.obsm)}), found {spatial_key!r}. "
            f"Next: name the key that holds x, y{'' if 2 in dims else ', z'}."
        )
    where, expected = f"obsm[{spatial_key!r}]", f"finite positions {' or '.join(f'(n, {one})' for one in dims)}"
    coords = to_numbers(table.obsm[spatial_key])
    if isinstance(coords, list):
        raise ValueError(f"{where}: expected {expected}, found no numbers: {show(coords)}. "
                         "Next: a dense array of numbers.")  # fmt: skip
    if coords.ndim != 2 or coords.shape[1] not in dims:
        raise ValueError(f"{where}: expected {expected}, found shape {coords.shape}. "
                         f"Next: {_MAKE[2 in dims]}.")  # fmt: skip
    if not np.isfinite(coords).all():
        raise ValueError(f"{where}: expected {expected}, found shape {coords.shape} with NaN or infinity. "
                         "Next: leave cells without a position out.")  # fmt: skip
    return coords


def representation_of(table: AnnData, use_rep: str) -> np.ndarray:
    """(n, P) float32 of `obsm`.

    Raises
    ------
    KeyError
        If it is not there.
    ValueError
        If it is not finite.
    """
    if not isinstance(use_rep, str) or use_rep not in table.obsm:
        raise KeyError(
            f"use_rep: expected one of obsm ({show(table.obsm)}), found {use_rep!r}. Next: isost.pp.embed(adata) "
            "makes 'X_pca', isost.tl.spatial_features(data) makes 'X_spatial'."
        )
    values: Any = table.obsm[use_rep]
    values = np.asarray(values, dtype=np.float32)
    values = values[:, None] if values.ndim == 1 else values
    if not np.isfinite(values).all():
        raise ValueError(
            f"obsm[{use_rep!r}]: expected finite values, found NaN or infinity. Next: a volume of the field "
            "(isost.tl.reconstruct(adata, volume='field')) has a value everywhere."
        )
    return values


def check_channels(voxels: Voxels, use_rep: str) -> None:
    """Refuse to take the channels of a volume for a representation that they are not.

    Raises
    ------
    ValueError
        If they are genes, or other features.
    """
    if voxels.run.get("channels") != "features" or str(voxels.run.get("use_rep", "X_pca")) != use_rep:
        raise ValueError(
            f"use_rep: expected {use_rep!r} as the channels of a volume that has no table of voxels, found "
            f"{show(voxels.channels)}. Next: isost.tl.reconstruct(adata) without genes=, or with a coarser voxel_size, "
            "which has the table."
        )
