from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost
from isost._tools.organs import labels_of, read_labels

TABLE = {"muscle": "trunk", "neuron": "brain", "glia": "brain"}


@pytest.fixture
def adata() -> AnnData:
    adata = AnnData(np.zeros((5, 1), dtype=np.float32))
    kinds = ["neuron", "unused", "muscle", "glia"]
    adata.obs["kind"] = pd.Categorical(["muscle", "glia", None, "neuron", "glia"], categories=kinds)
    adata.uns["kind_colors"] = ["red", "black", "#00ff00", "blue"]
    return adata


def test_labels_are_taken_as_they_are_with_their_colours(adata: AnnData) -> None:
    labels = labels_of(adata, "kind", None)
    assert labels.names == ("neuron", "unused", "muscle", "glia")
    assert labels.code.tolist() == [2, 3, -1, 0, 3]
    assert labels.colors == ("#ff0000", "#000000", "#00ff00", "#0000ff")


@pytest.mark.parametrize(
    "mapping",
    [
        TABLE,
        pd.Series(TABLE),
        pd.DataFrame({"organ": pd.Series(TABLE)}),
        pd.DataFrame({"kind": list(TABLE), "organ": list(TABLE.values())}),
    ],
    ids=["dict", "Series", "one column", "two columns"],
)
def test_a_table_says_what_values_belong_to(adata: AnnData, mapping: Any) -> None:
    labels = labels_of(adata, "kind", mapping)
    assert labels.names == ("brain", "trunk") and labels.code.tolist() == [1, 0, -1, 0, 0]
    assert len(set(labels.colors)) == 2


def test_what_belongs_to_none_is_left_out(adata: AnnData) -> None:
    labels = labels_of(adata, "kind", TABLE | {"muscle": None})
    assert labels.names == ("brain",) and labels.code.tolist() == [-1, 0, -1, 0, 0]


def test_values_that_are_numbers(adata: AnnData) -> None:
    adata.obs["cluster"] = [0, 1, 2, 1, 0]
    labels = labels_of(adata, "cluster", {0: "a", 1: "b", 2: "a"})
    assert labels.names == ("a", "b") and labels.code.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("key", "mapping", "error", "words"),
    [
        ("nope", None, KeyError, "key: expected a column of obs.*found 'nope'.*Next"),
        ("kind", {"muscle": "trunk", "glia": "brain"}, ValueError, "found nothing for 'neuron'.*Next"),
        ("kind", dict.fromkeys(TABLE), ValueError, "expected cells with a label.*found none.*Next"),
        ("kind", ["brain"], TypeError, "mapping: expected a dict, Series or DataFrame, found list.*Next"),
        ("kind", pd.DataFrame(np.ones((2, 3))), TypeError, "mapping: expected a table of two columns.*3 columns.*Next"),
        ("kind", pd.Series(["a", "b"], ["glia", "glia"]), ValueError, "expected each value once, found 'glia'.*Next"),
    ],
)
def test_tables_that_do_not_say(adata: AnnData, key: str, mapping: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        labels_of(adata, key, mapping)


def test_labels_of_a_stack_come_in_its_order(stages: AnnData, fitted_stages: isost.Reconstruction) -> None:
    shuffled = stages[np.random.default_rng(0).permutation(stages.n_obs)].copy()
    stack = fitted_stages.stack
    labels = read_labels(stack, shuffled, "organ", None)
    expected = stages.obs.loc[stack.obs_names, "organ"].astype(str)
    assert np.array(labels.names)[labels.code].tolist() == expected.tolist()


def test_other_cells(stages: AnnData, fitted_stages: isost.Reconstruction) -> None:
    with pytest.raises(ValueError, match=r"adata: expected the cells that were fitted on, found that \d+ of \d+.*Next"):
        read_labels(fitted_stages.stack, stages[:2000], "organ", None)
