from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pytest
from spatialdata import SpatialData, read_zarr

import isost
from isost.pl._quantity import read_volume

Make = Callable[..., SpatialData]

MAIN, UNDER, BESIDE = 0, 1, 2


def drawn(ax: plt.Axes) -> np.ndarray:
    """The image with rows upwards or, where the axis is inverted, from its own first row; NaN outside the tissue."""
    (image,) = ax.images
    assert image.origin == "lower"
    return np.ma.filled(np.ma.masked_invalid(image.get_array()).astype(float), np.nan)


def values_of(sdata: SpatialData, channel: int) -> np.ndarray:
    return sdata.images["isost_volume"]["scale0"]["image"].values[channel]


def bar_of(axes: np.ndarray) -> plt.Axes:
    (bar,) = [ax for ax in axes[0].figure.axes if ax not in list(axes)]
    return bar


def lengths(ax: plt.Axes) -> tuple[float, float]:
    """Inches of 10 µm to the right and upwards."""
    origin, right, up = ax.transData.transform([(0, 0), (10, 0), (0, 10)])
    return abs(right[0] - origin[0]) / ax.figure.dpi, abs(up[1] - origin[1]) / ax.figure.dpi


def test_panels_hold_the_planes_of_the_volume(volume: SpatialData) -> None:
    # voxel 6 along x, 2 along y, 3 along z
    axes = isost.pl.orthoviews(volume, "PC2", position=(21, 29.9, 135))
    pc2 = values_of(volume, 1)
    np.testing.assert_array_equal(drawn(axes[MAIN]), pc2[3])
    np.testing.assert_array_equal(drawn(axes[UNDER]), pc2[:, 2])
    np.testing.assert_array_equal(drawn(axes[BESIDE]), pc2[:, :, 6].T)


def test_axes_are_in_micrometres(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "PC1")
    # with room about the volume, so that tissue which fills it is not cut by the frame
    assert axes[MAIN].get_xlim() == axes[UNDER].get_xlim() == (-42, 42)
    assert axes[MAIN].get_ylim() == axes[BESIDE].get_ylim() == (-2, 62)
    assert axes[BESIDE].get_xlim() == (100, 140)
    assert axes[UNDER].get_ylim() == (140, 100), "depth grows away from the large panel"
    assert [tuple(ax.images[0].get_extent()) for ax in axes] == [
        (-40, 40, 0, 60),
        (-40, 40, 100, 140),
        (100, 140, 0, 60),
    ]
    assert axes[MAIN].get_ylabel() == "y (µm)"
    assert axes[UNDER].get_xlabel() == "x (µm)"
    assert axes[UNDER].get_ylabel() == axes[BESIDE].get_xlabel() == "z (µm)"


def test_lines_and_titles_say_where_the_planes_are(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "PC1", position=(21, 29.9, 135))
    across = [sorted(float(line.get_xdata()[0]) for line in ax.lines[:1]) for ax in axes]
    along = [float(ax.lines[1].get_ydata()[0]) for ax in axes]
    assert across == [[25.0], [25.0], [135.0]]
    assert along == [25.0, 135.0, 25.0]
    assert [ax.get_title(loc="left") for ax in axes] == ["z = 135 µm", "y = 25 µm", "x = 25 µm"]


def test_measured_sections_are_pointed_at(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "PC1")
    (pointers,) = [line for line in axes[UNDER].lines if line.get_label() == "measured section"]
    np.testing.assert_array_equal(pointers.get_ydata(), [100, 140])


def test_places_outside_the_tissue_are_empty(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "density", position=(-35, 5, 105))
    expected = np.zeros((6, 8), dtype=bool)
    expected[-1] = expected[0, 0] = True
    np.testing.assert_array_equal(np.isnan(drawn(axes[MAIN])), expected)
    np.testing.assert_array_equal(np.isnan(drawn(axes[UNDER]))[:, 0], True)


def test_gene_is_decoded(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "Sst", position=(0, 0, 100))
    expected = 3.0 - values_of(volume, 0)[0] + values_of(volume, 1)[0]
    np.testing.assert_allclose(drawn(axes[MAIN]), expected, rtol=1e-5)
    assert bar_of(axes).get_ylabel() == "Sst (log-normalised expression)"


def test_a_gene_can_be_called_by_its_symbol(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "Sst", label="somatostatin")
    assert bar_of(axes).get_ylabel() == "somatostatin (log-normalised expression)"
    axes = isost.pl.orthoviews(volume, "density", label="Zelldichte")
    assert bar_of(axes).get_ylabel() == "Zelldichte (cells / µm³)"


@pytest.mark.parametrize("first", [0.0, 830.0, 83000.0])
def test_labels_of_ticks_do_not_run_together(volume_of: Make, first: float) -> None:
    """A strip of an inch, as that of eight planes of 24 rows."""
    beside = isost.pl.orthoviews(volume_of(shape=(8, 26, 24), origin=(0.0, 0.0, first)), "PC1")[BESIDE]
    beside.figure.draw_without_rendering()
    boxes = [tick.label1.get_window_extent() for tick in beside.xaxis.get_major_ticks() if tick.label1.get_text()]
    boxes = [box for box in boxes if beside.bbox.x0 <= (box.x0 + box.x1) / 2 <= beside.bbox.x1]
    assert len(boxes) >= 2
    assert all(left.x1 + 3 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))


def test_density_and_uncertainty(volume: SpatialData) -> None:
    density = isost.pl.orthoviews(volume, "density", position=(None, None, 125))
    expected = volume.images["isost_density"].values[0, 2]
    mask = volume.labels["isost_mask"].values[2] > 0
    np.testing.assert_allclose(drawn(density[MAIN])[mask], expected[mask])
    assert bar_of(density).get_ylabel() == "cell density (cells / µm³)"
    uncertainty = isost.pl.orthoviews(volume, "uncertainty", position=(None, None, 125))
    std = volume.images["isost_uncertainty"].values[:, 2]
    np.testing.assert_allclose(drawn(uncertainty[MAIN])[mask], np.hypot(*std)[mask], rtol=1e-5)
    assert "standard deviation" in bar_of(uncertainty).get_ylabel()


@pytest.mark.parametrize("color", ["PC1", "Gad1", "density"])
def test_contrast_is_within_the_data_and_hardly_anything_is_cut_off(volume: SpatialData, color: str) -> None:
    axes = isost.pl.orthoviews(volume, color)
    shown = np.concatenate([drawn(ax).ravel() for ax in axes])
    shown = shown[np.isfinite(shown)]
    norms = {(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in axes}
    ((low, high),) = norms
    assert shown.min() <= low < high <= shown.max()
    assert ((shown < low) | (shown > high)).mean() <= 0.05
    assert bar_of(axes).get_ylim() == pytest.approx((low, high))


def test_given_contrast(volume: SpatialData) -> None:
    norm = isost.pl.orthoviews(volume, "PC1", vmin=-1, vmax=1)[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (-1, 1)


def test_one_scale_of_length_for_all_panels(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "PC1")
    axes[0].figure.draw_without_rendering()
    found = [length for ax in axes for length in lengths(ax)]
    np.testing.assert_allclose(found, found[0], rtol=1e-3)


def test_aspect_outlives_another_size_of_the_window(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "PC1", depth_scale=2)
    axes[0].figure.set_size_inches(11, 4)
    axes[0].figure.draw_without_rendering()
    for ax, ratio in zip(axes, (1, 2, 0.5), strict=True):
        right, up = lengths(ax)
        assert up / right == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(("planes", "side", "stretch"), [(1, 36, 4), (4, 36, 1), (1, 90, 10)])
def test_thin_volumes_can_be_read(volume_of: Make, planes: int, side: int, stretch: int) -> None:
    """As thin as 50, 200 and 20 µm are to 1800 µm."""
    sdata = volume_of(shape=(planes, side, side), origin=(0.0, 0.0, 0.0))
    axes = isost.pl.orthoviews(sdata, "PC1")
    figure = axes[0].figure
    figure.draw_without_rendering()
    (right, up), (under_right, under_up), (beside_right, beside_up) = map(lengths, axes)
    np.testing.assert_allclose([up, under_right, beside_up], right, rtol=1e-3)
    np.testing.assert_allclose([under_up, beside_right], right * stretch, rtol=1e-3)
    assert under_up * planes > 0.5, "inches"
    label = axes[UNDER].get_ylabel()
    assert label == axes[BESIDE].get_xlabel() == ("z (µm)" if stretch == 1 else f"z (µm), ×{stretch}")
    assert len(axes[UNDER].get_yticks()) >= 2


def test_panels_do_not_overlap(volume_of: Make) -> None:
    for shape in ((1, 60, 60), (40, 20, 10), (10, 10, 60)):
        axes = isost.pl.orthoviews(volume_of(shape=shape, origin=(0.0, 0.0, 0.0)), "PC1")
        boxes = [ax.get_position() for ax in [*axes, bar_of(axes)]]
        assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < 1 and box.y1 < 1 for box in boxes)
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def test_asked_depth_scale_and_inverted_y(volume: SpatialData) -> None:
    axes = isost.pl.orthoviews(volume, "PC1", depth_scale=2.5, invert_y=True)
    assert axes[UNDER].get_ylabel() == "z (µm), ×2.5"
    assert axes[MAIN].get_ylim() == axes[BESIDE].get_ylim() == (62, -2)
    axes[0].figure.draw_without_rendering()
    assert lengths(axes[UNDER])[1] == pytest.approx(2.5 * lengths(axes[MAIN])[0], rel=1e-3)


def test_default_position_is_in_the_middle_of_the_tissue(volume_of: Make) -> None:
    sdata = volume_of()
    mask = np.zeros((4, 6, 8), dtype=np.uint8)
    mask[2:, 1:4, 5] = 1
    sdata.labels["isost_mask"].data = da.from_array(mask)
    assert read_volume(sdata, "PC1").indices(None) == (5, 2, 2)
    assert read_volume(sdata, "PC1").indices((None, 0.0, None)) == (5, 0, 2)
    sdata.labels["isost_mask"].data = da.zeros_like(mask)
    isost.pl.orthoviews(sdata, "PC1")


def test_last_face_belongs_to_the_last_voxel(volume: SpatialData) -> None:
    assert read_volume(volume, "PC1").indices((40, 60, 140)) == (7, 5, 3)
    assert read_volume(volume, "PC1").indices((-40, 0, 100)) == (0, 0, 0)


def test_a_single_plane_is_as_thick_as_its_voxels_are_wide(volume_of: Make) -> None:
    read = read_volume(volume_of(shape=(1, 6, 8)), "PC1")
    assert read.edges(2) == (100, 110)


def test_channels_that_are_genes(volume: SpatialData) -> None:
    volume.attrs["isost"]["channels"] = "genes"
    assert bar_of(isost.pl.orthoviews(volume, "PC1")).get_ylabel() == "PC1 (log-normalised expression)"


def test_only_the_three_planes_are_read(volume: SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    image = volume.images["isost_volume"]["scale0"]["image"]
    read: list[int] = []

    def watched(block: np.ndarray, block_info: dict) -> np.ndarray:
        read.append(block_info[0]["chunk-location"][1])
        return block

    one_plane_a_chunk = da.from_array(image.values, chunks=(2, 1, 6, 8))
    image.data = one_plane_a_chunk.map_blocks(watched, dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32))
    values = read_volume(volume, "PC1")
    assert not read
    values.plane(2, 3)
    assert read == [3]


def test_from_disk(volume: SpatialData, tmp_path: Path) -> None:
    volume.write(tmp_path / "volume.zarr")
    axes = isost.pl.orthoviews(read_zarr(tmp_path / "volume.zarr"), "Gad1", save=tmp_path / "planes.pdf")
    expected = isost.pl.orthoviews(volume, "Gad1")
    for ax, other in zip(axes, expected, strict=True):
        np.testing.assert_array_equal(drawn(ax), drawn(other))
    assert (tmp_path / "planes.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("color", "options", "error", "words"),
    [
        ("gad1", {}, KeyError, "close: Gad1"),
        ("PC3", {}, KeyError, "PC3"),
        ("PC1", {"position": (0, 0, 99)}, ValueError, "z between 100 and 140 µm, found 99"),
        ("PC1", {"position": (float("nan"), 0, 100)}, ValueError, "x between -40 and 40"),
        ("PC1", {"position": (0, 0)}, ValueError, "found 2 numbers"),
        ("PC1", {"depth_scale": 0}, ValueError, "above 0"),
        ("PC1", {"vmax": "max"}, ValueError, "p99"),
    ],
)
def test_bad_requests(volume: SpatialData, color: str, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.orthoviews(volume, color, **options)
    assert "Next: " in str(caught.value)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("kind", "name", "color"),
    [
        ("images", "isost_volume", "PC1"),
        ("images", "isost_density", "density"),
        ("images", "isost_uncertainty", "uncertainty"),
        ("labels", "isost_mask", "PC1"),
    ],
)
def test_missing_elements(volume: SpatialData, kind: str, name: str, color: str) -> None:
    del getattr(volume, kind)[name]
    with pytest.raises(KeyError, match=f"expected '{name}' among its {kind}, found .*Next: "):
        isost.pl.orthoviews(volume, color)


def test_another_type() -> None:
    with pytest.raises(TypeError, match=r"expected a SpatialData, found ndarray.*isost\.pl\.sections"):
        isost.pl.orthoviews(np.zeros((3, 3)), "PC1")
