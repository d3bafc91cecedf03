from __future__ import annotations

import numpy as np
import pytest

from isost._core.kernel import Near, kernel_fields, own_section_field

DRAW = np.random.default_rng(0)
COORDS = DRAW.random((60, 2))


def test_weights_are_the_dense_gaussian() -> None:
    places, width = DRAW.random((20, 2)), 0.2
    square = ((places[:, None] - COORDS) ** 2).sum(axis=2)
    dense = np.exp(-square / (2 * width**2))
    np.testing.assert_allclose(
        Near.find(places, COORDS).weights(width).toarray(), dense / dense.sum(axis=1, keepdims=True), rtol=1e-9
    )


def test_far_away_the_nearest_cell_counts() -> None:
    far = np.array([[1e6, 1e6]])
    weights = Near.find(far, COORDS).weights(1e-3).toarray()[0]
    assert weights.argmax() == COORDS.sum(axis=1).argmax()
    assert weights.sum() == pytest.approx(1.0)


def test_only_so_many_neighbours_count() -> None:
    weights = Near.find(COORDS, COORDS, neighbours=7).weights(100.0)
    assert np.all(np.diff(weights.indptr) == 7)
    np.testing.assert_allclose(weights.data, 1 / 7, rtol=1e-3)


def test_constants_are_kept() -> None:
    for field in kernel_fields(DRAW.random((9, 2)), COORDS, np.full((60, 2), 3.0), (0.1, 1.0), DRAW.random(60)):
        np.testing.assert_allclose(field, 3.0)


def test_a_cell_that_counts_twice_is_two_cells() -> None:
    places, values = DRAW.random((9, 2)), DRAW.random((60, 3))
    twice = np.concatenate([COORDS, COORDS[:20]]), np.concatenate([values, values[:20]])
    weight = np.repeat([2.0, 1.0], [20, 40])
    found = next(kernel_fields(places, COORDS, values, (0.2,), weight))
    np.testing.assert_allclose(found, next(kernel_fields(places, *twice, (0.2,))), rtol=1e-9)


def test_own_section_is_predicted_without_its_own_bin() -> None:
    values = np.arange(60.0)[:, None]
    bins = np.floor(COORDS * 3).astype(int)
    before = own_section_field(COORDS, values, 0.1, bins)
    same = np.all(bins == bins[0], axis=1)
    values[same] = 1e6
    np.testing.assert_allclose(own_section_field(COORDS, values, 0.1, bins)[same], before[same])
