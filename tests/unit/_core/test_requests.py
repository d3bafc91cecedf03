from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isost._core.requests import checked_depth, checked_places
from isost._core.stack import Stack


@pytest.fixture
def thick(stack_of: Callable[..., Stack]) -> Stack:
    """Two sections at 0 and 50 whose cells lie up to 10 above and below."""
    draw = np.random.default_rng(0)
    spread = np.concatenate([[-10.0, 10.0], draw.uniform(-10, 10, 19)])
    spread -= np.median(spread)
    positions = [np.column_stack([draw.uniform(0, 100, (21, 2)), z + spread]) for z in (0.0, 50.0)]
    return stack_of(positions, [np.zeros((21, 1))] * 2, [0.0, 50.0])


def test_the_cells_of_the_outer_sections_lie_inside(thick: Stack) -> None:
    places = checked_places(thick, thick.coords)
    assert np.array_equal(places[:, :2], thick.coords[:, :2])
    assert np.array_equal(places[:, 2], np.clip(thick.coords[:, 2], 0.0, 50.0))
    assert checked_depth(thick, thick.coords[:, 2].min()) == 0.0
    assert checked_depth(thick, thick.coords[:, 2].max()) == 50.0


def test_what_lies_beyond_them_is_refused(thick: Stack) -> None:
    low, high = thick.coords[:, 2].min(), thick.coords[:, 2].max()
    for z in (low - 0.1, high + 0.1):
        with pytest.raises(ValueError, match=f"expected depths inside the stack, {low:g} to {high:g} um, found {z:g}"):
            checked_depth(thick, z)
