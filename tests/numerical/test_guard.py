"""How much of a coupling is believed, on tissues that truly move, change, or do neither."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from isost._core.guard import _choose, _margin, believe

DEPTHS = [0.0, 1.0, 2.0, 3.5]
N = 160
OPTIONS = {"n_candidates": 48, "feature_weight": 2.0}


def sections(
    shift: float = 0.0, level: float = 0.0, noise: float = 0.3, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fresh cells of a tissue that moves by `shift` along x, and rises by `level` in expression, a unit of depth."""
    draw = np.random.default_rng(seed)
    made = []
    for z in DEPTHS:
        cells = draw.uniform(0, [1.0, 0.7], (N, 2))
        pattern = np.column_stack([np.sin(6 * cells[:, 0]), np.cos(7 * cells[:, 1])]) + level * z
        made.append((cells + [shift * z, 0.0], pattern + noise * draw.normal(size=(N, 2))))
    return made


def test_a_motion_is_believed() -> None:
    found = believe(sections(shift=0.25), DEPTHS, **OPTIONS)
    assert found.motion == 1.0
    assert found.tried["motion 1, change 0"] < 0.5 * found.tried["motion 0, change 0"]


@pytest.mark.parametrize("noise", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_motion_is_invented(seed: int, noise: float) -> None:
    found = believe(sections(noise=noise, seed=seed), DEPTHS, **OPTIONS)
    assert (found.motion, found.change, found.masses) == (0.0, 0.0, "area")


def test_a_change_of_expression_is_believed() -> None:
    assert believe(sections(level=1.0), DEPTHS, **OPTIONS).change == 1.0


def test_positions_alone_tell_of_a_motion() -> None:
    bare = [(place, features[:, :0]) for place, features in sections(shift=0.25)]
    assert believe(bare, DEPTHS, **OPTIONS).motion == 1.0


def chosen(monkeypatch: pytest.MonkeyPatch, tissue: list[float], cells: list[float]) -> tuple[float, float, str]:
    """What is believed, given the errors of standing still, half and full motion, each without and with change."""
    errors = iter([error for masses in (tissue, cells) for _ in range(2) for error in masses])
    monkeypatch.setattr("isost._core.guard._LeftOut.error", lambda *_: next(errors))
    found = believe(sections(), DEPTHS, **OPTIONS)
    return found.motion, found.change, found.masses


def test_of_motions_as_good_the_larger_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = [1.0, 1.0, 0.95, 0.95, 0.95, 0.95]
    assert chosen(monkeypatch, [1.0, 1.0, 0.9, 0.95, 0.904, 0.902], worse) == (1.0, 1.0, "area")
    assert chosen(monkeypatch, [1.0, 1.0, 0.9, 0.95, 0.92, 0.91], worse) == (0.5, 0.0, "area")
    assert chosen(monkeypatch, [1.0, 1.0, 0.99, 0.99, 0.985, 0.99], worse)[2] == "cells"
    assert chosen(monkeypatch, [1.0, 1.0, 0.99, 0.99, 0.985, 0.99], [1.0] * 6) == (0.0, 0.0, "area")


def test_cells_are_carried_over_only_for_a_clear_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    tissue = [1.0, 1.0, 0.9, 0.95, 0.8, 0.9]
    assert chosen(monkeypatch, tissue, [1.0, 1.0, 0.9, 0.95, 0.797, 0.9])[2] == "area"
    assert chosen(monkeypatch, tissue, [1.0, 1.0, 0.9, 0.95, 0.790, 0.9]) == (1.0, 0.0, "cells")


def test_two_sections_have_none_to_leave_out() -> None:
    found = believe(sections()[:2], DEPTHS[:2], **OPTIONS)
    assert (found.motion, found.change, found.masses, found.tried) == (1.0, 1.0, "cells", {})


def test_every_choice_is_recorded() -> None:
    found = believe(sections(shift=0.25), DEPTHS, **OPTIONS)
    assert len(found.tried) == 12
    name = f"motion {found.motion:g}, change {found.change:g}" + (", cells" if found.masses == "cells" else "")
    assert found.tried[name] <= min(found.tried.values()) + 2 * 0.005
    assert json.loads(json.dumps(found.tried)) == found.tried


def test_a_small_gain_is_believed_where_it_is_alike_in_all_sections() -> None:
    still = np.array([1.0, 1.2, 0.8, 1.0])
    assert _margin(still, still - 0.01) == pytest.approx(0.005)  # no scatter: only a tie is left
    assert _margin(still, still - np.array([0.1, -0.1, 0.1, -0.1])) == pytest.approx(0.02)  # a gain of some
    gains = np.array([0.011, 0.012, 0.013, 0.008])
    assert _margin(still, still - gains) == pytest.approx(max(0.005, 3.0 * gains.std(ddof=1) / 2.0))


def test_too_few_sections_say_nothing_about_scatter() -> None:
    still = np.array([1.0, 1.2])
    assert _margin(still, still - 0.01) == pytest.approx(0.02 * 1.1)


def test_a_margin_is_never_below_a_tie() -> None:
    assert _margin(np.full(5, 0.01), np.full(5, 0.009)) == 0.005


def test_a_small_motion_that_is_alike_everywhere_is_believed() -> None:
    """Errors of motion in three sections, by as much less in each; then by much less in one and not in the others."""

    def believed(gains: list[float]) -> float:
        left_out = [SimpleNamespace(way=None, error=lambda motion, change, imaged, gain=gain: 1.0 - gain * motion)
                    for gain in gains]  # fmt: skip
        return _choose(left_out, "area").motion

    assert believed([0.011, 0.012, 0.013]) == 1.0
    assert believed([0.036, 0.0, 0.0]) == 0.0
    assert believed([0.011, 0.012]) == 0.0
    assert believed([0.08, 0.0, 0.0]) == 1.0  # large enough on average
