"""A bad prediction is kept out by its weight, and a good one tells more than the sections about it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._core import bridge, calibrate
from isost._core.stack import Stack

QUICK = {"epochs": 1, "progress": False, "rng": 0, "correct_sections": False}
AT = "s3"


@pytest.fixture(scope="module")
def truth() -> AnnData:
    """Exact expression in a tissue that shifts and turns from section to section."""
    return isost.datasets.phantom("bending", n_sections=5, n_cells=120, n_genes=10, count_noise=False, rng=0)


def fitted(truth: AnnData, predicted: np.ndarray, weight: float) -> isost.Reconstruction:
    names = truth.obs["section"].cat.categories
    parts = {name: truth[truth.obs["section"] == name].copy() for name in names}
    parts[AT].X = predicted.astype(np.float32)
    depths = {name: float(part.obsm["spatial"][0, 2]) for name, part in parts.items()}
    adata = isost.pp.stack_sections(parts, z=depths, weight={AT: weight})
    isost.pp.embed(adata, n_comps=6, log1p=False, rng=0)
    return isost.tl.fit(adata, **QUICK)


def error(truth: AnnData, fit: isost.Reconstruction) -> float:
    """Mean squared error of the field at the cells of the predicted section."""
    part = truth[truth.obs["section"] == AT]
    field = fit.expression(part.obsm["spatial"], genes=list(truth.var_names))
    return float(((field - part.X) ** 2).mean())


def test_noise_is_kept_out_by_its_weight(truth: AnnData) -> None:
    own = truth[truth.obs["section"] == AT].X
    noise = np.random.default_rng(0).permuted(own, axis=0)
    none, little, full = (error(truth, fitted(truth, noise, weight)) for weight in (0.0, 0.2, 1.0))
    assert none < full and little < full, (none, little, full)


def test_a_good_prediction_tells_more_than_the_sections_about_it(
    truth: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = truth[truth.obs["section"] == AT].X
    good = np.maximum(own + 0.1 * own.std() * np.random.default_rng(0).normal(size=own.shape), 0)
    with caplog.at_level(logging.INFO, logger="isost"):
        fit = fitted(truth, good, 0.9)
    assert "fit: 1 of 5 sections are predicted, and count by weights of 0.9" in caplog.text
    assert error(truth, fit) < error(truth, fitted(truth, good, 0.0))
    assert fit.params["predicted_sections"] == {AT: 0.9}
    fit.save(tmp_path / "fit")
    again = isost.Reconstruction.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.stack.weights, fit.stack.weights)
    places = truth.obsm["spatial"][::50]
    np.testing.assert_array_equal(again.expression(places), fit.expression(places))


def test_no_predicted_section_is_taken_for_the_truth(truth: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out, believed = [], []

    def watched(model: Any, stack: Stack, k: int, *how: Any, **settings: Any) -> Any:
        left_out.append(stack.names[k])
        return leave_out(model, stack, k, *how, **settings)

    def asked(sections: list[Any], depths: list[float], **how: Any) -> Any:
        believed.append(len(sections))
        return believe(sections, depths, **how)

    leave_out, believe = calibrate._leave_out, bridge.believe
    monkeypatch.setattr(calibrate, "_leave_out", watched)
    monkeypatch.setattr(bridge, "believe", asked)
    fitted(truth, truth[truth.obs["section"] == AT].X, 0.5)
    assert (left_out, believed) == (["s2", "s4"], [4])
