from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isost.pl import enrichment


@pytest.fixture
def found() -> pd.DataFrame:
    rows = {"overlap": [1, 6, 0], "size": [8, 12, 5], "p": [0.04, 1e-5, 1.0], "padj": [0.06, 3e-5, 1.0]}
    return pd.DataFrame(rows, index=["cycle", "myelin", "axon"])


def test_the_surest_is_on_top(found: pd.DataFrame, tmp_path: Path) -> None:
    ax = enrichment(found, save=tmp_path / "sets.png")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["myelin", "cycle", "axon"]
    low, high = ax.get_ylim()
    assert low > high
    np.testing.assert_allclose(ax.collections[1].get_offsets(), [[-np.log10(3e-5), 0], [-np.log10(0.06), 1], [0, 2]])
    assert [text.get_text() for text in ax.texts] == ["6 of 12", "1 of 8", "0 of 5"]
    sizes = ax.collections[1].get_sizes()
    assert sizes[0] > sizes[1] > sizes[2]
    assert (tmp_path / "sets.png").stat().st_size


def test_some_sets_and_another_level(found: pd.DataFrame) -> None:
    ax = enrichment(found, n_sets=2, alpha=0.1)
    assert len(ax.get_yticks()) == 2
    line = next(line for line in ax.lines if line.get_label() == "padj = 0.1")
    assert line.get_xdata()[0] == pytest.approx(1.0)


def test_a_p_of_0_is_drawn(found: pd.DataFrame) -> None:
    found.loc["myelin", "padj"] = 0.0
    assert np.isfinite(enrichment(found).get_xlim()).all()


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (3, TypeError, "data: expected a DataFrame of gene sets, found int. Next"),
        (pd.DataFrame({"p": [1.0]}), ValueError, "data: expected rows with overlap.*without.*overlap.*Next"),
        (pd.DataFrame(columns=["overlap", "size", "p", "padj"]), ValueError, "found 0 rows.*Next"),
    ],
)
def test_errors(data: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        enrichment(data)
