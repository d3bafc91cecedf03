from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import isost
from isost.pl._style import ACCENT


@pytest.fixture
def scores() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": ["isost", "isost", "nearest", "nearest", "kernel", "kernel"],
            "section": ["s2", "s4"] * 3,
            "pcc": [0.3, 0.4, 0.2, 0.6, 0.1, 0.2],
            "nmse": [0.5, 0.5, 0.6, 0.7, 0.4, 0.5],
            "dice": [0.9, 0.8, 0.7, 0.7, np.nan, np.nan],
            "seconds": [10.0, 11.0, 0.0, 0.0, 1.0, 1.0],
        }
    )


def dots(ax: plt.Axes) -> np.ndarray:
    return np.concatenate([points.get_offsets() for points in ax.collections if points.get_label() == "section"])


def means(ax: plt.Axes) -> plt.Artist:
    (found,) = [points for points in ax.collections if points.get_label() == "mean"]
    return found


def test_a_panel_a_score_with_all_sections_and_their_mean(scores: pd.DataFrame) -> None:
    axes = isost.pl.cross_validation(scores)
    assert [ax.get_title().split("(")[1] for ax in axes] == ["pcc)", "nmse)", "dice)"]
    for ax, name in zip(axes, ("pcc", "nmse", "dice"), strict=True):
        rows = np.repeat([0, 1, 2], 2)
        np.testing.assert_array_equal(np.ma.filled(dots(ax), np.nan), np.column_stack([scores[name], rows]))
        expected = scores.groupby("method", sort=False)[name].mean()
        np.testing.assert_allclose(np.ma.filled(means(ax).get_offsets()[:, 0], np.nan), expected)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["isost", "nearest", "kernel"]
    assert axes[0].get_ylim() == (2.5, -0.5), "the first method is on top"


def test_the_best_mean_is_filled_and_the_arrow_says_what_is_better(scores: pd.DataFrame) -> None:
    axes = isost.pl.cross_validation(scores)
    for ax, best, arrow in zip(axes, (1, 2, 0), ("better →", "← better", "better →"), strict=True):
        filled = [to_hex(color) == ACCENT for color in means(ax).get_facecolors()]
        assert filled.index(True) == best
        assert filled.count(True) == 1
        assert ax.get_xlabel() == arrow


def test_the_ceiling_is_a_line_and_never_the_best(scores: pd.DataFrame) -> None:
    known = pd.DataFrame({"method": "ceiling", "section": ["s2", "s4"], "pcc": [0.7, 0.9], "nmse": [0.1, 0.3]})
    axes = isost.pl.cross_validation(pd.concat([scores, known]))
    for ax, best, mean in zip(axes[:2], (1, 2), (0.8, 0.2), strict=True):
        assert [to_hex(color) == ACCENT for color in means(ax).get_facecolors()].index(True) == best
        (line,) = ax.lines
        np.testing.assert_allclose(line.get_xdata(), mean)
    assert not axes[2].lines


def test_given_axes(scores: pd.DataFrame) -> None:
    figure, own = plt.subplots(1, 3)
    assert list(isost.pl.cross_validation(scores, axes=own)) == list(own)
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="3 scores, found 2"):
        isost.pl.cross_validation(scores, axes=own[:2])


def test_bad_input(scores: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"found dict.*Next: isost\.tl\.cross_validate"):
        isost.pl.cross_validation(scores.to_dict())
    for bad in (scores.drop(columns="section"), scores[["method", "section"]], scores[:0]):
        with pytest.raises(ValueError, match="expected columns method, section and a score.*Next: "):
            isost.pl.cross_validation(bad)
