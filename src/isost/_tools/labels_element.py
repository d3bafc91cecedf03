"""Labels of voxels as an element of a SpatialData, with their names and colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Labels3DModel
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

from isost._core.volume import EDGE
from isost._core.voxels import Voxels, full_resolution

# what a reconstruction keeps: elements, columns of its tables, and what these say of themselves in `uns`
_ELEMENTS = (
    "isost_volume", "isost_uncertainty", "isost_density", "isost_remainder", "isost_spatial", "isost_mask",
    "isost_voxel_ids", "isost_points", "isost_cells", "isost_voxels",
)  # fmt: skip
_COLUMNS = ("z", "y", "x", "n_cells", "section_of_origin", "cell_of_origin")
_NOTES = ("pca", "spatialdata_attrs")


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """Categories on the grid of a reconstruction.

    Attributes
    ----------
    values
        Lazy (z, y, x): 0 outside the tissue, or the number of a category, from 1.
    names, colors
        Of the categories, in this order.
    """

    values: da.Array
    names: tuple[str, ...]
    colors: tuple[str, ...]


def valid_key(key: str) -> str:
    """Replace what SpatialData takes neither in names of elements nor of columns by "_".

    >>> valid_key("cell type")
    'cell_type'
    """
    return re.sub(r"[^0-9A-Za-z_.-]", "_", key)


def element_name(key: str) -> str:
    """Name of the element of a key: `isost_<key>`."""
    return f"isost_{valid_key(key)}"


def checked_key(data: AnnData | SpatialData, key: str) -> str:
    """Return the name that labels are written under: the key, as a SpatialData takes it.

    Raises
    ------
    ValueError
        If a reconstruction is held together by what is called so, or another element is. Names that differ in capitals
        only are one, as a SpatialData that is written cannot have both.
    """
    columns, elements = set(_NOTES), set[str]()
    tables = [data] if isinstance(data, AnnData) else list(data.tables.values())
    if isinstance(data, SpatialData):
        key = valid_key(key)
        others = [name for _, name, _ in data.gen_elements() if name != element_name(key) or name not in data.labels]
        elements.update(_ELEMENTS, map(str.lower, others))
        columns.update(_COLUMNS)
    for rows in (table.uns.get("spatialdata_attrs") for table in tables):
        if rows:  # by which SpatialData finds the place of a row
            columns.update(_COLUMNS, (str(rows.get(name)).lower() for name in ("region_key", "instance_key")))
    if key.lower() in columns or element_name(key).lower() in elements:
        raise ValueError(
            f"key_added: expected a name that nothing else is kept under, found {key!r}. "
            f"Next: key_added={f'{key}_label'!r}."
        )
    return key


def write_labels(
    sdata: SpatialData,
    voxels: Voxels,
    key: str,
    codes: np.ndarray,
    names: Sequence[str],
    colors: Sequence[str],
) -> str:
    """Put labels into a SpatialData, in memory, in place of older ones of that key; return the element's name.

    Parameters
    ----------
    codes
        (m,) category of each voxel inside the tissue, in the order of `numpy.argwhere(voxels.mask)`; -1 for none.
    names, colors
        Of the categories; kept in `attrs["isost"]["labels"][key]`.
    """
    values = np.zeros(voxels.shape, dtype=np.uint8 if len(names) < 256 else np.int32)
    values[voxels.mask] = np.asarray(codes) + 1
    axes = ("z", "y", "x")
    place = Steps([Scale(voxels.size[::-1], axes=axes), Translation(voxels.origin[::-1], axes=axes)])
    name = element_name(key)
    if name in sdata.labels:
        del sdata.labels[name]  # what lies on disk is not touched
    sdata.labels[name] = Labels3DModel.parse(
        da.from_array(values, chunks=EDGE), dims=axes, transformations={"global": place}
    )
    run = dict(sdata.attrs.get("isost", {}))
    told = {"element": name, "names": [str(one) for one in names], "colors": [str(one) for one in colors]}
    sdata.attrs["isost"] = run | {"labels": dict(run.get("labels", {})) | {key: told}}
    return name


def read_labels(sdata: SpatialData, key: str) -> LabelVolume:
    """Find the labels that `write_labels` put there.

    Raises
    ------
    KeyError
        If there are none of that key.
    """
    known = dict(sdata.attrs.get("isost", {})).get("labels", {})
    if key not in known:
        raise KeyError(
            f"key: expected labels of voxels ({', '.join(map(repr, known)) or 'there are none yet'}), found {key!r}. "
            "Next: isost.tl.transfer_labels(sdata, adata, key=...) or isost.tl.spatial_clusters(sdata) makes some."
        )
    told = known[key]
    values = full_resolution(sdata, "labels", told["element"]).data
    return LabelVolume(values, tuple(told["names"]), tuple(told["colors"]))
