from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import isost

PHASES = {"shape": [5.0, 2.0, 1.0], "expression": [0.9, 0.02], "both": [1.5, 1.2, 1.1, 1.0]}


def test_every_epoch_of_every_phase() -> None:
    ax = isost.pl.training(PHASES)
    assert [line.get_label() for line in ax.lines] == list(PHASES)
    for line, losses in zip(ax.lines, PHASES.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), losses)
    np.testing.assert_array_equal(np.concatenate([line.get_xdata() for line in ax.lines]), np.arange(1, 10))
    assert ax.get_xlim() == (0.5, 9.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "mean loss")


def test_phases_are_marked_where_they_are() -> None:
    ax = isost.pl.training(PHASES)
    assert [text.get_text() for text in ax.texts] == list(PHASES)
    assert [text.get_position()[0] for text in ax.texts] == [2.0, 4.5, 7.5]
    (shaded,) = ax.patches
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (3.5, 5.5)


def test_one_phase_is_not_marked() -> None:
    ax = isost.pl.training({"both": [3.0, 2.0]})
    assert not ax.texts
    assert not ax.patches


@pytest.mark.parametrize(
    ("losses", "scale"), [([100.0, 1.0], "log"), ([3.0, 2.0], "linear"), ([100.0, -0.1], "linear")]
)
def test_scale_fits_the_losses(losses: list[float], scale: str) -> None:
    assert isost.pl.training({"both": losses}).get_yscale() == scale


def test_interrupted_fit_and_a_single_epoch() -> None:
    ax = isost.pl.training({"shape": [1.0], "expression": [], "both": []})
    assert len(ax.lines) == 1
    assert ax.lines[0].get_marker() == "o"


def test_fitted_result_given_axes_and_file(tmp_path: Path) -> None:
    figure, own = plt.subplots()
    ax = isost.pl.training(SimpleNamespace(history=PHASES), ax=own, save=tmp_path / "loss.svg")
    assert ax is own
    assert plt.get_fignums() == [figure.number]
    assert "<svg" in (tmp_path / "loss.svg").read_text()


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"found list.*Next: isost\.pl\.training"):
        isost.pl.training([1.0, 2.0])
    with pytest.raises(ValueError, match="one epoch or more, found none.*Next: "):
        isost.pl.training({"both": []})


def test_a_fit_that_stood_still_says_so() -> None:
    ax = isost.pl.training(SimpleNamespace(history={"both": []}))
    assert not ax.lines and "stand still" in ax.texts[0].get_text()
