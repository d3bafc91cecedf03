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
    """Two sections scored at each of two spacings; a kernel gives no cells."""
    rows = [
        (method, section, spacing, nmse, dice)
        for method, errors, dice in (
            ("isost", (0.4, 0.6), 0.9),
            ("kernel", (0.5, 0.9), np.nan),
            ("ceiling", (0.3, 0.3), np.nan),
        )
        for spacing, nmse in zip((100.0, 200.0), errors, strict=True)
        for section, nmse in (("s2", nmse - 0.1), ("s4", nmse + 0.1))
    ]
    return pd.DataFrame(rows, columns=["method", "section", "spacing", "nmse", "dice"])


def test_lines_join_the_means_over_sections(scores: pd.DataFrame) -> None:
    axes = isost.pl.section_titration(scores)
    assert [ax.get_title().split("(")[1] for ax in axes] == ["nmse)", "dice)"]
    lines = {line.get_label(): line for line in axes[0].get_lines()}
    assert list(lines) == ["isost", "kernel", "ceiling"]
    for method, errors in (("isost", [0.4, 0.6]), ("kernel", [0.5, 0.9]), ("ceiling", [0.3, 0.3])):
        np.testing.assert_array_equal(lines[method].get_xdata(), [100.0, 200.0])
        np.testing.assert_allclose(lines[method].get_ydata(), errors)
    assert to_hex(lines["isost"].get_color()) == ACCENT
    assert len({to_hex(line.get_color()) for line in lines.values()}) == 3
    assert lines["ceiling"].get_linestyle() == ":"


def test_sections_scored_by_the_first_method_are_dots(scores: pd.DataFrame) -> None:
    (dots,) = isost.pl.section_titration(scores)[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [[100, 0.3], [100, 0.5], [200, 0.5], [200, 0.7]])


def test_only_sections_scored_at_every_spacing_are_compared(scores: pd.DataFrame) -> None:
    easy = scores["section"].eq("s4") & scores["spacing"].eq(200.0)
    scores = scores[~easy].assign(common=lambda table: table["section"] == "s2")
    axes = isost.pl.section_titration(scores)
    lines = {line.get_label(): line.get_ydata() for line in axes[0].get_lines()}
    for method, errors in (("isost", [0.3, 0.5]), ("kernel", [0.4, 0.8]), ("ceiling", [0.2, 0.2])):
        np.testing.assert_allclose(lines[method], errors)
    np.testing.assert_allclose(axes[0].collections[0].get_offsets(), [[100, 0.3], [200, 0.5]])
    assert axes[0].get_title() == "expression\nerror (nmse)" and axes[0].get_ylabel() == "← better"


def test_without_a_section_scored_at_every_spacing_all_are_taken(scores: pd.DataFrame) -> None:
    line = isost.pl.section_titration(scores.assign(common=False))[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), [0.4, 0.6])


def test_a_method_without_a_score_has_no_line_there(scores: pd.DataFrame) -> None:
    axes = isost.pl.section_titration(scores)
    assert [line.get_label() for line in axes[1].get_lines()] == ["isost"]


def test_the_axis_says_what_is_better_and_where_sections_were_kept(scores: pd.DataFrame) -> None:
    axes = isost.pl.section_titration(scores)
    assert [ax.get_ylabel() for ax in axes] == ["← better", "better →"]
    assert axes[0].get_xticks().tolist() == [100.0, 200.0]


def test_given_axes_and_a_file(scores: pd.DataFrame, tmp_path) -> None:  # type: ignore[no-untyped-def]
    figure, own = plt.subplots(1, 2)
    assert list(isost.pl.section_titration(scores, axes=own, save=tmp_path / "titration.png")) == list(own)
    assert plt.get_fignums() == [figure.number]
    assert (tmp_path / "titration.png").stat().st_size > 1000


def test_bad_input(scores: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"found dict.*Next: isost\.tl\.section_titration"):
        isost.pl.section_titration(scores.to_dict())
    for bad in (scores.drop(columns="spacing"), scores[["method", "section", "spacing"]], scores[:0]):
        with pytest.raises(ValueError, match="expected columns method, section, spacing and a score.*Next: "):
            isost.pl.section_titration(bad)


def test_the_legend_names_methods_without_cells_too() -> None:
    rows = {
        "method": ["isost", "kernel"] * 2, "section": ["s2"] * 4, "spacing": [100.0, 100.0, 200.0, 200.0],
        "nmse": [0.4, 0.5, 0.6, 0.7], "energy": [0.1, np.nan, 0.2, np.nan],
    }  # fmt: skip
    axes = isost.pl.section_titration(pd.DataFrame(rows))
    assert [text.get_text() for text in axes[-1].get_legend().get_texts()] == ["isost", "kernel"]
