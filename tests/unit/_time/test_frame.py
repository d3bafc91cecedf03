"""All sections in one frame: what corresponds comes together, and what stands still stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from isost._core.checkpoint import Checkpoint
from isost._core.covariance import spacing_of
from isost._time import frame
from isost._time.field import SheetField
from isost._time.frame import common_frame
from isost._time.sheet import Sheet

AT = [(z, age) for age in (1.0, 3.0) for z in (0.0, 50.0, 100.0)]
OPTIONS = {"n_candidates": 48, "feature_weight": 2.0}
# of the six sections, µm: each moves on along depth, and all of them with age
MOVES = np.array([[0, 0], [20, 0], [40, 0], [0, 30], [20, 30], [40, 30]], dtype=float)


def pattern(places: np.ndarray) -> np.ndarray:
    """Three smooth features that tell places apart."""
    x, y = places.T / 60
    return np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=1)


@pytest.fixture(scope="module")
def tissue() -> list[np.ndarray]:
    """Of each of six sections the places of 150 cells in the material, (300, 240) µm."""
    draw = np.random.default_rng(0)
    return [draw.uniform(0, [300, 240], (150, 2)) for _ in AT]


@pytest.fixture(scope="module")
def moved(sheet_of: Callable[..., Sheet], tissue: list[np.ndarray]) -> Sheet:
    return sheet_of([one + move for one, move in zip(tissue, MOVES, strict=True)], list(map(pattern, tissue)), AT)


def laid(sheet: Sheet, checkpoint: Checkpoint | None = None) -> np.ndarray:
    return common_frame(sheet.stack, sheet.edges(), checkpoint=checkpoint, **OPTIONS)


@pytest.fixture(scope="module")
def shift(moved: Sheet) -> np.ndarray:
    return laid(moved)


def apart(sheet: Sheet, tissue: list[np.ndarray], shift: np.ndarray, one: int, other: int) -> float:
    """Median distance in the frame of cells of two sections from where the same material of the other lies."""
    place = sheet.stack.coords[:, :2] + shift
    (tree, near), rows = cKDTree(tissue[other]).query(tissue[one]), sheet.stack.slice_of
    inner = tree < 25
    carried = place[rows(other)][near] + (tissue[one] - tissue[other][near])
    return float(np.median(np.linalg.norm(place[rows(one)] - carried, axis=1)[inner]))


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 3), (0, 5), (2, 3)])
def test_shifted_sections_are_brought_together(
    moved: Sheet, tissue: list[np.ndarray], shift: np.ndarray, one: int, other: int
) -> None:
    """Neighbours, and those that are joined only through others."""
    before = apart(moved, tissue, np.zeros_like(shift), one, other)
    assert before == pytest.approx(np.linalg.norm(MOVES[one] - MOVES[other]), rel=1e-6)
    assert apart(moved, tissue, shift, one, other) < 0.4 * before


def test_displacements_are_about_those_of_the_mean_section(moved: Sheet, shift: np.ndarray) -> None:
    """Of pure shifts the frame is that of their mean: every section goes back by what it moved beyond it."""
    found = np.array([np.median(shift[moved.stack.slice_of(k)], axis=0) for k in range(6)])
    np.testing.assert_allclose(found, MOVES.mean(axis=0) - MOVES, atol=9.0)


def test_displacements_of_all_sections_at_a_place_cancel(moved: Sheet, shift: np.ndarray) -> None:
    place = moved.stack.coords[:, :2] + shift
    trees = [(cKDTree(place[rows]), shift[rows]) for rows in map(moved.stack.slice_of, range(6))]
    asked = np.random.default_rng(1).uniform([80, 70], [260, 200], (80, 2))
    mean = np.mean([of[tree.query(asked, k=8)[1]].mean(axis=1) for tree, of in trees], axis=0)
    assert np.abs(mean).max() < 0.25 * np.linalg.norm(MOVES - MOVES.mean(axis=0), axis=1).mean()
    assert np.abs(mean.mean(axis=0)).max() < 1.5


def test_turned_sections_are_brought_together(sheet_of: Callable[..., Sheet], tissue: list[np.ndarray]) -> None:
    centre, placed = np.array([150.0, 120.0]), []
    for one, degrees in zip(tissue, (0, 12, 24, 12, 24, 36), strict=True):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        placed.append((one - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre)
    sheet = sheet_of(placed, list(map(pattern, tissue)), AT)
    found = laid(sheet)
    for one, other in [(0, 2), (0, 3), (0, 5)]:
        assert apart(sheet, tissue, found, one, other) < 0.6 * apart(sheet, tissue, 0 * found, one, other)


def test_sections_that_stand_still_stay(sheet_of: Callable[..., Sheet], tissue: list[np.ndarray]) -> None:
    """Within a part of the distance of neighbouring cells."""
    sheet = sheet_of(tissue, list(map(pattern, tissue)), AT)
    found = laid(sheet)
    assert np.linalg.norm(found, axis=1).mean() < 0.7 * spacing_of(sheet.stack)
    same = sheet_of([tissue[0]] * 6, [pattern(tissue[0])] * 6, AT)
    assert np.linalg.norm(laid(same), axis=1).mean() < 0.3 * spacing_of(sheet.stack)


def test_turning_all_sections_turns_the_frame(
    sheet_of: Callable[..., Sheet], moved: Sheet, tissue: list[np.ndarray], shift: np.ndarray
) -> None:
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    placed = [(one + move) @ turn.T + [700.0, -90.0] for one, move in zip(tissue, MOVES, strict=True)]
    turned = laid(sheet_of(placed, list(map(pattern, tissue)), AT))
    np.testing.assert_allclose(turned, shift @ turn.T, atol=0.3)


@pytest.mark.parametrize("unit", [1e-3, 256.0])
def test_units_do_not_matter(
    sheet_of: Callable[..., Sheet], tissue: list[np.ndarray], shift: np.ndarray, unit: float
) -> None:
    placed = [unit * (one + move) for one, move in zip(tissue, MOVES, strict=True)]
    scaled = laid(sheet_of(placed, list(map(pattern, tissue)), AT))
    np.testing.assert_allclose(scaled / unit, shift, atol=0.05)


def test_which_of_two_neighbours_is_named_first_does_not_matter(moved: Sheet, shift: np.ndarray) -> None:
    swapped = common_frame(moved.stack, [(j, i) for i, j in moved.edges()[::-1]], **OPTIONS)
    np.testing.assert_allclose(swapped, shift, atol=1e-3)


def test_couplings_that_are_kept_are_not_made_again(moved: Sheet, shift: np.ndarray, tmp_path, monkeypatch) -> None:
    first = laid(moved, Checkpoint(tmp_path / "progress", {}, resume=False))
    np.testing.assert_array_equal(first, shift)
    assert len(list((tmp_path / "progress").glob("coupling_*.npz"))) == 2 * len(moved.edges())

    def never(*_: object) -> None:
        raise AssertionError("coupled again")

    monkeypatch.setattr(frame, "_coupled", never)
    np.testing.assert_array_equal(laid(moved, Checkpoint(tmp_path / "progress", {}, resume=True)), first)


def test_from_the_frame_every_section_is_reached(moved: Sheet, shift: np.ndarray) -> None:
    """A cell of a section leads back to its place in the frame, as nearly as displacements are smooth."""
    field = SheetField(moved, shift, kernel=object())
    for k, at in enumerate(AT):
        rows = moved.stack.slice_of(k)
        coords = moved.stack.coords[rows, :2]
        found = field.to_frame(coords, np.broadcast_to(at, (150, 2)))
        off = np.linalg.norm(found - (coords + shift[rows]), axis=1)
        assert np.median(off) < 0.15 * spacing_of(moved.stack)
