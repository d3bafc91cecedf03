from __future__ import annotations

import numpy as np
import pytest

from isost._core.baselines import Cloud, Training


def cloud(n: int, x: float) -> Cloud:
    coords = np.column_stack([np.full(n, x), np.arange(n) * 10.0])
    return Cloud(coords, np.zeros((n, 2)), np.full((n, 1), x))


def test_pairs_count_by_their_mass() -> None:
    pytest.importorskip("ot")
    from displacement import Displacement

    # three cells to two: the one in the middle is split between both
    training = Training((cloud(3, 0.0), cloud(2, 4.0)), (np.zeros(3), np.full(2, 8.0)), 1.0, 1.0)
    moved = Displacement(training).cells(2.0, None, np.random.default_rng(0))
    np.testing.assert_allclose(moved.coords[:, 0], 1.0)
    np.testing.assert_allclose(moved.genes, 1.0)
    assert moved.weight is not None
    np.testing.assert_allclose(sorted(moved.weight), [1 / 6, 1 / 6, 1 / 3, 1 / 3])
    # of three draws the halves are one cell in the mean
    draws = [Displacement(training).cells(2.0, 3, np.random.default_rng(seed)).weight for seed in range(400)]
    assert np.mean([(weight < 0.25).sum() for weight in draws]) == pytest.approx(1.0, abs=0.08)
