"""Motion and deviations are believed as far as sections that are left out say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isost._core.covariance import Hyperparameters
from isost._time.calibrate import _inner, calibrated
from isost._time.field import Kernel4, SheetField
from isost._time.sheet import Sheet

AT = [(z, age) for age in (1.0, 3.0, 5.0) for z in (0.0, 50.0, 100.0)]
SPEED = np.array([[1.0, 0.0], [0.0, 20.0]])  # along x per µm of depth, along y per unit of age


def kernel(noise: float = 0.02) -> Kernel4:
    return Kernel4(Hyperparameters(np.full(2, 50.0), np.full(2, 4.0), np.full(2, 20.0), np.full(2, noise)), np.ones(2))


@pytest.fixture(autouse=True)
def _known_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate takes longer than all that is tested here."""
    monkeypatch.setattr(SheetField, "_estimate", lambda _: kernel())


@pytest.fixture(scope="module")
def sheet(sheet_of: Callable[..., Sheet]) -> Sheet:
    """Of a pattern that moves at a constant speed along depth and along age."""
    draw = np.random.default_rng(0)
    places = [draw.uniform(0, [300, 240], (110, 2)) for _ in AT]
    features = []
    for place, at in zip(places, AT, strict=True):
        material = place - (np.array(at) - [50.0, 3.0]) @ SPEED
        features.append(np.sin(material / 40) + 0.1 * draw.normal(size=(110, 2)))
    return sheet_of(places, features, AT)


@pytest.fixture
def true(sheet: Sheet) -> np.ndarray:
    return -((sheet.at - [50.0, 3.0]) @ SPEED)[sheet.stack.section_index]


def test_motion_that_predicts_is_believed(sheet: Sheet, true: np.ndarray) -> None:
    field, said = calibrated(sheet, true)
    assert said["motion"] is True
    assert said["left_out"]["frame"] < 0.8 * said["left_out"]["still"]
    np.testing.assert_array_equal(field.shift, true)


def test_motion_that_does_not_predict_is_not_believed(sheet: Sheet, true: np.ndarray) -> None:
    field, said = calibrated(sheet, -true)
    assert said["motion"] is False
    assert said["left_out"]["still"] < said["left_out"]["frame"]
    assert not field.shift.any()


def test_no_motion_at_all_is_as_good_as_itself(sheet: Sheet) -> None:
    _, said = calibrated(sheet, np.zeros((sheet.stack.n_cells, 2)))
    assert said["left_out"]["frame"] == pytest.approx(said["left_out"]["still"])


def test_a_field_sure_of_too_much_is_widened(sheet: Sheet, true: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same shape and a hundredth of the variances factors are about ten times as large."""
    found = []
    for noise in (0.02, 0.0002):
        monkeypatch.setattr(SheetField, "_estimate", lambda _, noise=noise: kernel(noise))
        found.append(calibrated(sheet, true)[0].factor)
    assert (found[0] < 2).all() and (found[1] > 2.5 * found[0]).all(), found


def test_sections_between_others_are_left_out(empty_sheet: Callable[..., Sheet]) -> None:
    grid = empty_sheet([(z, age) for age in (1, 2, 3) for z in (0, 50, 100)])
    assert _inner(grid) == [4]
    two_stages = empty_sheet([(z, age) for age in (1, 2) for z in (0, 50, 100)])
    assert _inner(two_stages) == [1, 4]
    two_depths = empty_sheet([(z, age) for age in (1, 2, 3) for z in (0, 50)])
    assert _inner(two_depths) == [2, 3]
    many = empty_sheet([(z, age) for age in range(5) for z in range(0, 400, 50)])
    inner = _inner(many)
    assert len(inner) == 6 and (many.at[inner, 1] > 0).all() and (many.at[inner, 1] < 4).all()
    assert (many.at[inner, 0] > 0).all() and (many.at[inner, 0] < 350).all()


def test_corners_alone_say_nothing(sheet_of: Callable[..., Sheet]) -> None:
    """Of two stages of two sections none is between others: motion is believed, deviations are as they are."""
    draw = np.random.default_rng(0)
    places = [draw.uniform(0, 200, (40, 2)) for _ in range(4)]
    corners = sheet_of(places, [np.sin(one / 40) for one in places], [(0, 1), (50, 1), (0, 2), (50, 2)])
    assert _inner(corners) == []
    field, said = calibrated(corners, np.ones((160, 2)))
    assert said == {"motion": True, "left_out": {}}
    assert (field.factor == 1).all() and (field.shift == 1).all()
