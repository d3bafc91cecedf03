"""Whether images and sections show tissue in the same places."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from isost._core.graph import median_spacing
from isost._core.stack import Stack
from isost._images.planes import ImagePlanes

_SHOWN, _SHOWN_EACH = 0.95, 0.85  # of all measured cells, and of each section's, that have to lie in the tissue
_POINTS = 2000
_ABOUT = 4.0  # spacings


def shows_tissue(planes: ImagePlanes, stack: Stack) -> bool:
    """Say whether the images show tissue at nearly all cells of the sections that they cover, two or more."""
    covered = np.flatnonzero(planes.covers(stack.depths)).tolist()
    if len(covered) < 2:
        return False
    shown = [planes.tissue(stack.coords[stack.slice_of(section)]) for section in covered]
    return bool(np.concatenate(shown).mean() >= _SHOWN and min(one.mean() for one in shown) >= _SHOWN_EACH)


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
