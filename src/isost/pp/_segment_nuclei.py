from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from isost._histology.cells import LARGEST
from isost._histology.segment import sample_of, segmented, tiles_of
from isost._histology.segmenters import LOAD
from isost._histology.slide import open_slide
from isost._histology.texture import PIXEL
from isost._logging import logger

_COARSE = 1.0  # µm of a pixel, above which nuclei are hardly seen


def segment_nuclei(
    image: Any,
    *,
    pixel_size: float | None = None,
    method: Literal["stardist", "cellpose"] | Callable[[np.ndarray], Any] = "stardist",
    tile_size: int = 2048,
    overlap: int = 128,
    device: str | None = None,
    progress: bool = True,
) -> gpd.GeoDataFrame:
    """Outline the nuclei of an H&E image by StarDist, Cellpose or any function, whatever the size of the image.

    The image is rescaled to 0.5 µm a pixel and read a tile at a time; tiles of empty glass are skipped. Tiles overlap,
    and each nucleus is taken from the tile where it is whole, once. Colours of all tiles are rescaled alike, by
    percentiles over the slide. Nothing is segmented by isost itself: ``pip install 'isost[stardist]'`` or
    ``pip install 'isost[cellpose]'``. Each loads its weights at the first call, from where its authors keep them, under
    their licence.

    Parameters
    ----------
    image
        Path to TIFF, OME-TIFF, JPEG or PNG; colours (y, x, 3) or (3, y, x), uint8, uint16, or between 0 and 1, with a
        fourth for opacity; an image of a SpatialData, of several scales too.
    pixel_size
        µm of a pixel of the image at full resolution. None: as the file says.
    method
        ``"stardist"``, with its weights for H&E (Schmidt et al. 2018, Weigert & Schmidt 2022); ``"cellpose"``, of
        version 4 or newer (Pachitariu et al. 2025); or a function from a tile (h, w, 3) uint8 of 0.5 µm a pixel to
        labels (h, w), whole numbers, 0 where there is no nucleus, or to a pair of these and probabilities (n,) of
        labels 1 to n. Of a label in several pieces the largest is taken, without its holes.
    tile_size
        Pixels of 0.5 µm along a side of a tile, with its overlap.
    overlap
        Pixels of 0.5 µm that a tile reaches beyond what is its own; more than half a nucleus.
    device
        Of Cellpose: ``"cpu"``, ``"cuda"``, or None for a GPU where there is one. StarDist runs where TensorFlow does.
    progress
        Show a bar.

    Returns
    -------
    geopandas.GeoDataFrame
        Polygons in pixels of the image at full resolution (in the global frame of a SpatialData), as
        `isost.tl.histology_features` takes them: pixel k reaches from k to k + 1. Index ``"nucleus_000001"`` and so on;
        column ``nucleus_area``, µm^2, and ``probability``, of the method's own, where it gives one. Empty, with a
        warning, where there is tissue but no nucleus.

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file, or the method is not installed.
    TypeError
        If the image or the method is of another kind.
    ValueError
        If the image is grey or blank or nothing says how large its pixels are, the method gives no labels, or an option
        is impossible.

    Examples
    --------
    >>> import isost, numpy as np
    >>> from scipy import ndimage
    >>> image = np.full((200, 300, 3), (230, 190, 215), dtype=np.uint8)
    >>> image[40:60, 50:74] = image[120:140, 200:220] = (90, 60, 140)
    >>> nuclei = isost.pp.segment_nuclei(
    ...     image, pixel_size=0.5, method=lambda tile: ndimage.label(tile[..., 0] < 150)[0], progress=False
    ... )
    >>> nuclei["nucleus_area"].round().to_dict()
    {'nucleus_000001': 120.0, 'nucleus_000002': 100.0}
    """
    _check_method(method)
    _check_sides(tile_size, overlap)
    slide = open_slide(image, pixel_size, finest=PIXEL)
    if slide.pixel_size > _COARSE:
        logger.warning(
            "segment_nuclei: pixels of %.2g µm hardly show nuclei; 0.5 µm or less is usual", slide.pixel_size
        )
    tiles = tiles_of(slide, int(tile_size), int(overlap))
    if callable(method):
        segment, called = method, getattr(method, "__name__", type(method).__name__)
    else:
        prepared, called = LOAD[method](device), method
        sample = sample_of(slide, tiles)
        if not len(sample):
            raise _blank()
        segment = prepared(sample)
    found = segmented(slide, tiles, segment, progress=progress)
    if not found.n_tiles:
        raise _blank()
    if found.n_cut:
        logger.warning(
            "segment_nuclei: %d nuclei reach the edge of their tile and are cut there. Next: overlap=%d", found.n_cut,
            2 * overlap if overlap else 128,
        )  # fmt: skip
    if found.n_large:
        logger.warning("segment_nuclei: %d outlines of more than %g µm across are no nuclei and were left out",
                       found.n_large, LARGEST)  # fmt: skip
    nuclei = _framed(found.outline, slide.to_pixels)
    nuclei["nucleus_area"] = shapely.area(found.outline) * slide.pixel_size**2
    if found.probability is not None:
        nuclei["probability"] = found.probability
    if not len(nuclei):
        logger.warning("segment_nuclei: no nucleus found by %s. Next: look at the image, and at pixel_size (%g µm)",
                       called, slide.pixel_size)  # fmt: skip
    logger.info("segment_nuclei: %d nuclei by %s in %d of %d tiles", len(nuclei), called, found.n_tiles, len(tiles))
    return nuclei


def _framed(outline: np.ndarray, to_pixels: np.ndarray) -> gpd.GeoDataFrame:
    """Polygons of the frame that the image lies in, from those in its pixels."""
    back = np.linalg.inv(to_pixels[:, :2])
    if not np.array_equal(to_pixels, np.eye(2, 3)):
        outline = shapely.transform(outline, lambda xy: (xy - to_pixels[:, 2]) @ back.T)
    names = pd.Index([f"nucleus_{k:06d}" for k in range(1, len(outline) + 1)], dtype=object)
    return gpd.GeoDataFrame(geometry=gpd.GeoSeries(outline, index=names))


def _check_method(method: Any) -> None:
    if callable(method):
        return
    if not isinstance(method, str):
        raise TypeError(
            f"method: expected 'stardist', 'cellpose' or a function, found {type(method).__name__}. Next: leave it out."
        )
    if method not in LOAD:
        raise ValueError(
            f"method: expected 'stardist', 'cellpose' or a function, found {method!r}. Next: a function from a tile to "
            "labels, of any other tool."
        )


def _check_sides(tile_size: Any, overlap: Any) -> None:
    def whole(value: Any, least: int) -> bool:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)

    if not whole(overlap, 0):
        raise ValueError(f"overlap: expected a whole number of pixels, found {overlap!r}. Next: leave it out.")
    if not whole(tile_size, 2 * int(overlap) + 1):
        raise ValueError(
            f"tile_size: expected a whole number of pixels above twice the overlap ({overlap}), found {tile_size!r}. "
            "Next: leave it out."
        )


def _blank() -> ValueError:
    return ValueError(
        "image: expected stained tissue, found glass alone. Next: look at the image; white is the lamp, and its value "
        "has to be that of the data type (255, 65535 or 1)."
    )
