from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from isost._core.stack import Stack
from isost._time.sheet import Sheet


@pytest.fixture(scope="session")
def sheet_of(stack_of: Callable[..., Stack]) -> Callable[..., Sheet]:
    """Make a sheet of the positions (n, 2), the features (n, P), and the depth and age of its sections."""

    def make(
        positions: Sequence[np.ndarray],
        features: Sequence[np.ndarray],
        at: Sequence[tuple[float, float]],
        scale: tuple[float, float] = (50.0, 2.0),
    ) -> Sheet:
        return Sheet(stack_of(positions, features, np.arange(len(at))), np.array(at, dtype=float), np.array(scale))

    return make


@pytest.fixture(scope="session")
def empty_sheet(sheet_of: Callable[..., Sheet]) -> Callable[..., Sheet]:
    """Make a sheet of two cells a section, of which only depths and ages count."""

    def make(at: Sequence[tuple[float, float]], **how: tuple[float, float]) -> Sheet:
        return sheet_of([np.zeros((2, 2))] * len(at), [np.zeros((2, 1))] * len(at), at, **how)

    return make
