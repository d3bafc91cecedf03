"""Positions as features: Gaussians over the tissue."""

from __future__ import annotations

import numpy as np
import pytest

from isost._histology.positions import find_positions, gaussians


@pytest.fixture
def place() -> np.ndarray:
    return np.random.default_rng(0).uniform([100, -500], [2100, 500], (800, 2))


def test_heights_are_those_of_the_formula(place: np.ndarray) -> None:
    centres = np.array([[0.0, 0.0], [300.0, 40.0]])
    wanted = [[np.exp(-((at - c) ** 2).sum() / (2 * 150.0**2)) for c in centres] for at in place[:20]]
    np.testing.assert_allclose(gaussians(place[:20], centres, 150.0), wanted, rtol=1e-9)


def test_features_are_centred_on_the_cells_of_the_fit(place: np.ndarray) -> None:
    found = find_positions(place, None)
    x = found.features(place)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    assert 0.5 < np.median(x.std(axis=0)) < 1
    assert np.abs(x).max() <= 4
    assert found.width == pytest.approx(0.1 * np.ptp(place, axis=0).max(), rel=0.02)


def test_a_smooth_field_is_a_sum_of_them(place: np.ndarray) -> None:
    x = np.column_stack([find_positions(place, 200.0).features(place), np.ones(len(place))])
    field = np.sin(place[:, 0] / 300) * np.cos(place[:, 1] / 250)
    left = field - x @ np.linalg.lstsq(x, field, rcond=None)[0]
    assert left.std() < 0.04 * field.std()


def test_they_lie_where_there_is_tissue(place: np.ndarray) -> None:
    ring = place[np.abs(place[:, 0] - 1100) > 600]
    centres = find_positions(ring, 200.0).centres
    assert not (np.abs(centres[:, 0] - 1100) < 300).any()
    assert len(centres) > 20


def test_they_move_with_the_tissue(place: np.ndarray) -> None:
    there = find_positions(place + 1e5, None).features(place + 1e5)
    np.testing.assert_allclose(there, find_positions(place, None).features(place), atol=1e-4)


def test_a_line_of_cells() -> None:
    line = np.column_stack([np.linspace(0, 1000, 50), np.zeros(50)])
    found = find_positions(line, None)
    assert np.isfinite(found.features(line)).all()
    assert len(found.centres) >= 10


def test_how_far_away(place: np.ndarray) -> None:
    found = find_positions(place, 100.0)
    np.testing.assert_allclose(found.away(place), 0, atol=1e-5)
    far = place[place[:, 0].argmax()] + [250.0, 0.0]
    assert found.away(far[None])[0] == pytest.approx(2.5, abs=1e-3)


def test_cells_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match=r"use_positions: expected cells in different places, found all in one\. Next"):
        find_positions(np.ones((60, 2)), None)


@pytest.mark.parametrize("width", [5.0, 1e-9, 1e-300])
def test_too_many_are_refused(place: np.ndarray, width: float) -> None:
    with pytest.raises(ValueError, match=rf"position_width: expected µm of at most 1024 .* of {width:g}\. Next"):
        find_positions(place, width)


@pytest.mark.parametrize("width", [2500.0, 1e200])
def test_wider_than_the_tissue_is_refused(place: np.ndarray, width: float) -> None:
    with pytest.raises(ValueError, match=r"position_width: expected µm .*, wider than that\. Next"):
        find_positions(place, width)


def test_a_stray_cell_changes_little(place: np.ndarray) -> None:
    stray = np.concatenate([place, [[2e4, 3e4]]])
    found, usual = find_positions(stray, None), find_positions(place, None)
    assert found.width == pytest.approx(usual.width, rel=0.02)
    assert len(found.centres) == pytest.approx(len(usual.centres), rel=0.15)
    assert np.abs(found.features(stray)).max() <= 4
