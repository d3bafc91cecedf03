from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isost._core.checks import Problems, show, show_rows, to_numbers


def test_problems_are_numbered_in_one_error():
    problems = Problems()
    problems.add("a", expected="1", found="2", next="f(a)")
    assert str(problems.error("Bad input")) == "Bad input: 1 problem.\n1. a: expected 1; found 2.\n   Next: f(a)"
    problems.add("b", expected="3", found="4", next="f(b)")
    text = str(problems.error("Bad input"))
    assert text.startswith("Bad input: 2 problems.\n1. a:")
    assert "\n2. b: expected 3; found 4.\n   Next: f(b)" in text


def test_long_lists_are_cut():
    assert show([]) == "none"
    assert show("abc") == "'a', 'b', 'c'"
    assert show(range(8), 3) == "0, 1, 2 and 5 more"
    assert show_rows(np.array([False, True, True])) == "2 of 3 cells (rows 1, 2)"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1, 2], dtype=np.int8), [1.0, 2.0]),
        (np.array([1, 2.5, None], dtype=object), [1.0, 2.5, np.nan]),
        (pd.Series([1.5, 2.0]), [1.5, 2.0]),
        (pd.Series([1, None], dtype="Int64"), [1.0, np.nan]),
        (pd.Series(pd.Categorical([3.0, 1.0, None])), [3.0, 1.0, np.nan]),
        (pd.DataFrame({"x": [1, 2], "y": [3.0, 4.0]}), [[1.0, 3.0], [2.0, 4.0]]),
    ],
)
def test_numbers_become_float64(values, expected):
    numbers = to_numbers(values)
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, expected)


@pytest.mark.parametrize(
    ("values", "offenders"),
    [
        (pd.Series(["0", "50", "50"]), ["0", "50"]),
        (pd.Series(pd.Categorical(["0 um", "50 um"])), ["0 um", "50 um"]),
        (np.array([1.0, "x", True], dtype=object), ["x", "True"]),
        (np.array([True, False]), ["True", "False"]),
        (np.array([1 + 2j]), ["(1+2j)"]),
    ],
)
def test_what_is_no_number_is_listed_and_never_guessed(values, offenders):
    assert to_numbers(values) == offenders
