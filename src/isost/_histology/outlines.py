"""Labels of a tile to polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from scipy import ndimage
from skimage.measure import find_contours


def checked_labels(found: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels (h, w), and probabilities (n,) of labels 1 to n where they are given."""
    values, probability = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    labels = np.asarray(values)
    if labels.shape != tuple(shape) or labels.dtype.kind not in "iu":
        after = "scipy.ndimage.label(mask)[0]" if labels.dtype.kind == "b" else "return 0 where there is no nucleus"
        raise ValueError(
            f"method: expected labels, whole numbers of shape {tuple(shape)}, found {labels.dtype} of shape "
            f"{labels.shape}. Next: {after}."
        )
    if labels.size and labels.min() < 0:
        raise ValueError(
            f"method: expected labels of 0 or more, found {labels.min()}. Next: return 0 where there is no nucleus."
        )
    if probability is None:
        return labels, None
    probability = np.asarray(probability, dtype=np.float64)
    if probability.ndim != 1 or len(probability) < labels.max(initial=0):
        raise ValueError(
            f"method: expected a probability for each of labels 1 to {labels.max(initial=0)}, found shape "
            f"{probability.shape}. Next: return labels alone, or one number for each label."
        )
    return labels, probability


def polygons_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) that are there, and the outline of each: of its largest piece, without its holes.

    Pixel k reaches from k to k + 1, as everywhere for slides, so that its centre lies at k + 0.5.
    """
    values, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape) + int(len(values) > 0 and values[0] != 0)
    found = []
    for number, box in enumerate(ndimage.find_objects(compact), start=1):
        rings = find_contours(np.pad(compact[box] == number, 1).astype(np.float64), 0.5)
        pieces = shapely.polygons([shapely.linearrings(ring[:, ::-1]) for ring in rings])
        piece = pieces[np.argmax(shapely.area(pieces))]
        # a pixel of padding before, half a pixel from its corner to its centre
        found.append(shapely.transform(piece, lambda xy, at=(box[1].start, box[0].start): xy + at - 0.5))
    outline = np.empty(len(found), dtype=object)
    outline[:] = found
    return values[values != 0].astype(np.int64), whole(shapely.simplify(outline, 0))


def whole(outline: np.ndarray) -> np.ndarray:
    """Polygons, mended where they cross themselves; of several pieces the largest."""
    broken = ~shapely.is_valid(outline)
    if broken.any():
        outline = np.where(broken, shapely.make_valid(outline), outline)
    several = shapely.get_type_id(outline) != shapely.GeometryType.POLYGON
    for number in np.flatnonzero(several):
        parts = shapely.get_parts(outline[number])
        parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
        outline[number] = parts[np.argmax(shapely.area(parts))] if len(parts) else shapely.Polygon()
    return outline


def inside(outline: np.ndarray, image: shapely.Polygon) -> np.ndarray:
    """Cut off what reaches beyond the image, as the last row and column of 0.5 µm may."""
    low, high = np.array(image.bounds[:2]), np.array(image.bounds[2:])
    bounds = shapely.bounds(outline)
    beyond = np.asarray((bounds[:, :2] < low) | (bounds[:, 2:] > high)).any(axis=1)
    if beyond.any():
        outline = outline.copy()
        outline[beyond] = whole(shapely.intersection(outline[beyond], image))
    return outline
