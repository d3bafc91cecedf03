from __future__ import annotations

import numpy as np
import pytest

from isost import metrics

DRAW = np.random.default_rng(0)


def _grid(n: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)


def test_ssim_of_the_same_and_of_the_inverted_image() -> None:
    coords = _grid(16)
    values = DRAW.normal(size=(256, 3))
    assert metrics.structural_similarity(values, values, coords, side=1.0) == pytest.approx(1.0)
    assert metrics.structural_similarity(9 - values, 9 + values, coords, side=1.0) < -0.5


def test_ssim_of_a_flat_image_is_the_closed_form() -> None:
    """A flat prediction at the mean has luminance 1 and structure c2 / (s^2 + c2) where windows see one texture."""
    coords = _grid(40)
    measured = ((coords.sum(axis=1) % 2) * 2 - 1)[:, None] + 10.0
    score = metrics.structural_similarity(np.full_like(measured, 10.0), measured, coords, side=1.0)
    c2 = (0.03 * 2.0) ** 2
    assert score == pytest.approx(c2 / (1 + c2), rel=0.05)


def test_ssim_averages_cells_of_a_bin() -> None:
    coords, values = _grid(12), DRAW.normal(size=(144, 2))
    twice = np.concatenate([coords, coords + 0.5])
    spread = np.concatenate([values + 1, values - 1])
    assert metrics.structural_similarity(spread, np.tile(values, (2, 1)), twice, side=1.0) == pytest.approx(1.0)
