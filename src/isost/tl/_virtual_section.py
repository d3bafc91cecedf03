from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

from isost._core.checks import show
from isost._core.decoder import gene_names
from isost._core.tables import LARGEST_X
from isost._core.voxels import Voxels, read_voxels
from isost._logging import logger
from isost._tools.plane import Pixels, Plane, interpolate
from isost.tl._about import Vector, as_direction, as_length, as_vector


def virtual_section(
    sdata: SpatialData,
    *,
    origin: Vector,
    normal: Vector,
    right: Vector | None = None,
    thickness: float | None = None,
    genes: str | Sequence[str] | None = None,
    pixel_size: float | None = None,
) -> SpatialData:
    """Cut a section through a reconstructed volume, at any position and angle, as if it had been cut there.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` made, in memory or opened from disk; not changed.
    origin
        (x, y, z) of a point of the plane.
    normal
        Direction across the plane, of any length.
    right
        Direction that the section's first axis follows as far as the plane lets it; None for x, or y across x.
    thickness
        Of the slab whose cells belong to the section, half of it on either side; None for a voxel's edge.
    genes
        Genes (or channels) to have as channels of the image; None for the channels of the volume.
    pixel_size
        Edge of a pixel; None for that of a voxel.

    Returns
    -------
    spatialdata.SpatialData
        A section as squidpy and spatialdata-plot take it, coordinate system "global" in the unit of the volume.
        In-plane coordinates are a position's parts along the axes of the plane; across z they are x and y themselves.

        ``isost_section``
            Image (c, y, x) float32: values of the plane itself, interpolated trilinearly between those of the eight
            voxels around that lie in the tissue; NaN outside it. In a plane of voxel centres it is the volume's.
        ``isost_section_mask``
            Labels (y, x), 1 inside the tissue.
        ``isost_section_points``, ``isost_section_cells``
            Cells within the slab, and the table that annotates them: as ``isost_cells``, with ``obsm["spatial"]``
            (n, 2) in the plane, ``obsm["spatial_3d"]`` (n, 3) where they were, and ``obs["offset"]`` from the plane.
            Left out where the slab has none.
        ``attrs["isost"]``
            ``origin``, ``normal``, ``right``, ``up`` (normal x right), ``thickness``, ``pixel_size``, ``unit``, and
            ``values``: what each channel is, "score" or "log-normalised expression".

    Raises
    ------
    TypeError
        If `sdata` is no SpatialData, or something is no number or name.
    KeyError
        If an element or a gene is missing.
    ValueError
        If a direction is zero, `right` is across the plane, a length is not positive, or the plane misses the tissue.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> section = isost.tl.virtual_section(sdata, origin=(0, 500, 50), normal=(0, 1, 1), genes=["gene_1"])
    >>> section["isost_section"].dims, section["isost_section"].coords["c"].values.tolist()
    (('c', 'y', 'x'), ['gene_1'])
    >>> section["isost_section_cells"].obsm["spatial"].shape[1]
    2
    """
    started = perf_counter()
    voxels = read_voxels(sdata)
    plane = _plane(origin, normal, right)
    thick = float(voxels.size.min()) if thickness is None else as_length("thickness", thickness)
    edge = float(voxels.size.min()) if pixel_size is None else as_length("pixel_size", pixel_size)
    names = list(voxels.channels) if genes is None else _names(voxels, genes)
    low, high = voxels.origin, voxels.origin + np.array(voxels.shape[::-1]) * voxels.size
    box = plane.cut(low, high)
    values, inside, pixels = (None, np.zeros(0, dtype=bool), None)
    if box is not None:
        pixels = Pixels.over(box, plane.flat(low[None])[0], edge)
        inside, values = _sample(voxels, plane, pixels, names, chosen=genes is not None)
    if pixels is None or values is None or not inside.any():
        raise ValueError(
            f"origin, normal: expected a plane that cuts the tissue, which lies within x, y, z {_range(low, high)} "
            f"{voxels.unit}, found one that misses it. Next: origin={_middle(voxels)}, a point in the tissue."
        )
    image = np.full((len(names), *pixels.shape), np.nan, dtype=np.float32)
    image.reshape(len(names), -1)[:, inside] = values.T
    section = _assemble(sdata, voxels, plane, pixels, image, inside.reshape(pixels.shape), names, thick)
    logger.info(
        "virtual_section: %.1f s; %d x %d pixels of %g %s, %d cells within %g %s",
        perf_counter() - started, *pixels.shape, edge, voxels.unit,
        section.tables["isost_section_cells"].n_obs if section.tables else 0, thick, voxels.unit,
    )  # fmt: skip
    return section


def _plane(origin: Vector, normal: Vector, right: Vector | None) -> Plane:
    across = as_direction("normal", normal)
    along = None if right is None else as_direction("right", right)
    sine = 1.0 if along is None else np.linalg.norm(np.cross(across, along) / np.linalg.norm(across))
    if along is not None and sine <= 1e-6 * np.linalg.norm(along):
        raise ValueError(f"right: expected a direction apart from normal, found {right!r}. Next: leave it out.")
    return Plane.through(as_vector("origin", origin), across, along)


def _names(voxels: Voxels, genes: str | Sequence[str]) -> list[str]:
    asked = list(dict.fromkeys(gene_names(genes)))
    known = {*voxels.genes, *voxels.channels}
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise KeyError(
            f"genes: expected names among {show(voxels.genes)}, found {show(unknown) if unknown else 'none'}. "
            "Next: leave genes out to have the channels of the volume."
        )
    return asked


def _sample(
    voxels: Voxels, plane: Plane, pixels: Pixels, names: list[str], *, chosen: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels lie in the tissue, and the values (k, C) of those that do."""

    def read(index: np.ndarray) -> np.ndarray:
        if not chosen:
            return voxels.at(voxels.values, index)
        scores = [name for name in names if name in voxels.channels and voxels.decoder is not None]
        decoded = [name for name in names if name not in scores]
        found = dict(zip(decoded, voxels.decoded(index, decoded).T if decoded else [], strict=True))
        for name in scores:
            found[name] = voxels.at(voxels.values[voxels.channels.index(name)][None], index)[:, 0]
        return np.column_stack([found[name] for name in names])

    places = plane.places(pixels.centres())
    position = ((places - voxels.origin) / voxels.size - 0.5)[:, ::-1]
    return interpolate(read, voxels.mask, position)


def _assemble(
    sdata: SpatialData,
    voxels: Voxels,
    plane: Plane,
    pixels: Pixels,
    image: np.ndarray,
    mask: np.ndarray,
    names: list[str],
    thickness: float,
) -> SpatialData:
    axes = ("y", "x")
    steps = {"global": Steps([Scale([pixels.size] * 2, axes=axes), Translation(pixels.corner[::-1], axes=axes)])}
    points, tables = _cells(sdata, voxels, plane, thickness)
    return SpatialData(
        images={
            "isost_section": Image2DModel.parse(image, dims=("c", *axes), c_coords=names, transformations=steps),
        },
        labels={
            "isost_section_mask": Labels2DModel.parse(mask.astype(np.uint8), dims=axes, transformations=dict(steps)),
        },
        points=points,
        tables=tables,
        attrs={
            "isost": {
                **{name: getattr(plane, name).tolist() for name in ("origin", "normal", "right", "up")},
                "thickness": thickness, "pixel_size": pixels.size, "unit": voxels.unit,
                "values": {name: voxels.kind(name) for name in names},
            }
        },
    )  # fmt: skip


def _cells(
    sdata: SpatialData, voxels: Voxels, plane: Plane, thickness: float
) -> tuple[dict[str, Any], dict[str, AnnData]]:
    if "isost_cells" not in sdata.tables:
        return {}, {}
    table = sdata.tables["isost_cells"]
    coords = np.asarray(table.obsm["spatial"], dtype=np.float64)
    offset = plane.offset(coords)
    near = np.flatnonzero(np.abs(offset) <= thickness / 2.0)
    if not len(near):
        return {}, {}
    cells = table[near].copy()
    cells.uns.pop(TableModel.ATTRS_KEY, None)
    cells.obsm["spatial"], cells.obsm["spatial_3d"] = plane.flat(coords[near]), coords[near]
    cells.obs["offset"] = offset[near]
    decoder = voxels.decoder
    if cells.X is None and decoder is not None and cells.n_obs * cells.n_vars <= LARGEST_X:
        # the table of a large volume has none, but what is near one plane can be decoded
        cells.X = decoder.decode(cells.obsm[str(voxels.run.get("use_rep", "X_pca"))], list(cells.var_names))
    cells.obs["region"] = pd.Categorical(["isost_section_points"] * len(near))
    cells.obs["instance_id"] = np.arange(len(near))
    points = PointsModel.parse(pd.DataFrame(cells.obsm["spatial"], columns=["x", "y"]))
    parsed = TableModel.parse(cells, region="isost_section_points", region_key="region", instance_key="instance_id")
    return {"isost_section_points": points}, {"isost_section_cells": parsed}


def _range(low: np.ndarray, high: np.ndarray) -> str:
    return ", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))


def _middle(voxels: Voxels) -> tuple[float, ...]:
    index = np.argwhere(voxels.mask)
    return tuple(float(f"{at:g}") for at in voxels.centres(index[[len(index) // 2]])[0])
