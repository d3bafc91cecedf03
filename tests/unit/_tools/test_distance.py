from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from isost._tools.distance import FromPoint, FromRegion, Within, rim

SIZE = np.array([2.0, 3.0, 7.0])


@pytest.fixture
def region() -> np.ndarray:
    mask = np.zeros((8, 12, 15), dtype=bool)
    mask[2:5, 3:7, 4:9] = True
    mask[6, 10, 13] = True
    return mask


def centres(index: np.ndarray) -> np.ndarray:
    return (index[:, ::-1] + 0.5) * SIZE


def test_distances_from_a_point_are_those_of_pythagoras() -> None:
    distance, along = FromPoint(np.array([1.0, 2.0, 3.0]))(np.array([[1.0, 2.0, 3.0], [4.0, 6.0, 15.0]]))
    np.testing.assert_allclose(distance, [0.0, 13.0])
    np.testing.assert_array_equal(along, 0.0)


def test_distances_from_a_region_are_the_distance_transform_of_voxels_that_are_no_cubes(region: np.ndarray) -> None:
    expected = ndimage.distance_transform_edt(~region, sampling=SIZE[::-1])
    everywhere = np.argwhere(np.ones_like(region))
    distance = FromRegion(centres(np.argwhere(region)), SIZE)(centres(everywhere))[0].reshape(region.shape)
    np.testing.assert_array_equal(np.isnan(distance), region)
    np.testing.assert_allclose(distance[~region], expected[~region])


def test_within_is_what_lies_in_a_voxel_of_the_region(region: np.ndarray) -> None:
    """Also for places that are no centres: of another volume, or cells."""
    from_region = FromRegion(centres(np.argwhere(region)), SIZE)
    corner = np.array([4.0, 3.0, 2.0]) * SIZE  # of the first voxel
    distance = from_region(np.stack([corner + 0.01, corner - 0.01, corner - [0.01, -1.0, -1.0]]))[0]
    assert np.isnan(distance[0])
    assert np.isfinite(distance[1:]).all()


def test_the_rim_is_as_far_as_the_whole(region: np.ndarray) -> None:
    assert rim(region).sum() < region.sum()
    outside = centres(np.argwhere(~region))
    whole, thin = (FromRegion(centres(np.argwhere(of)), SIZE)(outside)[0] for of in (region, rim(region)))
    np.testing.assert_array_equal(whole, thin)


def test_places_of_no_extent_leave_out_only_themselves() -> None:
    distance = FromRegion(np.zeros((1, 3)), np.zeros(3))(np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]))[0]
    np.testing.assert_array_equal(distance, [np.nan, 0.1])


def test_beyond_a_surface_there_is_no_distance_from_it() -> None:
    within = Within(FromPoint(np.zeros(3)), lambda places: places[:, 0] > 0)
    distance, along = within(np.array([[3.0, 4.0, 0.0], [-3.0, 4.0, 0.0]]))
    np.testing.assert_array_equal(distance, [5.0, np.nan])
    np.testing.assert_array_equal(along, 0.0)
