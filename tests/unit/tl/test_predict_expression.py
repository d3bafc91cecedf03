"""From an image to expression, and what a model asks of features and of folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import isost

QUICK: dict[str, Any] = {"progress": False, "device": "cpu"}
SHORT: dict[str, Any] = {"hidden": (16,), "epochs": 2, **QUICK}

MakeUp = Callable[..., tuple[AnnData, dict[str, AnnData]]]


def mean_colour(tiles: torch.Tensor) -> torch.Tensor:
    return tiles.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Stains that change from place to place."""
    draw = np.random.default_rng(0)
    amount = np.clip(0.6 + 0.4 * draw.normal(size=(30, 30, 2)), 0.05, 3).repeat(10, axis=0).repeat(10, axis=1)
    stains = np.array([[0.65, 0.70, 0.29], [0.27, 0.87, 0.41]])
    return np.round(255 * np.exp(-amount @ (stains / np.linalg.norm(stains, axis=1, keepdims=True)))).astype(np.uint8)


@pytest.fixture(scope="module")
def places() -> np.ndarray:
    return np.random.default_rng(1).uniform(10, 290, (60, 2))


@pytest.fixture(scope="module")
def measured() -> AnnData:
    adata = AnnData(np.random.default_rng(2).poisson(3.0, (60, 5)).astype(np.float32))
    adata.obs_names = [f"cell{k}" for k in range(60)]
    adata.var_names = [f"Gene{k}" for k in range(5)]
    return adata


@pytest.fixture
def model(made_up: MakeUp) -> isost.HistologyModel:
    return isost.tl.fit_histology(*made_up(2), method="ridge", **QUICK)


@pytest.mark.parametrize("encoder", ["texture", mean_colour])
@pytest.mark.parametrize("radius", [None, 10.0])
def test_it_is_features_and_predict(
    image: np.ndarray, places: np.ndarray, measured: AnnData, encoder: Any, radius: float | None
) -> None:
    """Made as for the fit: with the same radius and stains, by the same encoder."""
    how = {"encoder": encoder, "normalise_stain": encoder == "texture", "radius": radius, "pixel_size": 0.5, **QUICK}
    features = isost.tl.histology_features(image, places, **how)
    model = isost.tl.fit_histology(measured, features, method="ridge", **QUICK)
    assert model.params["features"]["radius"] == (radius or 4.0)
    given = {} if encoder == "texture" else {"encoder": encoder}
    told = isost.tl.predict_expression(image, places[:40], model, pixel_size=0.5, interval=0.8, **given, **QUICK)
    wanted = model.predict(isost.tl.histology_features(image, places[:40], **how), interval=0.8)
    assert told.shape == (40, 5) and list(told.layers) == ["expressed", "level", "sd", "lower", "upper"]
    np.testing.assert_array_equal(told.X, wanted.X)
    pd.testing.assert_frame_equal(told.obs, wanted.obs)
    np.testing.assert_allclose(told.obsm["spatial"], places[:40] / 2)
    assert told.uns["histology"]["trust"] == model.trust


def test_nuclei_are_told_and_stacked(stained_slides: dict[str, tuple[AnnData, AnnData]], tmp_path: Path) -> None:
    measured, features = stained_slides["a"]
    model = isost.tl.fit_histology(measured, features, method="ridge", n_genes=10, **QUICK)
    slide = isost.datasets.phantom_slide(n_cells=40, n_genes=2, side=200, rng=5)
    told = isost.tl.predict_expression(
        slide["he_image"], slide["nuclei"], model, pixel_size=0.5, layers=["sd"], **QUICK
    )
    assert told.shape == (40, 10) and list(told.layers) == ["sd"]
    assert list(told.obs) == ["tissue", "nucleus_area", "out_of_distribution"]
    assert told.obs_names.equals(slide["table"].obs_names)
    np.testing.assert_allclose(told.obsm["spatial"], slide["table"].obsm["spatial"], atol=0.5)
    told.write_h5ad(tmp_path / "told.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "told.h5ad").X, told.X)


def test_several_slides_by_a_column(made_up: MakeUp, model: isost.HistologyModel) -> None:
    features = list(made_up(2, n=70, seed=1)[1].values())
    features[1].X = 5 * features[1].X + 3
    whole = ad.concat(features, merge="same", uns_merge="first")
    whole.obs["slide"] = pd.Categorical(np.repeat(["x", "y"], 70), categories=["y", "x", "unused"])
    told = model.predict(whole, slide_key="slide")
    assert told.obs["slide"].tolist() == whole.obs["slide"].tolist()
    for number, part in enumerate(features):
        np.testing.assert_allclose(told.X[70 * number : 70 * (number + 1)], model.predict(part).X, atol=1e-5)


def test_stains_of_a_slide_do_not_matter(made_up: MakeUp, model: isost.HistologyModel) -> None:
    features = made_up(1, n=70, seed=1)[1]["s0"]
    other = features.copy()
    other.X = features.X * np.linspace(0.5, 3, 6, dtype=np.float32) + 10
    np.testing.assert_allclose(model.predict(other).X, model.predict(features).X, atol=1e-4)


def test_like_a_slide_of_the_fit(made_up: MakeUp, model: isost.HistologyModel) -> None:
    """Few cells, or those of a part of it, on the scale of the whole slide."""
    features = made_up(2)[1]["s1"]
    whole, few = model.predict(features), model.predict(features[:3], like="s1")
    np.testing.assert_allclose(few.X, whole.X[:3], atol=1e-5)
    assert not np.allclose(model.predict(features[:31]).X, whole.X[:31], atol=1e-3)


def test_columns_in_another_order_and_more_of_them(made_up: MakeUp, model: isost.HistologyModel) -> None:
    features = made_up(2)[1]["s1"]
    more = AnnData(np.column_stack([np.ones((60, 1)), features.X[:, ::-1]]).astype(np.float32), features.obs.copy())
    more.var_names = ["new", *features.var_names[::-1]]
    more.obsm["spatial"], more.uns["histology"] = features.obsm["spatial"], features.uns["histology"]
    np.testing.assert_array_equal(model.predict(more).X, model.predict(features).X)


def test_cells_unlike_those_of_the_fit(made_up: MakeUp, model: isost.HistologyModel) -> None:
    features = made_up(2)[1]["s1"]
    away = features.copy()
    away.X = features.X + 3
    strange = model.predict(away, like="s1").obs["out_of_distribution"]
    assert strange.dtype == np.float32 and (strange > 1).mean() > 0.9
    assert (model.predict(made_up(1, seed=1)[1]["s0"]).obs["out_of_distribution"] > 1).mean() < 0.3
    assert (model.predict(features).obs["out_of_distribution"] > 1).mean() < 0.05


def test_rows_at_a_time(made_up: MakeUp, model: isost.HistologyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    features = made_up(2)[1]["s1"]
    wanted = model.predict(features, interval=0.9)
    monkeypatch.setattr(isost.histology_model, "_ROWS", 17)
    told = model.predict(features, interval=0.9)
    np.testing.assert_allclose(told.X, wanted.X, atol=1e-6)
    for name in wanted.layers:
        np.testing.assert_allclose(told.layers[name], wanted.layers[name], rtol=1e-4, atol=1e-5)


def test_wider_intervals_hold_narrower_ones(made_up: MakeUp, model: isost.HistologyModel) -> None:
    features = made_up(2)[1]["s1"]
    narrow, wide = (model.predict(features, interval=share, layers=[]) for share in (0.5, 0.95))
    assert list(narrow.layers) == ["lower", "upper"]
    assert (wide.layers["lower"] <= narrow.layers["lower"]).all()
    assert (narrow.layers["upper"] <= wide.layers["upper"]).all() and (narrow.layers["lower"] >= 0).all()


def of_another_encoder(features: AnnData) -> Any:
    features.uns["histology"]["encoder"] = "mine"


def without_columns(features: AnnData) -> Any:
    return features[:, 2:]


def few(features: AnnData) -> Any:
    return features[:29]


def none(features: AnnData) -> Any:
    return features[:0]


def not_finite(features: AnnData) -> Any:
    features.X[0, 0] = np.inf


def bare(features: AnnData) -> Any:
    return AnnData(features.X, features.obs, features.var)


def several(features: AnnData) -> Any:
    return [features]


@pytest.mark.parametrize(("spoil", "error", "message"), [
    (of_another_encoder, ValueError, r"expected the 6 features .* of encoder 'texture', found those of 'mine'"),
    (without_columns, ValueError, r"expected the 6 features .*, found .*2 missing \('feature 0', 'feature 1'\)"),
    (few, ValueError, r"expected 30 cells or more of a slide, .*found fewer \(29\)"),
    (none, ValueError, r"expected finite values, found no cells"),
    (not_finite, ValueError, r"expected finite values, found NaN or infinity"),
    (bare, ValueError, r"expected what isost.tl.histology_features returned, found an AnnData without"),
    (several, TypeError, r"expected an AnnData, found list"),
])  # fmt: skip
def test_features_that_do_not_fit(
    made_up: MakeUp, model: isost.HistologyModel, spoil: Any, error: type[Exception], message: str
) -> None:
    features = made_up(2)[1]["s1"]
    with pytest.raises(error, match=rf"^features: {message}.*Next: "):
        model.predict(spoil(features) if spoil(features) is not None else features)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"like": "s9"}, ValueError, r"like: expected one of the slides of the fit \('s0', 's1'\).*, found 's9'"),
    ({"like": "s0", "slide_key": "half"}, ValueError, r"like: expected .* of one slide, found 's0' for 2"),
    ({"slide_key": "nothing"}, ValueError, r"slide_key: expected a column of obs \('half', 'gaps'\), found 'nothing'"),
    ({"slide_key": "gaps"}, ValueError, r"obs\['gaps'\]: expected a section for each cell, found 5 without"),
    ({"slide_key": "half"}, ValueError, r"features: expected 30 cells or more of a slide, .*on 'little'"),
    ({"layers": "sd"}, ValueError, r"layers: expected some of .*'sd', found 'sd'"),
    ({"layers": ["sd", "counts"]}, ValueError, r"layers: expected some of 'expressed', .*, found 'counts'"),
    ({"layers": None}, ValueError, r"layers: expected some of .*, found None"),
    ({"interval": 0}, ValueError, r"interval: expected a share above 0, of 0.98 at most, found 0"),
    ({"interval": 1.0}, ValueError, r"interval: expected a share above 0, of 0.98 at most, found 1.0"),
    ({"interval": 90}, ValueError, r"interval: expected a share above 0, of 0.98 at most, found 90"),
    ({"interval": float("nan")}, ValueError, r"interval: expected a share above 0, of 0.98 at most, found nan"),
    ({"interval": "0.9"}, TypeError, r"interval: expected one number, found '0.9'"),
])  # fmt: skip
def test_options_that_there_are_not(
    made_up: MakeUp, model: isost.HistologyModel, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    features = made_up(2)[1]["s1"]
    features.obs["half"], features.obs["gaps"] = ["little"] * 10 + ["much"] * 50, [None] * 5 + ["x"] * 55
    with pytest.raises(error, match=rf"{message}.*Next: "):
        model.predict(features, **options)


def test_features_as_they_are_ask_for_no_number_of_cells(made_up: MakeUp) -> None:
    adata, features = made_up(2)
    model = isost.tl.fit_histology(adata, features, method="ridge", standardise="all", **QUICK)
    whole = model.predict(features["s1"])
    np.testing.assert_allclose(model.predict(features["s1"][:1]).X, whole.X[:1], atol=1e-5)
    with pytest.raises(ValueError, match=r"like: expected .*\(none\).*found 's1'.*Next: "):
        model.predict(features["s1"], like="s1")


@pytest.mark.parametrize("wrong", [None, "model", {"a": 1}])
def test_what_is_no_model(image: np.ndarray, places: np.ndarray, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"model: expected an isost.HistologyModel, found .*Next: "):
        isost.tl.predict_expression(image, places, wrong, pixel_size=0.5, **QUICK)


def test_another_encoder_is_refused(image: np.ndarray, places: np.ndarray, model: isost.HistologyModel) -> None:
    with pytest.raises(ValueError, match=r"features: expected the 6 features .*, found those of 'function'.*Next: "):
        isost.tl.predict_expression(image, places, model, encoder=mean_colour, pixel_size=0.5, **QUICK)


def test_what_is_there_is_not_overwritten(model: isost.HistologyModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    with pytest.raises(FileExistsError, match=r"[Ee]xpected .*found .*Next: "):
        model.save(tmp_path / "model")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"[Ee]xpected .*found .*Next: "):
        model.save(tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def no_header(folder: Path) -> None:
    (folder / "isost.json").unlink()


def no_networks(folder: Path) -> None:
    (folder / "networks.pt").unlink()


def cut_short(folder: Path) -> None:
    (folder / "histology.npz").write_bytes((folder / "histology.npz").read_bytes()[:100])


def another_kind(folder: Path) -> None:
    header = json.loads((folder / "isost.json").read_text())
    (folder / "isost.json").write_text(json.dumps(header | {"format": "isost.Reconstruction"}))


def newer(folder: Path) -> None:
    header = json.loads((folder / "isost.json").read_text())
    (folder / "isost.json").write_text(json.dumps(header | {"format_version": 99}))


def another_network(folder: Path) -> None:
    header = json.loads((folder / "isost.json").read_text())
    header["networks"][0]["hidden"] = [17]
    (folder / "isost.json").write_text(json.dumps(header))


def no_json(folder: Path) -> None:
    (folder / "isost.json").write_text("{")


@pytest.mark.parametrize(("spoil", "error"), [
    (no_header, FileNotFoundError), (no_networks, FileNotFoundError), (cut_short, ValueError),
    (another_kind, ValueError), (newer, ValueError), (another_network, ValueError), (no_json, ValueError),
])  # fmt: skip
def test_damaged_folders(made_up: MakeUp, tmp_path: Path, spoil: Any, error: type[Exception]) -> None:
    isost.tl.fit_histology(*made_up(1), **SHORT).save(tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(error, match=r"Expected .*, found .*Next: "):
        isost.HistologyModel.load(tmp_path / "model")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected .*, found .*Next: "):
        isost.HistologyModel.load(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"Expected .*, found .*Next: "):
        isost.HistologyModel.load(tmp_path / "file")


def test_a_model_of_a_function_asks_for_it(image: np.ndarray, places: np.ndarray, measured: AnnData) -> None:
    """Its name is not that of a vision transformer to look for."""
    features = isost.tl.histology_features(image, places, encoder=mean_colour, pixel_size=0.5, **QUICK)
    model = isost.tl.fit_histology(measured, features, method="ridge", **QUICK)
    with pytest.raises(ValueError, match=r"encoder: expected the function .* found None. Next"):
        isost.tl.predict_expression(image, places, model, pixel_size=0.5, **QUICK)


def test_features_made_otherwise_are_said(made_up: MakeUp, caplog: pytest.LogCaptureFixture) -> None:
    """A model of nuclei tells something else of spots."""
    adata, features = made_up(2)
    model = isost.tl.fit_histology(adata, features, method="ridge", **QUICK)
    model.predict(features["s0"])
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    features["s0"].uns["histology"]["radius"] = 50.0
    model.predict(features["s0"])
    assert "radius 50.0" in caplog.text and "fitted on 0.0" in caplog.text


def test_features_that_were_written_and_read(made_up: MakeUp, tmp_path: Path) -> None:
    """Files give numpy's numbers back, which a saved model cannot hold."""
    adata, features = made_up(1)
    features["s0"].write_h5ad(tmp_path / "features.h5ad")
    model = isost.tl.fit_histology(adata, ad.read_h5ad(tmp_path / "features.h5ad"), method="ridge", **QUICK)
    model.save(tmp_path / "model")
    loaded = isost.HistologyModel.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(features["s0"]).X, model.predict(features["s0"]).X)
