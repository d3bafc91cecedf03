"""Drawing a section from two weighted clouds: equation 9 with the density of one section, not of two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isost._core.carry import Cells, thin


def cells(coords: np.ndarray, weight: np.ndarray) -> Cells:
    n = len(coords)
    return Cells(
        coords=np.column_stack([coords, np.zeros(n)]),
        features=np.arange(n, dtype=np.float32)[:, None],
        section=np.arange(n) % 2,
        row=np.arange(n),
        weight=weight.astype(np.float32),
    )


def two_sections(t: float, n: tuple[int, int] = (90, 130), seed: int = 0) -> Cells:
    """A section that is dense on the left and one that is dense on the right, weighted (1 - t, t)."""
    draw = np.random.default_rng(seed)
    first = np.column_stack([draw.beta(1, 3, n[0]), draw.random(n[0])])
    second = np.column_stack([draw.beta(3, 1, n[1]), draw.random(n[1])])
    return cells(np.concatenate([first, second]), np.repeat([1 - t, t], n))


def counts(source: Cells, n_draws: int, n: int | None = None) -> np.ndarray:
    """How often each cell was drawn, (n_draws, n_cells)."""
    draw = torch.Generator().manual_seed(0)
    return np.stack([np.bincount(thin(source, draw, n).row, minlength=len(source.row)) for _ in range(n_draws)])


@pytest.mark.parametrize("t", [0.05, 0.3, 0.5])
def test_each_cell_is_drawn_as_often_as_its_weight_says(t: float) -> None:
    source, n_draws = two_sections(t), 2000
    drawn = counts(source, n_draws)
    assert drawn.max() == 1
    error = np.abs(drawn.mean(axis=0) - source.weight)
    assert (error < 5 * np.sqrt(source.weight * (1 - source.weight) / n_draws)).all()


def test_weights_of_all_sizes_are_met() -> None:
    draw = np.random.default_rng(0)
    source = cells(draw.random((80, 2)), draw.random(80))
    drawn = counts(source, 2000)
    assert np.abs(drawn.mean(axis=0) - source.weight).max() < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize("t", [0.05, 0.3, 0.5, 0.77])
def test_the_number_of_cells_is_the_blend_of_both_sections(t: float) -> None:
    source = two_sections(t)
    expected = (1 - t) * 90 + t * 130
    drawn = counts(source, 300).sum(axis=1)
    assert set(drawn) <= {int(np.floor(expected)), int(np.ceil(expected))}
    assert drawn.mean() == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(300))


def test_the_density_everywhere_is_the_blend_of_both_sections() -> None:
    t = 0.3
    source = two_sections(t, (900, 1300))
    drawn = counts(source, 200)
    first = np.arange(2200) < 900
    for low in (0.0, 0.25, 0.5, 0.75):
        box = (source.coords[:, 0] >= low) & (source.coords[:, 0] < low + 0.25) & (source.coords[:, 1] < 0.5)
        blend = (1 - t) * (box & first).sum() + t * (box & ~first).sum()
        assert drawn[:, box].sum(axis=1).mean() == pytest.approx(blend, rel=0.01)
        # neither section alone, nor both unweighted
        assert abs((box & first).sum() - blend) > 0.05 * blend or abs((box & ~first).sum() - blend) > 0.05 * blend
        assert box.sum() > 1.2 * blend


def test_neighbours_share_their_fate_less_than_chance_would() -> None:
    """The density of a draw carries less noise than that of independent draws."""
    source = two_sections(0.5, (900, 900))
    box = (source.coords[:, 0] < 0.3) & (source.coords[:, 1] < 0.5)
    drawn = counts(source, 300)[:, box].sum(axis=1)
    assert drawn.var() < 0.3 * (source.weight[box] * (1 - source.weight[box])).sum()


@pytest.mark.parametrize("n", [1, 50, 117, 1000])
def test_the_number_asked_for_is_drawn(n: int) -> None:
    source = two_sections(0.3)
    drawn = counts(source, 200, n)
    assert (drawn.sum(axis=1) == n).all()
    share = n * source.weight / source.weight.sum()
    assert (np.abs(drawn - share) < 1 + 1e-4).all()
    assert np.abs(drawn.mean(axis=0) - share).max() < 5 * 0.5 / np.sqrt(200)


def test_a_draw_replays_and_the_next_differs() -> None:
    source = two_sections(0.3)
    draw = torch.Generator().manual_seed(3)
    first, second = thin(source, draw), thin(source, draw)
    again = thin(source, torch.Generator().manual_seed(3))
    assert np.array_equal(first.row, again.row)
    assert not np.array_equal(first.row, second.row)


def test_drawn_cells_are_the_cells() -> None:
    source = two_sections(0.3)
    drawn = thin(source, torch.Generator().manual_seed(0))
    for name in ("coords", "features", "section", "weight"):
        assert np.array_equal(getattr(drawn, name), getattr(source, name)[drawn.row])


def test_measured_cells_of_weight_one_all_stay() -> None:
    source = cells(np.random.default_rng(0).random((57, 2)), np.ones(57))
    assert np.array_equal(thin(source, torch.Generator().manual_seed(0)).row, np.arange(57))
