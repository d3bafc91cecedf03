from __future__ import annotations

import numpy as np
import pytest
from spatialdata import SpatialData

import isost


@pytest.fixture(scope="module")
def reconstructed() -> SpatialData:
    adata = isost.datasets.spinal_cord(n_sections=4, n_cells=150, n_genes=10)
    sdata = isost.tl.reconstruct(adata, voxel_size=100, epochs=1, progress=False, rng=0)
    isost.tl.radial_gradients(sdata, axis="centre", width=120.0)
    return sdata


def test_planes_show_the_distance_of_the_shells(reconstructed: SpatialData) -> None:
    table = reconstructed.tables["isost_voxels"]
    ax = isost.pl.shells(reconstructed, position=(None, None, 200.0))[0]
    (image,) = ax.images
    shown = np.ma.filled(np.ma.masked_invalid(image.get_array()).astype(float), np.nan)
    plane = int((200.0 - reconstructed.attrs["isost"]["origin"][2]) / 100)
    rows = table.obs[table.obs["z"] == plane]
    expected = np.full(shown.shape, np.nan)
    expected[rows["y"], rows["x"]] = (rows["radial_shell"] + 0.5) * 120.0
    np.testing.assert_allclose(shown, expected)


def test_colours_change_at_the_edges_of_the_shells(reconstructed: SpatialData) -> None:
    axes = isost.pl.shells(reconstructed)
    norm = axes[0].images[0].norm
    shells = isost.get.radial_gradients(reconstructed, what="shells")
    np.testing.assert_allclose(norm.boundaries, [*shells["inner"], shells["outer"].iloc[-1]])
    assert axes[0].images[0].cmap.N == len(shells)
    (bar,) = [ax for ax in axes[0].figure.axes if ax not in list(axes)]
    assert bar.get_ylabel() == "distance (µm)"


def test_errors_say_what_to_do(reconstructed: SpatialData, volume: SpatialData) -> None:
    with pytest.raises(KeyError, match="Next"):
        isost.pl.shells(reconstructed, key="never")
    with pytest.raises(KeyError, match="Next"):
        isost.pl.shells(volume)
    with pytest.raises(TypeError, match="Next"):
        isost.pl.shells(reconstructed.tables["isost_voxels"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Next"):
        isost.pl.shells(reconstructed, position=(0, 0, 1e6))
