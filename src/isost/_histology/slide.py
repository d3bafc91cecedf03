"""The slide door: a stained image of any kind as RGB pixels of any size, read a region at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import tifffile
from PIL import Image
from spatialdata import SpatialData, get_pyramid_levels
from spatialdata.transformations import get_transformation
from xarray import DataArray

_TIFF = (".tif", ".tiff", ".btf", ".svs", ".ndpi")
_PLAIN = (".jpg", ".jpeg", ".png")
_LIKELY = (0.02, 20.0)  # µm of a pixel; resolutions of files beyond are those of screens and printers
_MICRONS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_PER = {2: 25_400.0, 3: 10_000.0}  # µm in a unit of resolution: inch, centimetre
_MODES = {"P": "RGBA", "CMYK": "RGB"}  # of pictures, and what they are read as
WHITE = 255


@dataclass(frozen=True, eq=False)
class Slide:
    """A stained section.

    Attributes
    ----------
    pixels
        (H, W, C), numpy or dask: colours last.
    pixel_size
        µm.
    brightest
        Value of white.
    to_pixels
        (2, 3): the pixel (x, y) of a place of the frame that the image lies in.
    """

    pixels: Any
    pixel_size: float
    brightest: float
    to_pixels: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    def region(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) uint8, white beyond the image."""
        rows, columns = self.shape
        found = np.full((height, width, 3), WHITE, dtype=np.uint8)
        y, x = slice(max(top, 0), min(top + height, rows)), slice(max(left, 0), min(left + width, columns))
        if y.start < y.stop and x.start < x.stop:
            block = np.asarray(self.pixels[y, x])
            found[y.start - top : y.stop - top, x.start - left : x.stop - left] = self._as_rgb(block)
        return found

    def resampled(self, top: float, left: float, height: int, width: int, pixel_size: float) -> np.ndarray:
        """(height, width, 3) uint8 of pixels of another size, from the corner `top`, `left` in pixels of the slide."""
        step = pixel_size / self.pixel_size
        bottom, right = top + height * step, left + width * step
        y, x = int(np.floor(top)) - 2, int(np.floor(left)) - 2
        block = self.region(y, x, int(np.ceil(bottom)) + 2 - y, int(np.ceil(right)) + 2 - x)
        box = (left - x, top - y, right - x, bottom - y)
        return np.asarray(Image.fromarray(block).resize((width, height), Image.Resampling.BILINEAR, box=box))

    def _as_rgb(self, block: np.ndarray) -> np.ndarray:
        colours = block[..., :3]
        if self.brightest != WHITE:
            colours = np.clip(colours.astype(np.float32) * (WHITE / self.brightest), 0, WHITE)
        if block.shape[-1] == 4:  # what is transparent shows the lamp
            alpha = block[..., 3:].astype(np.float32) / self.brightest
            colours = colours * alpha + WHITE * (1 - alpha)
        return np.round(colours).astype(np.uint8) if colours.dtype != np.uint8 else colours


def open_slide(image: Any, pixel_size: float | None, *, finest: float) -> Slide:
    """Open a path, an array, a DataArray or an image of a SpatialData, without reading it.

    Parameters
    ----------
    image
        Path to TIFF, OME-TIFF, JPEG or PNG; (H, W, 3 or 4) or (3 or 4, H, W), uint8, uint16, or float between 0 and 1;
        an image of a SpatialData, or a pyramid, of which the level next below `finest` is read.
    pixel_size
        µm of a pixel at full resolution; None: as the file says.
    finest
        µm; pixels that are smaller are not needed.

    Raises
    ------
    TypeError
        If it is no image.
    ValueError
        If it has no colours, no size of a pixel, or values of another kind.
    FileNotFoundError
        If there is no such file.
    """
    known, close, to_pixels = None, None, np.eye(2, 3)
    if isinstance(image, SpatialData):
        raise TypeError(
            f"image: expected one image, found a SpatialData with {', '.join(map(repr, image.images)) or 'none'}. "
            "Next: pass sdata['name of the image']."
        )
    if isinstance(image, (str, Path)):
        pixels, known, close = _from_file(Path(image))
    elif isinstance(image, DataArray) or hasattr(image, "children"):
        levels = list(get_pyramid_levels(image)) if hasattr(image, "children") else [image]
        pixels, to_pixels = _colours_last(levels[0]), _frame(levels[0])
    else:
        levels, pixels = [], image
        if not hasattr(image, "shape") or not np.issubdtype(getattr(image, "dtype", object), np.number):
            raise TypeError(f"image: expected a path or an array of colours, found {type(image).__name__}. "
                            "Next: pass the path of the file.")  # fmt: skip
    size = _checked_size(pixel_size, known)
    if not isinstance(image, (str, Path)) and len(levels) > 1:
        pixels, size, to_pixels = _coarser(levels, size, to_pixels, finest)
    pixels = _checked_colours(pixels)
    slide = Slide(pixels, size, _white_of(pixels), to_pixels)
    if close is not None:
        weakref.finalize(slide, close)
    return slide


def _from_file(path: Path) -> tuple[Any, float | None, Callable[[], None] | None]:
    """Pixels, µm of one where the file says it, and what closes the file."""
    if not path.is_file():
        raise FileNotFoundError(f"image: expected a file, found none at {str(path)!r}. Next: look at the path.")
    kind = path.suffix.lower()
    if kind in _TIFF:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes = series.axes.replace("S", "C")
            for name, length in zip(axes, series.shape, strict=True):
                if name not in "CYX" and length > 1:
                    raise ValueError(f"image: expected one plane, found {length} along {name!r} in {path.name}. Next: "
                                     "save the plane of the section.")  # fmt: skip
            known = _size_in(file)
        store = tifffile.imread(path, aszarr=True, series=0, level=0)
        lazy = da.from_zarr(store)
        lazy = lazy.squeeze(tuple(k for k, name in enumerate(axes) if name not in "CYX"))
        axes = "".join(name for name in axes if name in "CYX")
        return lazy.transpose([axes.index(name) for name in "YXC" if name in axes]), known, store.close
    if kind in _PLAIN:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # slides are that large
        try:
            with Image.open(path) as opened:
                return np.asarray(opened.convert(_MODES.get(opened.mode, opened.mode))), None, None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    raise ValueError(
        f"image: expected one of {', '.join(_TIFF + _PLAIN)}, found {path.name!r}. Next: save it as OME-TIFF."
    )


def _size_in(file: tifffile.TiffFile) -> float | None:
    """µm of a pixel, as OME or the resolution of the file says; None if neither does."""
    if file.ome_metadata:
        for element in ElementTree.fromstring(file.ome_metadata).iter():
            if element.tag.endswith("Pixels") and "PhysicalSizeX" in element.attrib:
                return float(element.attrib["PhysicalSizeX"]) * _MICRONS.get(
                    element.attrib.get("PhysicalSizeXUnit", "µm"), np.nan
                )
    tags = file.pages.first.tags
    if "XResolution" in tags and "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) in _PER:
        count, of = tags["XResolution"].value
        return _PER[int(tags["ResolutionUnit"].value)] * of / count if count else None
    return None


def _checked_size(given: float | None, known: float | None) -> float:
    if given is None:
        if known is None or not _LIKELY[0] <= known <= _LIKELY[1]:
            said = "nothing says it" if known is None else f"{known:.4g} µm in the file, which no microscope has"
            raise ValueError(
                f"pixel_size: expected the µm of a pixel, found that {said}. Next: pixel_size=0.5, for instance, of "
                "the image at full resolution."
            )
        return known
    if isinstance(given, bool) or not isinstance(given, (int, float, np.number)) or not 0 < float(given) < np.inf:
        raise ValueError(f"pixel_size: expected a number of µm above 0, found {given!r}. Next: pixel_size=0.5.")
    return float(given)


def _colours_last(image: DataArray) -> Any:
    if set(image.dims) != {"c", "y", "x"}:
        raise ValueError(f"image: expected dimensions c, y, x, found {tuple(image.dims)}. Next: choose the plane.")
    return image.transpose("y", "x", "c").data


def _frame(image: DataArray) -> np.ndarray:
    """(2, 3) from the global frame to pixels."""
    if "transform" not in image.attrs:
        return np.eye(2, 3)
    matrix = get_transformation(image, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    return np.linalg.inv(matrix)[:2]


def _coarser(
    levels: list[DataArray], size: float, to_pixels: np.ndarray, finest: float
) -> tuple[Any, float, np.ndarray]:
    """Of a pyramid the coarsest level whose pixels are not larger than needed."""
    width = levels[0].sizes["x"]
    fits = [level for level in levels if size * width / level.sizes["x"] <= finest * 1.01]
    level = fits[-1] if fits else levels[0]
    by = width / level.sizes["x"]
    return _colours_last(level), size * by, to_pixels / by


def _checked_colours(pixels: Any) -> Any:
    shape = tuple(pixels.shape)
    if len(shape) == 3 and shape[-1] not in (3, 4) and shape[0] in (3, 4):
        pixels = pixels.transpose(1, 2, 0)
    elif len(shape) != 3 or shape[-1] not in (3, 4):
        grey = len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[-1]))
        raise ValueError(
            f"image: expected three colours, found {'a grey image' if grey else 'an array'} of shape {shape}. Next: "
            "the stains of H&E are told by their colour; use the RGB image."
        )
    if 0 in pixels.shape:
        raise ValueError(f"image: expected pixels, found none (shape {shape}). Next: look at the file.")
    return pixels


def _white_of(pixels: Any) -> float:
    kind = np.dtype(pixels.dtype)
    if kind.type is np.uint8:
        return float(WHITE)
    if kind.type is not np.uint16 and kind.kind != "f":
        raise ValueError(
            f"image: expected uint8, uint16 or floating-point values, found {kind}. Next: image.astype('uint8')."
        )
    some = np.asarray(pixels[:: max(1, pixels.shape[0] // 256), :: max(1, pixels.shape[1] // 256), :3])
    if kind.type is np.uint16:  # of a camera of 8, 12 or 16 bits
        return next(white for white in (255.0, 4095.0, 65535.0) if some.max() <= white)
    if not (np.isfinite(some).all() and 0 <= some.min() and some.max() <= 1.0 + 1e-6):
        raise ValueError(
            f"image: expected floating-point values between 0 and 1, found {np.min(some):.4g} to "
            f"{np.max(some):.4g}. Next: divide by the value of white."
        )
    return 1.0
