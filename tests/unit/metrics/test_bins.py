from __future__ import annotations

import numpy as np
import pytest

from isost import metrics
from isost.metrics._bins import bin_means, joint_counts


def test_side_is_two_and_a_half_neighbour_distances_of_the_median_section() -> None:
    line = np.column_stack([np.arange(10.0), np.zeros(10)])
    assert metrics.bin_side([line, 3 * line, 100 * line]) == pytest.approx(7.5)


def test_cells_that_share_a_place_are_one_place() -> None:
    line = np.column_stack([np.arange(10.0), np.zeros(10)])
    assert metrics.bin_side([np.concatenate([line, line])]) == metrics.bin_side([line])


def test_side_ignores_depth() -> None:
    line = np.column_stack([np.arange(10.0), np.zeros(10)])
    deep = np.column_stack([line, np.random.default_rng(0).normal(scale=100, size=10)])
    assert metrics.bin_side([deep]) == metrics.bin_side([line])


def test_side_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"found none.*Next"):
        metrics.bin_side([np.zeros((3, 2))])


def test_means_are_those_of_each_bin() -> None:
    coords = np.array([[0.0, 0.0], [0.9, 0.9], [1.1, 0.2], [5.0, 5.0]])
    (mean,) = bin_means(coords, 1.0, np.array([[1.0], [3.0], [7.0], [9.0]]))
    assert sorted(mean.ravel()) == [2.0, 7.0, 9.0]


def test_bins_move_with_the_tissue() -> None:
    draw = np.random.default_rng(0)
    coords, values = draw.random((100, 2)), draw.random((100, 3))
    np.testing.assert_allclose(bin_means(coords, 0.2, values)[0], bin_means(coords + 1024.0, 0.2, values)[0])


def test_joint_counts_hold_every_cell_once() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.random((50, 2)), draw.random((70, 2)) + 0.5
    counts = joint_counts(a, b, 0.25)
    assert [count.sum() for count in counts] == [50, 70]
    assert np.all(counts[0] + counts[1] > 0)
