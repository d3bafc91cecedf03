"""Whether images and sections show tissue in the same places."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from isost._core.graph import median_spacing
from isost._core.stack import Stack
from isost._images.planes import ImagePlanes

_SHOWN = 0.95  # of the measured cells, that have to lie in the tissue of the images
_POINTS = 2000
_ABOUT = 4.0  # spacings


def shows_tissue(planes: ImagePlanes, stack: Stack) -> bool:
    """Say whether the images show tissue at nearly all cells of the sections that they cover, two or more."""
    covered = planes.covers(stack.depths)
    if covered.sum() < 2:
        return False
    cells = stack.coords[covered[stack.section_index]]
    return bool(planes.tissue(cells).mean() >= _SHOWN)


def filled_by(planes: ImagePlanes, stack: Stack) -> float:
    """Share of the tissue of the images, at the depths of sections, that has measured cells about it."""
    shares = []
    for section in np.flatnonzero(planes.covers(stack.depths)).tolist():
        cells = stack.coords[stack.slice_of(section), :2]
        places = planes.places(int(np.abs(planes.depths - stack.depths[section]).argmin()))[0]
        some = places[np.random.default_rng(0).permutation(len(places))[:_POINTS]]
        if len(some) and len(cells) > 1:
            reach = _ABOUT * median_spacing(cells)
            shares.append((cKDTree(cells).query(some)[0] <= reach).mean())
    return float(np.mean(shares)) if shares else 0.0
