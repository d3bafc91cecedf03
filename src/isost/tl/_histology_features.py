from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.fit import choose_device
from isost._core.random import Rng, numpy_generator
from isost._histology.cells import POINT_RADIUS, read_cells
from isost._histology.features import of_encoder, of_texture, shapes, stains_of
from isost._histology.slide import open_slide
from isost._histology.texture import PIXEL
from isost._histology.tiles import SIDE, Encoder
from isost._histology.vit import load_vit
from isost._logging import logger

_COARSE = 1.0  # µm of a pixel, above which nuclei are hardly seen


def histology_features(
    image: Any,
    cells: Any,
    *,
    pixel_size: float | None = None,
    encoder: str | Path | Encoder = "texture",
    spatial_key: str = "spatial",
    unit: Literal["pixel", "um"] = "pixel",
    radius: float | None = None,
    normalise_stain: bool = True,
    batch_size: int = 64,
    cache: str | Path | None = None,
    device: str | None = None,
    rng: Rng = 0,
    progress: bool = True,
) -> AnnData:
    """Describe cells, or spots, by what an H&E image shows of them and about them.

    The image is rescaled to 0.5 µm a pixel and read a region at a time. ``encoder="texture"`` needs no weights:
    amounts of haematoxylin and eosin (Macenko et al. 2009), colour, edges at three scales, blobs of four sizes and how
    many of them are nuclei, nuclear area and the order of fibres; each by mean and standard deviation in the outline of
    the cell (local), and in windows of 64 to 1,024 µm about it (global); with the shape of the outline where there is
    one. Any other encoder sees, as in PRTS (Wen et al. 2025, Research, 10.34133/research.0961), a tile of 256 x 256
    pixels about each cell, its stains normalised: the class token is global, the mean of the tokens of the patches that
    the outline overlaps local, both side by side.

    Parameters
    ----------
    image
        Path to TIFF, OME-TIFF, JPEG or PNG; colours (y, x, 3) or (3, y, x), uint8, uint16, or between 0 and 1, with a
        fourth for opacity; an image of a SpatialData, of several scales too.
    cells
        GeoDataFrame or shapes of a SpatialData (nuclei or cells of StarDist, Cellpose or any other tool; points;
        circles, by a column ``radius``), AnnData with positions in ``obsm[spatial_key]``, or positions (n, 2). Outlines
        that cross themselves are mended.
    pixel_size
        µm of a pixel of the image at full resolution. None: as the file says.
    encoder
        ``"texture"``; the name or the folder of a vision transformer of the package ``transformers``
        (``pip install 'isost[histology]'``); or a function from tiles (B, 3, 256, 256) float32 between 0 and 1 to
        features (B, d), or to a pair of these and tokens (B, t^2, d) of t x t patches.
    spatial_key
        Positions in `obsm`, where cells are an AnnData.
    unit
        Of the positions: ``"pixel"`` of the image at full resolution (of the global frame of a SpatialData), or
        ``"um"`` from its corner.
    radius
        µm of points: of a spot, for instance. None: 4 µm, about a nucleus.
    normalise_stain
        Give the tiles of an encoder other than ``"texture"`` the stains of a reference; ``"texture"`` measures stains
        in units of the slide's own.
    batch_size
        Tiles at a time.
    cache
        Folder to keep what an encoder other than ``"texture"`` found, read again for the same image, cells and encoder.
        A function needs a ``name`` for it.
    device
        ``"cpu"``, ``"cuda"``, or None for a GPU where there is one.
    rng
        Of the tiles that the stains are found in.
    progress
        Show a bar.

    Returns
    -------
    anndata.AnnData
        ``X`` (n, d) float32; ``var["part"]`` ``"local"`` or ``"global"``; ``obs["tissue"]`` the share of the tile that
        is no glass, ``obs["nucleus_area"]`` µm^2 where outlines were given; ``obsm["spatial"]`` (n, 2) x, y in µm from
        the corner of the image, ``obsm["pixel"]`` in pixels; ``uns["histology"]`` with ``pixel_size``, ``encoder``,
        the stains and the ``radius`` of points (0 for outlines).

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file, or an encoder needs a package that is not installed.
    TypeError
        If the image, the cells or the encoder are of another kind.
    ValueError
        If the image is grey, black or blank, or nothing says how large its pixels are, cells lie outside of it, have no
        names of their own or no area, or an option is impossible.

    Examples
    --------
    >>> import isost, numpy as np
    >>> image = np.random.default_rng(0).integers(90, 250, (600, 600, 3), dtype=np.uint8)
    >>> cells = np.array([[200, 300], [350, 320]])
    >>> features = isost.tl.histology_features(image, cells, pixel_size=0.5, progress=False)
    >>> features.shape, features.var["part"].value_counts().to_dict()
    ((2, 300), {'global': 250, 'local': 50})
    """
    if unit not in ("pixel", "um"):
        raise ValueError(f"unit: expected 'pixel' or 'um', found {unit!r}. Next: leave it out.")
    number = isinstance(radius, (int, float, np.number)) and not isinstance(radius, bool)
    if radius is not None and not (number and 0 < float(radius) < np.inf):
        raise ValueError(f"radius: expected a number of µm above 0, found {radius!r}. Next: leave it out.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"batch_size: expected a whole number of 1 or more, found {batch_size!r}. Next: leave it out.")
    called = _name_of(encoder, cached=cache is not None)
    slide = open_slide(image, pixel_size, finest=PIXEL)
    if slide.pixel_size > _COARSE:
        logger.warning(
            "histology_features: pixels of %.2g µm hardly show nuclei; 0.5 µm or less is usual", slide.pixel_size
        )
    read = read_cells(cells, slide, unit=unit, spatial_key=spatial_key, radius=radius)
    stains = stains_of(slide, read, numpy_generator(rng))
    if called == "texture":
        found = of_texture(slide, read, stains, progress=progress)
    else:
        where = choose_device(device)
        function = load_vit(encoder, where) if isinstance(encoder, (str, Path)) else encoder
        found = of_encoder(
            slide, read, function, stains if normalise_stain else None, device=where, batch_size=int(batch_size),
            cache=None if cache is None else Path(cache), called=called, progress=progress,
        )  # fmt: skip
    obs = pd.DataFrame({"tissue": found.tissue.astype(np.float32)}, index=read.names)
    if read.outlined:
        obs["nucleus_area"] = shapes(read, slide.pixel_size)[:, 0]
    part = pd.Categorical(np.where(found.local, "local", "global"), ["local", "global"])
    features = AnnData(found.values, obs, pd.DataFrame({"part": part}, index=found.names))
    features.obsm["pixel"] = read.centre
    features.obsm["spatial"] = read.centre * slide.pixel_size
    features.uns["histology"] = {
        "pixel_size": slide.pixel_size, "encoder": called, "tile": SIDE * PIXEL, "stains": stains.colours,
        "normalise_stain": bool(normalise_stain), "function": not isinstance(encoder, (str, Path)),
        "radius": 0.0 if read.outlined else float(radius or POINT_RADIUS),
    }  # fmt: skip
    logger.info("histology_features: %d features of %d cells by %s", *features.shape[::-1], called)
    return features


def _name_of(encoder: Any, *, cached: bool) -> str:
    if isinstance(encoder, (str, Path)):
        return str(encoder)
    if not callable(encoder):
        raise TypeError(
            f"encoder: expected 'texture', a name or a folder, or a function, found {type(encoder).__name__}. "
            "Next: leave it out."
        )
    name = getattr(encoder, "name", None)
    if cached and not isinstance(name, str):
        raise ValueError(
            "encoder: expected a name, by which a cache tells functions apart, found none. Next: "
            "encoder.name = 'uni-v2', for instance, or cache=None."
        )
    return name if isinstance(name, str) else type(encoder).__name__
