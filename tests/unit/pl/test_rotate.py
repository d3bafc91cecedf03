from __future__ import annotations

import logging
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.animation import FFMpegWriter
from PIL import Image
from spatialdata import SpatialData

import isost
from isost.pl._budget import Drawn, within_budget
from isost.pl._projection import Turntable
from isost.pl._quantity import read_volume

# Of the bright voxel (25, 45, 125), from the middle of the volume (0, 30, 120).
X, Y, Z = 25, 15, 5


@pytest.fixture
def drawn(bright: SpatialData) -> Drawn:
    return within_budget(read_volume(bright, "PC1"), 10**6)


def peak(table: Turntable, angle: float) -> tuple[float, float]:
    """Where the brightest pixel lies, to the right and up."""
    image = table.highest(angle)
    row, column = np.unravel_index(np.nanargmax(image), image.shape)
    left, right, bottom, top = table.extent
    return (
        left + (column + 0.5) * (right - left) / image.shape[1],
        bottom + (row + 0.5) * (top - bottom) / image.shape[0],
    )


@pytest.mark.parametrize(
    ("axis", "angle", "right", "up"),
    [
        ("y", 0, X, Y),
        ("y", 90, Z, Y),
        ("y", 180, -X, Y),
        ("y", 270, -Z, Y),
        ("z", 0, X, Z),
        ("z", 90, -Y, Z),
        ("x", 0, Y, X),
        ("x", 90, -Z, X),
        ("y", 30, X * np.cos(np.pi / 6) + Z * 0.5, Y),
    ],
)
def test_a_voxel_is_projected_where_it_is(drawn: Drawn, axis: str, angle: float, right: float, up: float) -> None:
    found = peak(Turntable(drawn, axis), angle)
    np.testing.assert_allclose(found, (right, up), atol=drawn.voxel[0] / 2 + 1e-6)


def test_turning_keeps_hands(drawn: Drawn) -> None:
    for axis in "xyz":
        for angle in (0.0, 40.0, 200.0):
            assert np.linalg.det(Turntable(drawn, axis).directions(angle)) == pytest.approx(1.0)


def test_highest_of_the_tissue_only(bright: SpatialData) -> None:
    mask = bright.labels["isost_mask"].values.copy()
    mask[2, 4, 6] = 0
    bright.labels["isost_mask"].data = da.from_array(mask)
    table = Turntable(within_budget(read_volume(bright, "PC1"), 10**6), "y")
    image = table.highest(0)
    assert np.nanmax(image) == 0, "what lies outside the tissue is not seen"
    assert np.isnan(image).any()
    inside = np.isfinite(image).sum() * table.step**2
    assert inside == pytest.approx(80 * 60, rel=0.25)


def test_a_volume_that_varies_along_z_only(drawn: Drawn) -> None:
    values = np.broadcast_to(np.arange(4.0)[:, None, None], drawn.values.shape).astype(np.float32)
    table = Turntable(Drawn(values, drawn.origin, drawn.voxel, drawn.factors, drawn.of), "y")
    front = table.highest(0)
    np.testing.assert_allclose(front[np.isfinite(front)], 3.0, atol=0.5)
    side = table.highest(90)
    middle = side[side.shape[0] // 2]
    middle = middle[np.isfinite(middle)]
    assert len(middle) >= 3
    assert (np.diff(middle) > 0).all(), "z grows to the right"


def test_what_is_near_hides_what_is_far(drawn: Drawn) -> None:
    values = np.zeros((8, 4, 4), dtype=np.float32)
    values[4:], values[:4] = 1.0, 0.6  # the eye is where z is high
    table = Turntable(Drawn(values, np.zeros(3), np.full(3, 10.0), (1, 1, 1), drawn.of), "y")
    cmap, middle = colormaps["viridis"], (2, table.shape[2] // 2)
    for angle, near, far in ((0, 1.0, 0.6), (180, 0.6, 1.0)):
        seen = table.composite(angle, (0.0, 1.0), cmap)[middle]
        assert np.abs(seen[:3] - cmap(near)[:3]).max() < np.abs(seen[:3] - cmap(far)[:3]).max()
        assert 0.9 < seen[3] <= 1
    corner = table.composite(0, (0.0, 1.0), cmap)[0, 0]
    assert corner[3] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["max", "alpha"])
def test_gif(bright: SpatialData, tmp_path: Path, kind: str) -> None:
    ax = isost.pl.rotate(bright, "PC1", save=tmp_path / "turn.gif", n_frames=4, kind=kind)
    with Image.open(tmp_path / "turn.gif") as gif:
        assert gif.n_frames == 4
    assert [path.name for path in tmp_path.iterdir()] == ["turn.gif"]
    assert ax.get_title(loc="left") == "turned by 0° about y"
    assert [text.get_text() for text in ax.texts] == ["20 µm"]
    (bar,) = [line for line in ax.lines if line.get_label() == "_scale_bar"]
    assert np.ptp(bar.get_xdata()) == 20
    assert ax.get_aspect() == 1.0


def test_averaging_is_said(bright: SpatialData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "isost"):
        ax = isost.pl.rotate(bright, "PC1", max_voxels=30, n_frames=1)
    assert "means of 2 × 2 × 2 voxels" in ax.get_title(loc="left")
    assert "are drawn as means of 2 × 2 × 2 voxels" in caplog.text


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="ffmpeg is not installed")
def test_mp4(bright: SpatialData, tmp_path: Path) -> None:
    isost.pl.rotate(bright, "PC1", save=tmp_path / "turn.mp4", n_frames=4)
    assert (tmp_path / "turn.mp4").read_bytes()[4:8] == b"ftyp"


def test_mp4_without_ffmpeg(bright: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match=r"expected ffmpeg.*Next: save='turn.gif'"):
        isost.pl.rotate(bright, "PC1", save=tmp_path / "turn.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axis": "w"}, "axis: expected one of x, y, z"),
        ({"kind": "mean"}, "kind: expected one of max, alpha"),
        ({"n_frames": 0}, "n_frames: expected 1 or more"),
        ({"fps": 0}, "fps"),
        ({"cmap": "rainbows"}, "cmap"),
        ({"save": "turn.avi"}, r"\.gif or \.mp4"),
    ],
)
def test_bad_requests(bright: SpatialData, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        isost.pl.rotate(bright, "PC1", **options)
    assert "Next: " in str(caught.value)
    assert not plt.get_fignums()
