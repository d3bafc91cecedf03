"""How much of a coupling is believed, on tissues that truly move, change, or do neither."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isost._core.guard import believe

DEPTHS = [0.0, 1.0, 2.0, 3.5]
N = 160
OPTIONS = {"n_candidates": 48, "feature_weight": 2.0}


def sections(shift: float = 0.0, level: float = 0.0, noise: float = 0.3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fresh cells of a tissue that moves by `shift` along x, and rises by `level` in expression, a unit of depth."""
    draw = np.random.default_rng(0)
    made = []
    for z in DEPTHS:
        cells = draw.uniform(0, [1.0, 0.7], (N, 2))
        pattern = np.column_stack([np.sin(6 * cells[:, 0]), np.cos(7 * cells[:, 1])]) + level * z
        made.append((cells + [shift * z, 0.0], pattern + noise * draw.normal(size=(N, 2))))
    return made


def test_a_motion_is_believed() -> None:
    motion, _, tried = believe(sections(shift=0.25), DEPTHS, **OPTIONS)
    assert motion == 1.0
    assert tried["motion 1, change 0"] < 0.5 * tried["motion 0, change 0"]


def test_no_motion_is_invented() -> None:
    for seedless in (sections(), sections(noise=1.0)):
        motion, change, _ = believe(seedless, DEPTHS, **OPTIONS)
        assert motion == 0.0 and change == 0.0


def test_a_change_of_expression_is_believed_without_a_motion() -> None:
    motion, change, _ = believe(sections(level=1.0), DEPTHS, **OPTIONS)
    assert motion < 1.0 and change == 1.0


def test_positions_alone_tell_of_a_motion() -> None:
    bare = [(place, features[:, :0]) for place, features in sections(shift=0.25)]
    assert believe(bare, DEPTHS, **OPTIONS)[0] == 1.0


def test_of_motions_as_good_the_larger_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([1.0, 1.0, 0.9, 0.95, 0.904, 0.902] * 2)  # still, still; half; full
    monkeypatch.setattr("isost._core.guard._error", lambda *_: next(errors))
    assert believe(sections(), DEPTHS, **OPTIONS)[:2] == (1.0, 1.0)
    errors = iter([1.0, 1.0, 0.9, 0.95, 0.92, 0.91] * 2)
    assert believe(sections(), DEPTHS, **OPTIONS)[:2] == (0.5, 0.0)
    errors = iter([1.0, 1.0, 0.99, 0.99, 0.985, 0.99] * 2)
    assert believe(sections(), DEPTHS, **OPTIONS)[:2] == (0.0, 0.0)


def test_two_sections_have_none_to_leave_out() -> None:
    assert believe(sections()[:2], DEPTHS[:2], **OPTIONS) == (1.0, 1.0, {})


def test_every_choice_is_recorded() -> None:
    motion, change, tried = believe(sections(shift=0.25), DEPTHS, **OPTIONS)
    assert len(tried) == 6
    assert tried[f"motion {motion:g}, change {change:g}"] <= min(tried.values()) + 0.005
    assert json.loads(json.dumps(tried)) == tried
