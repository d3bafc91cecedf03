from __future__ import annotations

from time import perf_counter

import numpy as np
from anndata import AnnData
from xarray import DataArray

from isost._core.checks import Problems
from isost._core.graph import median_spacing
from isost._core.positions import read_coords
from isost._core.sections import read_sections
from isost._images.planes import ImagePlanes
from isost._images.register import Pair, overlap_of, register
from isost._logging import logger

_LEAST = 0.8  # of cells and tissue, that have to lie together
_REACH = 4.0  # spacings of the cells
_FEWEST = 10  # cells, and pixels of tissue


def align_images(
    features: DataArray,
    adata: AnnData,
    *,
    affine: bool = True,
    section_key: str | None = "section",
    spatial_key: str = "spatial",
    depth_key: str | None = None,
) -> DataArray:
    """Lay images over sections that lie in another frame of the plane.

    From where ``features.attrs["affine"]`` has them, one map for all planes: a turn and a shift that bring the tissue
    of the images over the cells of the sections at the same depths, found by iterated closest points from turns all
    around, and then an affine map for what the sizes of pixels or a shear leave (Nelder-Mead on the ground that only
    one of them covers). Depths are taken as they are, and nothing is mirrored. If you know the map, set
    ``features.attrs["affine"]`` and leave this out. A tissue that looks the same when it is turned can be laid over
    itself turned: look at the result.

    Parameters
    ----------
    features
        What `isost.pp.image_features` returned; not changed.
    adata
        Cells of all sections; not changed.
    affine
        Let the map stretch and shear, and not only turn and shift.
    section_key, spatial_key, depth_key
        As in `isost.tl.fit`.

    Returns
    -------
    xarray.DataArray
        The features with another ``attrs["affine"]`` (2, 3), which takes x, y of the images to x, y of the sections,
        and ``attrs["overlap"]``, the share of cells with tissue within four times their spacing, or of the tissue with
        cells, whichever is smaller.

    Raises
    ------
    TypeError
        If `features` are none.
    ValueError
        If no plane lies at the depth of a section, or less than 0.8 of cells and tissue come to lie together.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom("bending", n_cells=200, n_genes=10)
    >>> features = isost.pp.image_features(isost.datasets.phantom_image(adata, spacing=100))
    >>> elsewhere = features.assign_coords(x=features.x + 4000)
    >>> aligned = isost.pp.align_images(elsewhere, adata)
    >>> bool(abs(aligned.attrs["affine"][0][2] + 4000) < 300), aligned.attrs["overlap"] > 0.9
    (True, True)
    """
    started = perf_counter()
    planes = ImagePlanes(features)
    problems = Problems()
    coords = read_coords(adata, spatial_key, depth_key, problems)
    sections = read_sections(adata, section_key, coords, problems)
    if problems or coords is None or sections is None:
        raise problems.error("The stack cannot be read")
    pairs, spacing = [], []
    for k in range(len(sections.names)):
        cells = coords[sections.index == k]
        depth = float(cells[:, 2].mean())
        if not planes.covers(np.array([depth]))[0]:
            continue
        tissue = planes.places(int(np.abs(planes.depths - depth).argmin()))[0]
        if min(len(tissue), len(cells)) >= _FEWEST:
            pairs.append(Pair(cells[:, :2], tissue))
            spacing.append(median_spacing(cells[:, :2]))
    if not pairs:
        low, high = coords[:, 2].min(), coords[:, 2].max()
        raise ValueError(
            f"features: expected tissue on planes at the depths of sections, {low:g} to {high:g}, found planes from "
            f"{planes.depths[0]:g} to {planes.depths[-1]:g}. Next: look at the unit, or pass depths= to "
            "isost.pp.image_features."
        )
    matrix = register(pairs, affine=affine)
    overlap = overlap_of(pairs, matrix, _REACH * float(np.median(spacing)))
    if overlap < _LEAST:
        raise ValueError(
            f"features: expected the tissue of the sections, found that {overlap:.0%} of cells and tissue lie together "
            f"at best, less than {_LEAST:.0%}. Next: look at the mask of the tissue (threshold= of "
            "isost.pp.image_features), at mirrored images, at the unit, or set features.attrs['affine'] yourself."
        )
    logger.info("align_images: %.0f%% of cells and tissue lie together; %d sections, %.1f s",
                100 * overlap, len(pairs), perf_counter() - started)  # fmt: skip
    before = np.vstack([np.asarray(features.attrs["affine"], dtype=np.float64), [0.0, 0.0, 1.0]])
    after = np.vstack([matrix, [0.0, 0.0, 1.0]]) @ before
    return features.assign_attrs(affine=after[:2].tolist(), overlap=overlap)
