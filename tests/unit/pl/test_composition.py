from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from isost.pl import composition


@pytest.fixture
def shares() -> pd.DataFrame:
    frame = pd.DataFrame([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]], index=pd.Index([5.0, 15.0, 25.0], name="depth"))
    frame.columns = pd.Index(["neuron", "glia"], name="kind")
    frame.attrs = {"colors": ["#0072b2", "#e69f00"], "unit": "um"}
    return frame


def test_bands_along_depth(shares: pd.DataFrame, tmp_path: Path) -> None:
    ax = composition(shares, save=tmp_path / "shares.png")
    assert ax.get_xlabel() == "z (µm)" and ax.get_xlim() == (5, 25) and ax.get_ylim() == (0, 1)
    first = ax.collections[0].get_paths()[0].vertices
    assert np.allclose(sorted(set(first[:, 1])), [0, 0.2, 0.5, 1.0])
    assert [to_hex(band.get_facecolor()[0]) for band in ax.collections] == ["#0072b2", "#e69f00"]
    # the legend reads as the bands lie
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["glia", "neuron"]


def test_bars_of_sections(shares: pd.DataFrame) -> None:
    shares.index = pd.Index(["s1", "s2", "s10"], name="section")
    ax = composition(shares)
    assert [bar.get_height() for bar in ax.containers[0]] == [0.2, 0.5, 1.0]
    assert [bar.get_y() for bar in ax.containers[1]] == [0.2, 0.5, 1.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["s1", "s2", "s10"]
    assert ax.get_xlabel() == "section"


def test_bars_of_depths(shares: pd.DataFrame) -> None:
    assert [label.get_text() for label in composition(shares, kind="bar").get_xticklabels()] == ["5", "15", "25"]


def test_errors(shares: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match="data: expected a DataFrame of shares, found int. Next"):
        composition(3)
    for empty, found in ((pd.DataFrame(), "0 groups and 0"), (shares.iloc[:0], "0 groups and 2")):
        with pytest.raises(ValueError, match=f"data: expected shares of labels in groups, found {found} labels. Next"):
            composition(empty)
    shares.index = pd.Index(["s1", "s2", "s3"])
    with pytest.raises(ValueError, match="kind: expected 'bar'.*found 'area'.*Next"):
        composition(shares, kind="area")


def test_the_tissue_stands_before_the_groups(shares: pd.DataFrame) -> None:
    shares.index = pd.Index(["s1", "s2", "s10"], name="section")
    shares.attrs["overall"] = {"neuron": 0.6, "glia": 0.4}
    ax = composition(shares, reference=True)
    assert [bar.get_height() for bar in ax.containers[0]] == [0.6, 0.2, 0.5, 1.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["tissue", "s1", "s2", "s10"]
    first, second = ax.containers[0][:2]
    assert second.get_x() - first.get_x() > 1.2, "a little apart"
    low, high = ax.get_xlim()
    assert low < first.get_x() and high > ax.containers[0][-1].get_x()
    assert composition(shares).containers[0][0].get_height() == 0.2


def test_bars_of_depths_beside_the_tissue(shares: pd.DataFrame) -> None:
    shares.attrs["overall"] = {"neuron": 0.6, "glia": 0.4}
    assert [label.get_text() for label in composition(shares, reference=True).get_xticklabels()][:2] == ["tissue", "5"]
    with pytest.raises(ValueError, match="reference: expected bars.*found kind='area'. Next"):
        composition(shares, kind="area", reference=True)
    del shares.attrs["overall"]
    with pytest.raises(ValueError, match="reference: expected bars.*found none. Next"):
        composition(shares, kind="bar", reference=True)
