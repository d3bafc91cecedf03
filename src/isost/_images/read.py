"""The image door: a picture or a volume as lazy planes, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from spatialdata import SpatialData, get_pyramid_levels
from spatialdata.transformations import get_transformation
from xarray import DataArray

DIMS = ("c", "z", "y", "x")
_KEY = "transform"  # of the attributes of an element of SpatialData


@dataclass(frozen=True, eq=False)
class Image:
    """Planes of one or several channels.

    Attributes
    ----------
    values
        Lazy (c, z, y, x).
    channels
        Their names.
    depths, y, x
        Positions of the planes, rising, and of the centres of pixels in a plane, in the image's own frame.
    affine
        (2, 3): x', y' = affine @ (x, y, 1) is where a place of that frame lies among the sections.
    """

    values: da.Array
    channels: tuple[str, ...]
    depths: np.ndarray
    y: np.ndarray
    x: np.ndarray
    affine: np.ndarray


def read_image(
    image: Any, spacing: float | Sequence[float] | None, origin: Sequence[float] | None, depths: Any
) -> Image:
    """Read an array, a DataArray, or an element of SpatialData.

    Parameters
    ----------
    image
        (y, x), (z, y, x) or (c, z, y, x); or with named dimensions.
    spacing
        Of pixels along (z, y, x), or (y, x) where there is one plane or depths are given; one number for all.
    origin
        Position z, y, x (or y, x) of the centre of the first pixel.
    depths
        (z,) of the planes, in any order, in place of even ones.

    Raises
    ------
    TypeError, ValueError
        If it cannot be read as such, or nothing tells where its pixels lie.
    """
    values, channels, known, affine, plane_z = _opened(image)
    n_planes, shape = values.shape[1], values.shape[1:]
    chosen = None if depths is None else np.asarray(depths, dtype=np.float64).ravel()
    if chosen is not None and (len(chosen) != n_planes or not np.isfinite(chosen).all()):
        raise ValueError(
            f"depths: expected {n_planes} finite numbers, one for each plane, found {len(chosen)}. "
            "Next: count the planes of the image."
        )
    axes: dict[str, np.ndarray | None] = {name: known.get(name) for name in ("z", "y", "x")}
    if spacing is not None:
        step = _per_axis("spacing", spacing, plain=n_planes == 1 or chosen is not None)
        if not (step > 0).all():
            raise ValueError(f"spacing: expected numbers above 0, found {step.tolist()}. Next: give lengths of pixels.")
        first = np.zeros(3) if origin is None else _per_axis("origin", origin, plain=n_planes == 1)
        axes = {name: first[k] + step[k] * np.arange(shape[k]) for k, name in enumerate(("z", "y", "x"))}
    elif origin is not None:
        raise ValueError("origin: expected the spacing too, found none. Next: pass spacing=(z, y, x).")
    if chosen is not None:
        axes["z"] = chosen
    elif plane_z is not None and axes["z"] is not None:
        axes["z"] = plane_z[0] * axes["z"] + plane_z[1]
    missing = [name for name, positions in axes.items() if positions is None]
    if missing:
        raise ValueError(
            f"image: expected to know where its pixels lie, found no positions along {', '.join(missing)}. "
            "Next: pass spacing=(z, y, x) in the unit of the sections, or depths= for uneven planes."
        )
    z, y, x = (np.asarray(axes[name], dtype=np.float64) for name in ("z", "y", "x"))
    order = np.argsort(z, kind="stable")
    if (np.diff(z[order]) <= 0).any():
        raise ValueError("depths: expected a depth of its own for each plane, found the same twice. Next: remove one.")
    return Image(values if (np.diff(order) == 1).all() else values[:, order], channels, z[order], y, x, affine)


def _opened(
    image: Any,
) -> tuple[da.Array, tuple[str, ...], dict[str, np.ndarray], np.ndarray, tuple[float, float] | None]:
    """Values (c, z, y, x), names of channels, known positions, map of the plane, and scale and shift of depth."""
    affine, plane_z = np.eye(2, 3), None
    if isinstance(image, SpatialData):
        raise TypeError(
            f"image: expected one image, found a SpatialData with {', '.join(map(repr, image.images)) or 'none'}. "
            "Next: pass sdata['name of the image']."
        )
    if hasattr(image, "children"):  # a pyramid
        image = next(iter(get_pyramid_levels(image)))
    if not isinstance(image, DataArray):
        values = image if isinstance(image, da.Array) else da.from_array(np.asarray(image))
        if values.ndim not in (2, 3, 4) or not np.issubdtype(values.dtype, np.number) or 0 in values.shape:
            raise TypeError(
                f"image: expected numbers of shape (y, x), (z, y, x) or (c, z, y, x), found {values.dtype} of shape "
                f"{values.shape}. Next: move the axes, with colours first: np.moveaxis(image, -1, 0)[:, None]."
            )
        values = values[(None,) * (4 - values.ndim)]
        return values, tuple(f"channel{k}" for k in range(values.shape[0])), {}, affine, plane_z
    other = [name for name in image.dims if name not in DIMS]
    if other or not {"y", "x"} <= set(image.dims):
        raise ValueError(f"image: expected dimensions among {DIMS}, found {tuple(image.dims)}. Next: rename them.")
    known = {name: np.asarray(image.coords[name].values, np.float64) for name in "zyx" if name in image.coords}
    channels = tuple(map(str, image.coords["c"].values)) if "c" in image.coords else None
    if _KEY in image.attrs:
        axes = tuple(name for name in ("x", "y", "z") if name in image.dims)
        matrix = get_transformation(image, "global").to_affine_matrix(axes, axes)
        n = len(axes)
        if n == 3 and (np.any(matrix[2, :2]) or np.any(matrix[:2, 2])):
            raise ValueError("image: expected planes along depth, found them tilted. Next: resample the image first.")
        affine = matrix[:2, [0, 1, n]].astype(np.float64)
        plane_z = (float(matrix[2, 2]), float(matrix[2, 3])) if n == 3 else None
    elif "affine" in image.attrs:
        affine = np.asarray(image.attrs["affine"], dtype=np.float64)
    for name in DIMS:
        if name not in image.dims:
            image = image.expand_dims(name)
    values = da.asarray(image.transpose(*DIMS).data)
    return values, channels or tuple(f"channel{k}" for k in range(values.shape[0])), known, affine, plane_z


def _per_axis(name: str, value: float | Sequence[float], *, plain: bool) -> np.ndarray:
    """Three numbers along z, y, x, of which the first may be left out where one plane is all there is."""
    numbers = np.asarray(value, dtype=np.float64).ravel()
    if numbers.size == 1:
        numbers = np.repeat(numbers, 3)
    if numbers.size == 2 and plain:
        numbers = np.concatenate([[1.0 if name == "spacing" else 0.0], numbers])
    if numbers.size != 3 or not np.isfinite(numbers).all():
        raise ValueError(
            f"{name}: expected three finite numbers along z, y, x{' (or two along y, x)' if plain else ''}, found "
            f"{value!r}. Next: {name}=({', '.join('zyx')})."
        )
    return numbers
