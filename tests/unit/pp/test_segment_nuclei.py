"""Nuclei at known places, found by a threshold through the door that StarDist and Cellpose go through."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
import tifffile
from scipy import ndimage
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel
from spatialdata.transformations import Affine, Scale

import isost
from isost._histology import segment as room
from isost._histology.outlines import polygons_of
from isost._histology.slide import open_slide

TISSUE, NUCLEUS, GLASS = (230, 180, 210), (90, 60, 140), (250, 250, 250)
QUICK: dict[str, Any] = {"pixel_size": 0.5, "progress": False}
SMALL: dict[str, Any] = {"tile_size": 160, "overlap": 40}


def by_threshold(tile: np.ndarray) -> np.ndarray:
    assert tile.dtype == np.uint8 and tile.ndim == 3 and tile.shape[2] == 3
    return ndimage.label(tile[..., 0] < 160)[0]


def ellipses(size: float = 0.5, height: float = 200.0, width: float = 260.0) -> tuple[np.ndarray, np.ndarray]:
    """An image of so many µm with a nucleus every 14 µm, and (n, 4) x, y and half axes in µm of each."""
    draw = np.random.default_rng(0)
    y, x = (
        part.ravel() for part in np.meshgrid(np.arange(10, height - 7, 14), np.arange(10, width - 7, 14), indexing="ij")
    )
    true = np.column_stack([x + draw.uniform(-2, 2, len(x)), y + draw.uniform(-2, 2, len(x)),
                            draw.uniform(2.5, 4.5, len(x)), draw.uniform(2.5, 4.5, len(x))])  # fmt: skip
    fine = 4  # each pixel is the mean of so many by so many
    rows, columns = (round(length / size) * fine for length in (height, width))
    image = np.broadcast_to(np.array(TISSUE, dtype=np.float32), (rows, columns, 3)).copy()
    step = size / fine
    for cx, cy, a, b in true:
        top, left = (int(max(0, (c - 5) / step)) for c in (cy, cx))
        v, u = np.mgrid[top : top + int(10 / step), left : left + int(10 / step)]
        inside = (((u + 0.5) * step - cx) / a) ** 2 + (((v + 0.5) * step - cy) / b) ** 2 <= 1
        image[v[inside], u[inside]] = NUCLEUS
    image = image.reshape(rows // fine, fine, columns // fine, fine, 3).mean(axis=(1, 3))
    return np.round(image).astype(np.uint8), true


def same_nuclei(
    nuclei: gpd.GeoDataFrame, true: np.ndarray, size: float, near: float = 0.15, area: float = 0.06
) -> None:
    """Each of the true nuclei once, at its place (µm) and with its area (a share)."""
    assert len(nuclei) == len(true)
    centre = shapely.get_coordinates(nuclei.geometry.centroid) * size
    distance = np.linalg.norm(centre[:, None] - true[None, :, :2], axis=2)
    match = distance.argmin(axis=0)
    assert len(set(match)) == len(true) and distance.min(axis=0).max() < near
    np.testing.assert_allclose(nuclei["nucleus_area"].to_numpy()[match], np.pi * true[:, 2] * true[:, 3], rtol=area)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return ellipses()


def test_each_nucleus_once_whatever_the_tiles(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    image, true = drawn
    whole = isost.pp.segment_nuclei(image, method=by_threshold, **QUICK)
    same_nuclei(whole, true, 0.5)
    tiled = isost.pp.segment_nuclei(image, method=by_threshold, **SMALL, **QUICK)
    same_nuclei(tiled, true, 0.5)
    assert set(tiled.geometry.normalize().to_wkb()) == set(whole.geometry.normalize().to_wkb())
    assert list(tiled) == ["geometry", "nucleus_area"]
    assert tiled.index.tolist() == [f"nucleus_{k:06d}" for k in range(1, len(true) + 1)]
    assert tiled.is_valid.all() and (tiled.geom_type == "Polygon").all()


@pytest.mark.parametrize("size", [0.23, 0.8])
def test_positions_are_those_of_the_image_at_full_resolution(size: float) -> None:
    image, true = ellipses(size, 100.0, 120.0)
    nuclei = isost.pp.segment_nuclei(image, method=by_threshold, **SMALL, **QUICK | {"pixel_size": size})
    same_nuclei(nuclei, true, size, near=0.25, area=0.12)


def test_a_file_is_read_by_tiles(drawn: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    image, true = drawn
    tifffile.imwrite(tmp_path / "slide.tif", image, photometric="rgb", tile=(64, 64), resolution=(20_000, 20_000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    shapes: list[tuple[int, ...]] = []

    def seen(tile: np.ndarray) -> np.ndarray:
        shapes.append(tile.shape)
        return by_threshold(tile)

    same_nuclei(isost.pp.segment_nuclei(tmp_path / "slide.tif", method=seen, progress=False, **SMALL), true, 0.5)
    assert len(shapes) == 5 * 7 and max(max(shape) for shape in shapes) <= 160


def test_outlines_lie_in_the_frame_of_a_spatialdata() -> None:
    """Pyramid, turned and scaled into its frame: 0.25 µm at full resolution, of which the level of 0.5 µm is read."""
    image, true = ellipses(0.5, 70.0, 80.0)
    turned = Affine([[0, 3, 50], [-3, 0, 9000], [0, 0, 1]], ("x", "y"), ("x", "y"))
    fine = image.repeat(2, axis=0).repeat(2, axis=1)
    element = Image2DModel.parse(fine, dims=("y", "x", "c"), scale_factors=[2], transformations={"global": turned})
    nuclei = isost.pp.segment_nuclei(element, method=by_threshold, progress=False, pixel_size=0.25)
    x, y = shapely.get_coordinates(nuclei.geometry.centroid).T
    back = nuclei.set_geometry(gpd.points_from_xy((9000 - y) / 3, (x - 50) / 3))
    same_nuclei(back, true, 0.25)
    sdata = SpatialData(images={"he": element}, shapes={"nuclei": ShapesModel.parse(nuclei)})
    features = isost.tl.histology_features(sdata["he"], sdata["nuclei"], pixel_size=0.25, progress=False)
    assert features.obs_names.tolist() == nuclei.index.tolist()
    np.testing.assert_allclose(features.obs["nucleus_area"], nuclei["nucleus_area"], rtol=1e-3)


def test_the_scale_of_a_spatialdata(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    image, true = drawn
    element = Image2DModel.parse(image, dims=("y", "x", "c"), transformations={"global": Scale([0.5, 0.5], ("x", "y"))})
    same_nuclei(isost.pp.segment_nuclei(element, method=by_threshold, **QUICK), true, 1.0)  # the frame is in µm


@pytest.mark.parametrize("size", [0.5, 0.35])
def test_features_take_the_result(size: float) -> None:
    image, _ = ellipses(size, 80.0, 90.0)
    image[:8, 30:50] = image[-6:, 60:80] = image[20:40, -9:] = NUCLEUS  # on the very edge of the image
    nuclei = isost.pp.segment_nuclei(image, method=by_threshold, pixel_size=size, progress=False)
    assert shapely.within(nuclei.geometry.values, shapely.box(0, 0, *image.shape[1::-1])).all()
    features = isost.tl.histology_features(image, nuclei, pixel_size=size, progress=False)
    assert features.obs_names.tolist() == nuclei.index.tolist() and np.isfinite(features.X).all()
    np.testing.assert_allclose(features.obs["nucleus_area"], nuclei["nucleus_area"], rtol=1e-4)
    dark = features[:, "haematoxylin in it mean"].X.ravel() > features[:, "haematoxylin 64 um mean"].X.ravel()
    assert dark.all()


def test_outlines_of_pixels() -> None:
    """Pixel k reaches from k to k + 1: areas are the number of pixels, to half of one; centroids their mean."""
    draw = np.random.default_rng(1)
    blob = ndimage.gaussian_filter(draw.normal(size=(200, 240)), 4) > 0.04
    labels, n = ndimage.label(blob)
    for k in range(1, n + 1):  # without holes, which outlines do not have
        labels[ndimage.binary_fill_holes(labels == k)] = k
    ids, outline = polygons_of(labels)
    np.testing.assert_array_equal(ids, np.unique(labels)[1:])
    count = np.bincount(labels.ravel())[ids]
    np.testing.assert_allclose(shapely.area(outline), count, atol=0.51)
    middle = np.array(ndimage.center_of_mass(labels > 0, labels, ids))[:, ::-1] + 0.5
    large = count > 20
    np.testing.assert_allclose(shapely.get_coordinates(shapely.centroid(outline))[large], middle[large], atol=0.05)
    assert shapely.is_valid(outline).all()


def test_holes_are_filled_and_crumbs_are_left_out() -> None:
    labels = np.zeros((30, 40), dtype=np.uint16)
    labels[5:15, 5:15] = 900
    labels[8:11, 8:11] = 0
    labels[25:28, 30:33] = labels[15, 15] = 900  # another piece, and a pixel that touches by its corner
    ids, (outline,) = polygons_of(labels)
    assert ids.tolist() == [900]
    assert outline.area == pytest.approx(100, abs=0.51) and not outline.interiors
    assert shapely.get_coordinates(outline.centroid)[0] == pytest.approx([10, 10], abs=0.01)


def test_labels_without_background() -> None:
    ids, outline = polygons_of(np.full((3, 5), 4))
    assert ids.tolist() == [4] and outline[0].bounds == (0, 0, 5, 3)
    ids, outline = polygons_of(np.zeros((3, 5), dtype=int))
    assert len(ids) == len(outline) == 0


@pytest.mark.parametrize(("length", "side", "overlap"), [(100, 60, 10), (41, 60, 10), (1, 60, 0), (1003, 64, 20)])
def test_tiles_cover_the_slide(length: int, side: int, overlap: int) -> None:
    slide = open_slide(np.zeros((length, 33, 3), dtype=np.uint8), 0.5, finest=0.5)
    tiles = room.tiles_of(slide, side, overlap)
    owners = np.zeros((length, 33), dtype=int)
    for tile in tiles:
        owners[tile.rows.core, tile.columns.core] += 1
        for span, end in ((tile.rows, length), (tile.columns, 33)):
            assert span.read.stop - span.read.start <= side
            assert span.read.start == max(0, span.core.start - overlap)
            assert span.read.stop == min(end, span.core.stop + overlap)
            assert span.inner == (span.core.start > 0, span.core.stop < end)
    assert (owners == 1).all()


def test_tiles_that_tell_a_place_differently(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """A method whose outlines shift from tile to tile, as a network's do: still each nucleus once."""
    image, true = drawn
    shift = iter(range(1000))

    def wobbly(tile: np.ndarray) -> np.ndarray:
        k = next(shift)
        return np.roll(by_threshold(tile), (k % 3 - 1, k // 3 % 3 - 1), axis=(0, 1))

    nuclei = isost.pp.segment_nuclei(image, method=wobbly, **SMALL, **QUICK)
    centre = shapely.get_coordinates(nuclei.geometry.centroid) / 2
    inside = ((true[:, :2] > 6) & (true[:, :2] < (254, 194))).all(axis=1)
    count = (np.linalg.norm(centre[:, None] - true[inside, :2], axis=2) < 4).sum(axis=0)
    assert (count == 1).all()


def test_probabilities(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    def sure(tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = by_threshold(tile) * 2  # not each label is there
        area = np.bincount(labels.ravel(), minlength=labels.max() + 1)[1:]
        return labels, area / 1000

    image, true = drawn
    nuclei = isost.pp.segment_nuclei(image, method=sure, **SMALL, **QUICK)
    same_nuclei(nuclei, true, 0.5)
    np.testing.assert_allclose(nuclei["probability"] * 1000 / 4, nuclei["nucleus_area"], atol=0.13)


def test_glass_is_not_looked_at(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    image, true = drawn
    framed = np.full((1000, 1200, 3), GLASS, dtype=np.uint8)
    framed[500 : 500 + image.shape[0], 600 : 600 + image.shape[1]] = image
    calls: list[bool] = []

    def seen(tile: np.ndarray) -> np.ndarray:
        calls.append(bool((tile < 240).any()))
        return by_threshold(tile)

    nuclei = isost.pp.segment_nuclei(framed, method=seen, **SMALL, **QUICK)
    same_nuclei(nuclei, true + (300, 250, 0, 0), 0.5)
    assert all(calls) and len(calls) < 13 * 15 / 2


def test_a_blank_slide() -> None:
    blank = np.full((100, 120, 3), GLASS, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"image: expected stained tissue, found glass alone\. Next: "):
        isost.pp.segment_nuclei(blank, method=by_threshold, **QUICK)


def test_tissue_without_nuclei(caplog: pytest.LogCaptureFixture) -> None:
    bare = np.full((100, 120, 3), TISSUE, dtype=np.uint8)
    nuclei = isost.pp.segment_nuclei(bare, method=by_threshold, **QUICK)
    assert len(nuclei) == 0 and list(nuclei) == ["geometry", "nucleus_area"] and isinstance(nuclei, gpd.GeoDataFrame)
    assert "no nucleus found by by_threshold. Next: " in caplog.text
    with pytest.raises(ValueError, match="cells: expected one or more, found none"):
        isost.tl.histology_features(bare, nuclei, **QUICK)


def test_warnings(drawn: tuple[np.ndarray, np.ndarray], caplog: pytest.LogCaptureFixture) -> None:
    image, true = drawn
    nuclei = isost.pp.segment_nuclei(image, method=by_threshold, tile_size=128, overlap=0, **QUICK)
    assert "are cut there. Next: overlap=128" in caplog.text and len(nuclei) > len(true)
    caplog.clear()
    wide = np.full((200, 900, 3), TISSUE, dtype=np.uint8)
    wide[50:60, 50:70] = NUCLEUS
    nuclei = isost.pp.segment_nuclei(wide, method=lambda tile: by_threshold(tile) + 1, **QUICK)
    assert len(nuclei) == 1 and "1 outlines of more than 400 µm across are no nuclei" in caplog.text
    caplog.clear()
    isost.pp.segment_nuclei(wide, method=by_threshold, **QUICK | {"pixel_size": 1.2})
    assert "pixels of 1.2 µm hardly show nuclei" in caplog.text


def test_the_bar_and_an_interruption(drawn: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    isost.pp.segment_nuclei(drawn[0], method=by_threshold, **SMALL, **QUICK | {"progress": True})
    assert "nuclei: 100%" in capsys.readouterr().err

    def stopped(tile: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isost.pp.segment_nuclei(drawn[0], method=stopped, **QUICK)


@pytest.mark.parametrize(("give", "words"), [
    (lambda tile: tile, r"shape \(400, 520\), found uint8 of shape \(400, 520, 3\)"),
    (lambda tile: by_threshold(tile)[1:], r"found int32 of shape \(399, 520\)"),
    (lambda tile: tile[..., 0] < 100, r"found bool of .*Next: scipy.ndimage.label"),
    (lambda tile: by_threshold(tile) / 2, "found float64"),
    (lambda tile: None, "found object"),
    (lambda tile: by_threshold(tile).astype(int) - 1, "labels of 0 or more, found -1"),
    (lambda tile: (by_threshold(tile), np.ones(3)), r"a probability for each of labels 1 to \d+, found shape \(3,\)"),
    (lambda tile: (by_threshold(tile), tile), "a probability for each of labels"),
], ids=["tile", "smaller", "mask", "float", "none", "negative", "few", "map"])  # fmt: skip
def test_a_method_that_gives_something_else(drawn: tuple[np.ndarray, np.ndarray], give: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"method: expected .*{words}"):
        isost.pp.segment_nuclei(drawn[0], method=give, **QUICK)


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"method": "watershed"}, ValueError, r"method: expected 'stardist', 'cellpose' or a function, found 'watershed'"),
    ({"method": 3}, TypeError, "method: expected .*, found int"),
    ({"method": None}, TypeError, "method: expected .*, found NoneType"),
    ({"overlap": -1}, ValueError, "overlap: expected a whole number of pixels, found -1"),
    ({"overlap": 1.5}, ValueError, "overlap: expected"),
    ({"tile_size": 256, "overlap": 128}, ValueError, r"tile_size: .* above twice the overlap \(128\), found 256"),
    ({"tile_size": True, "overlap": 0}, ValueError, "tile_size: expected"),
    ({"pixel_size": None}, ValueError, "pixel_size: expected the µm of a pixel"),
    ({"pixel_size": 0}, ValueError, "pixel_size: expected a number of µm above 0"),
    ({"image": np.zeros((50, 60), dtype=np.uint8)}, ValueError, "image: expected three colours, found a grey image"),
    ({"image": "no such file.tif"}, FileNotFoundError, "image: expected a file"),
    ({"image": 7}, TypeError, "image: expected a path or an array"),
])  # fmt: skip
def test_bad_input(
    drawn: tuple[np.ndarray, np.ndarray], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=rf"{words}.*Next: "):
        isost.pp.segment_nuclei(**{"image": drawn[0], "method": by_threshold, **QUICK, **options})


class FakeStarDist:
    """What is asked of StarDist, answered by the threshold."""

    loaded: list[str] = []
    asked: list[dict[str, Any]] = []

    @classmethod
    def from_pretrained(cls, name: str) -> FakeStarDist:
        cls.loaded.append(name)
        return cls()

    def predict_instances(self, tile: np.ndarray, **options: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        self.asked.append({"low": float(tile.min()), "high": float(tile.max()), "dtype": tile.dtype,
                           "shape": tile.shape, **options})  # fmt: skip
        labels, n = ndimage.label(tile[..., 0] < 0.5)
        return labels.astype(np.int32), {"prob": np.linspace(0.5, 0.9, n).astype(np.float32), "coord": None}


@pytest.fixture
def stardist(monkeypatch: pytest.MonkeyPatch) -> type[FakeStarDist]:
    def normalize_mi_ma(x: np.ndarray, mi: float, ma: float) -> np.ndarray:
        return (x.astype(np.float32) - mi) / (ma - mi)

    for name in ("stardist", "csbdeep"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "stardist.models", SimpleNamespace(StarDist2D=FakeStarDist))
    monkeypatch.setitem(sys.modules, "csbdeep.utils", SimpleNamespace(normalize_mi_ma=normalize_mi_ma))
    monkeypatch.setattr(FakeStarDist, "loaded", [])
    monkeypatch.setattr(FakeStarDist, "asked", [])
    return FakeStarDist


def test_stardist(drawn: tuple[np.ndarray, np.ndarray], stardist: type[FakeStarDist]) -> None:
    image, true = drawn
    nuclei = isost.pp.segment_nuclei(image, **SMALL, **QUICK)
    same_nuclei(nuclei, true, 0.5, area=0.1)
    assert nuclei["probability"].between(0.5, 0.9).all() and nuclei["probability"].nunique() > 10
    assert stardist.loaded == ["2D_versatile_he"] and len(stardist.asked) == 35
    for asked in stardist.asked:
        assert asked["dtype"] == np.float32 and asked["axes"] == "YXC" and asked["show_tile_progress"] is False
        assert asked["n_tiles"] == (1, 1, 1)
        assert asked["low"] == pytest.approx(0, abs=0.02) and asked["high"] == pytest.approx(1, abs=0.02)


def test_stardist_sees_large_tiles_in_parts(stardist: type[FakeStarDist]) -> None:
    image = np.full((1100, 600, 3), TISSUE, dtype=np.uint8)
    image[100:120, 100:120] = NUCLEUS
    isost.pp.segment_nuclei(image, method="stardist", **QUICK)
    assert stardist.asked[0]["n_tiles"] == (2, 1, 1)


class FakeCellpose:
    """What is asked of Cellpose 4, answered by the threshold."""

    made: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []

    def __init__(self, **options: Any) -> None:
        self.made.append(options)

    def eval(self, tile: np.ndarray, **options: Any) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        self.asked.append({"dtype": tile.dtype, **options})
        labels = by_threshold(tile).astype(np.uint16)
        chance = np.where(labels > 0, np.log(4), -5).astype(np.float32)
        return labels, [tile, np.zeros((2, *labels.shape)), chance], np.zeros(256)


@pytest.fixture
def cellpose(monkeypatch: pytest.MonkeyPatch) -> type[FakeCellpose]:
    package = ModuleType("cellpose")
    package.version = "4.2.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cellpose", package)
    monkeypatch.setitem(sys.modules, "cellpose.models", SimpleNamespace(CellposeModel=FakeCellpose))
    monkeypatch.setattr(FakeCellpose, "made", [])
    monkeypatch.setattr(FakeCellpose, "asked", [])
    return FakeCellpose


def test_cellpose(drawn: tuple[np.ndarray, np.ndarray], cellpose: type[FakeCellpose]) -> None:
    image, true = drawn
    nuclei = isost.pp.segment_nuclei(image, method="cellpose", device="cpu", **SMALL, **QUICK)
    same_nuclei(nuclei, true, 0.5)
    np.testing.assert_allclose(nuclei["probability"], 0.8, rtol=1e-5)
    (made,) = cellpose.made
    assert made["gpu"] is False and str(made["device"]) == "cpu"
    for asked in cellpose.asked:
        assert asked["dtype"] == np.uint8 and asked["channel_axis"] == -1
        np.testing.assert_allclose(asked["normalize"]["lowhigh"], np.transpose([NUCLEUS, TISSUE]), atol=2)


def test_cellpose_finds_nothing(cellpose: type[FakeCellpose], caplog: pytest.LogCaptureFixture) -> None:
    bare = np.full((100, 120, 3), TISSUE, dtype=np.uint8)
    nuclei = isost.pp.segment_nuclei(bare, method="cellpose", device="cpu", **QUICK)
    assert len(nuclei) == 0 and list(nuclei) == ["geometry", "nucleus_area", "probability"]
    assert [record.levelno for record in caplog.records if "no nucleus" in record.message] == [logging.WARNING]


def test_an_old_cellpose(cellpose: type[FakeCellpose], drawn: tuple[np.ndarray, np.ndarray]) -> None:
    sys.modules["cellpose"].version = "3.1.1"  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match=r"Expected cellpose 4 or newer, found 3\.1\.1\. Next: pip install"):
        isost.pp.segment_nuclei(drawn[0], method="cellpose", **QUICK)


def test_a_blank_slide_by_a_tool(stardist: type[FakeStarDist]) -> None:
    with pytest.raises(ValueError, match="image: expected stained tissue, found glass alone"):
        isost.pp.segment_nuclei(np.full((100, 120, 3), GLASS, dtype=np.uint8), **QUICK)
    assert not stardist.asked


@pytest.mark.parametrize(("method", "module"), [("stardist", "stardist.models"), ("cellpose", "cellpose.models")])
def test_without_the_tool(
    drawn: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, method: Any, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    words = rf"Expected the package {method}, found that it cannot be imported.*Next: pip install 'isost\[{method}\]'"
    with pytest.raises(ImportError, match=words):
        isost.pp.segment_nuclei(drawn[0], method=method, **QUICK)
