from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from xarray import DataArray

from isost._images.local import EDGE, edge_distance, feature_names, local_features, pixel_of
from isost._images.read import read_image
from isost._images.tissue import tissue_mask
from isost._logging import logger


def image_features(
    image: Any,
    *,
    kernel_sizes: Sequence[int] = (3, 5, 7, 9),
    spacing: float | Sequence[float] | None = None,
    origin: Sequence[float] | None = None,
    depths: Sequence[float] | None = None,
    mask: np.ndarray | None = None,
    threshold: float | str | None = "otsu",
    dark_tissue: bool = False,
    volumetric: bool = False,
    edge: bool = True,
    unit: str = "um",
) -> DataArray:
    """Describe each pixel of an image by its intensity and by what is about it.

    For each channel the intensity itself, and for each kernel size the mean and the standard deviation over a box of so
    many pixels about the pixel; and once the distance from the edge of the tissue: ten features of one channel with the
    four sizes of Li, Bao et al. 2025 (bioRxiv 10.1101/2025.08.15.670472), whose text counts ten and names the first
    nine. Boxes count the pixels of the tissue alone, so that neither the background nor the border of the image leaks
    in.

    Parameters
    ----------
    image
        One plane (y, x), planes (z, y, x) or channels of planes (c, z, y, x): numpy or dask; a DataArray with these
        dimensions; or an image of a SpatialData, whose transformation to "global" is kept.
    kernel_sizes
        Odd edges of the boxes, in pixels.
    spacing
        Lengths of a pixel along z, y, x (y, x for one plane, or with `depths`), in the unit of the sections. Needed
        where the image does not know its positions.
    origin
        Position z, y, x of the centre of the first pixel; zeros by default.
    depths
        Depth of each plane, where planes are not even.
    mask
        (z, y, x) or (y, x) bool, the tissue.
    threshold
        Without a mask, the tissue is where the mean over the channels is above this in most of the 3 x 3 pixels;
        ``"otsu"`` chooses it (Otsu 1979, of square roots above the background); None takes all that are numbers.
    dark_tissue
        The tissue is below the threshold, as in bright-field images.
    volumetric
        Boxes reach across planes as well; for volumes whose voxels are nearly cubes.
    edge
        Add the distance of each pixel to the nearest of its plane that is no tissue, in `unit`.
    unit
        Of the positions.

    Returns
    -------
    xarray.DataArray
        ``(c, z, y, x)`` float32, lazy, NaN outside the tissue, with names of the features and positions of planes and
        pixels as coordinates. ``attrs["affine"]`` (2, 3) takes x, y of the image to x, y of the sections. For
        `isost.tl.fit(images=...)`.

    Raises
    ------
    TypeError
        If the image is none.
    ValueError
        If positions, sizes or the mask do not fit.

    Examples
    --------
    >>> import isost, numpy as np
    >>> image = np.random.default_rng(0).poisson(50, (3, 60, 80))
    >>> features = isost.pp.image_features(image, spacing=(100, 10, 10), threshold=None)
    >>> features.shape, features.coords["c"].values[:3].tolist()
    ((10, 3, 60, 80), ['intensity', 'mean_3', 'std_3'])
    """
    sizes = _checked_sizes(kernel_sizes)
    read = read_image(image, spacing, origin, depths)
    if mask is None:
        tissue, level = tissue_mask(read.values, threshold, dark=dark_tissue)
    else:
        tissue, level = _checked_mask(mask, read.values.shape[1:]), None
    values = local_features(read.values, tissue, sizes, volumetric=volumetric)
    names = feature_names(read.channels, sizes)
    if edge:
        values = da.concatenate([values, edge_distance(tissue, pixel_of(read.y, read.x))])
        names.append(EDGE)
    logger.info("image_features: %d features of %d planes of %d x %d pixels%s", len(names), *values.shape[1:],
                "" if level is None else f"; tissue {'below' if dark_tissue else 'above'} {level:.4g}")  # fmt: skip
    attrs = {
        "unit": unit,
        "affine": read.affine.tolist(),
        "kernel_sizes": list(sizes),
        "volumetric": bool(volumetric),
        "edge": bool(edge),
        "dark_tissue": bool(dark_tissue),
    }
    if level is not None:
        attrs["threshold"] = float(level)
    return DataArray(
        values, dims=("c", "z", "y", "x"), name="image_features", attrs=attrs,
        coords={"c": names, "z": read.depths, "y": read.y, "x": read.x},
    )  # fmt: skip


def _checked_sizes(kernel_sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = np.asarray(kernel_sizes).ravel()
    if not np.issubdtype(sizes.dtype, np.integer) or (sizes < 3).any() or (sizes % 2 == 0).any():
        raise ValueError(
            f"kernel_sizes: expected odd whole numbers of 3 or more, found {list(np.ravel(kernel_sizes))}. "
            "Next: kernel_sizes=(3, 5, 7, 9)."
        )
    if len(set(sizes.tolist())) < len(sizes):
        raise ValueError(f"kernel_sizes: expected each once, found {sizes.tolist()}. Next: remove what is there twice.")
    return tuple(sizes.tolist())


def _checked_mask(mask: np.ndarray, shape: tuple[int, ...]) -> da.Array:
    tissue = mask if isinstance(mask, da.Array) else da.from_array(np.asarray(mask))
    tissue = tissue[None] if tissue.ndim == 2 else tissue
    if tissue.shape != shape:
        raise ValueError(
            f"mask: expected the shape {shape} of the planes, found {tissue.shape}. Next: mask all planes."
        )
    return tissue > 0
