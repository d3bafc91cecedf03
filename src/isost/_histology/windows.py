"""Statistics of maps in each cell and in windows about it, from one pass over the slide."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import shapely
from skimage.draw import polygon as pixels_of
from threadpoolctl import threadpool_limits

from isost._histology.cells import Cells
from isost._histology.slide import Slide
from isost._histology.stain import Stains
from isost._histology.texture import PIXEL, REACH, texture_maps

WINDOWS = (64.0, 128.0, 256.0, 512.0, 1024.0)  # µm
_BLOCK = 1024  # pixels of 0.5 µm that are read at a time, beside what filters reach
_GRAIN = 32  # of these pixels that windows are made of
_THREADS = 2


@dataclass(frozen=True, eq=False)
class Block:
    """A square of the slide in pixels of 0.5 µm, and the cells whose centre is in it."""

    row: int
    column: int
    cells: np.ndarray


Found = tuple[Block, list[str], np.ndarray, np.ndarray, np.ndarray]


def texture_features(
    slide: Slide, cells: Cells, stains: Stains, *, done: Callable[[], None], n_blocks: Callable[[int], None]
) -> tuple[np.ndarray, list[str]]:
    """Mean and standard deviation of each map in the outline of each cell and in windows about its centre.

    The slide is read once, a block at a time, where a cell is within reach. Windows are sums over grains of 16 µm,
    parts of these included by area.

    Returns
    -------
    (n, d) float32, and d names ``"<map> <where> <mean or sd>"``.
    """
    scale = slide.pixel_size / PIXEL
    centre = cells.centre * scale
    outline = shapely.transform(cells.outline, lambda xy: xy * scale)
    blocks = list(_blocks(slide, centre))
    n_blocks(len(blocks))
    bounds = shapely.bounds(outline)
    reach = REACH + int(np.ceil((bounds[:, 2:] - bounds[:, :2]).max())) + 2
    reach += -reach % 2
    shape = (-(-(max(block.row for block in blocks) + 1) * _BLOCK // _GRAIN),
             -(-(max(block.column for block in blocks) + 1) * _BLOCK // _GRAIN))  # fmt: skip
    names: list[str] = []
    own: np.ndarray | None = None
    grains: np.ndarray | None = None
    seen = np.zeros(shape)

    def look(block: Block) -> Found:
        return block, *_of_block(slide, block, outline, stains, reach)

    with threadpool_limits(1), ThreadPoolExecutor(_THREADS) as pool:
        for block, names, inside, mean_of, known in _ahead(pool, look, blocks):
            if own is None or grains is None:
                own = np.zeros((2, len(names), len(cells)), dtype=np.float32)
                grains = np.zeros((2 * len(names), *shape), dtype=np.float32)
            own[:, :, block.cells] = inside
            at = tuple(slice(k * _BLOCK // _GRAIN, (k + 1) * _BLOCK // _GRAIN) for k in (block.row, block.column))
            seen[at] = known
            grains[(slice(None), *at)] = mean_of
            done()
    assert own is not None and grains is not None  # there is a block
    parts = [(own.transpose(2, 0, 1), "in it")]
    parts += [(_in_windows(grains, seen, centre, width / PIXEL / _GRAIN), f"{width:g} um") for width in WINDOWS]
    columns = [np.stack([mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=1) for (mean, square) in
               (np.moveaxis(values.reshape(len(cells), 2, -1), 1, 0) for values, _ in parts)]  # fmt: skip
    titles = [f"{name} {where} {what}" for _, where in parts for what in ("mean", "sd") for name in names]
    return np.concatenate([part.reshape(len(cells), -1) for part in columns], axis=1).astype(np.float32), titles


def _blocks(slide: Slide, centre: np.ndarray) -> Iterator[Block]:
    """Squares that a cell or a window about one lies in."""
    size = np.array(slide.shape) * slide.pixel_size / PIXEL
    rows, columns = np.maximum(np.ceil(size / _BLOCK).astype(int), 1)
    at = np.minimum((centre[:, ::-1] // _BLOCK).astype(int), (rows - 1, columns - 1))
    wanted = np.zeros((rows, columns), dtype=bool)
    far = max(WINDOWS) / PIXEL / 2
    low = np.clip(((centre[:, ::-1] - far) // _BLOCK).astype(int), 0, None)
    high = np.minimum(((centre[:, ::-1] + far) // _BLOCK).astype(int), (rows - 1, columns - 1))
    for top, left, bottom, right in np.unique(np.hstack([low, high]), axis=0):
        wanted[top : bottom + 1, left : right + 1] = True
    number = at[:, 0] * columns + at[:, 1]
    order = np.argsort(number, kind="stable")
    first = np.searchsorted(number[order], np.arange(rows * columns + 1))
    for row, column in np.argwhere(wanted):
        k = row * columns + column
        yield Block(int(row), int(column), order[first[k] : first[k + 1]])


def _of_block(
    slide: Slide, block: Block, outline: np.ndarray, stains: Stains, reach: int
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Names of the maps; (2, m, c) mean and mean square in each cell, (2 m, g, g) in each grain, and (g, g) known."""
    top, left = block.row * _BLOCK - reach, block.column * _BLOCK - reach
    step, side = PIXEL / slide.pixel_size, _BLOCK + 2 * reach
    rgb = slide.resampled(top * step, left * step, side, side, PIXEL)
    near = shapely.transform(outline[block.cells], lambda xy: (xy - (left, top)) / 2 - 0.5)
    middle = (2 * np.arange(side // 2) + 1) * step
    image = np.outer(*(((middle + start * step > 0) & (middle + start * step < end))
                       for start, end in zip((top, left), slide.shape, strict=True)))  # fmt: skip
    where, which = _pixels(near, image.shape)
    seen = np.bincount(which, image.ravel()[where], len(near)) > 0
    kept = image.ravel()[where] | ~seen[which]  # of a cell on the very edge, what there is
    where, which = where[kept], which[kept]
    count = np.maximum(np.bincount(which, minlength=len(near)), 1)
    names, inside, grains = [], [], []
    core = slice(reach // 2, reach // 2 + _BLOCK // 2)
    for name, values in texture_maps(rgb, stains):
        names.append(name)
        own = values.ravel()[where].astype(np.float64)
        inside.append([np.bincount(which, own**power, len(near)) / count for power in (1, 2)])
        grains.append([_grains((image * values)[core, core] ** power) for power in (1, 2)])
    known = _grains(image[core, core].astype(np.float64))
    mean_of = np.swapaxes(np.array(grains, dtype=np.float32), 0, 1).reshape(2 * len(names), *known.shape)
    return names, np.swapaxes(np.array(inside, dtype=np.float32), 0, 1), mean_of, known


def _grains(values: np.ndarray) -> np.ndarray:
    side, n = _GRAIN // 2, values.shape[0] * 2 // _GRAIN
    return np.asarray(values.reshape(n, side, n, side).mean(axis=(1, 3)))


def _pixels(outline: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Raveled pixels of each polygon, with its holes, and the number of the polygon; one pixel at the least."""
    where, which = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for number, shape_ in enumerate(outline):
        found = []
        for part in shapely.get_parts(shape_):
            x, y = shapely.get_coordinates(shapely.get_exterior_ring(part)).T
            found.append(np.ravel_multi_index(pixels_of(y, x, shape), shape))
        inside = np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
        if not len(inside):
            x, y = np.clip(
                shapely.get_coordinates(shapely.centroid(shape_))[0].round(), 0, (shape[1] - 1, shape[0] - 1)
            )
            inside = np.array([int(y) * shape[1] + int(x)])
        where.append(inside)
        which.append(np.full(len(inside), number))
    return np.concatenate(where), np.concatenate(which)


def _in_windows(grains: np.ndarray, known: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    """(n, 2 m) means over squares of so many grains about places, of which parts of grains count by their area."""
    at = centre[:, ::-1] / _GRAIN
    edges = [np.clip(at + sign * width / 2, 0, known.shape) for sign in (-1, 1)]
    area = _sums(known, edges)
    return np.stack([_sums(values, edges) for values in grains], axis=1) / np.maximum(area, 1e-9)[:, None]


def _sums(values: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) integrals of a piecewise constant image over rectangles, through its integral image."""
    whole = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    whole[1:, 1:] = values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)

    def corner(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        j, i = np.minimum(y.astype(int), values.shape[0] - 1), np.minimum(x.astype(int), values.shape[1] - 1)
        v, u = y - j, x - i
        return ((1 - v) * (1 - u) * whole[j, i] + (1 - v) * u * whole[j, i + 1] + v * (1 - u) * whole[j + 1, i]
                + v * u * whole[j + 1, i + 1])  # fmt: skip

    (top, left), (bottom, right) = (edge.T for edge in edges)
    return corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)


def _ahead(pool: ThreadPoolExecutor, look: Callable[[Block], Found], blocks: Sequence[Block]) -> Iterator[Found]:
    """Give what is found in order, so many blocks ahead as there are threads."""
    coming: deque[Future[Found]] = deque()
    for block in blocks:
        coming.append(pool.submit(look, block))
        if len(coming) > _THREADS:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()
