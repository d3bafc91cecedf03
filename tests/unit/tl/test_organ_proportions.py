from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from isost.tl import organ_proportions

AGES = [9.5, 10.0, 11.0]


@pytest.fixture
def organs() -> xr.Dataset:
    """Three ages of two organs on 4 x 4 pixels of 10 µm, of which 4, 8 and 12 are tissue."""
    label = np.zeros((3, 4, 4), np.int16)
    for number in range(3):
        label[number, : number + 1] = 1
        label[number, 0, :2] = 2
    return xr.Dataset(
        {
            "label": (("age", "y", "x"), label),
            "confidence": (("age", "y", "x"), np.ones((3, 4, 4), np.float32)),
            "proportion": (("age", "name"), [[0.5, 0.5], [0.75, 0.25], [0.8, 0.2]]),
        },
        coords={"age": AGES, "name": ["trunk", "brain"], "growth": ("age", [0.5, 1.0, 2.0])},
        attrs={"colors": ["#111111", "#222222"], "stages": [9.5, 11.0], "unit": "um", "pixel_size": 10.0},
    )


def test_a_table_of_shares(organs: xr.Dataset) -> None:
    shares = organ_proportions(organs)
    assert shares.index.tolist() == AGES and shares.index.name == "age"
    assert shares.columns.tolist() == ["trunk", "brain"]
    np.testing.assert_allclose(shares, [[0.5, 0.5], [0.75, 0.25], [0.8, 0.2]])
    assert shares.attrs["stages"] == [9.5, 11.0] and shares.attrs["colors"] == ["#111111", "#222222"]
    assert "pearson" not in shares.attrs


def test_the_area_of_a_body_is_that_of_its_pixels_at_its_size(organs: xr.Dataset) -> None:
    area = organ_proportions(organs).attrs["area"]
    assert area == pytest.approx({9.5: 4 * 100 * 0.25, 10.0: 8 * 100 * 1.0, 11.0: 12 * 100 * 4.0})
    assert "area" not in organ_proportions(organs.drop_vars("growth")).attrs


def test_rows_sum_to_one_whatever_the_labels_count(organs: xr.Dataset) -> None:
    organs["proportion"] = organs["proportion"] * xr.DataArray([2.0, 1.0, 0.5], dims="age")
    np.testing.assert_allclose(organ_proportions(organs).sum(axis=1), 1.0)


def test_beside_itself(organs: xr.Dataset) -> None:
    pearson = organ_proportions(organs, reference=organ_proportions(organs)).attrs["pearson"]
    assert pearson["overall"] == pytest.approx(1.0)
    assert pearson["columns"] == pytest.approx({"trunk": 1.0, "brain": 1.0})
    assert pearson["groups"]["10.0"] == pytest.approx(1.0)
    assert np.isnan(pearson["groups"]["9.5"])  # as much of one as of the other


def test_the_order_and_the_amounts_of_a_reference_do_not_matter(organs: xr.Dataset) -> None:
    reference = organ_proportions(organs).loc[[11.0, 9.5, 10.0], ["brain", "trunk"]].mul([9.0, 2.0, 5.0], axis=0)
    pearson = organ_proportions(organs, reference=reference).attrs["pearson"]
    assert pearson["overall"] == pytest.approx(1.0)
    assert pearson["columns"] == pytest.approx({"trunk": 1.0, "brain": 1.0})


def test_only_common_ages_and_organs_are_compared(organs: xr.Dataset) -> None:
    reference = pd.DataFrame({"brain": [0.1, 0.7, 0.2], "tail": [0.9, 0.3, 0.8]}, [10.0 + 1e-9, 13.0, 11])
    pearson = organ_proportions(organs, reference=reference).attrs["pearson"]
    assert set(pearson["groups"]) == {"10.0", "11.0"}
    assert pearson["columns"] == {"brain": pytest.approx(-1.0)}
    first, second = [0.75, 0.25, 0.0, 0.8, 0.2, 0.0], [0.0, 0.1, 0.9, 0.0, 0.2, 0.8]
    assert pearson["overall"] == pytest.approx(np.corrcoef(first, second)[0, 1])


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        (3, TypeError, "reference: expected a DataFrame with ages.*found int"),
        (pd.DataFrame({"brain": [1.0]}, ["E9.5"]), TypeError, "reference: expected a DataFrame with ages as numbers"),
        (pd.DataFrame({"brain": [1.0]}, [20.0]), ValueError, "reference: expected ages and organs in common"),
        (pd.DataFrame({"tail": [1.0]}, [9.5]), ValueError, "reference: expected ages and organs in common"),
        (pd.DataFrame({"brain": []}, pd.Index([], dtype=float)), ValueError, "in common"),
    ],
)
def test_references_that_cannot_be_compared(
    organs: xr.Dataset, reference: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"(?s){words}.*Next: "):
        organ_proportions(organs, reference=reference)


@pytest.mark.parametrize("data", [3, xr.Dataset({"label": ("x", [1])}), pd.DataFrame()])
def test_another_type(data: Any) -> None:
    with pytest.raises(TypeError, match=r"data: expected what isost\.tl\.propagate_labels returns.*Next"):
        organ_proportions(data)
