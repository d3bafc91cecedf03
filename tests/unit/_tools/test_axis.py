from __future__ import annotations

import numpy as np
import pytest

from isost._tools.axis import Line, centre_line, trace_lumen


def test_distance_from_a_straight_line_and_position_along_it() -> None:
    rng = np.random.default_rng(0)
    start, direction = np.array([1.0, -2.0, 3.0]), np.array([2.0, 1.0, -2.0]) / 3.0
    places = rng.normal(size=(50, 3)) * 20
    distance, along = Line(np.stack([start, start + 5 * direction])).project(places)
    np.testing.assert_allclose(along, (places - start) @ direction)
    np.testing.assert_allclose(distance, np.linalg.norm(np.cross(places - start, direction), axis=1))
    assert along.min() < 0 < 5 < along.max(), "it goes on beyond both ends"


def test_distance_from_a_bent_line() -> None:
    """A quarter of a circle of many pieces, and places at known distances from it."""
    angle = np.linspace(0, np.pi / 2, 200)
    line = Line(100 * np.column_stack([np.cos(angle), np.sin(angle), np.zeros(200)]))
    at = np.array([0.3, 0.8, 1.2])
    radius, height = np.array([70.0, 100.0, 130.0]), np.array([0.0, 25.0, -40.0])
    distance, along = line.project(np.column_stack([radius * np.cos(at), radius * np.sin(at), height]))
    np.testing.assert_allclose(distance, np.hypot(radius - 100, height), atol=0.01)
    np.testing.assert_allclose(along, 100 * at, atol=0.2)


def test_a_line_is_measured_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    line, places = Line(rng.normal(size=(6, 3))), rng.normal(size=(37, 3))
    whole = line.project(places)
    monkeypatch.setattr("isost._tools.axis._BLOCK", 20)
    np.testing.assert_array_equal(line.project(places), whole)


def tube(bend: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Mask (z, y, x) of a bent tube of radius 12 voxels, and the centre (z, 2) of each of its planes in voxels."""
    z = np.arange(30)
    centre = np.column_stack([35 + bend * np.sin(np.pi * z / 29) / 2, 30 + bend * z / 60])
    y, x = np.indices((60, 70)) + 0.5
    distance = np.hypot(x - centre[:, :1, None], y - centre[:, 1:, None])
    return distance <= 20, centre


def test_centre_line_follows_a_bent_tissue_to_its_ends() -> None:
    mask, centre = tube()
    size = np.array([2.0, 2.0, 5.0])
    places = (np.argwhere(mask)[:, ::-1] + 0.5) * size
    line = centre_line(places, smoothing=10.0)
    assert line.shape == (30, 3)
    np.testing.assert_allclose(line[:, 2], (np.arange(30) + 0.5) * 5.0)
    np.testing.assert_allclose(line[:, :2], centre * 2.0, atol=0.6)
    scattered = places + np.random.default_rng(0).uniform(-0.5, 0.5, places.shape) * size
    other = centre_line(scattered, smoothing=10.0)
    near = np.column_stack([np.interp(other[:, 2], line[:, 2], line[:, k]) for k in range(2)])
    np.testing.assert_allclose(other[:, :2], near, atol=1.5)


@pytest.mark.parametrize("hole", ["empty", "thin"])
def test_a_lumen_is_traced_where_the_tissue_is_thinnest(hole: str) -> None:
    mask, centre = tube()
    size = np.array([2.0, 2.0, 5.0])
    way = centre + np.column_stack([4 * np.cos(np.arange(30) / 10), np.full(30, -3.0)])
    y, x = np.indices((60, 70)) + 0.5
    inside = np.hypot(x - way[:, :1, None], y - way[:, 1:, None]) <= 2.5
    density = np.where(mask, 1.0, 0.0) * np.random.default_rng(0).uniform(0.8, 1.2, mask.shape)
    density[inside] *= 0.0 if hole == "empty" else 0.3
    density[5, 25:35, 20:25] *= 0.2  # damage to one section
    found = trace_lumen(density, mask & ~inside if hole == "empty" else mask, size, smoothing=8.0)
    assert np.abs(found[:, :2] - way * 2.0).max() < 2 * size[0]
    np.testing.assert_allclose(found[:, 2], (np.arange(30) + 0.5) * 5.0)
