"""Expression told by where cells lie in the frame that slides share, beside what the image shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import isost
from isost import histology_model

QUICK: dict[str, Any] = {"section_key": "section", "progress": False, "device": "cpu"}
NETWORK: dict[str, Any] = {"hidden": (64,), "epochs": 60, **QUICK}
MakeUp = Callable[..., tuple[AnnData, dict[str, AnnData]]]


def placed(made_up: MakeUp, n_slides: int = 4) -> tuple[AnnData, dict[str, AnnData]]:
    """Slides of one tissue: genes 0 to 3 follow features, 4 to 7 the place."""
    adata, features = made_up(n_slides, n=200)
    x, y = adata.obsm["spatial"].T / 1000
    field = np.stack([np.sin(5 * x), np.cos(6 * y), np.sin(4 * (x + y)), np.cos(5 * (x - y))], axis=1)
    counts = adata.X.toarray()
    counts[:, 4:] = np.random.default_rng(1).poisson(3 * np.exp(field))
    adata.X = sparse.csr_matrix(counts)
    for number, part in enumerate(features.values()):  # where a slide lies under the scanner
        turn = np.array([[np.cos(number), -np.sin(number)], [np.sin(number), np.cos(number)]])
        part.obsm["spatial"] = part.obsm["spatial"] @ turn + 3000 * number
    return adata, features


def scores(told: AnnData, adata: AnnData) -> np.ndarray:
    counts = adata[told.obs_names].X.toarray()
    wanted = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    columns = adata.var_names.get_indexer(told.var_names)
    r = np.array([np.corrcoef(told.X[:, k], wanted[:, column])[0, 1] for k, column in enumerate(columns)])
    return r[np.argsort(columns)]


@pytest.fixture(scope="module")
def tissue(made_up: MakeUp) -> tuple[AnnData, AnnData, dict[str, AnnData], AnnData]:
    """Measured cells of three slides, all cells, and the features of the three and of the fourth."""
    adata, features = placed(made_up)
    own = features.pop("s3")
    return adata[adata.obs["section"] != "s3"].copy(), adata, features, own


@pytest.fixture(scope="module")
def model(tissue: Any) -> isost.HistologyModel:
    measured, _, features, _ = tissue
    return isost.tl.fit_histology(
        measured, features, genes=list(measured.var_names), method="ridge", use_positions=True, **QUICK
    )


@pytest.mark.parametrize("method", ["ridge", "network", "prts"])
def test_genes_that_follow_the_place_are_told_of_another_slide(tissue: Any, method: str) -> None:
    measured, adata, features, own = tissue
    how = {"method": method, "genes": list(adata.var_names), **(QUICK if method == "ridge" else NETWORK)}
    if method == "prts":
        how["learning_rate"] = 1e-3
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    alone = isost.tl.fit_histology(measured, features, **how)
    both = isost.tl.fit_histology(measured, features, use_positions=True, **how)
    without, found = scores(alone.predict(own), adata), scores(both.predict(own, positions=place), adata)
    assert abs(without[4:].mean()) < 0.25
    assert found[4:].mean() > without[4:].mean() + 0.3
    assert found[:4].mean() > 0.7 * without[:4].mean()
    assert both.accuracy["pcc"].mean() == pytest.approx(found.mean(), abs=0.12)


def test_positions_that_say_nothing_cost_little(made_up: MakeUp) -> None:
    adata, features = made_up(4, n=200)
    own = features.pop("s3")
    measured = adata[adata.obs["section"] != "s3"].copy()
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    how = {"method": "ridge", "genes": list(adata.var_names), **QUICK}
    alone = scores(isost.tl.fit_histology(measured, features, **how).predict(own), adata).mean()
    both = isost.tl.fit_histology(measured, features, use_positions=True, **how)
    assert scores(both.predict(own, positions=place), adata).mean() > 0.85 * alone


def test_positions_by_name_and_with_depth(tissue: Any, model: isost.HistologyModel) -> None:
    _, adata, _, own = tissue
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    wanted = model.predict(own, positions=place)
    other = own.copy()
    other.obsm["aligned"] = np.column_stack([place, np.full(len(place), 30.0)])
    np.testing.assert_array_equal(model.predict(other, positions="aligned").X, wanted.X)
    other.obsm["frame"] = pd.DataFrame(place, index=other.obs_names, columns=["x", "y"])
    np.testing.assert_array_equal(model.predict(other, positions="frame").X, wanted.X)
    assert np.abs(model.predict(own, positions=place[::-1].copy()).X - wanted.X).max() > 0.1


def test_names_of_rows_count(tissue: Any, model: isost.HistologyModel) -> None:
    _, adata, _, own = tissue
    place = pd.DataFrame(np.asarray(adata[own.obs_names].obsm["spatial"]), index=own.obs_names)
    wanted = model.predict(own, positions=place).X
    np.testing.assert_array_equal(model.predict(own, positions=place[::-1]).X, wanted)
    with pytest.raises(ValueError, match=r"expected a row for each of features\.obs_names, found other names"):
        model.predict(own, positions=place.set_axis([f"x{k}" for k in range(len(place))]))


def test_rows_at_a_time(tissue: Any, model: isost.HistologyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adata, _, own = tissue
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    wanted = model.predict(own, positions=place)
    monkeypatch.setattr(histology_model, "_ROWS", 64)
    np.testing.assert_allclose(model.predict(own, positions=place).X, wanted.X, atol=1e-5)


def test_two_slides_are_held_out_whole(made_up: MakeUp, caplog: pytest.LogCaptureFixture) -> None:
    adata, features = placed(made_up, 3)
    own = features.pop("s2")
    measured = adata[adata.obs["section"] != "s2"].copy()
    with caplog.at_level("INFO", logger="isost"):
        model = isost.tl.fit_histology(
            measured, features, genes=list(adata.var_names), method="ridge", use_positions=True, **QUICK
        )
    assert "flatter" not in caplog.text and "(2 parts)" in caplog.text and "trust" not in caplog.text
    told = model.predict(own, positions=np.asarray(adata[own.obs_names].obsm["spatial"]))
    assert scores(told, adata)[4:].mean() > 0.3


def test_a_stack_does_not_take_it(tissue: Any, model: isost.HistologyModel) -> None:
    measured, adata, _, own = tissue
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    told = model.predict(own, positions=place)
    assert model.trust is None and "trust" not in told.uns["histology"]
    np.testing.assert_array_equal(told.obsm["positions"], place)
    told.obsm["spatial"] = place
    one = measured[measured.obs["section"] == "s0", told.var_names].copy()
    one.X = np.log1p(one.X.toarray())
    with pytest.raises(ValueError, match=r"(?s)told with positions, which holds what .* say.*weight=.*: 0"):
        isost.pp.stack_sections({"s0": one, "s3": told}, z=[0.0, 20.0])
    stack = isost.pp.stack_sections({"s0": one, "s3": told}, z=[0.0, 20.0], weight={"s3": 0})
    assert stack.obs.groupby("section", observed=True)["section_weight"].first().to_dict() == {"s0": 1.0, "s3": 0.0}


def test_it_is_saved_and_loaded(tissue: Any, model: isost.HistologyModel, tmp_path: Path) -> None:
    _, adata, _, own = tissue
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    model.save(tmp_path / "model")
    loaded = isost.HistologyModel.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(own, positions=place).X, model.predict(own, positions=place).X)
    assert loaded.params["position_width"] == model.params["position_width"]
    with pytest.raises(ValueError, match="positions: expected"):
        loaded.predict(own)


def test_cells_beside_the_tissue_are_strange(tissue: Any, model: isost.HistologyModel) -> None:
    _, adata, _, own = tissue
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    usual = model.predict(own, positions=place).obs["out_of_distribution"]
    width = model.params["position_width"]
    moved = model.predict(own, positions=place + [4000.0, 0.0]).obs["out_of_distribution"]
    assert (usual > 1).mean() < 0.2
    assert (moved > 3000 / width).all()


def test_the_width_is_that_which_was_asked_for(tissue: Any) -> None:
    measured, _, features, _ = tissue
    fitted = isost.tl.fit_histology(measured, features, method="ridge", use_positions=True, position_width=250, **QUICK)
    assert fitted.params["position_width"] == 250.0
    assert isost.tl.fit_histology(measured, features, method="ridge", **QUICK).params["position_width"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_positions": True, "spatial_key": "aligned"}, r"found no adata\.obsm\['aligned'\]"),
        ({"position_width": 100.0}, r"position_width: expected use_positions=True beside it"),
        ({"use_positions": True, "position_width": -1.0}, r"position_width: expected µm above 0, found -1\.0"),
        ({"use_positions": True, "position_width": 2.0}, r"position_width: expected µm of at most 1024 Gaussians"),
        ({"use_positions": True, "section_key": "whole"}, r"two slides or more share, found one slide"),
    ],
)
def test_what_cannot_be_fitted(tissue: Any, options: dict[str, Any], message: str) -> None:
    measured, _, features, _ = tissue
    measured = measured.copy()
    measured.obs["whole"] = "all"
    with pytest.raises(ValueError, match=message):
        isost.tl.fit_histology(measured, features, **({"method": "ridge", **QUICK} | options))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda place: None, "found none"),
        (lambda place: "nothing", "found 'nothing'"),
        (lambda place: place[:5], r"found others, of shape \(5, 2\)"),
        (lambda place: place[:, :1], r"found others, of shape \(200, 1\)"),
        (lambda place: np.where(place < place.max(), place, np.nan), r"found NaN or infinity, of shape \(200, 2\)"),
        (lambda place: place.astype(str), "found ndarray"),
        (lambda place: [[1.0, 2.0], [3.0]], "found list"),
        (lambda place: sparse.csr_matrix(place), "found csr_matrix"),
    ],
)
def test_positions_that_cannot_be_read(tissue: Any, model: isost.HistologyModel, spoil: Any, found: str) -> None:
    _, adata, _, own = tissue
    place = np.asarray(adata[own.obs_names].obsm["spatial"])
    with pytest.raises(ValueError, match=rf"positions: expected \(200, 2\) finite µm .*{found}"):
        model.predict(own, positions=spoil(place))


def test_yes_is_no_bool(tissue: Any) -> None:
    measured, _, features, _ = tissue
    with pytest.raises(TypeError, match=r"use_positions: expected True or False, found 'no'"):
        isost.tl.fit_histology(measured, features, use_positions="no", **QUICK)


def test_positions_where_none_are_asked_for(tissue: Any) -> None:
    measured, _, features, own = tissue
    fitted = isost.tl.fit_histology(measured, features, method="ridge", **QUICK)
    with pytest.raises(ValueError, match=r"positions: expected none, as the model was fitted without them"):
        fitted.predict(own, positions=own.obsm["spatial"])


def test_from_an_image() -> None:
    how: dict[str, Any] = {"pixel_size": 0.5, "spatial_key": "pixel", "radius": 5.0, "progress": False}
    slides = [isost.datasets.phantom_slide(n_cells=100, n_genes=10, side=300, rng=k) for k in range(3)]
    for number, slide in enumerate(slides):
        slide["table"].obs_names = f"{number}_" + slide["table"].obs_names
    features = [isost.tl.histology_features(slide["he_image"], slide["table"], **how) for slide in slides[:2]]
    measured = ad.concat([slide["table"] for slide in slides[:2]])
    model = isost.tl.fit_histology(measured, features, method="ridge", use_positions=True, progress=False)
    image, table = slides[2]["he_image"], slides[2]["table"]
    cells = AnnData(obs=table.obs[[]], obsm={"pixel": table.obsm["pixel"], "aligned": table.obsm["spatial"]})
    told = isost.tl.predict_expression(image, cells, model, positions="aligned", **how)
    again = isost.tl.predict_expression(image, cells, model, positions=cells.obsm["aligned"], **how)
    np.testing.assert_array_equal(told.X, again.X)
    with pytest.raises(ValueError, match=r"positions: expected a key of cells\.obsm, found 'there'"):
        isost.tl.predict_expression(image, cells, model, positions="there", **how)
    with pytest.raises(ValueError, match=r"positions: expected a key of cells\.obsm, found 'aligned' and ndarray"):
        isost.tl.predict_expression(image, cells.obsm["pixel"], model, positions="aligned", **how)
