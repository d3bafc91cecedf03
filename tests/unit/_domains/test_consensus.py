"""Domains of several networks are told to be the same, and joined."""

from __future__ import annotations

import numpy as np
import pytest

from isost._domains.consensus import agreement, joint_shares, match

CHIEF = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])


def test_agreement() -> None:
    found = agreement([CHIEF, (CHIEF + 1) % 3, np.zeros(9, dtype=int)])
    np.testing.assert_allclose(found, [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-12)


def test_permuted_labels_are_matched() -> None:
    turn = np.array([2, 0, 1])  # domain k of the chief is turn[k] of the other
    found = match([CHIEF, turn[CHIEF], CHIEF], 3)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1][turn], found[0])
    assert all(sorted(row.tolist()) == [0, 1, 2] for row in found)


def test_most_cells_keep_their_domain() -> None:
    """The first network disagrees with the others, which decide; its 9 cells are matched so that most agree."""
    odd = np.array([1, 1, 2, 2, 2, 0, 0, 1, 0])
    found = match([odd, CHIEF, CHIEF], 3)
    np.testing.assert_array_equal(found[1], [0, 1, 2])
    np.testing.assert_array_equal(found[0], [2, 0, 1])
    assert (found[0][odd] == CHIEF).sum() == 7


def test_a_domain_that_is_empty_has_a_number_too() -> None:
    found = match([CHIEF, np.minimum(CHIEF, 1)], 4)
    assert all(sorted(row.tolist()) == [0, 1, 2, 3] for row in found)


def test_one_network_is_its_own() -> None:
    np.testing.assert_array_equal(match([CHIEF], 3), [[0, 1, 2]])


def test_joint_shares_by_hand() -> None:
    one = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    other = np.array([[0.3, 0.6, 0.1], [0.5, 0.25, 0.25]])  # its domains 0, 1, 2 are 1, 2, 0
    found = joint_shares([one, other], np.array([[0, 1, 2], [1, 2, 0]]))
    np.testing.assert_allclose(found, [[0.4, 0.25, 0.35], [0.125, 0.75, 0.125]])
    np.testing.assert_array_equal(one, [[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])


def test_shares_of_networks_that_agree_stay() -> None:
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.ones(4), 30)
    turn = draw.permutation(4)
    other = np.empty_like(shares)
    other[:, turn] = shares
    matched = match([shares.argmax(axis=1), other.argmax(axis=1)], 4)
    found = joint_shares([shares, other], matched)
    assert found[:, matched[0]] == pytest.approx(shares)
