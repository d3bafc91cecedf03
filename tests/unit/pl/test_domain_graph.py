from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from isost.pl import domain_graph


@pytest.fixture
def graph() -> pd.DataFrame:
    names = ["L1", "L2", "L3"]
    table = pd.DataFrame({
        "first": pd.Categorical.from_codes([0, 0, 1], categories=names),
        "second": pd.Categorical.from_codes([1, 2, 2], categories=names),
        "connectivity": [0.8, 0.02, 0.4],
        "contacts": [120, 0, 60],
        "contact_share": [0.6, 0.0, 0.3],
    })  # fmt: skip
    table.attrs = {"n": {"L1": 10, "L2": 40, "L3": 20}, "colors": ["#ff0000", "#00ff00", "#0000ff"]}
    return table


def test_nodes_and_edges(graph: pd.DataFrame, tmp_path: Path) -> None:
    ax = domain_graph(graph, save=tmp_path / "graph.png")
    edges, nodes = ax.collections
    assert len(edges.get_segments()) == 2, "the faint one is left out"
    widths = edges.get_linewidths()
    assert widths[0] == pytest.approx(2 * widths[1])
    assert [to_hex(color) for color in nodes.get_facecolors()] == ["#ff0000", "#00ff00", "#0000ff"]
    sizes = nodes.get_sizes()
    assert sizes[1] > sizes[2] > sizes[0]
    places = nodes.get_offsets()
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    assert apart[0, 1] < apart[1, 2] < apart[0, 2], "the more alike, the nearer"
    assert [text.get_text() for text in ax.texts] == ["L1", "L2", "L3"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0.8", "0.4", "0.2"]
    assert (tmp_path / "graph.png").stat().st_size


def test_other_columns_and_thresholds(graph: pd.DataFrame) -> None:
    assert len(domain_graph(graph, threshold=0).collections[0].get_segments()) == 3
    assert len(domain_graph(graph, threshold=0.9).collections[0].get_segments()) == 1
    ax = domain_graph(graph, value="contacts")
    assert ax.get_legend().get_title().get_text() == "contacts"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["120", "60", "30"]
    graph["connectivity"] = np.nan
    assert domain_graph(graph).get_legend().get_title().get_text() == "share of contacts"


def test_two_domains_that_do_not_touch_and_no_attrs(graph: pd.DataFrame) -> None:
    one = graph.iloc[[1]].copy()
    one.attrs = {}
    ax = domain_graph(one, value="contact_share")
    assert not len(ax.collections[0].get_segments()) and np.isfinite(ax.collections[1].get_offsets()).all()


def test_errors(graph: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match="data: expected a DataFrame of pairs.*found int. Next"):
        domain_graph(3)
    with pytest.raises(ValueError, match="without 'contacts'. Next"):
        domain_graph(graph.drop(columns="contacts"))
    with pytest.raises(ValueError, match="found 0 rows.*Next"):
        domain_graph(graph.iloc[:0])
    with pytest.raises(ValueError, match="value: expected one of connectivity.*found 'z'.*Next"):
        domain_graph(graph, value="z")
    with pytest.raises(ValueError, match="found 'connectivity', which has no numbers. Next"):
        domain_graph(graph.assign(connectivity=np.nan), value="connectivity")
    with pytest.raises(ValueError, match="threshold: expected a share.*Next"):
        domain_graph(graph, threshold=2)
