"""What a viewer shows of a reconstruction, as plain layers with z, y, x in the unit of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from matplotlib.colors import to_rgba
from scipy.spatial import cKDTree
from spatialdata import SpatialData, get_pyramid_levels

from isost._core.downsample import block_mean
from isost._core.voxels import place_of
from isost._logging import logger
from isost.pl._budget import within_budget
from isost.pl._palette import palette
from isost.pl._quantity import Volume
from isost.pl._style import contrast

PREFIX = "isost_"
_IN_3D = 2**26  # voxels that a graphics card draws at once
_SAMPLED = 2**18  # voxels that limits of colours are taken from
_MOST_CELLS = 300_000


@dataclass(frozen=True, eq=False)
class Layer:
    """Data of a layer, and where it lies: `scale` and `translate` along z, y, x, of the centres of its voxels."""

    data: Any
    name: str
    scale: np.ndarray
    translate: np.ndarray
    options: dict[str, Any]


def volume_layer(volume: Volume, name: str, colormap: str, vmin: float | str | None, vmax: float | str | None) -> Layer:
    """Make the layer of a quantity: a pyramid where it has more voxels than can be drawn in 3D.

    A viewer draws the last level of a pyramid in 3D, so that the pyramid ends with the finest that can be drawn.
    Outside the tissue lies the lower limit of the colours, which is black and adds nothing.
    """
    limits = contrast(within_budget(volume, _SAMPLED, quiet=True).tissue, vmin, vmax)
    levels = [volume.tissue]
    while np.prod(levels[-1].shape) > _IN_3D:
        levels.append(block_mean(levels[-1], tuple(min(2, length) for length in levels[-1].shape)))
    if len(levels) > 1:
        logger.info(
            "%s: in 3D means of %d x %d x %d voxels are shown, in 2D each voxel",
            name, *(round(a / b) for a, b in zip(levels[0].shape, levels[-1].shape, strict=True)),
        )  # fmt: skip
    shown = [da.where(da.isnan(level), np.float32(limits[0]), level) for level in levels]
    options = {"contrast_limits": limits, "colormap": colormap, "blending": "additive", "rendering": "mip"}
    data = shown if len(shown) > 1 else shown[0]
    return Layer(data, name, volume.voxel[::-1], (volume.origin + volume.voxel / 2)[::-1], options)


def labels_layer(sdata: SpatialData, key: str) -> Layer:
    """Make the layer of a labels element, with the names and colours that are known of it."""
    name = next((name for name in (key, PREFIX + key) if name in sdata.labels), None)
    if name is None:
        known = ", ".join(repr(found) for found in sdata.labels) or "none"
        raise KeyError(
            f"labels: expected {key!r} or {PREFIX + key!r} among the labels of sdata, found {known}. Next: name one of "
            "these."
        )
    element = sdata.labels[name]
    levels = [level.data for level in get_pyramid_levels(element)] if hasattr(element, "children") else [element.data]
    if levels[0].ndim != 3:
        raise ValueError(f"labels: expected {name!r} in 3D, found {levels[0].ndim}D. Next: leave it out.")
    origin, size = place_of(element)
    names, colors = names_and_colors(sdata, key.removeprefix(PREFIX), int(levels[-1].max()))
    options: dict[str, Any] = {"opacity": 0.5}
    if names:
        options["colormap"] = {None: "transparent", 0: "transparent"} | {
            number: np.array(to_rgba(color)) for number, color in enumerate(colors, start=1)
        }
        options["features"] = {"index": np.arange(len(names) + 1), "name": ["outside", *names]}
    data = levels if len(levels) > 1 else levels[0]
    return Layer(data, key.removeprefix(PREFIX), size[::-1], (origin + size / 2)[::-1], options)


def names_and_colors(sdata: SpatialData, key: str, n: int) -> tuple[list[str], list[str]]:
    """Look up what the labels 1, 2, ... of an element are called, and their colours; empty where nothing is known."""
    known = sdata.attrs.get("isost", {}).get("labels", {}).get(key)
    if not known:
        return [], []
    names, colors = list(map(str, known.get("names", []))), list(known.get("colors", []))
    names += [str(number + 1) for number in range(len(names), n)]
    return names, colors if len(colors) >= len(names) else list(palette(len(names)))


def cells_layer(sdata: SpatialData) -> Layer | None:
    """Make the layer of the reconstructed cells, as wide as they are apart; None where there are none."""
    if "isost_points" not in sdata.points:
        return None
    places = sdata.points["isost_points"][["z", "y", "x"]].compute().to_numpy(dtype=np.float64)
    step = -(-len(places) // _MOST_CELLS)
    shown, name = places[::step], "cells" if step == 1 else f"cells, 1 of {step}"
    if step > 1:
        logger.info("cells: 1 of %d is shown, %d of %d", step, len(shown), len(places))
    if not len(shown):
        return None
    apart = np.median(cKDTree(shown).query(shown[:5000], k=2)[0][:, 1]) if len(shown) > 1 else 1.0
    options = {"size": float(apart) * 0.7, "face_color": "#9fd3e6", "border_width": 0, "opacity": 0.5, "visible": False}
    return Layer(shown, name, np.ones(3), np.zeros(3), options)


def sections_layer(volume: Volume) -> Layer | None:
    """Make the layer of frames at the depths of the measured sections; None where none lies in the volume."""
    (left, right), (near, far) = volume.edges(0), volume.edges(1)
    frames = [
        np.array([(z, near, left), (z, near, right), (z, far, right), (z, far, left)]) for z in volume.sections_inside
    ]
    if not frames:
        return None
    width = 0.004 * max(right - left, far - near)
    options = {"shape_type": "polygon", "edge_color": "#bbbbbb", "face_color": "transparent", "edge_width": width}
    return Layer(frames, "measured sections", np.ones(3), np.zeros(3), options)


def hues(n: int, asked: Sequence[str] | None) -> list[str]:
    """Choose colour maps that start at black, so that volumes add up."""
    if asked is not None:
        if isinstance(asked, str) or len(asked) < n:
            raise ValueError(f"cmaps: expected one for each of {n} genes, found {asked!r}. Next: leave it out.")
        return list(asked)
    return ["inferno"] if n == 1 else [("magenta", "green", "cyan", "yellow", "red", "blue")[k % 6] for k in range(n)]
