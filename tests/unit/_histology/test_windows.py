"""Features of cells and of windows are the means and deviations of maps, wherever the slide is cut into blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import shapely
from scipy import ndimage

from isost._histology.cells import Cells, read_cells
from isost._histology.slide import Slide, open_slide
from isost._histology.stain import REFERENCE, Stains
from isost._histology.texture import texture_maps
from isost._histology.windows import WINDOWS, texture_features

STAINS = Stains(REFERENCE / np.linalg.norm(REFERENCE, axis=1, keepdims=True), np.array([1.5, 1.0]))
OF_PIXELS = ["haematoxylin", "eosin", "neither", "density", "saturation", "blue", "tissue"]  # no filter
BORDER = 1024  # of the first block
CLOSE = {"rtol": 1e-3, "atol": 2e-3}  # sums of squares in float32


def tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Nuclei, fibres and glass, of both stains; it goes on beyond each edge at the opposite one."""
    draw = np.random.default_rng(seed)
    amounts = [ndimage.gaussian_filter(draw.normal(size=(height, width)), sigma, mode="wrap") for sigma in (6, (3, 9))]
    amounts = [np.clip(0.4 + 0.5 * one / one.std(), 0, None) + 0.1 * draw.random(one.shape) for one in amounts]
    light = np.exp(-np.stack(amounts, axis=-1) @ STAINS.colours)
    light[ndimage.gaussian_filter(draw.normal(size=(height, width)), 20, mode="wrap") > 0.02] = 0.96
    return np.round(255 * light).astype(np.uint8)


def blob(x: float, y: float, radius: float, seed: int = 0) -> shapely.Polygon:
    """An outline with bumps, of nine corners."""
    draw = np.random.default_rng(seed)
    angle, length = np.arange(9) * 2 * np.pi / 9 + draw.uniform(0, 0.5), radius * draw.uniform(0.7, 1.3, 9)
    return shapely.Polygon(np.column_stack([x + length * np.cos(angle), y + length * np.sin(angle)]))


def cells_of(outlines: list[shapely.Polygon]) -> Cells:
    centre = shapely.get_coordinates(shapely.centroid(outlines))
    return Cells(np.arange(len(outlines)).astype(str), centre, np.array(outlines), True)


def at(places: object, rgb: np.ndarray) -> tuple[Slide, Cells]:
    slide = open_slide(rgb, 0.5, finest=0.5)
    return slide, read_cells(np.asarray(places, dtype=float), slide, unit="pixel", spatial_key="", radius=None)


class Features:
    """(n, 25) means or deviations by place, and the column of a map."""

    def __init__(self, slide: Slide, cells: Cells, stains: Stains = STAINS) -> None:
        self.told: list[int] = []
        self.done = 0
        self.values, self.names = texture_features(slide, cells, stains, done=self.count, n_blocks=self.told.append)

    def count(self) -> None:
        self.done += 1

    def of(self, where: str, what: str, maps: list[str] | None = None) -> np.ndarray:
        maps = [name[: -len(" in it mean")] for name in self.names[:25]] if maps is None else maps
        return self.values[:, [self.names.index(f"{name} {where} {what}") for name in maps]]


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return tissue(1408, 1504)  # whole grains of 32 pixels, four blocks


@pytest.fixture(scope="module")
def maps(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Of the whole slide at once; pixel j covers 2 j to 2 j + 2 pixels of the slide."""
    return dict(texture_maps(rgb, STAINS))


def inside(outline: shapely.Polygon, shape: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(*(2 * np.arange(side) + 1.0 for side in shape[::-1]))
    return np.asarray(shapely.contains_xy(outline, x, y))


OUTLINES = [
    blob(x, y, radius, seed)
    for seed, (x, y, radius) in enumerate([
        (300.2, 411.7, 9), (700.4, 200.9, 14), (555.5, 1200.1, 11), (1200.8, 333.3, 9), (1300.3, 1290.2, 13),
        (BORDER - 3.3, 500.1, 14), (600.2, BORDER + 2.1, 14), (BORDER + 1.2, BORDER - 1.7, 14), (1021.0, 1300.0, 9),
        (BORDER - 6.0, 700.5, 60), (400.4, 400.4, 60),
    ])
]  # fmt: skip


@pytest.fixture(scope="module")
def found(rgb: np.ndarray) -> Features:
    return Features(open_slide(rgb, 0.5, finest=0.5), cells_of(OUTLINES))


def test_names_and_progress(found: Features, maps: dict[str, np.ndarray]) -> None:
    assert found.values.shape == (len(OUTLINES), 300) and found.values.dtype == np.float32
    assert len(set(found.names)) == 300 and np.isfinite(found.values).all()
    places = ["in it", *(f"{width:g} um" for width in WINDOWS)]
    assert found.names == [f"{name} {where} {what}" for where in places for what in ("mean", "sd") for name in maps]
    assert found.told == [4] and found.done == 4


def test_maps_are_means_of_pixels(rgb: np.ndarray, maps: dict[str, np.ndarray]) -> None:
    density = -np.log((rgb.astype(float) + 1) / 256).sum(axis=-1)
    for name, fine in (("density", density), ("tissue", density > 0.25)):
        np.testing.assert_allclose(maps[name], fine.reshape(704, 2, 752, 2).mean(axis=(1, 3)), atol=1e-4)


@pytest.mark.parametrize("number", range(len(OUTLINES)))
def test_features_in_a_cell(found: Features, maps: dict[str, np.ndarray], number: int) -> None:
    """Of every map, of cells within a block, on its border, and large ones; the image's own edge is far."""
    mask = inside(OUTLINES[number], (704, 752))
    assert mask.sum() > 40
    mean, sd = (
        np.array([getattr(values[mask].astype(float), what)() for values in maps.values()]) for what in ("mean", "std")
    )
    np.testing.assert_allclose(found.of("in it", "mean")[number], mean, **CLOSE)
    np.testing.assert_allclose(found.of("in it", "sd")[number], sd, **CLOSE)


def test_pixels_whose_middle_is_inside_count() -> None:
    """A square of 4 x 3 pixels of 1 µm, black on white, is black throughout, and one pixel further on is not."""
    drawn = np.full((320, 320, 3), 255, dtype=np.uint8)
    drawn[100:106, 200:208] = 0
    outlines = [
        shapely.box(200, 100, 208, 106),
        shapely.box(200.9, 100.9, 207.1, 105.1),
        shapely.box(200, 100, 210, 106),
    ]
    found = Features(open_slide(drawn, 0.5, finest=0.5), cells_of(outlines)).of("in it", "mean", ["tissue"])
    np.testing.assert_allclose(found[:, 0], [1, 1, 0.8], atol=1e-6)


def test_a_cell_smaller_than_a_pixel() -> None:
    """Is the pixel that it lies in."""
    drawn = np.full((320, 320, 3), 255, dtype=np.uint8)
    drawn[100:102, 200:202] = 0
    outlines = [
        shapely.Point(x, y).buffer(0.05) for x, y in ((200.4, 100.4), (201.6, 101.6), (202.3, 100.4), (199.7, 101.5))
    ]
    found = Features(open_slide(drawn, 0.5, finest=0.5), cells_of(outlines)).of("in it", "mean", ["tissue"])
    np.testing.assert_allclose(found[:, 0], [1, 1, 0, 0], atol=1e-6)


def test_holes_and_parts() -> None:
    """A hole belongs to the cell, and what lies between its parts does not."""
    drawn = np.full((320, 320, 3), 255, dtype=np.uint8)
    drawn[100:120, 100:120] = 0
    ring = shapely.box(99.5, 99.5, 120.5, 120.5).difference(shapely.box(105.5, 105.5, 112.5, 112.5))
    parts = shapely.MultiPolygon([shapely.box(101.5, 101.5, 110.5, 110.5), shapely.box(139.5, 99.5, 148.5, 108.5)])
    found = Features(open_slide(drawn, 0.5, finest=0.5), cells_of([ring, parts])).of("in it", "mean", ["tissue"])
    assert found[0, 0] > 0.99 and found[1, 0] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("place", [(320, 416), (BORDER, 640), (BORDER, BORDER), (800, 1056), (1216, 1088)], ids=str)
def test_windows_whose_edges_fall_on_grains(
    rgb: np.ndarray, maps: dict[str, np.ndarray], width: int, place: tuple[int, int]
) -> None:
    found = windows_of_places(rgb)
    x, y = place[0] // 2, place[1] // 2
    square = [
        values[y - width // 2 : y + width // 2, x - width // 2 : x + width // 2].astype(float)
        for values in maps.values()
    ]
    row = PLACES.index(place)
    np.testing.assert_allclose(found.of(f"{width} um", "mean")[row], [one.mean() for one in square], **CLOSE)
    np.testing.assert_allclose(found.of(f"{width} um", "sd")[row], [one.std() for one in square], **CLOSE)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("place", [(333, 421), (BORDER + 5, 650)], ids=str)
def test_parts_of_grains_count_by_area(
    rgb: np.ndarray, maps: dict[str, np.ndarray], width: int, place: tuple[int, int]
) -> None:
    """As if each grain were one value throughout."""
    found, row, (x, y) = windows_of_places(rgb), PLACES.index(place), place
    for column, values in enumerate(maps.values()):
        grains = [(values.astype(float) ** power).reshape(44, 16, 47, 16).mean(axis=(1, 3)) for power in (1, 2)]
        mean, square = (
            grain.repeat(32, 0).repeat(32, 1)[y - width : y + width, x - width : x + width].mean() for grain in grains
        )
        np.testing.assert_allclose(found.of(f"{width} um", "mean")[row, column], mean, **CLOSE)
        np.testing.assert_allclose(found.of(f"{width} um", "sd")[row, column], np.sqrt(square - mean**2), **CLOSE)


CORNERS = [(64, 32), (32, 1376), (1472, 64), (1440, 1376), (10.5, 1390.5), (1500, 3)]


@pytest.mark.parametrize("place", CORNERS, ids=str)
@pytest.mark.parametrize("width", [64, 128, 256])
def test_windows_at_the_edge_are_cut(
    rgb: np.ndarray, maps: dict[str, np.ndarray], place: tuple[float, float], width: int
) -> None:
    """Only what lies in the image counts; maps of which no filter sees what is beyond."""
    found, row, (x, y) = windows_of_places(rgb), PLACES.index(place), place
    low, high = ([max(x - width, 0), max(y - width, 0)], [min(x + width, 1504), min(y + width, 1408)])
    share = [np.clip(np.minimum(b, 32 * np.arange(1, n + 1)) - np.maximum(a, 32 * np.arange(n)), 0, None)
             for a, b, n in zip(low, high, (47, 44), strict=True)]  # fmt: skip
    weight = np.outer(share[1], share[0]) / (sum(share[0]) * sum(share[1]))
    for column, name in enumerate(OF_PIXELS):
        mean, square = (
            (maps[name].astype(float) ** power).reshape(44, 16, 47, 16).mean(axis=(1, 3)) for power in (1, 2)
        )
        mean, square = (mean * weight).sum(), (square * weight).sum()
        np.testing.assert_allclose(found.of(f"{width} um", "mean", OF_PIXELS)[row, column], mean, **CLOSE)
        np.testing.assert_allclose(
            found.of(f"{width} um", "sd", OF_PIXELS)[row, column], np.sqrt(square - mean**2), **CLOSE
        )


PLACES: list[tuple[float, float]] = [(320, 416), (BORDER, 640), (BORDER, BORDER), (800, 1056), (1216, 1088),
                                     (333, 421), (BORDER + 5, 650), *CORNERS]  # fmt: skip
_KEPT: list[Features] = []


def windows_of_places(rgb: np.ndarray) -> Features:
    """Once for all tests."""
    if not _KEPT:
        _KEPT.append(Features(*at(PLACES, rgb)))
    return _KEPT[0]


@pytest.mark.parametrize("shape", [(320, 352), (300, 350), (311, 333)], ids=str)
def test_a_constant_slide(shape: tuple[int, int]) -> None:
    """Has no deviation, and the same means everywhere: in the middle, and in the last corner of a ragged image."""
    height, width = shape
    drawn = np.full((height, width, 3), (170, 110, 180), dtype=np.uint8)
    places = [(150, 160), (60, 40), (width - 2, height - 2), (width - 0.5, 5), (2, 2)]
    slide, cells = at(places, drawn)
    found = Features(slide, cells)
    (haematoxylin, eosin), neither = STAINS.amounts(drawn[0, 0])
    for where in ("in it", "64 um", "128 um", "1024 um"):
        np.testing.assert_allclose(found.of(where, "sd", OF_PIXELS), 0, atol=3e-3, err_msg=where)
        mean = found.of(where, "mean", ["haematoxylin", "eosin", "neither", "tissue"])
        np.testing.assert_allclose(mean, [[haematoxylin, eosin, neither, 1]] * 5, atol=1e-3, err_msg=where)
    np.testing.assert_allclose(found.of("in it", "sd")[0], 0, atol=3e-3)


def wedge(x: float, y: float, length: float) -> shapely.Polygon:
    """Most of its area is at its left, and its tip far at the right."""
    return shapely.Polygon([(x, y), (x + length, y + length / 2), (x, y + length / 8)])


def test_a_flat_slide_has_no_edges_blobs_or_nuclei() -> None:
    found = dict(texture_maps(np.full((320, 320, 3), (120, 80, 160), dtype=np.uint8), STAINS))
    for name, values in found.items():
        if name not in OF_PIXELS and not name.startswith("nuclear"):
            np.testing.assert_allclose(values, 0, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(("shape", "radius"), [(blob, 7.0), (blob, 70.0), (wedge, 62.0)], ids=["7", "70", "wedge"])
def test_borders_of_blocks_do_not_matter(shape: Callable[..., shapely.Polygon], radius: float) -> None:
    """The same tissue in the middle of a block and on its borders: nine copies of a cell, one of them on both."""
    drawn = np.tile(tissue(352, 352, seed=3), (4, 4, 1))
    steps = 352 * np.arange(3)
    outlines = [shape(298.4 + x, 310.6 + y, radius) for y in steps for x in steps]
    found = Features(open_slide(drawn, 0.5, finest=0.5), cells_of(outlines))
    for where in ("in it", "64 um", "128 um"):
        for what in ("mean", "sd"):
            values, close = found.of(where, what), {"rtol": 2e-5, "atol": 2e-5} if what == "mean" else CLOSE
            np.testing.assert_allclose(values, np.tile(values[:1], (9, 1)), **close, err_msg=f"{where} {what}")


def test_cells_do_not_depend_on_others(rgb: np.ndarray, found: Features) -> None:
    slide = open_slide(rgb, 0.5, finest=0.5)
    order = np.random.default_rng(0).permutation(len(OUTLINES))
    turned = Features(slide, cells_of([OUTLINES[k] for k in order]))
    np.testing.assert_allclose(turned.values, found.values[order], rtol=1e-5, atol=1e-5)
    alone = Features(slide, cells_of([OUTLINES[8]]))
    np.testing.assert_allclose(alone.values[0], found.values[8], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_turned_slide_has_the_same_features(turn: int) -> None:
    height, width = 480, 512
    drawn = tissue(height, width, seed=5)
    outlines = np.array([blob(x, y, 10, k) for k, (x, y) in enumerate([(90, 100), (250, 260), (400, 300), (30, 440)])])
    turned = {1: lambda xy: np.column_stack([xy[:, 1], width - xy[:, 0]]), 2: lambda xy: (width, height) - xy}[turn]
    before = Features(open_slide(drawn, 0.5, finest=0.5), cells_of(list(outlines)))
    other = open_slide(np.ascontiguousarray(np.rot90(drawn, turn)), 0.5, finest=0.5)
    after = Features(other, cells_of(list(shapely.transform(outlines, turned))))
    different = np.abs(after.values - before.values) > 2e-3 + 2e-3 * np.abs(before.values)
    assert not different.any(), [after.names[k] for k in np.flatnonzero(different.any(axis=0))]


@pytest.mark.parametrize("size", [0.25, 1.0])
def test_pixels_of_another_size(size: float) -> None:
    """The same slide, each pixel fourfold or a smooth one at half the resolution, has about the same features."""
    smooth = ndimage.gaussian_filter(tissue(320, 352, seed=2).astype(float), (4, 4, 0)).round().astype(np.uint8)
    outlines = np.array([blob(100, 120, 14), blob(200, 90, 14, 1)])
    expected = Features(open_slide(smooth, 0.5, finest=0.5), cells_of(list(outlines)))
    factor = 0.5 / size
    if size == 0.25:
        other = smooth.repeat(2, 0).repeat(2, 1)
    else:
        other = smooth.reshape(160, 2, 176, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    scaled = cells_of(list(shapely.transform(outlines, lambda xy: xy * factor)))
    found = Features(open_slide(other, size, finest=0.5), scaled)
    for where in ("in it", "64 um"):
        one, two = (
            each.of(where, "mean", ["haematoxylin", "eosin", "density", "tissue"]) for each in (expected, found)
        )
        np.testing.assert_allclose(two, one, atol=0.02, err_msg=where)
