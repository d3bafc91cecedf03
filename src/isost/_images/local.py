"""What an image shows about each pixel: its intensity, and the mean and deviation about it, within the tissue alone."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import numpy as np
from scipy.ndimage import distance_transform_edt, uniform_filter

EDGE = "edge"
_CHUNK = 512  # pixels along an edge of a block


def feature_names(channels: Sequence[str], kernel_sizes: Sequence[int]) -> list[str]:
    """Names in the order of `local_features`, channel by channel."""
    kinds = ["intensity", *(f"{kind}_{size}" for size in kernel_sizes for kind in ("mean", "std"))]
    return [kind if len(channels) == 1 else f"{channel}_{kind}" for channel in channels for kind in kinds]


def pixel_of(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Edges of pixels with these centres."""
    return tuple(float(abs(axis[-1] - axis[0])) / max(len(axis) - 1, 1) or 1.0 for axis in (y, x))  # type: ignore[return-value]


def local_features(image: da.Array, mask: da.Array, kernel_sizes: Sequence[int], *, volumetric: bool) -> da.Array:
    """Intensity, and mean and standard deviation of the box of each size about each pixel.

    Parameters
    ----------
    image
        (c, z, y, x).
    mask
        (z, y, x) bool; pixels outside take no part in the means of others, and are NaN.
    kernel_sizes
        Odd edges of the boxes, in pixels.
    volumetric
        Boxes reach into the planes before and after; else each plane is by itself.

    Returns
    -------
    (c * (1 + 2 * len(kernel_sizes)), z, y, x) float32, lazy.
    """
    widest = max(kernel_sizes, default=1) // 2
    reach = tuple(min(widest, length) for length in image.shape[1:])
    reach = reach if volumetric else (0, *reach[1:])
    shape = (max(1, image.shape[1]) if volumetric else 1, _CHUNK, _CHUNK)
    image = image.rechunk((1, *shape)).astype(np.float32)
    mask = mask.rechunk(shape)
    n_kinds = 1 + 2 * len(kernel_sizes)
    depth = dict(enumerate(reach))
    found = [
        da.map_overlap(
            _block, channel, mask, depth=[depth, depth], boundary=[np.nan, False], trim=False, dtype=np.float32,
            new_axis=0, chunks=((n_kinds,), *channel.chunks), sizes=tuple(kernel_sizes), reach=reach, deep=volumetric,
        )
        for channel in image
    ]  # fmt: skip
    return da.concatenate(found, axis=0)


def edge_distance(mask: da.Array, pixel: Sequence[float]) -> da.Array:
    """Distance (1, z, y, x) float32 of each pixel of the tissue to the nearest without, in its plane; NaN elsewhere.

    Pixels are of the edges y, x. Where a plane has no edge, it is half the image.
    """
    whole = mask.rechunk((1, -1, -1))
    return da.map_blocks(_edge, whole, tuple(pixel), dtype=np.float32, new_axis=0, chunks=((1,), *whole.chunks))


def _edge(mask: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    found = np.full(mask.shape, np.nan, dtype=np.float32)
    for plane, inside in zip(found, mask.astype(bool), strict=True):
        most = 0.5 * min(length * size for length, size in zip(inside.shape, pixel, strict=True))
        if not inside.all():
            plane[inside] = np.minimum(distance_transform_edt(inside, sampling=pixel)[inside], most)
        else:
            plane[:] = most
    return found[None]


def _block(
    image: np.ndarray, mask: np.ndarray, *, sizes: Sequence[int], reach: Sequence[int], deep: bool
) -> np.ndarray:
    """Features of a block that has the pixels about it on every side, without these."""
    inside = mask.astype(bool) & np.isfinite(image)
    inner = tuple(slice(width, length - width) for width, length in zip(reach, image.shape, strict=True))
    centre = float(image[inside].mean()) if inside.any() else 0.0
    # about the middle of the block, as differences of large squares lose their digits
    values = np.where(inside, image.astype(np.float64) - centre, 0.0)
    share = inside.astype(np.float64)
    found = [image[inner]]
    for size in sizes:
        box = (size if deep else 1, size, size)
        n, first, second = (uniform_filter(what, box, mode="constant") for what in (share, values, values**2))
        n = np.maximum(n[inner], 1e-12)
        mean = first[inner] / n
        found += [mean + centre, np.sqrt(np.maximum(second[inner] / n - mean**2, 0.0))]
    result = np.stack(found).astype(np.float32)
    result[:, ~inside[inner]] = np.nan
    return result
