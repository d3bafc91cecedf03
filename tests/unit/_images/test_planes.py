"""Images are read between pixels and planes, in the frame of the sections."""

from __future__ import annotations

import numpy as np
import pytest
from xarray import DataArray

from isost._images.planes import ImagePlanes

DEPTHS = np.array([0.0, 50.0, 80.0])


def linear(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return 2 * x - 3 * y + 0.5 * z


def features(affine: np.ndarray | None = None, *, masked: bool = False) -> DataArray:
    """Two features that are linear in the image's own x, y and z; pixels of 2 and 4 from (10, 20)."""
    y, x = 20.0 + 4.0 * np.arange(12), 10.0 + 2.0 * np.arange(15)
    z, yy, xx = np.meshgrid(DEPTHS, y, x, indexing="ij")
    values = np.stack([linear(xx, yy, z), 1 + xx]).astype(np.float32)
    if masked:
        values[:, 1, :, 8:] = np.nan
    affine = np.eye(2, 3) if affine is None else affine
    return DataArray(values, dims=("c", "z", "y", "x"), coords={"c": ["a", "b"], "z": DEPTHS, "y": y, "x": x},
                     attrs={"affine": affine.tolist()})  # fmt: skip


def test_linear_features_are_exact_everywhere() -> None:
    planes = ImagePlanes(features())
    rng = np.random.default_rng(0)
    at = np.column_stack([rng.uniform(10, 38, 200), rng.uniform(20, 64, 200), rng.uniform(0, 80, 200)])
    found = planes.at(at)
    assert found.shape == (200, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.column_stack([linear(*at.T), 1 + at[:, 0]]), rtol=1e-4, atol=1e-3)


def test_the_frame_of_the_sections() -> None:
    turn = np.array([[0.0, -1.0, 100.0], [1.0, 0.0, -7.0]])
    planes = ImagePlanes(features(turn))
    own = np.array([[14.0, 30.0, 50.0], [20.5, 41.0, 65.0]])
    there = np.column_stack([own[:, :2] @ turn[:, :2].T + turn[:, 2], own[:, 2]])
    np.testing.assert_allclose(planes.at(there), ImagePlanes(features()).at(own), rtol=1e-5)
    places, pixels = planes.places(1)
    assert len(places) == 12 * 15
    np.testing.assert_allclose(planes.at(np.column_stack([places, np.full(180, 50.0)])),
                               planes.plane(1)[:, pixels[:, 0], pixels[:, 1]].T, rtol=1e-5)  # fmt: skip


def test_outside_nothing_is_known() -> None:
    planes = ImagePlanes(features())
    at = np.array([[0.0, 30.0, 50.0], [20.0, 90.0, 50.0], [20.0, 30.0, 200.0], [20.0, 30.0, 100.0]])
    assert planes.tissue(at).tolist() == [False, False, False, True]
    assert np.isnan(planes.at(at)[:3]).all()


def test_where_one_of_two_planes_has_no_tissue_the_other_says() -> None:
    planes, whole = ImagePlanes(features(masked=True)), ImagePlanes(features())
    at = np.array([[32.0, 30.0, 65.0], [14.0, 30.0, 65.0]])
    found = planes.at(at)
    np.testing.assert_allclose(found[0], whole.at([[32.0, 30.0, 80.0]])[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], whole.at(at)[1], rtol=1e-5)


def test_few_planes_are_kept() -> None:
    planes = ImagePlanes(features())
    for number in (0, 1, 2, 0):
        planes.plane(number)
    assert set(planes._planes) == {0, 1, 2}
    assert planes.between(0.0, 80.0).tolist() == [50.0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda image: image.values,
            TypeError,
            r"images: expected what isost.pp.image_features returns, found ndarray",
        ),
        (lambda image: image.transpose("z", "c", "y", "x"), TypeError, "images: expected what"),
        (lambda image: image.drop_vars("z"), ValueError, "images: expected positions"),
        (lambda image: image.assign_coords(x=np.arange(15.0) ** 2), ValueError, "evenly apart along x"),
    ],
)
def test_errors(change, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ImagePlanes(change(features()))
