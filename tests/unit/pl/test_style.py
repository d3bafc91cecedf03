from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from isost.pl._palette import palette, seen, separation
from isost.pl._style import contrast, extend, position_labels, round_length, unit_label


@pytest.mark.parametrize(
    ("extent", "length"), [(3000, 1000), (1800, 500), (599, 100), (600, 200), (1, 0.2), (0.0299, 0.005)]
)
def test_round_length(extent: float, length: float) -> None:
    assert round_length(extent) == pytest.approx(length)


@pytest.mark.parametrize(
    ("positions", "labels"),
    [
        ([0, 50, 100], ["0", "50", "100"]),
        ([860.16, 918.42, 1030.4], ["860.2", "918.4", "1030.4"]),
        ([-0.2, 0.0, 0.2501], ["−0.2", "0", "0.25"]),
        ([1e6, 1e6 + 1], ["1000000", "1000001"]),
        ([12.5], ["12.5"]),
    ],
)
def test_positions_get_the_decimals_that_matter(positions: list[float], labels: list[str]) -> None:
    assert position_labels(np.array(positions)) == labels


def test_unit() -> None:
    assert [unit_label(unit) for unit in ("um", "µm", "micron", "mm", "pixel")] == ["µm", "µm", "µm", "mm", "pixel"]


@pytest.mark.parametrize(
    ("vmin", "vmax", "limits"),
    [
        (None, None, (0, 100)),
        (None, "p99", (0, 99)),
        ("p10", "p90", (10, 90)),
        (-5, 200, (-5, 200)),
        (np.float64(3), None, (3, 100)),
    ],
)
def test_contrast(vmin: float | str | None, vmax: float | str | None, limits: tuple[float, float]) -> None:
    values = np.append(np.arange(101.0), [np.nan, np.inf])
    assert contrast(values, vmin, vmax) == pytest.approx(limits)


@pytest.mark.parametrize("value", [-2.0, 0.0, 7.0])
def test_contrast_of_a_constant_has_a_width(value: float) -> None:
    for vmin, vmax in ((None, "p99"), (None, None), ("p1", "p99"), (None, value - 3), (value + 3, None)):
        low, high = contrast(np.full(9, value), vmin, vmax)
        assert low < high
        if isinstance(vmax, float):
            assert high == vmax
        if isinstance(vmin, float):
            assert low == vmin


def test_contrast_of_nothing() -> None:
    assert contrast(np.array([np.nan]), None, "p99") == (0, 1)


def test_arrows_say_what_lies_beyond() -> None:
    values = np.array([0.0, 1.0, np.nan])
    assert [extend(values, limits) for limits in ((0, 1), (0.5, 1), (0, 0.5), (0.2, 0.8))] == [
        "neither",
        "min",
        "max",
        "both",
    ]


@pytest.mark.parametrize("n", [1, 7, 12, 24])
def test_palette_stays_apart_for_colour_blind_readers(n: int) -> None:
    colors = np.array([to_rgb(color) for color in palette(n)])
    assert len(colors) == n
    apart = separation(colors, colors)[~np.eye(n, dtype=bool)]
    # three times what the eye just tells apart in OKLab (0.02), in the worst of three visions
    assert apart.size == 0 or apart.min() > 0.06
    assert separation(colors, np.ones((1, 3))).min() > 0.06, "no colour is lost on white"


def test_larger_palettes_begin_with_the_smaller() -> None:
    assert palette(20)[:9] == palette(9)


def test_red_and_green_are_told_apart_by_normal_vision_alone() -> None:
    """The simulation must be able to find fault: the colours of the classic mistake."""
    red, green = np.array([[0.75, 0.25, 0.1]]), np.array([[0.45, 0.5, 0.0]])
    normal, protan, deutan = np.linalg.norm(seen(red) - seen(green), axis=-1)
    assert deutan < normal / 2
    assert separation(red, green) == min(normal, protan, deutan)
