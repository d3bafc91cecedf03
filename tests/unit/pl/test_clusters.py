from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from spatialdata import SpatialData

from isost._core.voxels import read_voxels
from isost._tools.labels_element import write_labels
from isost.pl import clusters

NAMES, COLORS = ("cortex", "nucleus", "fibre"), ("#0072b2", "#e69f00", "#009e73")


@pytest.fixture
def labelled(volume: SpatialData) -> SpatialData:
    voxels = read_voxels(volume)
    codes = np.random.default_rng(0).integers(0, 3, int(voxels.mask.sum()))
    write_labels(volume, voxels, "kind", codes, NAMES, COLORS)
    return volume


def test_each_voxel_has_the_colour_of_its_label(labelled: SpatialData) -> None:
    axes = clusters(labelled, "kind", position=(-5, 25, 115))
    values = labelled["isost_kind"].values
    for ax, plane in zip(axes, (values[1], values[:, 2], values[:, :, 3].T), strict=True):
        drawn = ax.images[0]
        colors = drawn.to_rgba(drawn.get_array())
        for k, color in enumerate(COLORS, start=1):
            assert np.allclose(colors[plane == k], to_rgba(color), atol=0.01)
        assert np.array_equal(np.ma.getmaskarray(drawn.get_array()), plane == 0)


def test_the_legend_names_them(labelled: SpatialData, tmp_path: Path) -> None:
    axes = clusters(labelled, "kind", save=tmp_path / "kind.png")
    legend = axes[0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == list(NAMES)
    assert legend.get_title().get_text() == "kind" and (tmp_path / "kind.png").stat().st_size > 0


def test_errors(labelled: SpatialData) -> None:
    with pytest.raises(KeyError, match="key: expected labels of voxels.*'kind'.*found 'nope'.*Next"):
        clusters(labelled, "nope")
    with pytest.raises(ValueError, match="position: expected x between"):
        clusters(labelled, "kind", position=(1e6, None, None))
