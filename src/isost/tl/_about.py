"""What distances are measured from: an axis, a point, a region or the surface, as it was asked for and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spatialdata import SpatialData

from isost._core.checks import show, to_numbers
from isost._core.requests import as_number
from isost._core.voxels import full_resolution
from isost._tools.axis import Line, centre_line, trace_lumen
from isost._tools.distance import DistanceFrom, FromLine, FromPoint, FromRegion, Within, rim
from isost.tl._places import Places

Vector = Sequence[float] | np.ndarray
Region = str | tuple[str, object] | np.ndarray
_SMOOTHING = 4.0  # sizes of a voxel, or of the distance between sections where that is more, of a traced line


def distance_from(
    data: Any,
    places: Places,
    *,
    axis: str | Sequence[Vector] | np.ndarray | None,
    point: Vector | None,
    direction: Vector | None,
    region: Region | None,
) -> tuple[DistanceFrom, dict[str, Any]]:
    """Check what was asked for, and make what gives distances from it; and what to note of it."""
    given = {"axis": axis, "point": point, "region": region}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(
            f"axis, point, region: expected one of them, found {', '.join(named) or 'none'}. "
            "Next: axis='centre' measures from the middle of the tissue, point=(x, y, z) from a point."
        )
    if direction is not None and point is None:
        raise ValueError("direction: expected a point with it, found none. Next: pass point=(x, y, z) too.")
    if point is not None:
        return _from_point(as_vector("point", point), None if direction is None else as_vector("direction", direction))
    if axis is not None:
        line = _line(data, places, axis)
        kind = axis if isinstance(axis, str) else "axis"
        return FromLine(line), {"about": kind, "axis": line.points}
    assert region is not None  # one of the three was given
    return _from_region(data, places, region)


def as_vector(name: str, value: Vector) -> np.ndarray:
    """Make (3,) float64 of three finite numbers.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If they are not three, or not finite.
    """
    numbers = to_numbers(np.asarray(value))
    if isinstance(numbers, list):
        raise TypeError(f"{name}: expected three numbers, found {value!r}. Next: {name}=(0.0, 0.0, 1.0), for instance.")
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(
            f"{name}: expected three finite numbers (x, y, z), found {value!r}. Next: {name}=(0.0, 0.0, 1.0), say."
        )
    return numbers


def as_direction(name: str, value: Vector) -> np.ndarray:
    """Make (3,) float64 of three numbers that are not all zero.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If they are not three, not finite, or all zero.
    """
    vector = as_vector(name, value)
    if not np.linalg.norm(vector) > 0:
        raise ValueError(f"{name}: expected a direction, found zeros. Next: {name}=(0, 0, 1) is that of depth.")
    return vector


def as_length(name: str, value: float) -> float:
    """Make a float of a number above 0.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is 0 or less, or not finite.
    """
    number = as_number(name, value)
    if not 0 < number < np.inf:
        raise ValueError(f"{name}: expected a number above 0, found {value!r}. Next: leave it out.")
    return number


def _from_point(point: np.ndarray, direction: np.ndarray | None) -> tuple[DistanceFrom, dict[str, Any]]:
    if direction is None:
        return FromPoint(point), {"about": "point", "point": point}
    if not np.linalg.norm(direction) > 0:
        raise ValueError("direction: expected a direction, found zeros. Next: direction=(0, 0, 1) is that of depth.")
    line = Line(np.stack([point, point + direction / np.linalg.norm(direction)]))
    return FromLine(line), {"about": "axis", "axis": line.points}


def _line(data: Any, places: Places, axis: str | Sequence[Vector] | np.ndarray) -> Line:
    if isinstance(axis, str):
        return Line(_traced(data, places, axis))
    try:
        points = to_numbers(np.asarray(axis))
    except ValueError:  # rows of different lengths
        points = ["rows of different lengths"]
    if isinstance(points, list):
        raise TypeError(f"axis: expected points (m, 3), found {show(points)}. Next: numpy.column_stack([x, y, z]).")
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(
            f"axis: expected finite points (m, 3), found shape {points.shape}. Next: numpy.column_stack([x, y, z])."
        )
    apart = np.ones(len(points), dtype=bool)
    apart[1:] = np.any(np.diff(points, axis=0) != 0, axis=1)
    if apart.sum() < 2:
        raise ValueError(f"axis: expected two or more points apart, found {apart.sum()}. Next: point=(x, y, z).")
    return Line(points[apart])


def _traced(data: Any, places: Places, axis: str) -> np.ndarray:
    gaps = np.diff(places.voxels.section_depths) if places.voxels is not None else np.empty(0)
    smoothing = max(_SMOOTHING * float(places.size[2]), float(np.median(gaps)) if len(gaps) else 0.0)
    if axis == "centre":
        points = centre_line(places.coords, smoothing)
    elif axis == "lumen":
        if places.voxels is None:
            raise ValueError(
                "axis: expected 'centre' or points for an AnnData, found 'lumen', which is traced through the density "
                "of a volume. Next: isost.tl.reconstruct(adata), or axis='centre'."
            )
        density = np.asarray(full_resolution(data, "images", "isost_density").data[0])
        found = trace_lumen(density, places.voxels.mask, places.size, smoothing)
        points = places.voxels.origin + found
    else:
        raise ValueError(f"axis: expected 'centre', 'lumen' or points (m, 3), found {axis!r}. Next: axis='centre'.")
    if len(points) < 2:
        raise ValueError(
            f"axis: expected two planes or more to trace it through, found {len(points)}. Next: pass points."
        )
    return points


def _from_region(data: Any, places: Places, region: Region) -> tuple[DistanceFrom, dict[str, Any]]:
    if isinstance(region, str):
        return _from_surface(places, region)
    if isinstance(region, tuple):
        inside, note = _named(data, places, region)
    else:
        inside, note = _mask(places, region), {"about": "region"}
    found = int(inside.sum())
    if not found:
        raise ValueError(f"region: expected places within it, found none of {inside.size}. Next: look at its values.")
    if places.voxels is None:
        return FromRegion(places.coords[inside], np.zeros(3)), note
    return FromRegion(places.voxels.centres(np.argwhere(inside)), places.size), note


def _from_surface(places: Places, region: str) -> tuple[DistanceFrom, dict[str, Any]]:
    if region != "surface" or places.voxels is None:
        raise ValueError(
            f"region: expected 'surface' of a volume, a mask, or (name, value), found {region!r}. "
            "Next: region=('isost_labels', 1) names labels and the value that is meant."
        )
    outside = rim(~places.voxels.mask)
    if not outside.any():
        raise ValueError("region: expected a surface, found tissue in every voxel. Next: a mask of your own.")
    # the rim alone does not say on which side of it a place of another volume lies
    surface = FromRegion(places.voxels.centres(np.argwhere(outside)), places.size)
    return Within(surface, places.voxels.holds), {"about": "surface"}


def _mask(places: Places, region: object) -> np.ndarray:
    mask = np.asarray(region)
    expected = (len(places.coords),) if places.voxels is None else places.voxels.shape
    if mask.shape != expected or mask.dtype != bool:
        raise ValueError(
            f"region: expected a boolean mask of shape {expected}, found {mask.dtype} of shape {mask.shape}. "
            "Next: region=('lesion', 1) takes a labels element or a column of obs instead."
        )
    return mask


def _named(data: Any, places: Places, region: tuple[Any, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """Places where a labels element, or a column of the table, has a value."""
    if len(region) != 2 or not isinstance(region[0], str):
        raise ValueError(f"region: expected (name, value), found {region!r}. Next: region=('lesion', 1), say.")
    name, value = region
    note = {"about": "region", "region": name, "value": str(value)}
    if isinstance(data, SpatialData) and places.voxels is not None and name in data.labels:
        labels = np.asarray(full_resolution(data, "labels", name).data)
        if labels.shape != places.voxels.shape:
            raise ValueError(
                f"region: expected labels of shape {places.voxels.shape}, found {labels.shape}. "
                "Next: labels on the grid of isost_volume."
            )
        return labels == value, note
    if name not in places.table.obs or places.rows is None:
        known = [*(data.labels if isinstance(data, SpatialData) else []), *places.table.obs.columns]
        raise KeyError(f"region: expected a name among {show(known, 12)}, found {name!r}. Next: pass a boolean mask.")
    chosen = (places.table.obs[name] == value).to_numpy(dtype=bool)[places.rows]
    if places.voxels is None or places.index is None:
        return chosen, note
    inside = np.zeros(places.voxels.shape, dtype=bool)
    inside[tuple(places.index[chosen].T)] = True
    return inside, note
