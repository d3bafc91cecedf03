"""Held-out scores: nothing leaks, every method is there, and known answers score as they should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost

QUICK = {"n_comps": 5, "epochs": 1, "n_draws": 1, "progress": False, "rng": 0}


@pytest.fixture(scope="module")
def phantom() -> AnnData:
    return isost.datasets.phantom("still", n_sections=5, n_cells=120, n_genes=20, rng=0)


@pytest.fixture(scope="module")
def scores(phantom: AnnData) -> pd.DataFrame:
    return isost.tl.cross_validate(phantom, **QUICK)


def test_every_method_for_every_second_inner_section(scores: pd.DataFrame) -> None:
    assert set(scores["method"]) == {"isost", "nearest", "union", "kernel", "ceiling"}
    assert set(scores["section"]) == {"s2", "s4"}
    assert len(scores) == 10
    assert scores[["pcc", "nmse"]].notna().all(axis=None)


def test_the_input_is_left_alone(phantom: AnnData) -> None:
    before = phantom.copy()
    isost.tl.cross_validate(phantom, hold_out=["s3"], **QUICK)
    assert (phantom.X != before.X).nnz == 0
    assert list(phantom.obsm) == list(before.obsm) and list(phantom.uns) == list(before.uns)


def test_nothing_of_a_held_out_section_leaks(phantom: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    from isost.tl import _cross_validate

    fitted_on = []
    real = _cross_validate.fit

    def spy(train: AnnData, **how: object) -> isost.Reconstruction:
        fitted_on.append((set(train.obs["section"]), train.obsm["X_pca"].copy()))
        return real(train, **how)

    monkeypatch.setattr(_cross_validate, "fit", spy)
    isost.tl.cross_validate(phantom, hold_out=["s3"], **QUICK)
    changed = phantom.copy()
    held = (changed.obs["section"] == "s3").to_numpy()
    counts = changed.X.toarray()
    counts[held] = counts[held][:, ::-1] * 7
    changed.X = counts
    isost.tl.cross_validate(changed, hold_out=["s3"], **QUICK)
    (names, one), (_, other) = fitted_on
    assert "s3" not in names
    np.testing.assert_allclose(np.abs(one), np.abs(other), atol=1e-3)


def test_a_section_of_nonsense_scores_far_below_a_true_one(phantom: AnnData, scores: pd.DataFrame) -> None:
    nonsense = phantom.copy()
    rows = np.flatnonzero(nonsense.obs["section"] == "s2")
    order = np.arange(nonsense.n_obs)
    order[rows] = np.random.default_rng(0).permutation(rows)
    nonsense.X = nonsense.X[order]
    shuffled = isost.tl.cross_validate(nonsense, hold_out=["s2"], **QUICK).set_index("method")
    true = scores[scores["section"] == "s2"].set_index("method")
    assert shuffled.loc["isost", "pcc"] < 0.5 * true.loc["isost", "pcc"]
    assert shuffled.loc["isost", "nmse"] > true.loc["isost", "nmse"]


def test_two_sections_have_none_to_hold_out() -> None:
    with pytest.raises(ValueError, match="(?i)inner|section"):
        isost.tl.cross_validate(isost.datasets.letters(100), **QUICK)


def test_an_unknown_section_is_named(phantom: AnnData) -> None:
    with pytest.raises(ValueError, match="s9"):
        isost.tl.cross_validate(phantom, hold_out=["s9"], **QUICK)


def test_a_predicted_section_is_no_truth(phantom: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    from isost.tl import _cross_validate

    seen = []
    real = _cross_validate.fit

    def spy(train: AnnData, **how: object) -> isost.Reconstruction:
        seen.append(set(train.obs["section"]))
        return real(train, **how)

    monkeypatch.setattr(_cross_validate, "fit", spy)
    weighted = phantom.copy()
    weighted.obs["section_weight"] = np.where(weighted.obs["section"] == "s2", 0.5, 1.0)
    for hold_out, fits in (("each", [["s3"], ["s4"]]), ("alternate", [["s3"]]), (2, [["s3"], ["s4"]])):
        seen.clear()
        scores = isost.tl.cross_validate(weighted, hold_out=hold_out, **QUICK)
        assert set(scores["section"]) == {name for fold in fits for name in fold}
        assert seen == [{"s1", "s2", "s3", "s4", "s5"} - set(fold) for fold in fits]
    with pytest.raises(ValueError, match=r"hold_out: expected sections that were measured, found s2, .* Next: .* s3"):
        isost.tl.cross_validate(weighted, hold_out=["s2", "s3"], **QUICK)
    weighted.obs["section_weight"] = np.where(weighted.obs["section"].isin(["s1", "s5"]), 1.0, 0.5)
    with pytest.raises(ValueError, match="expected three measured sections or more, .* found 2"):
        isost.tl.cross_validate(weighted, **QUICK)
    weighted.obs["section_weight"] = np.where(weighted.obs["section"] == "s1", 0.5, 1.0)
    with pytest.raises(ValueError, match="found \\['s5'\\]|s5"):
        isost.tl.cross_validate(weighted, hold_out=["s5"], **QUICK)


def test_other_methods_see_measured_sections_alone(phantom: AnnData) -> None:
    from isost.tl._held_out import split

    weighted = phantom.copy()
    weighted.obs["section_weight"] = np.where(weighted.obs["section"] == "s2", 0.5, 1.0)
    train, known = split(weighted, [2], n_comps=5)
    assert train.obs["section"].nunique() == 4
    np.testing.assert_allclose(known.training.depths, [0, 150, 200])
