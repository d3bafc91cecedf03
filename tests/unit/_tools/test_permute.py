from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from isost._tools.permute import permutation_p


def test_exact_by_hand() -> None:
    # of 6 ways to take 2 of 4 samples, the two extreme ones differ by 2; for the second column all six are alike
    values = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    p, smallest = permutation_p(values, np.array([True, True, False, False]), 100, np.random.default_rng(0))
    assert p.tolist() == [2 / 6, 1.0] and smallest == 2 / 6
    p, smallest = permutation_p(values, np.array([True, False, False, False]), 100, np.random.default_rng(0))
    assert p[0] == 2 / 4 and smallest == 1 / 4, "the lowest and the highest lie as far from the others"


def test_it_is_that_of_all_orders() -> None:
    values = np.random.default_rng(3).random((5, 2))
    first = np.array([True, False, True, False, False])
    observed = np.abs(values[first].mean(0) - values[~first].mean(0))
    every = [values[list(order)] for order in permutations(range(5))]
    beyond = [np.abs(v[first].mean(0) - v[~first].mean(0)) >= observed - 1e-12 for v in every]
    np.testing.assert_allclose(
        permutation_p(values, first, 10**6, np.random.default_rng(0))[0], np.mean(beyond, axis=0)
    )


def test_drawn_ones_come_near_the_exact_ones() -> None:
    values = np.random.default_rng(0).random((12, 4))
    first = np.arange(12) < 6
    exact, least = permutation_p(values, first, 1000, np.random.default_rng(0))
    drawn, _ = permutation_p(values, first, 900, np.random.default_rng(1))
    assert least == 2 / 924 and np.abs(exact - drawn).max() < 0.06
    again, _ = permutation_p(values, first, 900, np.random.default_rng(1))
    assert (drawn == again).all()
    apart = np.where(first, 0.0, 1.0)[:, None]
    found, smallest = permutation_p(apart, first, 50, np.random.default_rng(0))
    assert 1 / 51 <= found[0] <= 3 / 51 and smallest == 1 / 51, "never 0"


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    p, _ = permutation_p(rng.random((8, 2000)), np.arange(8) < 4, 1000, rng)
    assert (p <= 2 / 70).mean() == pytest.approx(2 / 70, abs=0.012)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.05)


def test_one_group_is_no_comparison() -> None:
    p, smallest = permutation_p(np.ones((3, 2)), np.array([True] * 3), 10, np.random.default_rng(0))
    assert np.isnan(p).all() and np.isnan(smallest)
