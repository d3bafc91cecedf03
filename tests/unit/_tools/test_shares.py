from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isost._tools.shares import correlate_columns

SHARES = pd.DataFrame(
    [[0.2, 0.8, 0.0], [0.5, 0.4, 0.1], [0.7, 0.2, 0.1]], [9.5, 11.0, 12.0], ["heart", "liver", "tail"]
)


def test_a_table_agrees_with_itself() -> None:
    assert correlate_columns(SHARES, SHARES) == pytest.approx({"heart": 1.0, "liver": 1.0, "tail": 1.0})


def test_amounts_are_divided_by_those_of_their_age() -> None:
    amounts = SHARES.mul([3.0, 100.0, 20.0], axis=0)
    assert correlate_columns(SHARES, amounts) == pytest.approx({"heart": 1.0, "liver": 1.0, "tail": 1.0})


def test_columns_and_rows_are_found_by_name() -> None:
    other = SHARES.loc[[12.0, 9.5, 11.0], ["tail", "heart", "liver"]]
    assert correlate_columns(SHARES, other) == pytest.approx({"heart": 1.0, "liver": 1.0, "tail": 1.0})


def test_only_common_ones_are_compared() -> None:
    other = pd.DataFrame([[0.1, 0.9], [0.9, 0.1], [0.4, 0.6]], [9.5, 12.0, 14.0], ["liver", "brain"])
    assert correlate_columns(SHARES, other) == {"liver": pytest.approx(-1.0)}


def test_what_is_constant_has_no_correlation() -> None:
    still = SHARES.assign(tail=0.0, heart=0.4, liver=0.6)
    assert np.isnan(list(correlate_columns(still, SHARES).values())).all()
