"""Nuclei of a slide by a tool that is made for it: tiles in, labels out, polygons in pixels of the slide."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from tqdm.auto import tqdm

from isost._histology.cells import LARGEST
from isost._histology.outlines import checked_labels, inside, polygons_of
from isost._histology.segmenters import Segmenter
from isost._histology.slide import Slide
from isost._histology.stain import is_tissue
from isost._histology.texture import PIXEL

_TISSUE = 100  # pixels of 0.5 µm, about a nucleus: tiles with less are glass
_SLACK = 8  # pixels about the edge between two tiles in which they may tell the place of a nucleus differently
_SAME = 0.5  # of the smaller of two outlines: more in common, and both are one nucleus
_SAMPLED = 16  # tiles that the range of the colours is found in
_THINNED = 7  # pixels between those that are looked at


@dataclass(frozen=True)
class Span:
    """Of the rows or columns of 0.5 µm: what is read, what of it is a tile's own, and whether there is more about it.

    Attributes
    ----------
    read
        What the method sees.
    core
        The part whose nuclei are this tile's own.
    inner
        Whether there is slide before it, and after it.
    """

    read: slice
    core: slice
    inner: tuple[bool, bool]


@dataclass(frozen=True)
class Tile:
    """A rectangle of the slide."""

    rows: Span
    columns: Span


@dataclass(frozen=True, eq=False)
class Nuclei:
    """What was found on a slide.

    Attributes
    ----------
    outline
        (n,) polygons in pixels of the slide.
    probability
        (n,), or None where the method gives none.
    n_cut
        How many of them reach the edge of their tile.
    n_large
        How many outlines were left out, as they are larger than any nucleus.
    n_tiles
        Tiles with tissue.
    """

    outline: np.ndarray
    probability: np.ndarray | None
    n_cut: int
    n_large: int
    n_tiles: int


def tiles_of(slide: Slide, side: int, overlap: int) -> list[Tile]:
    """Tiles of up to `side` pixels of 0.5 µm that reach `overlap` pixels beyond what is their own."""
    rows, columns = (_spans(max(1, int(np.ceil(length * slide.pixel_size / PIXEL - 1e-6))), side, overlap)
                     for length in slide.shape)  # fmt: skip
    return [Tile(row, column) for row in rows for column in columns]


def _spans(length: int, side: int, overlap: int) -> list[Span]:
    n = -(-length // (side - 2 * overlap))
    edges = np.linspace(0, length, n + 1).round().astype(int).tolist()
    return [Span(slice(max(start - overlap, 0), min(stop + overlap, length)), slice(start, stop),
                 (start > 0, stop < length)) for start, stop in pairwise(edges)]  # fmt: skip


def read_tile(slide: Slide, tile: Tile) -> np.ndarray:
    """(h, w, 3) uint8."""
    step = PIXEL / slide.pixel_size
    y, x = tile.rows.read, tile.columns.read
    return slide.resampled(y.start * step, x.start * step, y.stop - y.start, x.stop - x.start, PIXEL)


def has_tissue(rgb: np.ndarray) -> bool:
    """Whether a tile shows more than glass."""
    return int(is_tissue(rgb[::2, ::2]).sum()) * 4 >= _TISSUE


def sample_of(slide: Slide, tiles: list[Tile]) -> np.ndarray:
    """(n, 3) uint8 of some tiles with tissue, so that all tiles are rescaled alike; none of a blank slide."""
    found: list[np.ndarray] = [np.zeros((0, 3), dtype=np.uint8)]
    for number in np.random.default_rng(0).permutation(len(tiles)):
        rgb = read_tile(slide, tiles[number])
        if has_tissue(rgb):
            found.append(rgb[::_THINNED, ::_THINNED].reshape(-1, 3))
        if len(found) > _SAMPLED:
            break
    return np.concatenate(found)


def segmented(slide: Slide, tiles: list[Tile], segment: Segmenter, *, progress: bool) -> Nuclei:
    """Segment tiles one by one and put together what they find, each nucleus once.

    A nucleus belongs to the tile in whose core its centroid lies, where it is whole. Near the edge of a core, where
    two tiles may tell the centroid differently, both may give it, and of two that overlap the one further inside its
    core is kept.

    Raises
    ------
    TypeError, ValueError
        If the method gives anything but labels.
    """
    outlines, depths, cuts, numbers, certain = [], [], [], [], []
    n_large = n_tiles = 0
    step = PIXEL / slide.pixel_size
    rows, columns = slide.shape
    image = shapely.box(0, 0, columns, rows)
    with tqdm(total=len(tiles), desc="nuclei", unit="tile", disable=not progress) as bar:
        for number, tile in enumerate(tiles):
            rgb = read_tile(slide, tile)
            if has_tissue(rgb):
                n_tiles += 1
                labels, probability = checked_labels(segment(rgb), rgb.shape[:2])
                ids, polygons = polygons_of(labels)
                corner = (tile.columns.read.start, tile.rows.read.start)
                polygons = shapely.transform(polygons, lambda xy, corner=corner: xy + corner)
                depth = _depth(shapely.get_coordinates(shapely.centroid(polygons)), tile)
                own = depth >= -_SLACK
                cut = _reaches_edge(labels, ids, tile)
                polygons = inside(shapely.transform(polygons[own], lambda xy: xy * step), image)
                bounds = shapely.bounds(polygons)
                fine = np.asarray((bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0) * slide.pixel_size <= LARGEST)
                n_large += int((~fine & (depth[own] >= 0)).sum())
                fine &= shapely.area(polygons) > 0
                outlines.append(polygons[fine])
                depths.append(depth[own][fine])
                cuts.append(cut[own][fine])
                numbers.append(np.full(int(fine.sum()), number))
                known = np.full(len(ids), np.nan) if probability is None else probability[ids - 1]
                certain.append((known[own][fine], probability is not None))
            bar.update()
    if not outlines:
        return Nuclei(np.zeros(0, dtype=object), None, 0, 0, 0)
    outline, depth, cut = np.concatenate(outlines), np.concatenate(depths), np.concatenate(cuts)
    kept = _once(outline, depth, np.concatenate(numbers))
    probability = np.concatenate([known for known, _ in certain])[kept] if any(given for _, given in certain) else None
    return Nuclei(outline[kept], probability, int(cut[kept].sum()), n_large, n_tiles)


def _depth(centre: np.ndarray, tile: Tile) -> np.ndarray:
    """(n,) how far within the core a place is, from its sides that are none of the image; negative outside of it."""
    depth = np.full(len(centre), np.inf)
    for at, span in zip(centre.T, (tile.columns, tile.rows), strict=True):
        if span.inner[0]:
            depth = np.minimum(depth, at - span.core.start)
        if span.inner[1]:
            depth = np.minimum(depth, span.core.stop - at)
    return depth


def _reaches_edge(labels: np.ndarray, ids: np.ndarray, tile: Tile) -> np.ndarray:
    """(n,) whether a label lies on a side of the tile that is none of the image."""
    (above, below), (before, after) = tile.rows.inner, tile.columns.inner
    sides = [np.zeros(0, dtype=labels.dtype)] + [labels[0]] * above + [labels[-1]] * below
    sides += [labels[:, 0]] * before + [labels[:, -1]] * after
    return np.isin(ids, np.concatenate(sides))


def _once(outline: np.ndarray, depth: np.ndarray, tile: np.ndarray) -> np.ndarray:
    """(m,) rows to keep: of outlines of several tiles that are one nucleus, the one furthest within its core."""
    rim = np.flatnonzero(depth < 2 * _SLACK)
    rim = rim[np.argsort(-depth[rim], kind="stable")]
    shapes = outline[rim]
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    ahead = (first < second) & (tile[rim[first]] != tile[rim[second]])
    first, second = first[ahead], second[ahead]
    common = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    area = shapely.area(shapes)
    same = common > _SAME * np.minimum(area[first], area[second])
    gone = np.zeros(len(rim), dtype=bool)
    order = np.lexsort((first[same], second[same]))
    for one, other in zip(first[same][order], second[same][order], strict=True):  # all of `one` are settled before
        gone[other] |= not gone[one]
    kept = np.ones(len(outline), dtype=bool)
    kept[rim[gone]] = False
    return np.flatnonzero(kept)
