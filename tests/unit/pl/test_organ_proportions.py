from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from isost.pl import organ_proportions


@pytest.fixture
def shares() -> pd.DataFrame:
    frame = pd.DataFrame([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]], index=pd.Index([9.5, 11.0, 12.5], name="age"))
    frame.columns = pd.Index(["heart", "trunk"], name="organ")
    frame.attrs = {"colors": ["#0072b2", "#e69f00"], "stages": [9.5, 12.5]}
    return frame


def _names(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_bands_over_age(shares: pd.DataFrame, tmp_path: Path) -> None:
    ax = organ_proportions(shares, save=tmp_path / "shares.png")
    assert ax.get_xlabel() == "age" and ax.get_xlim() == (9.5, 12.5) and ax.get_ylim() == (0, 1)
    first, second = (set(np.round(band.get_paths()[0].vertices[:, 1], 9)) for band in ax.collections)
    assert first == {0, 0.2, 0.5, 0.9} and second == {0.2, 0.5, 0.9, 1.0}
    assert [to_hex(band.get_facecolor()[0]) for band in ax.collections] == ["#0072b2", "#e69f00"]
    assert _names(ax) == ["trunk", "heart"]  # the legend reads as the bands lie
    assert (tmp_path / "shares.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["area", "line"])
def test_profiled_stages_are_marked(shares: pd.DataFrame, kind: str) -> None:
    ax = organ_proportions(shares, kind=kind)
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [9.5, 12.5]
    del shares.attrs["stages"]
    assert not [line for line in organ_proportions(shares, kind=kind).lines if line.get_linestyle() == ":"]


def test_lines_beside_a_reference(shares: pd.DataFrame) -> None:
    reference = pd.DataFrame({"trunk": [6.0, 1.0], "heart": [2.0, 3.0], "tail": [0.0, 1.0]}, [9.5, 12.0])
    ax = organ_proportions(shares, kind="line", reference=reference)
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    for line, name, color in zip(lines, shares.columns, shares.attrs["colors"], strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([shares.index, shares[name]]))
        assert to_hex(line.get_color()) == color
    np.testing.assert_allclose(dots[0].get_xydata(), [[9.5, 0.25], [12.0, 0.6]])
    np.testing.assert_allclose(dots[1].get_xydata(), [[9.5, 0.75], [12.0, 0.2]])
    assert _names(ax) == ["trunk", "heart"]


def test_colours_without_any_given(shares: pd.DataFrame) -> None:
    shares.attrs = {}
    lines = organ_proportions(shares, kind="line").lines
    assert len({line.get_color() for line in lines}) == 2


def test_given_axes_are_drawn_into_and_nothing_is_shown(shares: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(*_: object, **__: object) -> None:
        raise AssertionError("shown unasked")

    monkeypatch.setattr(plt, "show", shown)
    _, mine = plt.subplots()
    assert organ_proportions(shares, ax=mine) is mine and plt.get_fignums() == [1]
    with pytest.raises(AssertionError, match="shown unasked"):
        organ_proportions(shares, show=True)


def test_errors(shares: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match="data: expected a DataFrame of shares, found int.*Next"):
        organ_proportions(3)
    with pytest.raises(ValueError, match="kind: expected 'area'.*found 'bar'.*Next"):
        organ_proportions(shares, kind="bar")
    with pytest.raises(ValueError, match="kind: expected .*found 'area' with a reference.*Next: kind='line'"):
        organ_proportions(shares, reference=shares)
