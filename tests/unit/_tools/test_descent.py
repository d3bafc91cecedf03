from __future__ import annotations

import numpy as np
import pytest

from isost._tools.descent import descend


@pytest.fixture
def cells() -> np.ndarray:
    """A square lattice of spacing 10, shaken."""
    x, y = np.meshgrid(np.arange(20) * 10.0, np.arange(20) * 10.0)
    return np.column_stack([x.ravel(), y.ravel()]) + np.random.default_rng(0).uniform(-1, 1, (400, 2))


def test_each_cell_that_stays_is_its_own_ancestor(cells: np.ndarray) -> None:
    ancestor, alive = descend(cells, cells)
    np.testing.assert_array_equal(ancestor, np.arange(400))
    assert alive.all()


def test_cells_that_divide_have_two_descendants(cells: np.ndarray) -> None:
    ancestor, alive = descend(cells, np.concatenate([cells + [1.0, 0.0], cells - [1.0, 0.0]]))
    np.testing.assert_array_equal(np.bincount(ancestor, minlength=400), 2)
    assert alive.all()


def test_where_no_cell_is_left_cells_die(cells: np.ndarray) -> None:
    left = cells[cells[:, 0] < 95.0]
    ancestor, alive = descend(cells, left)
    assert (ancestor >= 0).all()
    reach = 40.0
    assert alive[cells[:, 0] < 95.0 + reach - 15.0].all()
    assert not alive[cells[:, 0] > 95.0 + reach + 15.0].any()


def test_where_no_cell_was_cells_appear(cells: np.ndarray) -> None:
    new = cells[:30] + [1000.0, 0.0]
    ancestor, alive = descend(cells, np.concatenate([cells, new]))
    assert (ancestor[400:] == -1).all() and (ancestor[:400] >= 0).all() and alive.all()


def test_the_unit_does_not_matter(cells: np.ndarray) -> None:
    other = cells[::2] + np.random.default_rng(1).normal(0.0, 20.0, (200, 2))
    for one, same in zip(descend(cells, other), descend(1e-3 * cells, 1e-3 * other), strict=True):
        np.testing.assert_array_equal(one, same)
