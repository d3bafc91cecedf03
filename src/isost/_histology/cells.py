"""The cell door: outlines, points or spots, as pixels of a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from anndata import AnnData
from spatialdata import transform

from isost._core.checks import show
from isost._histology.slide import Slide
from isost._logging import logger

POINT_RADIUS = 4.0  # µm, about a nucleus, where there is no outline
_SIDES = 16  # of a quarter of a circle
LARGEST = 400.0  # µm across; what is larger is no cell and no spot


@dataclass(frozen=True, eq=False)
class Cells:
    """What expression is wanted of.

    Attributes
    ----------
    names
        (n,) of the cells.
    centre
        (n, 2) x, y in pixels of the slide.
    outline
        (n,) polygons in pixels of the slide: nuclei, cells or spots; of points, a disc.
    outlined
        Whether outlines were given, so that their shape says something.
    """

    names: pd.Index
    centre: np.ndarray
    outline: np.ndarray
    outlined: bool

    def __len__(self) -> int:
        return len(self.names)


def read_cells(cells: Any, slide: Slide, *, unit: str, spatial_key: str, radius: float | None) -> Cells:
    """Read cells and lay them on the slide.

    Parameters
    ----------
    cells
        GeoDataFrame (of polygons, or of points, circles where there is a column ``radius``), an element of SpatialData
        among them; AnnData with positions; or (n, 2) positions.
    unit
        ``"pixel"``: places are those of the frame that the image lies in, pixels where it says of none. ``"um"``: µm
        from the corner of the image.
    radius
        µm, of points.

    Raises
    ------
    TypeError, ValueError
        If they are none, have no names of their own, or do not lie on the slide.
    """
    names, places, shapes = _opened(cells, spatial_key)
    if not len(names):
        raise ValueError("cells: expected one or more, found none. Next: look at the segmentation.")
    if not names.is_unique:
        twice = names[names.duplicated()].unique()
        raise ValueError(
            f"cells: expected a name of its own for each, found some twice ({show(twice)}). Next: "
            "cells.index = [f'cell{k}' for k in range(len(cells))], or adata.obs_names_make_unique()."
        )
    to = slide.to_pixels if unit == "pixel" else np.array([[1.0, 0, 0], [0, 1.0, 0]]) / slide.pixel_size
    outlined = shapes is not None
    if shapes is None:
        if not np.isfinite(places).all():
            bad = int((~np.isfinite(places).all(axis=1)).sum())
            raise ValueError(f"cells: expected finite positions, found {bad} of {len(places)} that are not. Next: "
                             "leave them out.")  # fmt: skip
        centre = places @ to[:, :2].T + to[:, 2]
        outline = shapely.buffer(shapely.points(centre), (radius or POINT_RADIUS) / slide.pixel_size, quad_segs=_SIDES)
    else:
        outline = shapely.transform(shapes, lambda xy: xy @ to[:, :2].T + to[:, 2])
        centre = shapely.get_coordinates(shapely.centroid(outline))
    _check_place(centre, slide, unit)
    bounds = shapely.bounds(outline)
    across = float((bounds[:, 2:] - bounds[:, :2]).max()) * slide.pixel_size
    if across > LARGEST:
        raise ValueError(
            f"cells: expected cells or spots, found an outline of {across:.0f} µm across. Next: look at pixel_size "
            f"({slide.pixel_size:g} µm), at the unit of the outlines ({unit!r}), or leave regions out."
        )
    return Cells(names, centre, outline, outlined)


def _opened(cells: Any, spatial_key: str) -> tuple[pd.Index, np.ndarray, np.ndarray | None]:
    """Names, positions (n, 2), and polygons where there are any."""
    if isinstance(cells, AnnData):
        if spatial_key not in cells.obsm:
            raise ValueError(
                f"spatial_key: expected positions in obsm ({show(cells.obsm)}), found {spatial_key!r}. Next: name "
                "those that are pixels of the image."
            )
        return cells.obs_names, _positions(np.asarray(cells.obsm[spatial_key])), None
    if isinstance(cells, gpd.GeoDataFrame):
        if "transform" in cells.attrs:
            cells = transform(cells, to_coordinate_system="global")
        return _of_frame(cells)
    if isinstance(cells, (np.ndarray, list, tuple, pd.DataFrame)):
        index = cells.index if isinstance(cells, pd.DataFrame) else None
        places = _positions(np.asarray(cells))
        return (
            (pd.Index([f"cell{k}" for k in range(len(places))]) if index is None else index.astype(str)),
            places,
            None,
        )
    raise TypeError(
        f"cells: expected a GeoDataFrame, an AnnData or positions (n, 2), found {type(cells).__name__}. Next: "
        "sdata['nuclei'], for instance."
    )


def _of_frame(cells: gpd.GeoDataFrame) -> tuple[pd.Index, np.ndarray, np.ndarray | None]:
    names, shapes = cells.index.astype(str), np.asarray(cells.geometry.values)
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if missing.any():
        raise ValueError(
            f"cells: expected an outline or a point for each, found {int(missing.sum())} of {len(missing)} that are "
            "empty. Next: cells = cells[~cells.is_empty & cells.geometry.notna()]."
        )
    kinds = set(cells.geom_type)
    if kinds == {"Point"}:
        places = shapely.get_coordinates(shapes)
        if "radius" in cells:
            wide = cells["radius"].to_numpy(np.float64)
            bad = int((~(np.isfinite(wide) & (wide > 0))).sum())
            if bad:
                raise ValueError(
                    f"cells: expected a radius above 0 for each, found {bad} of {len(wide)} without. Next: leave "
                    "them out."
                )
            return names, places, shapely.buffer(shapes, wide, quad_segs=_SIDES)
        return names, places, None
    if not kinds <= {"Polygon", "MultiPolygon"}:
        raise ValueError(
            f"cells: expected polygons or points, found {', '.join(sorted(kinds))}. Next: cells.buffer(...)."
        )
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        shapes = np.where(broken, shapely.buffer(shapely.make_valid(shapes), 0), shapes)
        logger.info(
            "histology_features: %d of %d outlines cross themselves and were mended", int(broken.sum()), len(broken)
        )
    flat = int((shapely.area(shapes) <= 0).sum())
    if flat:
        raise ValueError(f"cells: expected outlines with an area, found {flat} without. Next: leave them out.")
    return names, np.zeros((len(names), 2)), shapes


def _positions(values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "iuf":
        raise ValueError(
            f"cells: expected positions (n, 2), found {values.dtype} of shape {values.shape}. Next: x and y."
        )
    return values[:, :2].astype(np.float64)


def _check_place(centre: np.ndarray, slide: Slide, unit: str) -> None:
    rows, columns = slide.shape
    outside = np.asarray((centre < 0) | (centre >= (columns, rows))).any(axis=1)
    if outside.any():
        low, high = centre.min(axis=0), centre.max(axis=0)
        other = "um" if unit == "pixel" else "pixel"
        raise ValueError(
            f"cells: expected places on the image of {columns} x {rows} pixels, found {int(outside.sum())} of "
            f"{len(centre)} outside (x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f} in pixels). "
            f"Next: unit={other!r} if they are given in that, else leave those out."
        )
