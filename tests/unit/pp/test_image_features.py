"""Images of all kinds become features with positions."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Image3DModel
from spatialdata.transformations import Affine, Scale
from xarray import DataArray

import isost


@pytest.fixture
def volume() -> np.ndarray:
    """Bright tissue on a dark ground, uint16."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(np.arange(4), np.linspace(-1, 1, 30), np.linspace(-1, 1, 40), indexing="ij")
    return np.where(y**2 + x**2 < 0.6, 500 + rng.normal(0, 40, z.shape), 20 + rng.normal(0, 5, z.shape)).astype(
        np.uint16
    )


def test_positions_and_tissue(volume: np.ndarray) -> None:
    found = isost.pp.image_features(volume, spacing=(50, 10, 10), origin=(5, 0, -100))
    assert found.dims == ("c", "z", "y", "x") and found.shape == (10, 4, 30, 40) and isinstance(found.data, da.Array)
    assert found.coords["z"].values.tolist() == [5.0, 55.0, 105.0, 155.0]
    assert found.coords["x"].values[[0, -1]].tolist() == [-100.0, 290.0]
    tissue = np.isfinite(found.sel(c="intensity").values)
    assert (tissue == (volume > 260)).mean() > 0.999 and 20 < found.attrs["threshold"] < 500
    np.testing.assert_array_equal(found.sel(c="intensity").values[tissue], volume[tissue])
    # no background leaks into the boxes at the border
    assert float(found.sel(c="mean_9").min()) > 400


def test_arrays_of_all_dimensions_are_alike(volume: np.ndarray) -> None:
    whole = isost.pp.image_features(volume, spacing=10, threshold=None)
    plane = isost.pp.image_features(volume[1], spacing=(10, 10), origin=(3, 0, 0), threshold=None)
    assert plane.coords["z"].values.tolist() == [3.0]
    np.testing.assert_allclose(plane.values[:, 0], whole.values[:, 1], rtol=1e-5)
    two = isost.pp.image_features(da.from_array(np.stack([volume, volume * 2])), spacing=10, threshold=None)
    assert two.shape[0] == 19 and two.coords["c"].values[9] == "channel1_intensity"
    np.testing.assert_allclose(two.values[:9], whole.values[:9], rtol=1e-5)
    np.testing.assert_allclose(two.values[-1], whole.values[-1], rtol=1e-5)
    places = {name: np.arange(n) * 10.0 for name, n in (("x", 40), ("z", 4), ("y", 30))}
    named = DataArray(volume.transpose(2, 0, 1), dims=("x", "z", "y"), coords=places)
    np.testing.assert_allclose(isost.pp.image_features(named, threshold=None).values, whole.values, rtol=1e-5)


def test_planes_are_put_in_order(volume: np.ndarray) -> None:
    found = isost.pp.image_features(volume, spacing=(10, 10), depths=[30, 0, 70, 10], threshold=None)
    assert found.coords["z"].values.tolist() == [0.0, 10.0, 30.0, 70.0]
    np.testing.assert_array_equal(found.sel(c="intensity").values, volume[[1, 3, 0, 2]])


def test_images_of_spatialdata_keep_their_frame(volume: np.ndarray) -> None:
    scale = {"global": Scale([2, 2, 50], ("x", "y", "z"))}
    scaled = Image3DModel.parse(volume[None], dims=("c", "z", "y", "x"), transformations=scale, scale_factors=[2])
    turn = Affine([[0, -2, 7], [2, 0, 1], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    flat = Image2DModel.parse(volume[:1], dims=("c", "y", "x"), transformations={"global": turn})
    sdata = SpatialData(images={"scaled": scaled, "flat": flat})
    found = isost.pp.image_features(sdata["scaled"], threshold=None)
    np.testing.assert_allclose(found.coords["z"].values, 50 * (np.arange(4) + 0.5))
    np.testing.assert_allclose(found.attrs["affine"], [[2, 0, 0], [0, 2, 0]])
    other = isost.pp.image_features(sdata["flat"], depths=[12.0], threshold=None)
    np.testing.assert_allclose(other.attrs["affine"], [[0, -2, 7], [2, 0, 1]])
    with pytest.raises(TypeError, match=r"found a SpatialData with 'flat', 'scaled'|found a SpatialData with 'scaled'"):
        isost.pp.image_features(sdata)


def test_dark_tissue_and_a_mask(volume: np.ndarray) -> None:
    light = isost.pp.image_features(volume, spacing=10)
    dark = isost.pp.image_features(1000 - volume.astype(int), spacing=10, dark_tissue=True)
    np.testing.assert_array_equal(np.isfinite(dark.values), np.isfinite(light.values))
    mask = np.zeros(volume.shape, dtype=bool)
    mask[:, 10:20, 10:20] = True
    own = isost.pp.image_features(volume, spacing=10, mask=mask)
    np.testing.assert_array_equal(np.isfinite(own.values[0]), mask)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "found no positions along z, y, x. Next: pass spacing"),
        ({"spacing": (1, 2)}, ValueError, "spacing: expected three finite numbers"),
        ({"spacing": 0}, ValueError, "spacing: expected numbers above 0"),
        ({"origin": (0, 0, 0)}, ValueError, "origin: expected the spacing too"),
        ({"spacing": 1, "depths": [0, 1]}, ValueError, "depths: expected 4 finite numbers"),
        ({"spacing": 1, "depths": [0, 1, 1, 2]}, ValueError, "a depth of its own"),
        ({"spacing": 1, "kernel_sizes": (2,)}, ValueError, "kernel_sizes: expected odd whole numbers"),
        ({"spacing": 1, "kernel_sizes": (3, 3)}, ValueError, "kernel_sizes: expected each once"),
        ({"spacing": 1, "threshold": "mean"}, ValueError, "threshold: expected a number"),
        ({"spacing": 1, "mask": np.ones((2, 2))}, ValueError, "mask: expected the shape"),
    ],
)
def test_errors(volume: np.ndarray, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        isost.pp.image_features(volume, **options)


def test_an_image_of_one_intensity_has_no_threshold() -> None:
    with pytest.raises(ValueError, match="found one intensity everywhere"):
        isost.pp.image_features(np.ones((3, 5, 5)), spacing=1)
    with pytest.raises(TypeError, match="expected numbers of shape"):
        isost.pp.image_features(np.array(["a"]), spacing=1)


def test_the_distance_from_the_edge_is_that_of_the_plane() -> None:
    y, x = np.indices((40, 50))
    disc = np.hypot((y - 20) * 10.0, (x - 25) * 5.0) <= 100
    image, mask = np.ones((2, 40, 50)), np.stack([disc, np.ones_like(disc)])
    options = {"spacing": (50, 10, 5), "mask": mask, "kernel_sizes": (3,)}
    found = isost.pp.image_features(image, **options).sel(c="edge").values
    assert found[0, 20, 25] == pytest.approx(105, abs=6)
    assert np.nanmin(found[0]) == 5.0
    np.testing.assert_array_equal(np.isnan(found[0]), ~disc)
    assert (found[1] == 125.0).all(), "no edge: half of the image"
    assert isost.pp.image_features(image, **options, edge=False).shape[0] == 3
