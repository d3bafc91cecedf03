"""Nuclei of a slide by a tool that is made for it: tiles in, labels out, polygons in pixels of the slide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from scipy import ndimage
from skimage.measure import find_contours
from tqdm.auto import tqdm

from isost._core.fit import choose_device
from isost._core.optional import load_extra
from isost._histology.cells import LARGEST
from isost._histology.slide import Slide
from isost._histology.stain import is_tissue
from isost._histology.texture import PIXEL

_TISSUE = 100  # pixels of 0.5 µm, about a nucleus: tiles with less are glass
_SLACK = 8  # pixels about the edge between two tiles in which they may tell the place of a nucleus differently
_SAME = 0.5  # of the smaller of two outlines: more in common, and both are one nucleus
_SAMPLED = 16  # tiles that the range of the colours is found in
_THINNED = 7  # pixels between those that are looked at
_STARDIST = "2D_versatile_he"
_STARDIST_RANGE = (1.0, 99.8)  # percentiles that are 0 and 1, of the colours together
_STARDIST_TILE = 1024  # pixels that its network sees at once
_CELLPOSE_RANGE = (1.0, 99.0)  # of each colour

#: A tile (h, w, 3) uint8 to labels (h, w), or to these and the probabilities (n,) of labels 1 to n.
Segmenter = Callable[[np.ndarray], Any]
#: Pixels (n, 3) uint8 of the slide, from which the range of its colours is told, to what takes tiles.
Prepared = Callable[[np.ndarray], Segmenter]


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


def load_stardist(device: str | None) -> Prepared:
    """StarDist with its weights for H&E, on the device of TensorFlow.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    models = load_extra("stardist.models", "stardist")
    rescaled = load_extra("csbdeep.utils", "stardist").normalize_mi_ma
    model = models.StarDist2D.from_pretrained(_STARDIST)

    def prepared(sample: np.ndarray) -> Segmenter:
        low, high = (float(value) for value in np.percentile(sample, _STARDIST_RANGE))

        def segment(rgb: np.ndarray) -> Any:
            n_tiles = (*(-(-side // _STARDIST_TILE) for side in rgb.shape[:2]), 1)
            labels, details = model.predict_instances(
                rescaled(rgb, low, max(high, low + 1)), axes="YXC", n_tiles=n_tiles, show_tile_progress=False
            )
            return labels, details["prob"]

        return segment

    return prepared


def load_cellpose(device: str | None) -> Prepared:
    """Cellpose 4 with the weights that it takes by default; the probability is the mean over the pixels.

    Raises
    ------
    ImportError
        If it is not installed, or too old.
    """
    models = load_extra("cellpose.models", "cellpose")
    version = str(load_extra("cellpose", "cellpose").version)
    if version.split(".")[0].isdecimal() and int(version.split(".")[0]) < 4:
        raise ImportError(
            f"Expected cellpose 4 or newer, found {version}. Next: pip install 'isost[cellpose]', or pass a function."
        )
    where = choose_device(device)
    model = models.CellposeModel(gpu=where.type != "cpu", device=where)

    def prepared(sample: np.ndarray) -> Segmenter:
        low, high = np.percentile(sample, _CELLPOSE_RANGE, axis=0)
        known = np.column_stack([low, np.maximum(high, low + 1)]).tolist()

        def segment(rgb: np.ndarray) -> Any:
            labels, flows = model.eval(rgb, channel_axis=-1, normalize={"lowhigh": known})[:2]
            labels = np.asarray(labels).astype(np.int64)
            inside = 1 / (1 + np.exp(-np.asarray(flows[2], dtype=np.float64)))
            n = int(labels.max(initial=0))
            return labels, ndimage.mean(inside, labels, np.arange(1, n + 1)) if n else np.zeros(0)

        return segment

    return prepared


LOAD = {"stardist": load_stardist, "cellpose": load_cellpose}


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
                polygons = _inside(shapely.transform(polygons[own], lambda xy: xy * step), image)
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
    return values[values != 0].astype(np.int64), _whole(shapely.simplify(outline, 0))


def _whole(outline: np.ndarray) -> np.ndarray:
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


def _inside(outline: np.ndarray, image: shapely.Polygon) -> np.ndarray:
    """Cut off what reaches beyond the image, as the last row and column of 0.5 µm may."""
    low, high = np.array(image.bounds[:2]), np.array(image.bounds[2:])
    bounds = shapely.bounds(outline)
    beyond = np.asarray((bounds[:, :2] < low) | (bounds[:, 2:] > high)).any(axis=1)
    if beyond.any():
        outline = outline.copy()
        outline[beyond] = _whole(shapely.intersection(outline[beyond], image))
    return outline


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
