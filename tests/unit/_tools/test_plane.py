from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from isost._tools.plane import Pixels, Plane, interpolate

EYE = np.eye(3)


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 0, -2), (1, 0, 0), (0, 3, 0), (1, 2, 3), (-1, 1e-7, 0)])
def test_axes_are_right_handed_and_at_right_angles(normal: tuple[float, ...]) -> None:
    plane = Plane.through(np.array([5.0, 6.0, 7.0]), np.array(normal, dtype=float))
    frame = np.stack([plane.right, plane.up, plane.normal])
    np.testing.assert_allclose(frame @ frame.T, EYE, atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1.0)


def test_a_plane_across_depth_has_the_coordinates_of_the_volume() -> None:
    plane = Plane.through(np.array([5.0, 6.0, 7.0]), np.array([0.0, 0.0, 4.0]))
    np.testing.assert_array_equal(plane.flat(np.array([[1.0, 2.0, 3.0]])), [[1.0, 2.0]])
    np.testing.assert_allclose(plane.offset(np.array([[1.0, 2.0, 3.0]])), [-4.0])


def test_places_and_in_plane_coordinates_are_inverse() -> None:
    rng = np.random.default_rng(0)
    plane = Plane.through(rng.normal(size=3), rng.normal(size=3), rng.normal(size=3))
    flat = rng.normal(size=(20, 2))
    places = plane.places(flat)
    np.testing.assert_allclose(plane.flat(places), flat)
    np.testing.assert_allclose(plane.offset(places), 0.0, atol=1e-12)


def test_turning_everything_turns_nothing_within_the_plane() -> None:
    rng = np.random.default_rng(1)
    turn = Rotation.random(rng=rng).as_matrix()
    origin, normal, right, places = rng.normal(size=3), rng.normal(size=3), rng.normal(size=3), rng.normal(size=(9, 3))
    one = Plane.through(origin, normal, right)
    other = Plane.through(turn @ origin, turn @ normal, turn @ right)
    np.testing.assert_allclose(one.flat(places), other.flat(places @ turn.T))
    np.testing.assert_allclose(one.offset(places), other.offset(places @ turn.T))


def test_where_a_plane_cuts_a_box() -> None:
    low, high = np.array([0.0, 10.0, 100.0]), np.array([4.0, 16.0, 108.0])
    across = Plane.through(np.array([1.0, 1.0, 103.0]), np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(across.cut(low, high), [[0, 10], [4, 16]])
    face = Plane.through(high, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(face.cut(low, high), [[0, 10], [4, 16]])
    diagonal = Plane.through(low, np.array([0.0, -4.0, 3.0]) * [1, 2, 1])  # y by 8 against z by 3
    assert diagonal.cut(low, high) is not None
    assert Plane.through(high + 1.0, np.array([1.0, 1.0, 1.0])).cut(low, high) is None


def test_pixels_cover_a_box_and_keep_to_the_grid_of_the_volume() -> None:
    pixels = Pixels.over(np.array([[-7.0, 2.0], [13.0, 32.0 + 1e-9]]), np.array([-7.0, 2.0]), 10.0)
    assert pixels.shape == (3, 2)
    np.testing.assert_allclose(pixels.centres()[[0, -1]], [[-2.0, 7.0], [8.0, 27.0]])
    moved = Pixels.over(np.array([[0.0, 0.0], [5.0, 5.0]]), np.array([3.0, 3.0]), 10.0)
    np.testing.assert_allclose(moved.corner, [-7.0, -7.0])


def values_on(shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.indices(shape)
    return np.stack([1.0 + 2.0 * x - y + 0.5 * z, x * y * 1.0], axis=-1)


def test_interpolation_is_exact_for_products_of_linear_functions() -> None:
    values = values_on((4, 5, 6))
    position = np.random.default_rng(0).uniform(0, [3, 4, 5], (50, 3))
    inside, found = interpolate(lambda i: values[tuple(i.T)], np.ones((4, 5, 6), bool), position)
    assert inside.all()
    z, y, x = position.T
    np.testing.assert_allclose(found, np.column_stack([1.0 + 2.0 * x - y + 0.5 * z, x * y]), rtol=1e-5)


def test_at_the_centres_voxels_have_their_own_values_and_mask() -> None:
    rng = np.random.default_rng(2)
    mask, values = rng.random((3, 4, 5)) < 0.6, rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    values[~mask] = np.nan
    position = np.argwhere(np.ones_like(mask)) + rng.uniform(-1e-12, 1e-12, (60, 3))
    inside, found = interpolate(lambda i: values[tuple(i.T)], mask, position)
    np.testing.assert_array_equal(inside, mask.ravel())
    np.testing.assert_array_equal(found, values[mask])


def test_places_outside_the_tissue_do_not_leak_in() -> None:
    mask = np.ones((2, 2, 4), bool)
    mask[:, :, 2:] = False
    values = np.where(mask, 7.0, 1e6)[..., None]
    position = np.array([[0.5, 0.5, x] for x in (0.5, 1.0, 1.49, 1.51, 2.0)])
    inside, found = interpolate(lambda i: values[tuple(i.T)], mask, position)
    assert inside.tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(found, 7.0)
    unknown = np.where(mask, 7.0, np.nan)[..., None]
    also, same = interpolate(lambda i: unknown[tuple(i.T)], np.ones_like(mask), position)
    assert also.tolist() == inside.tolist()
    np.testing.assert_allclose(same, 7.0)


def test_the_outer_half_of_a_voxel_belongs_to_it_and_beyond_is_nothing() -> None:
    mask, values = np.ones((2, 2, 2), bool), np.arange(8.0).reshape(2, 2, 2, 1)
    position = np.array([[-0.5, 0, 0], [1.5, 1.5, 1.5], [-0.51, 0, 0], [0, 0, 1.51]])
    inside, found = interpolate(lambda i: values[tuple(i.T)], mask, position)
    assert inside.tolist() == [True, True, False, False]
    np.testing.assert_allclose(found[:, 0], [0.0, 7.0])
