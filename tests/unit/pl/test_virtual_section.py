from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from spatialdata import SpatialData

import isost


@pytest.fixture
def section(volume: SpatialData) -> SpatialData:
    return isost.tl.virtual_section(volume, origin=(0, 30, 125), normal=(0, 0, 1), genes=["Sst", "PC1"])


def test_the_image_lies_where_it_was_cut(section: SpatialData, volume: SpatialData) -> None:
    ax = isost.pl.virtual_section(section, "Sst")
    (image,) = ax.images
    assert tuple(image.get_extent()) == (-40, 40, 0, 60)
    shown = np.ma.filled(np.ma.masked_invalid(image.get_array()).astype(float), np.nan)
    pcs = volume.images["isost_volume"]["scale0"]["image"].values[:, 2]
    np.testing.assert_allclose(shown, 3.0 - pcs[0] + pcs[1], rtol=1e-5)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("x (µm)", "y (µm)", 1.0)
    assert ax.get_title(loc="left") == "through (0, 30, 125) µm, across (0, 0, 1)"


def test_labels_say_what_is_shown(section: SpatialData) -> None:
    for color, label in ((None, "Sst (log-normalised expression)"), ("PC1", "PC1 (score)")):
        ax = isost.pl.virtual_section(section, color)
        (bar,) = [other for other in ax.figure.axes if other is not ax]
        assert bar.get_ylabel() == label


def test_oblique_axes_are_those_of_the_plane(volume: SpatialData) -> None:
    oblique = isost.tl.virtual_section(volume, origin=(0, 30, 120), normal=(0, 1, 1))
    ax = isost.pl.virtual_section(oblique)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (µm)", "y in the plane (µm)")


def test_cells_are_drawn_over_it() -> None:
    adata = isost.datasets.spinal_cord(n_sections=3, n_cells=100, n_genes=5)
    sdata = isost.tl.reconstruct(adata, voxel_size=150, epochs=1, progress=False, rng=0)
    gene = adata.var_names[0]
    cut = isost.tl.virtual_section(sdata, origin=(0, 0, 150), normal=(0, 0, 1), thickness=100, genes=[gene])
    figure, given = plt.subplots()
    ax = isost.pl.virtual_section(cut, gene, cells=True, ax=given)
    assert ax is given
    (dots,) = ax.collections
    table = cut["isost_section_cells"]
    np.testing.assert_allclose(dots.get_offsets(), table.obsm["spatial"])
    np.testing.assert_allclose(dots.get_array(), np.asarray(table[:, gene].X).ravel())
    assert dots.norm.vmax == ax.images[0].norm.vmax


def test_errors_say_what_to_do(section: SpatialData, volume: SpatialData) -> None:
    with pytest.raises(KeyError, match="found 'Gad1'.*genes=\\['Gad1'\\]"):
        isost.pl.virtual_section(section, "Gad1")
    with pytest.raises(KeyError, match="Next"):
        isost.pl.virtual_section(volume)
    with pytest.raises(TypeError, match="Next"):
        isost.pl.virtual_section(3)  # type: ignore[arg-type]
