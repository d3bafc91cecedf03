from __future__ import annotations

import numpy as np
import pytest

from isost._tools.votes import Ballot, PixelGrid, count, vote


@pytest.fixture(scope="module")
def places() -> np.ndarray:
    """Cells scattered evenly over a square of side 1000."""
    return np.random.default_rng(0).uniform(0.0, 1000.0, (4000, 2))


def test_the_grid_covers_all_cells_with_a_margin() -> None:
    grid = PixelGrid.over(np.array([[0.0, 10.0], [100.0, 60.0]]), 50)
    assert grid.size == pytest.approx(1.04 * 100 / 50)
    np.testing.assert_allclose(grid.centres.mean(axis=0), [50.0, 35.0])
    np.testing.assert_allclose(grid.centres[1] - grid.centres[0], [grid.size, 0.0])
    np.testing.assert_allclose(grid.centres[50] - grid.centres[0], [0.0, grid.size])
    assert grid.centres.shape == (2500, 2)


def test_halves_of_a_plane(places: np.ndarray) -> None:
    grid = PixelGrid.over(places, 64)
    ballot = vote(places, (places[:, 0] > 500.0).astype(int), 2, grid)
    label, sure, proportion = count([(1.0, ballot)])
    np.testing.assert_allclose(proportion, 0.5, atol=0.02)
    x, y = grid.centres.T
    well_inside = (np.abs(x - 500.0) > 80.0) & (np.abs(x - 500.0) < 450.0) & (np.abs(y - 500.0) < 450.0)
    np.testing.assert_array_equal(label[well_inside], np.where(x[well_inside] > 500.0, 2, 1))
    np.testing.assert_allclose(sure[well_inside], 1.0, rtol=1e-5)
    at_border = np.abs(x - 500.0) < grid.size / 2
    assert np.nanmin(sure[at_border]) < 0.7 and np.nanmin(sure) >= 0.5 - 1e-6


def test_the_tissue_ends_where_its_cells_do(places: np.ndarray) -> None:
    grid = PixelGrid(np.array([-500.0, -500.0]), 2000.0 / 128, 128)
    ballot = vote(places, np.zeros(len(places), int), 1, grid)
    inside = ballot.depth > 0
    assert inside.sum() * grid.size**2 == pytest.approx(1000.0**2, rel=0.06)
    x, y = grid.centres.T
    middle = inside & (np.abs(y - 500.0) < 300.0)
    assert x[middle].min() == pytest.approx(0.0, abs=30.0) and x[middle].max() == pytest.approx(1000.0, abs=30.0)
    # in pixels, from the nearest edge: half of the side in the middle, and the way to the corner of the grid outside
    assert ballot.depth.max() == pytest.approx(500.0 / grid.size, abs=2.0)
    assert ballot.depth.min() == pytest.approx(-500.0 * np.sqrt(2) / grid.size, abs=3.0)


def test_a_sparse_half_is_as_large_as_a_dense_one(places: np.ndarray) -> None:
    thinned = places[(places[:, 0] < 500.0) | (np.arange(len(places)) % 4 == 0)]
    code = (thinned[:, 0] > 500.0).astype(int)
    _, _, proportion = count([(1.0, vote(thinned, code, 2, PixelGrid.over(thinned, 64)))])
    np.testing.assert_allclose(proportion, 0.5, atol=0.04)


def test_cells_without_a_label_make_tissue_and_do_not_vote(places: np.ndarray) -> None:
    grid = PixelGrid.over(places, 64)
    code = (places[:, 0] > 500.0).astype(int)
    some = np.where(np.random.default_rng(1).random(len(code)) < 0.5, -1, code)
    all_vote, half_vote = vote(places, code, 2, grid), vote(places, some, 2, grid)
    np.testing.assert_array_equal(all_vote.depth, half_vote.depth)
    assert (all_vote.share.argmax(axis=1) == half_vote.share.argmax(axis=1)).mean() > 0.97
    assert vote(places, np.full(len(code), -1), 2, grid).share is None


def test_stages_count_by_their_weight() -> None:
    first = Ballot(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), np.array([1.0, 1.0, -1.0]))
    second = Ballot(np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), np.array([1.0, -1.0, 1.0]))
    label, sure, proportion = count([(0.75, first), (0.25, second)])
    assert label.tolist() == [1, 1, 0] and label.dtype == np.int16
    np.testing.assert_allclose(sure, [0.75, 0.75, np.nan])
    np.testing.assert_allclose(proportion, [0.75, 0.25])
    assert count([(0.25, first), (0.75, second)])[0].tolist() == [2, 0, 2]


def test_a_stage_without_labels_has_an_outline_and_no_say() -> None:
    labelled = Ballot(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0]))
    label, sure, proportion = count([(0.4, labelled), (0.6, Ballot(None, np.array([-1.0, 1.0])))])
    assert label.tolist() == [0, 2] and sure[1] == 1.0
    np.testing.assert_allclose(proportion, [1.0, 0.0])


def test_an_outline_moves_steadily() -> None:
    """A disc that grows from 100 to 200 pixels: the radius is in between in proportion, halfway too."""
    grid = PixelGrid(np.array([-256.0, -256.0]), 1.0, 512)
    far = np.hypot(*grid.centres.T)
    share = np.ones((len(far), 1))
    small, large = Ballot(share, 100.0 - far), Ballot(share, 200.0 - far)
    radius = [np.sqrt((count([(1 - t, small), (t, large)])[0] > 0).sum() / np.pi) for t in np.linspace(0, 1, 11)]
    np.testing.assert_allclose(radius, np.linspace(100, 200, 11), atol=0.5)
