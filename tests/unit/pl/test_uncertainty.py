from __future__ import annotations

import logging
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from spatialdata import SpatialData

import isost

AT = (21, 29.9, 135)  # voxel 6 along x, 2 along y, 3 along z


def drawn(ax: plt.Axes) -> np.ndarray:
    return np.ma.filled(np.ma.masked_invalid(ax.images[0].get_array()).astype(float), np.nan)


def bars(axes: np.ndarray) -> list[str]:
    return [ax.get_ylabel() for ax in axes[0, 0].figure.axes if ax not in list(axes.ravel())]


def test_the_estimate_stands_beside_its_deviation(volume: SpatialData) -> None:
    axes = isost.pl.uncertainty(volume, "PC2", position=AT)
    mean = volume.images["isost_volume"]["scale0"]["image"].values[1]
    std = volume.images["isost_uncertainty"].values[1]
    for row, values in zip(axes, (mean, std), strict=True):
        np.testing.assert_array_equal(drawn(row[0]), values[3])
        np.testing.assert_array_equal(drawn(row[1]), values[:, 2])
        np.testing.assert_array_equal(drawn(row[2]), values[:, :, 6].T)
    assert bars(axes) == ["PC2 (score)", "standard deviation of PC2\n(score)"]
    assert axes[0, 0].images[0].norm.vmax != axes[1, 0].images[0].norm.vmax


def test_panels_stand_side_by_side(volume: SpatialData) -> None:
    axes = isost.pl.uncertainty(volume, "PC2")
    boxes = [[ax.get_position() for ax in row] for row in axes]
    assert max(box.x1 for box in boxes[0]) < min(box.x0 for box in boxes[1])
    np.testing.assert_allclose([box.y0 for box in boxes[0]], [box.y0 for box in boxes[1]])
    everything = [ax.get_position() for ax in axes[0, 0].figure.axes]
    assert not any(one.overlaps(two) for i, one in enumerate(everything) for two in everything[i + 1 :])


def test_deviation_of_a_decoded_gene(volume: SpatialData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "isost"):
        axes = isost.pl.uncertainty(volume, "Gad1", position=AT)
    std = volume.images["isost_uncertainty"].values[:, 3]
    np.testing.assert_allclose(drawn(axes[1, 0]), np.hypot(1.0 * std[0], 0.5 * std[1]), rtol=1e-5)
    assert "of its components alone" in caplog.text


def test_depths_of_the_sections_are_marked(volume: SpatialData) -> None:
    axes = isost.pl.uncertainty(volume, "PC1")
    for row in axes:
        across = [float(line.get_ydata()[0]) for line in row[1].lines if line.get_label() == "_section"]
        along = [float(line.get_xdata()[0]) for line in row[2].lines if line.get_label() == "_section"]
        assert across == along == [100.0, 140.0]


def test_the_first_channel_where_nothing_is_named(volume: SpatialData, tmp_path: Path) -> None:
    axes = isost.pl.uncertainty(volume, save=tmp_path / "std.png", std_vmin=0)
    assert bars(axes)[0] == "PC1 (score)"
    assert axes[1, 0].images[0].norm.vmin == 0
    assert (tmp_path / "std.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("color", "options", "error", "words"),
    [
        ("density", {}, ValueError, "no standard deviation is known"),
        ("uncertainty", {}, ValueError, "no standard deviation is known"),
        ("gad1", {}, KeyError, "close: Gad1"),
        ("PC1", {"position": (0, 0, 99)}, ValueError, "z between 100 and 140 µm"),
        ("PC1", {"std_vmax": "most"}, ValueError, "p99"),
    ],
)
def test_bad_requests(volume: SpatialData, color: str, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.uncertainty(volume, color, **options)
    assert "Next: " in str(caught.value)
    assert not plt.get_fignums()
