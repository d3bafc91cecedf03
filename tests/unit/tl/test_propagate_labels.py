from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from anndata import AnnData

import isost
from isost import Reconstruction
from isost.tl import propagate_labels


@pytest.fixture(scope="module")
def organs(_stages: AnnData, fitted_stages: Reconstruction) -> xr.Dataset:
    return propagate_labels(fitted_stages, _stages, key="organ", step=0.5, grid=64)


def test_layout(organs: xr.Dataset, stages: AnnData) -> None:
    assert dict(organs.sizes) == {"age": 13, "y": 64, "x": 64, "name": 6}
    assert organs.label.dtype == np.int16 and organs.confidence.dtype == np.float32
    assert organs.name.values.tolist() == stages.obs["organ"].cat.categories.tolist()
    assert organs.attrs["stages"] == [9.5, 11.0, 12.5, 14.0, 15.5] and organs.attrs["unit"] == "um"
    assert len(organs.attrs["colors"]) == 6
    assert np.diff(organs.x) == pytest.approx(organs.attrs["pixel_size"])


def test_proportions_and_votes_are_shares(organs: xr.Dataset) -> None:
    np.testing.assert_allclose(organs.proportion.sum("name"), 1.0)
    outside = organs.label.values == 0
    assert np.isnan(organs.confidence.values[outside]).all()
    sure = organs.confidence.values[~outside]
    assert sure.min() >= 1 / 6 - 1e-6 and sure.max() <= 1.0 + 1e-5


def test_proportions_change_steadily_between_stages(
    fitted_stages: Reconstruction, stages: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is carried along, the share of an organ is a straight line between two stages."""
    monkeypatch.setitem(fitted_stages.model.config, "moving", False)
    organs = propagate_labels(fitted_stages, stages, key="organ", ages=[11.0, 11.5, 12.5], grid=64)
    first, between, last = organs.proportion.values
    np.testing.assert_allclose(between, first * 2 / 3 + last / 3, atol=1e-9)


def test_at_a_profiled_age_labels_are_those_of_the_cells_there(organs: xr.Dataset, stages: AnnData) -> None:
    for age in (9.5, 14.0):
        own = (stages.obs["age"] == age).to_numpy()
        x, y = stages.obsm["spatial_stage"][own].T
        found = organs.label.sel(age=age).sel(x=xr.DataArray(x), y=xr.DataArray(y), method="nearest").values
        known = stages.obs["organ"].cat.codes[own] + 1
        assert (found == 0).mean() < 0.08  # at the rim
        assert (found == known)[found > 0].mean() > 0.9


def test_shares_are_those_of_the_truth(organs: xr.Dataset, stages: AnnData) -> None:
    truth = isost.datasets.embryo_truth(stages).proportions(organs.age.values)
    np.testing.assert_allclose(organs.proportion, truth[organs.name.values], atol=0.06)


def test_growth_is_that_of_the_stack(organs: xr.Dataset, fitted_stages: Reconstruction) -> None:
    np.testing.assert_allclose(organs.growth, fitted_stages.stack.growth_at(organs.age.values))


def test_ages_are_the_steps_and_the_stages(fitted_stages: Reconstruction, stages: AnnData) -> None:
    steps = propagate_labels(fitted_stages, stages, key="organ", step=1.0, grid=16).age.values
    assert steps.tolist() == [9.5, 10.5, 11.0, 11.5, 12.5, 13.5, 14.0, 14.5, 15.5]
    fine = propagate_labels(fitted_stages, stages, key="organ", step=0.1, grid=16).age.values
    assert fine.tolist() == [round(9.5 + 0.1 * k, 1) for k in range(61)]
    asked = propagate_labels(fitted_stages, stages, key="organ", ages=[12.0, 10.0, 12.0], grid=16).age.values
    assert asked.tolist() == [10.0, 12.0]


def test_an_age_is_labelled_whatever_others_are(
    organs: xr.Dataset, fitted_stages: Reconstruction, stages: AnnData
) -> None:
    alone = propagate_labels(fitted_stages, stages, key="organ", ages=[12.0], grid=64)
    xr.testing.assert_allclose(alone.label, organs.label.sel(age=[12.0]))


@pytest.mark.parametrize("kind", ["dict", "Series", "one column", "two columns"])
def test_mappings_of_any_kind_say_the_same(fitted_stages: Reconstruction, stages: AnnData, kind: str) -> None:
    table = stages.uns["organ_of_type"]
    mapping = {
        "dict": table,
        "Series": pd.Series(table),
        "one column": pd.Series(table).to_frame("organ"),
        "two columns": pd.DataFrame({"type": list(table), "organ": list(table.values())}),
    }[kind]
    stages.obs["said"] = stages.obs["cell_type"].map(table).astype(str)
    options = {"ages": [10.0], "grid": 32}
    found = propagate_labels(fitted_stages, stages, key="cell_type", mapping=mapping, **options)
    expected = propagate_labels(fitted_stages, stages, key="said", **options)
    assert found.name.values.tolist() == sorted(set(table.values())) == expected.name.values.tolist()
    xr.testing.assert_equal(found.drop_vars("name"), expected.drop_vars("name"))


def test_cells_without_a_label_do_not_vote(fitted_stages: Reconstruction, stages: AnnData) -> None:
    options = {"key": "organ", "ages": [12.5, 13.0], "grid": 48}
    before = propagate_labels(fitted_stages, stages, **options)
    unlabelled = np.random.default_rng(0).random(stages.n_obs) < 0.5
    stages.obs["organ"] = stages.obs["organ"].where(~unlabelled)
    half = propagate_labels(fitted_stages, stages, **options)
    np.testing.assert_array_equal(half.label > 0, before.label > 0)
    both = ((half.label == before.label) & (before.label > 0)).sum() / (before.label > 0).sum()
    assert 0.85 < both < 1.0


def test_order_of_cells_does_not_matter(organs: xr.Dataset, fitted_stages: Reconstruction, stages: AnnData) -> None:
    again = propagate_labels(fitted_stages, stages[::-1].copy(), key="organ", step=0.5, grid=64)
    xr.testing.assert_equal(again, organs)


def test_nothing_is_changed(fitted_stages: Reconstruction, stages: AnnData) -> None:
    before = stages.copy()
    propagate_labels(fitted_stages, stages, key="organ", ages=[10.0], grid=16)
    pd.testing.assert_frame_equal(stages.obs, before.obs)
    assert set(stages.uns) == set(before.uns) and set(stages.obsm) == set(before.obsm)


def test_labels_go_along_with_the_tissue(
    organs: xr.Dataset, fitted_stages: Reconstruction, stages: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that are carried four pixels to the right, and two down, take their labels along."""
    still, step = fitted_stages.field.carried, organs.attrs["pixel_size"]

    def moved(z: float) -> list[tuple[np.ndarray, np.ndarray, float]]:
        return [(places + [4 * step, -2 * step], rows, weight) for places, rows, weight in still(z)]

    monkeypatch.setattr(fitted_stages.field, "carried", moved)
    found = propagate_labels(fitted_stages, stages, key="organ", ages=[11.5], grid=64)
    expected = organs.label.sel(age=[11.5]).values
    assert (found.label.values[:, 10:-10, 10:-10] == expected[:, 12:-8, 6:-14]).mean() > 0.995
    np.testing.assert_allclose(found.proportion, organs.proportion.sel(age=[11.5]), atol=0.02)


def test_a_stage_without_labels_has_those_of_the_stages_beside_it(
    organs: xr.Dataset, fitted_stages: Reconstruction, stages: AnnData
) -> None:
    some = stages.copy()
    some.obs["organ"] = some.obs["organ"].where(some.obs["age"] != 12.5)
    found = propagate_labels(fitted_stages, some, key="organ", ages=[11.5, 12.5, 13.0], grid=64)
    np.testing.assert_allclose(found.proportion.sum("name"), 1.0)
    np.testing.assert_array_equal(found.label > 0, organs.label.sel(age=[11.5, 12.5, 13.0]) > 0)
    same = found.label.sel(age=12.5).values == organs.label.sel(age=12.5).values
    assert same[organs.label.sel(age=12.5).values > 0].mean() > 0.75


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"key": "nope"}, KeyError, "key: expected a column of obs.*found 'nope'"),
        ({"mapping": {"brain": "head"}}, ValueError, "mapping: expected what each value of obs.*found nothing for"),
        ({"ages": [9.0]}, ValueError, "9"),
        ({"ages": [10.0, 16.0]}, ValueError, "16"),
        ({"ages": []}, ValueError, "ages: expected one or more, found none"),
        ({"ages": ["a"]}, TypeError, "'a'"),
        ({"step": 0.0}, ValueError, "step: expected above 0 and at most 6, found 0.0"),
        ({"step": 7.0}, ValueError, "step: expected above 0 and at most 6, found 7.0"),
        ({"grid": 4}, (TypeError, ValueError), "grid: expected"),
    ],
)
def test_bad_requests(
    fitted_stages: Reconstruction, stages: AnnData, options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=f"(?s){words}.*Next: "):
        propagate_labels(fitted_stages, stages, **{"key": "organ", "grid": 16} | options)


def test_other_types(fitted_stages: Reconstruction, stages: AnnData) -> None:
    with pytest.raises(
        TypeError, match="fitted: expected what isost.tl.fit returns for one depth_key, found AnnData.*Next"
    ):
        propagate_labels(stages, stages, key="organ")
    with pytest.raises(TypeError, match=r"AnnData.*found int"):
        propagate_labels(fitted_stages, 3, key="organ")
