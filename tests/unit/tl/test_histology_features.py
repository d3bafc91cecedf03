"""What is written for cells of any kind, what encoders see and give, and what a cache keeps."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from anndata import AnnData
from scipy import ndimage

import isost
from isost._histology import features as room

QUICK: dict[str, Any] = {"pixel_size": 0.5, "progress": False, "device": "cpu"}
HEIGHT, WIDTH = 400, 460
PLACES = np.array([[140, 150], [230, 200], [300, 260], [180, 250], [310, 140], [20, 30], [450, 390]])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Haematoxylin and eosin, without glass."""
    draw = np.random.default_rng(0)
    amounts = [ndimage.gaussian_filter(draw.normal(size=(HEIGHT, WIDTH)), sigma) for sigma in (4, 8)]
    amounts = np.stack([np.clip(0.6 + 0.5 * one / one.std(), 0.02, 3) for one in amounts], axis=-1)
    stains = np.array([[0.65, 0.70, 0.29], [0.27, 0.87, 0.41]])
    rgb = np.round(255 * np.exp(-amounts @ (stains / np.linalg.norm(stains, axis=1, keepdims=True)))).astype(np.uint8)
    rgb.flags.writeable = False
    return rgb


@pytest.fixture
def nuclei() -> gpd.GeoDataFrame:
    outlines = [shapely.box(x - 8, y - 4, x + 8, y + 4) for x, y in PLACES[:5]]
    return gpd.GeoDataFrame(geometry=outlines, index=[f"n{k}" for k in range(5)])


@pytest.fixture(scope="module")
def points(image: np.ndarray) -> AnnData:
    return isost.tl.histology_features(image, PLACES, **QUICK)


class Seen:
    """An encoder that keeps the tiles that it was given: mean colours of them, or with tokens."""

    def __init__(self, name: str | None = None, side: int | None = None, fail_after: int | None = None) -> None:
        if name is not None:
            self.name = name
        self.side, self.fail_after = side, fail_after
        self.tiles: list[torch.Tensor] = []

    def __call__(self, tiles: torch.Tensor) -> Any:
        if self.fail_after is not None and len(self.tiles) == self.fail_after:
            raise RuntimeError("out of memory")
        assert tiles.dtype == torch.float32 and tiles.shape[1:] == (3, 256, 256) and torch.is_inference_mode_enabled()
        self.tiles.append(tiles.clone())
        whole = tiles.mean(dim=(2, 3))
        if self.side is None:
            return whole
        return whole, torch.eye(self.side**2).expand(len(tiles), -1, -1)  # a token is its own place

    @property
    def n(self) -> int:
        return sum(len(tiles) for tiles in self.tiles)


def same(one: AnnData, other: AnnData) -> None:
    np.testing.assert_array_equal(one.X, other.X)
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)
    assert set(one.uns) == set(other.uns)
    for name, told in one.uns.get("histology", {}).items():
        np.testing.assert_array_equal(told, other.uns["histology"][name])


def test_what_is_written_of_points(points: AnnData) -> None:
    assert points.shape == (7, 300) and points.X.dtype == np.float32 and np.isfinite(points.X).all()
    assert points.obs_names.tolist() == [f"cell{k}" for k in range(7)]
    assert list(points.obs) == ["tissue"] and points.obs["tissue"].dtype == np.float32
    assert points.obs["tissue"].between(0, 1).all() and (points.obs["tissue"][:5] > 0.9).all()
    assert points.var["part"].cat.categories.tolist() == ["local", "global"]
    local = points.var_names.str.contains(" in it ")
    assert (points.var["part"] == np.where(local, "local", "global")).all() and local.sum() == 50
    np.testing.assert_array_equal(points.obsm["pixel"], PLACES)
    np.testing.assert_allclose(points.obsm["spatial"], PLACES / 2)
    told = points.uns["histology"]
    assert told["pixel_size"] == 0.5 and told["encoder"] == "texture" and told["tile"] == 128
    assert told["stains"].shape == (2, 3) and told["normalise_stain"] is True


def test_what_is_written_of_nuclei(image: np.ndarray, nuclei: gpd.GeoDataFrame, tmp_path: Path) -> None:
    before, outlines = image.copy(), nuclei.copy()
    found = isost.tl.histology_features(image, nuclei, unit="um", **QUICK | {"pixel_size": 0.8})
    assert found.shape == (5, 304) and found.obs_names.tolist() == list(nuclei.index)
    assert (found.var["part"][-4:] == "local").all() and found.var["part"].value_counts()["local"] == 54
    expected = [16 * 8, 2 * (16 + 8), 2, 1]
    shape = found[:, ["area", "perimeter", "elongation", "solidity"]].X
    np.testing.assert_allclose(shape, np.tile(expected, (5, 1)), rtol=1e-4)
    np.testing.assert_allclose(found.obs["nucleus_area"], 128, rtol=1e-4)
    np.testing.assert_allclose(found.obsm["spatial"], PLACES[:5])
    np.testing.assert_allclose(found.obsm["pixel"], PLACES[:5] / 0.8)
    np.testing.assert_array_equal(image, before)
    pd.testing.assert_frame_equal(nuclei, outlines)
    found.write_h5ad(tmp_path / "features.h5ad")
    same(found, anndata.read_h5ad(tmp_path / "features.h5ad"))


def test_a_table_is_not_changed(image: np.ndarray, points: AnnData) -> None:
    table = AnnData(np.ones((7, 2), dtype=np.float32), obsm={"here": PLACES.astype(float)})
    table.obs_names = list("abcdefg")
    before = table.copy()
    found = isost.tl.histology_features(image, table, spatial_key="here", **QUICK)
    assert found.obs_names.tolist() == list("abcdefg")
    np.testing.assert_array_equal(found.X, points.X)
    same(table, before)
    assert list(table.obsm) == ["here"]
    np.testing.assert_array_equal(table.obsm["here"], before.obsm["here"])


def test_the_same_seed_gives_the_same(image: np.ndarray, points: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    same(points, isost.tl.histology_features(image, PLACES, **QUICK))
    monkeypatch.setattr(room, "_TILES", 2)
    found = [isost.tl.histology_features(image, PLACES, encoder=Seen(), rng=seed, **QUICK) for seed in (1, 1, 2)]
    same(found[0], found[1])
    assert not np.array_equal(found[0].uns["histology"]["stains"], found[2].uns["histology"]["stains"])


def test_an_encoder_of_tiles(image: np.ndarray) -> None:
    encoder = Seen()
    found = isost.tl.histology_features(image, PLACES, encoder=encoder, batch_size=3, **QUICK)
    assert found.shape == (7, 3) and found.X.dtype == np.float32
    assert found.var_names.tolist() == ["tile 0", "tile 1", "tile 2"] and (found.var["part"] == "global").all()
    assert encoder.n == 7 and max(map(len, encoder.tiles)) <= 3
    np.testing.assert_allclose(found.X, torch.cat(encoder.tiles).mean(dim=(2, 3)), rtol=1e-6)
    assert found.uns["histology"]["encoder"] == "Seen"


def test_tiles_are_those_about_the_cells(image: np.ndarray) -> None:
    """A square is drawn about each cell in a colour of its own; the last ones are white beyond the image."""
    drawn = image.copy()
    for number, (x, y) in enumerate(PLACES):
        drawn[max(y - 5, 0) : y + 5, max(x - 9, 0) : x + 9] = (10 * number, 200, 250 - 20 * number)
    encoder = Seen()
    found = isost.tl.histology_features(drawn, PLACES, encoder=encoder, normalise_stain=False, batch_size=2, **QUICK)
    padded = np.pad(drawn, ((128, 128), (128, 128), (0, 0)), constant_values=255)
    tiles = (torch.cat(encoder.tiles).permute(0, 2, 3, 1) * 255).round().numpy().astype(np.uint8)
    for number, (x, y) in enumerate(PLACES):
        np.testing.assert_array_equal(tiles[number], padded[y : y + 256, x : x + 256])
        middle = tiles[number, 123:133, 119:137].reshape(-1, 3)
        assert (middle == (10 * number, 200, 250 - 20 * number)).all(axis=1).mean() > 0.9
    glass = -np.log((tiles.astype(float) + 1) / 256).sum(axis=-1) <= 0.25
    np.testing.assert_allclose(found.obs["tissue"], 1 - glass.mean(axis=(1, 2)), atol=1e-4)
    assert found.obs["tissue"].iloc[5] < 0.5
    assert found.uns["histology"]["normalise_stain"] is False


def test_tiles_of_larger_pixels_are_rescaled(image: np.ndarray) -> None:
    """256 pixels of 0.5 µm are 128 of 1 µm."""
    drawn = np.full((200, 200, 3), (150, 80, 160), dtype=np.uint8)
    drawn[90:110, 100:140] = (80, 60, 140)
    encoder = Seen()
    isost.tl.histology_features(
        drawn, [[100, 100]], encoder=encoder, normalise_stain=False, **QUICK | {"pixel_size": 1.0}
    )
    dark = encoder.tiles[0][0, 0].numpy() < 0.45
    y, x = np.nonzero(dark)
    assert (y.min(), y.max() + 1, x.min(), x.max() + 1) == (108, 148, 128, 208)


def test_stains_of_tiles_are_normalised(image: np.ndarray) -> None:
    """The same tissue, stained more weakly."""
    weak = np.round(255 * (image / 255.0) ** 0.6).astype(np.uint8)
    means = []
    for normalise_stain in (False, True):
        options = {"encoder": Seen(), "normalise_stain": normalise_stain, **QUICK}
        one, two = (isost.tl.histology_features(rgb, PLACES[:4], **options).X for rgb in (image, weak))
        means.append(np.abs(one - two).max())
    assert means[0] > 0.1 and means[1] < 0.03, means


@pytest.mark.parametrize("side", [7, 8])
def test_local_features_are_those_of_the_patches_of_the_nucleus(image: np.ndarray, side: int) -> None:
    outlines = [
        shapely.Point(230, 200).buffer(3),
        shapely.Polygon([(130, 130), (250, 150), (150, 160)]),
        shapely.MultiPolygon([shapely.box(190, 100, 210, 110), shapely.box(230, 190, 300, 200)]),
        shapely.box(0, 380, 30, 399),
    ]
    cells = gpd.GeoDataFrame(geometry=outlines, index=list("abcd"))
    found = isost.tl.histology_features(image, cells, encoder=Seen(side=side), **QUICK)
    assert found.shape == (4, 3 + side**2)
    assert found.var_names[3] == "nucleus 0" and (found.var["part"] == ["global"] * 3 + ["local"] * side**2).all()
    local = found.X[:, 3:]
    patch = 256 / side
    for outline, weights in zip(outlines, local, strict=True):
        x, y = shapely.get_coordinates(outline.centroid)[0] - 128
        hit = [outline.intersects(shapely.box(x + i * patch, y + j * patch, x + (i + 1) * patch, y + (j + 1) * patch))
               for j in range(side) for i in range(side)]  # fmt: skip
        np.testing.assert_allclose(weights, np.array(hit) / sum(hit), rtol=1e-5)
    if side == 7:
        assert local[0].argmax() == 24 and local[0].max() == 1, "the patch in the middle, and no other"
    assert 2 < (local[1] > 0).sum() < 16


def test_places_of_patches_are_those_of_pixels(image: np.ndarray) -> None:
    """Tokens that are the mean colours of their patches, of a nucleus in one of them that is drawn in black."""
    drawn = image.copy()
    drawn[110:121, 190:200] = 0
    outline = shapely.MultiPolygon([shapely.box(192, 112, 198, 118), shapely.box(262, 252, 268, 258)])

    def encode(tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches = torch.nn.functional.avg_pool2d(tiles, 16).flatten(2).transpose(1, 2)
        return tiles.mean(dim=(2, 3)), patches

    cells = gpd.GeoDataFrame(geometry=[outline], index=["a"])
    found = isost.tl.histology_features(drawn, cells, encoder=encode, normalise_stain=False, **QUICK)
    x, y = 230 - 128, 185 - 128
    patches = drawn[y : y + 256, x : x + 256].reshape(16, 16, 16, 16, 3).mean(axis=(1, 3)) / 255
    hit = [(j, i) for j in range(16) for i in range(16)
           if outline.intersects(shapely.box(x + 16 * i, y + 16 * j, x + 16 * i + 16, y + 16 * j + 16))]  # fmt: skip
    np.testing.assert_allclose(found.X[0, 3:], np.mean([patches[at] for at in hit], axis=0), rtol=1e-4)


@pytest.mark.parametrize("give", [
    lambda tiles: tiles, lambda tiles: tiles.mean(), lambda tiles: tiles[:1, 0, 0], lambda tiles: [1.0] * len(tiles),
    lambda tiles: tiles.mean(dim=(2, 3)).numpy(),
    lambda tiles: (tiles.mean(dim=(2, 3)), torch.ones(len(tiles), 5, 4)),
    lambda tiles: (tiles.mean(dim=(2, 3)), torch.ones(1, 4, 4)),
    lambda tiles: (tiles.mean(dim=(2, 3)), torch.ones(len(tiles), 4)),
    lambda tiles: (tiles.mean(dim=(2, 3)), torch.ones(len(tiles))),
], ids=["tiles", "number", "one row", "list", "array", "5 tokens", "tokens of one", "2 axes", "1 axis"])  # fmt: skip
def test_an_encoder_that_gives_something_else(image: np.ndarray, give: Any) -> None:
    with pytest.raises(ValueError, match=r"encoder: expected .*, found .*Next: "):
        isost.tl.histology_features(image, PLACES, encoder=give, **QUICK)


def test_a_cache(image: np.ndarray, tmp_path: Path) -> None:
    first, again = Seen("mine", 4), Seen("mine", 4)
    found = isost.tl.histology_features(image, PLACES, encoder=first, cache=tmp_path / "new", **QUICK)
    kept = isost.tl.histology_features(image, PLACES, encoder=again, cache=str(tmp_path / "new"), batch_size=2, **QUICK)
    assert first.n == 7 and again.n == 0
    same(found, kept)
    assert found.uns["histology"]["encoder"] == "mine"
    same(found, isost.tl.histology_features(image, PLACES, encoder=Seen("mine", 4), **QUICK))


def _others() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "name", {"encoder": Seen("other")}
    yield "fewer cells", {"cells": PLACES[:6]}
    yield "moved cells", {"cells": PLACES + [0, 1]}
    yield "size of points", {"radius": 5.0}
    yield "stains", {"normalise_stain": False}
    yield "pixel size", {"pixel_size": 0.4}


@pytest.mark.parametrize("other", [pytest.param(other, id=name) for name, other in _others()])
def test_a_cache_of_something_else_is_not_read(image: np.ndarray, tmp_path: Path, other: dict[str, Any]) -> None:
    isost.tl.histology_features(image, PLACES, encoder=Seen("mine"), cache=tmp_path, **QUICK)
    encoder = other.get("encoder", Seen("mine"))
    encoder.tiles.clear()
    options = {"image": image, "cells": PLACES, "cache": tmp_path} | QUICK | other | {"encoder": encoder}
    found = isost.tl.histology_features(**options)
    assert encoder.n == found.n_obs


def test_a_cache_of_another_image_is_not_read(image: np.ndarray, tmp_path: Path) -> None:
    encoder = Seen("mine")
    for rgb in (image, image[::-1], np.ascontiguousarray(image[:, ::-1])):
        isost.tl.histology_features(rgb, PLACES, encoder=encoder, cache=tmp_path, normalise_stain=False, **QUICK)
    assert encoder.n == 3 * len(PLACES)


def test_a_cache_of_other_weights_is_not_read(image: np.ndarray, tmp_path: Path) -> None:
    """A folder whose files changed holds another encoder, whatever it is called."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "weights").write_bytes(b"first")
    encoder = Seen(str(folder))
    options = {"encoder": encoder, "cache": tmp_path / "cache", **QUICK}
    isost.tl.histology_features(image, PLACES, **options)
    isost.tl.histology_features(image, PLACES, **options)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    (folder / "weights").write_bytes(b"trained on")
    isost.tl.histology_features(image, PLACES, **options)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("name", [None, 7])
def test_a_cache_needs_a_name(image: np.ndarray, tmp_path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match=r"encoder: expected a name, .*found none.*Next: .*encoder.name = "):
        isost.tl.histology_features(image, PLACES, encoder=Seen(name), cache=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_interrupted_goes_on(image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of up to 2 cells, batches of 1; it ends in the third file, of which nothing is kept."""
    monkeypatch.setattr(room, "_KEPT", 2)
    options = QUICK | {"batch_size": 1, "cache": tmp_path}
    first = Seen("mine", 4, fail_after=5)
    with pytest.raises(RuntimeError, match="out of memory"):
        isost.tl.histology_features(image, PLACES, encoder=first, **options)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    second, whole = Seen("mine", 4), Seen("mine", 4)
    found = isost.tl.histology_features(image, PLACES, encoder=second, **options)
    assert first.n == 5 and second.n == 3
    same(found, isost.tl.histology_features(image, PLACES, encoder=whole, **options | {"cache": None}))


@pytest.fixture(scope="module")
def transformers() -> Iterator[Any]:
    package = pytest.importorskip("transformers", reason="transformers is not installed")
    shown = package.utils.logging.is_progress_bar_enabled()
    package.utils.logging.disable_progress_bar()
    yield package
    if shown:
        package.utils.logging.enable_progress_bar()


TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def tile(image: np.ndarray, place: np.ndarray) -> torch.Tensor:
    x, y = place
    return torch.from_numpy(image[y - 128 : y + 128, x - 128 : x + 128].copy()).permute(2, 0, 1)[None].float() / 255


def saved(model: Any, folder: Path) -> Any:
    model.eval().save_pretrained(folder)
    return model


def check_vit(image: np.ndarray, folder: Path, tokens_of: Any, side: int) -> None:
    """Class token, and the mean of the four patches in the middle, of which a small point touches each."""
    found = isost.tl.histology_features(
        image, PLACES[:3], encoder=folder, normalise_stain=False, radius=1.0, batch_size=2, **QUICK
    )
    assert found.shape == (3, 16) and found.uns["histology"]["encoder"] == str(folder)
    assert found.var["part"].tolist() == ["global"] * 8 + ["local"] * 8
    middle = [side // 2 * side + side // 2 - k for k in (0, 1, side, side + 1)]
    for row, place in enumerate(PLACES[:3]):
        with torch.inference_mode():
            tokens = tokens_of(tile(image, place))[0]
        np.testing.assert_allclose(found.X[row, :8], tokens[0], atol=1e-4)
        np.testing.assert_allclose(found.X[row, 8:], tokens[-(side**2) :][middle].mean(dim=0), atol=1e-4)


def test_a_vit(image: np.ndarray, tmp_path: Path, transformers: Any) -> None:
    """Trained on tiles of 64 pixels; colours are those that the folder tells, 0.5 where it does not."""
    torch.manual_seed(0)
    model = saved(
        transformers.ViTModel(transformers.ViTConfig(**TINY, intermediate_size=8, image_size=64, patch_size=32)),
        tmp_path,
    )

    def tokens_of(tiles: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=(tiles - mean) / deviation, interpolate_pos_encoding=True).last_hidden_state

    mean, deviation = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
    check_vit(image, tmp_path, tokens_of, 8)
    colours = {
        "image_mean": [0.7, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.25],
        "image_processor_type": "ViTImageProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(colours))
    mean, deviation = (torch.tensor(colours[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
    check_vit(image, tmp_path, tokens_of, 8)


@pytest.mark.parametrize("registers", [False, True])
def test_patches_of_14_pixels(image: np.ndarray, tmp_path: Path, transformers: Any, registers: bool) -> None:
    """Tiles are shown at 252 pixels, 18 patches; registers are no patches."""
    torch.manual_seed(0)
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    config = getattr(transformers, f"{kind}Config")(**TINY, mlp_ratio=1, image_size=56, patch_size=14)
    model = saved(getattr(transformers, f"{kind}Model")(config), tmp_path)

    def tokens_of(tiles: torch.Tensor) -> torch.Tensor:
        given = torch.nn.functional.interpolate((tiles - 0.5) / 0.5, size=252, mode="bilinear", antialias=True)
        return model(pixel_values=given).last_hidden_state

    check_vit(image, tmp_path, tokens_of, 18)


@pytest.mark.parametrize("kind", ["empty", "missing", "text model"])
def test_a_folder_without_a_vit(image: np.ndarray, tmp_path: Path, transformers: Any, kind: str) -> None:
    folder = tmp_path / "none" if kind == "missing" else tmp_path
    if kind == "text model":
        config = transformers.BertConfig(**TINY, intermediate_size=8, vocab_size=9, max_position_embeddings=8)
        saved(transformers.BertModel(config), tmp_path)
    with pytest.raises(ValueError, match=r"(?s)encoder: expected a vision transformer .*, found .*Next: "):
        isost.tl.histology_features(image, PLACES, encoder=folder, **QUICK)


def test_transformers_is_missing(image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'isost\[histology\]'"):
        isost.tl.histology_features(image, PLACES, encoder=tmp_path, **QUICK)


@pytest.mark.parametrize(("size", "warned"), [(1.5, True), (1.0, False), (0.5, False)])
def test_large_pixels_are_warned_of(
    image: np.ndarray, caplog: pytest.LogCaptureFixture, size: float, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING, "isost"):
        isost.tl.histology_features(image, PLACES, encoder=Seen(), **QUICK | {"pixel_size": size})
    assert ("pixels of 1.5 µm hardly show nuclei" in caplog.text) == warned


@pytest.mark.parametrize(("option", "value", "kind"), [
    *[("unit", value, ValueError) for value in ("mm", None, 3)],
    *[("radius", value, ValueError) for value in (0, -1.0, np.nan, np.inf, "4", True)],
    *[("batch_size", value, ValueError) for value in (0, -3, 2.0, True, None, "8")],
    *[("encoder", value, TypeError) for value in (None, 3, ["texture"])],
    ("pixel_size", None, ValueError), ("pixel_size", 0, ValueError),
    ("image", None, TypeError), ("image", "none.tif", FileNotFoundError),
    ("image", np.full((400, 460, 3), 255, np.uint8), ValueError),
    ("cells", None, TypeError), ("cells", [[9, 9999]], ValueError),
    ("spatial_key", "none", ValueError),
])  # fmt: skip
def test_options_that_are_impossible(image: np.ndarray, option: str, value: Any, kind: type[Exception]) -> None:
    options = {"image": image, "cells": AnnData(np.zeros((7, 1)), obsm={"spatial": PLACES})} | QUICK | {option: value}
    if option in ("batch_size", "image"):
        options["encoder"] = Seen()
    with pytest.raises(kind, match=rf"(?s){option}: expected .*, found .*Next: "):
        isost.tl.histology_features(**options)
