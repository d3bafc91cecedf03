from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isost.pl import composition_difference


@pytest.fixture
def found() -> pd.DataFrame:
    rows = [("core", "x", 0.3, 1.5, 0.01), ("core", "y", -0.3, -1.5, 0.2), ("rim", "x", 0.0, 0.0, 1.0),
            ("rim", "y", np.nan, np.nan, np.nan)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["domain", "label", "difference", "log2_ratio", "padj"])
    return table.assign(condition="treated", reference="control")


def test_what_is_sure_is_marked(found: pd.DataFrame, tmp_path: Path) -> None:
    ax = composition_difference(found, save=tmp_path / "found.png")
    assert ax.get_title() == "treated against control" and ax.get_xlabel() == "● padj ≤ 0.05"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["core", "rim"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y"]
    assert ax.collections[0].get_offsets().tolist() == [[0, 0]]
    image = ax.images[0]
    assert image.get_clim() == (-0.3, 0.3) and image.get_array().mask.tolist() == [[False, False], [False, True]]
    both = composition_difference(found, alpha=0.2, value="log2_ratio", vmax=1.0)
    assert len(both.collections[0].get_offsets()) == 2 and both.images[0].get_clim() == (-1, 1)
    assert (tmp_path / "found.png").stat().st_size


def test_what_was_not_tested_is_said(found: pd.DataFrame) -> None:
    assert composition_difference(found, alpha=0.001).get_xlabel() == "none with padj ≤ 0.001"
    assert composition_difference(found.assign(padj=np.nan)).get_xlabel() == "not tested: no replicates"
    still = composition_difference(found.assign(difference=0.0))
    assert still.images[0].get_clim() == (-1, 1)


def test_too_few_samples_are_said(found: pd.DataFrame) -> None:
    few = found.assign(padj=0.4, n_samples=3, n_samples_reference=3)
    said = "too few samples to test:\np is 0.1 at least"
    assert composition_difference(few).get_xlabel() == said
    assert composition_difference(few.drop(columns="n_samples")).get_xlabel() == "none with padj ≤ 0.05"
    few.attrs["smallest_p"] = 0.029  # another condition has more samples
    assert composition_difference(few).get_xlabel() == said
    assert composition_difference(few, alpha=0.1).get_xlabel() == "none with padj ≤ 0.1"
    assert composition_difference(few.assign(n_samples=4)).get_xlabel() == "none with padj ≤ 0.05"
    found.attrs["smallest_p"] = 0.1
    assert composition_difference(found.assign(padj=0.4)).get_xlabel() == said


def test_rows_are_named(found: pd.DataFrame) -> None:
    assert composition_difference(found).get_ylabel() == "domain"
    found.attrs["groupby"] = "layer"
    assert composition_difference(found).get_ylabel() == "layer"


def test_one_condition_of_several(found: pd.DataFrame) -> None:
    both = pd.concat([found, found.assign(condition="other", difference=0.1)], ignore_index=True)
    assert composition_difference(both, condition="other").get_title() == "other against control"
    with pytest.raises(ValueError, match="condition: expected one of 'treated', 'other', found None. Next"):
        composition_difference(both)


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        (lambda t: 3, {}, TypeError, "data: expected a DataFrame of differences, found int. Next"),
        (lambda t: t.drop(columns="padj"), {}, ValueError, "without 'padj'. Next"),
        (lambda t: t.iloc[:0], {}, ValueError, "found 0 rows.*Next"),
        (lambda t: t, {"value": "p"}, ValueError, "value: expected 'difference'.*found 'p'. Next"),
        (lambda t: t, {"condition": "nope"}, ValueError, "condition: expected one of.*'nope'. Next"),
        (lambda t: t, {"alpha": 0}, ValueError, "alpha: .*Next"),
        (lambda t: t, {"vmax": -1}, ValueError, "vmax: .*Next"),
    ],
)
def test_errors(found: pd.DataFrame, change, options, error, says) -> None:
    with pytest.raises(error, match=says):
        composition_difference(change(found), **options)
