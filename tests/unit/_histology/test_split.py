"""Tissue that is held out: whole sections, or blocks with a margin."""

from __future__ import annotations

import numpy as np
import pytest

from isost._histology.split import folds_of, seen


def tissue(*sizes: int, side: tuple[float, float] = (2000.0, 1000.0)) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    section = np.repeat(np.arange(len(sizes)), sizes)
    return section, draw.uniform(0, 1, (len(section), 2)) * side


@pytest.mark.parametrize("n_sections", [3, 4, 5, 8])
def test_whole_sections_from_three_on(n_sections: int) -> None:
    section, coords = tissue(*range(20, 20 + n_sections))
    fold = folds_of(section, coords)
    assert sorted(set(fold)) == list(range(min(n_sections, 5)))
    for number in range(n_sections):
        assert len(set(fold[section == number])) == 1
    for held in set(fold):
        np.testing.assert_array_equal(seen(fold, held, section, coords), np.flatnonzero(fold != held))


@pytest.mark.parametrize("sizes", [(200,), (150, 90)])
def test_blocks_of_fewer_sections(sizes: tuple[int, ...]) -> None:
    section, coords = tissue(*sizes)
    fold = folds_of(section, coords)
    assert sorted(set(fold)) == [0, 1, 2, 3]
    boxes = []
    for held in range(4):
        own = fold == held
        assert len(set(section[own])) == 1
        assert abs(own.sum() - len(section) / 4) <= len(section) / 4
        boxes.append((section[own][0], coords[own].min(axis=0), coords[own].max(axis=0)))
        inside = ((coords >= boxes[-1][1]) & (coords <= boxes[-1][2])).all(axis=1) & (section == section[own][0])
        np.testing.assert_array_equal(inside, own, err_msg="a block holds its cells and no others")


def test_the_longer_side_is_halved() -> None:
    section, coords = tissue(100, 100, side=(300.0, 900.0))
    fold = folds_of(section, coords)
    for number in (0, 1):
        low, high = (coords[fold == 2 * number + half, 1] for half in (0, 1))
        assert low.max() <= high.min()


@pytest.mark.parametrize("side", [(2000.0, 1000.0), (8000.0, 8000.0)])
def test_cells_in_the_margin_are_left_out(side: tuple[float, float]) -> None:
    section, coords = tissue(400, side=side)
    fold = folds_of(section, coords)
    for held in range(4):
        rows = seen(fold, held, section, coords)
        own = coords[fold == held]
        margin = min(256.0, 0.25 * np.ptp(own, axis=0).min())
        away = np.hypot(*(coords[:, None] - own[None]).transpose(2, 0, 1)).min(axis=1)
        np.testing.assert_array_equal(rows, np.flatnonzero((fold != held) & (away >= margin)))
        assert len(rows) < (fold != held).sum()


def test_the_margin_is_of_the_same_section_alone() -> None:
    section, coords = tissue(100, 100)
    coords[100:] = coords[:100]
    fold = folds_of(section, coords)
    assert np.isin(np.flatnonzero(section == 1), seen(fold, 0, section, coords)).all()


@pytest.mark.parametrize("sizes", [(60, 1), (1, 60), (3,), (2, 2)])
def test_folds_are_numbered_without_gaps(sizes: tuple[int, ...]) -> None:
    section, coords = tissue(*sizes)
    fold = folds_of(section, coords)
    assert sorted(set(fold)) == list(range(fold.max() + 1)) and fold.max() > 0


def test_cells_at_one_place() -> None:
    section = np.zeros(80, dtype=int)
    coords = np.repeat(np.random.default_rng(0).uniform(0, 1000, (40, 2)), 2, axis=0)
    fold = folds_of(section, coords)
    assert np.bincount(fold).tolist() == [20, 20, 20, 20]
    for held in range(4):
        rows = seen(fold, held, section, coords)
        own = {tuple(place) for place in coords[fold == held]}
        assert not own & {tuple(place) for place in coords[rows]}
