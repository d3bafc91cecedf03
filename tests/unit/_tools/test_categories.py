from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost._tools.categories import categories_of, check_every_cell


def of(values: object) -> AnnData:
    return AnnData(np.zeros((4, 1)), obs=pd.DataFrame({"d": values}, index=list("abcd")))


@pytest.mark.parametrize(
    "values",
    [
        pd.Categorical(["2", "1", None, "2"], categories=["2", "1", "unused"]),
        ["2", "1", None, "2"],
        pd.array([2, 1, pd.NA, 2], dtype="Int64"),
        pd.array(["2", "1", pd.NA, "2"], dtype="string"),
    ],
)
def test_labels_of_any_type(values: object) -> None:
    found = categories_of(of(values), "d", "groupby")
    assert list(found.astype(object)) == ["2", "1", np.nan, "2"] or pd.isna(found[2])
    assert set(found.categories) == {"1", "2"} and found.codes[2] == -1


def test_the_order_of_categories_stays() -> None:
    values = pd.Categorical(["b", "a", "c", "a"], categories=["c", "b", "a"])
    assert categories_of(of(values), "d", "groupby").categories.tolist() == ["c", "b", "a"]


def test_errors() -> None:
    with pytest.raises(KeyError, match="groupby: expected a column of obs.*found 'x'. Next"):
        categories_of(of(list("abcd")), "x", "groupby")
    with pytest.raises(TypeError, match="groupby: expected labels.*float64.*Next"):
        categories_of(of([1.0, 2, 3, 4]), "d", "groupby")
    with pytest.raises(ValueError, match="groupby: expected labels.*none in 4 cells. Next"):
        categories_of(of(pd.Categorical([None] * 4, categories=["a"])), "d", "groupby")
    with pytest.raises(ValueError, match="labels of one type.*'1'.*Next"):
        categories_of(of([1, "1", 2, 3]), "d", "groupby")
    labels = categories_of(of(["a", None, "b", None]), "d", "groupby")
    check_every_cell(labels, "d", "sample_key", np.array([True, False, True, False]))
    with pytest.raises(ValueError, match="sample_key: expected a value.*found 1 without. Next"):
        check_every_cell(labels, "d", "sample_key", np.array([True, True, True, False]))
