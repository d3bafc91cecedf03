"""The field over depth and age: what leads to the frame and back, what it predicts, and cells that are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from isost._core.covariance import Hyperparameters, spacing_of
from isost._core.gaussian import Covariance
from isost._time.field import Kernel4, SheetField, _Spline
from isost._time.sheet import Sheet

AT = [(z, age) for age in (1.0, 3.0, 5.0) for z in (0.0, 50.0, 100.0)]
SPEED = np.array([[1.0, 0.0], [0.0, 20.0]])  # along x per µm of depth, along y per unit of age
HYPER = Hyperparameters(np.full(2, 60.0), np.full(2, 2.0), np.full(2, 4.0), np.full(2, 0.05))
KERNEL = Kernel4(HYPER, np.array([1.0, 1.5]))


def drift(at: np.ndarray) -> np.ndarray:
    """How far the tissue has moved at depths and ages (m, 2)."""
    return (np.asarray(at) - [50.0, 3.0]) @ SPEED


def truth(material: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Features of material (m, 2), which change along depth and age."""
    x, y = material.T / 50
    return np.stack([np.sin(x) + at[:, 0] / 100, np.cos(y) + at[:, 1] / 5], axis=1)


@pytest.fixture(scope="module")
def sheet(sheet_of: Callable[..., Sheet]) -> Sheet:
    """Nine sections of 90 cells of a tissue that moves at a constant speed along depth and along age."""
    draw = np.random.default_rng(0)
    material = [draw.uniform(0, [300, 240], (90, 2)) for _ in AT]
    features = [truth(one, np.tile(at, (90, 1))) + 0.1 * draw.normal(size=(90, 2))
                for one, at in zip(material, AT, strict=True)]  # fmt: skip
    return sheet_of([one + drift(at) for one, at in zip(material, AT, strict=True)], features, AT)


@pytest.fixture(scope="module")
def field(sheet: Sheet) -> SheetField:
    """With displacements as they truly are."""
    return SheetField(sheet, -drift(sheet.at)[sheet.stack.section_index], KERNEL)


@pytest.fixture(scope="module")
def still(sheet: Sheet) -> SheetField:
    return SheetField(sheet, np.zeros((sheet.stack.n_cells, 2)), KERNEL)


def asked(n: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Material (n, 2), and depths and ages (n, 2)."""
    draw = np.random.default_rng(seed)
    return draw.uniform(30, [270, 210], (n, 2)), draw.uniform([0, 1], [100, 5], (n, 2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


POINTS = {
    "a grid": np.array(AT) / [50, 2],
    "uneven": np.random.default_rng(3).uniform(0, 3, (11, 2)),
    "three": np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]]),
}


@pytest.mark.parametrize("points", POINTS.values(), ids=POINTS)
def test_a_spline_goes_through_its_points_and_reproduces_planes(points: np.ndarray) -> None:
    spline = _Spline(points)
    np.testing.assert_allclose(spline.weights(points), np.eye(len(points)), atol=1e-8)
    places = np.random.default_rng(0).uniform(-1, 4, (40, 2))
    weights = spline.weights(places)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights @ points, places, atol=1e-8)


@pytest.mark.parametrize("gaps", [[0.0, 1.0, 2.0], [0.0, 1.0, 2.5, 3.0]])
def test_a_spline_through_points_on_a_line_goes_through_them(gaps: list[float]) -> None:
    """As where a section is left out of a few; between two of them it is about the mean of their values."""
    points = np.outer(gaps, [0.0, 1.0])
    spline = _Spline(points)
    np.testing.assert_allclose(spline.weights(points), np.eye(len(points)), atol=1e-6)
    between = spline.weights(np.array([[0.0, 0.5]]))
    assert between.sum() == pytest.approx(1)
    np.testing.assert_allclose(between[0, :2], 0.5, atol=0.2)


def test_a_spline_is_the_least_bent(sheet: Sheet) -> None:
    """It does not see the frame: turned points have the weights of those that were not."""
    points, places = POINTS["uneven"], np.random.default_rng(0).uniform(0, 3, (20, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(
        _Spline(points @ turn.T + 5).weights(places @ turn.T + 5), _Spline(points).weights(places), atol=1e-7
    )


def test_displacements_between_sections_are_those_of_a_steady_motion(field: SheetField) -> None:
    place, at = asked()
    np.testing.assert_allclose(field.displacement(place, at), -drift(at), atol=0.3)


def test_displacements_at_a_section_are_its_own(field: SheetField, sheet: Sheet) -> None:
    place, _ = asked(9)
    np.testing.assert_allclose(field.displacement(place, sheet.at), -drift(sheet.at), atol=1e-6)


def test_the_way_to_the_frame_and_back(sheet: Sheet) -> None:
    """Also where displacements differ from place to place."""
    shift = -drift(sheet.at)[sheet.stack.section_index] * (1 + 0.3 * np.sin(sheet.stack.coords[:, [0]] / 90))
    field = SheetField(sheet, shift, KERNEL)
    place, at = asked()
    coords = place - field.displacement(place, at)
    found = field.to_frame(coords, at)
    assert np.abs(coords - place).max() > 10
    np.testing.assert_allclose(found - field.displacement(found, at), coords, atol=0.05)
    assert np.median(np.linalg.norm(found - place, axis=1)) < 0.05


def test_without_displacements_the_frame_is_the_plane(still: SheetField) -> None:
    place, at = asked()
    np.testing.assert_array_equal(still.to_frame(place, at), place)


def test_what_moves_is_predicted_where_it_has_come_to(field: SheetField, still: SheetField) -> None:
    """At depths and ages between sections: the error is far below that with the cells as they lie."""
    material, at = asked(200)
    coords = np.column_stack([material + drift(at), at])
    known = truth(material, at)
    error, unmoved = (np.sqrt(((one.predict(coords)[0] - known) ** 2).mean()) for one in (field, still))
    assert error < 0.1 and error < 0.6 * unmoved


def test_predictions_are_those_of_dense_matrices(field: SheetField, sheet: Sheet) -> None:
    """Given the cells of the sections that a place is predicted from, with depth and age in median gaps."""
    place, at = asked(40)[0], np.tile([30.0, 2.2], (40, 1))
    (sections, _), *others = sheet.patches(at).items()
    assert not others
    stack, gaps = sheet.stack, KERNEL.gaps
    rows = np.concatenate([np.arange(stack.starts[k], stack.starts[k + 1]) for k in sections])
    cells, own = field.place[rows], sheet.at[stack.section_index[rows]] / sheet.scale * gaps
    covariance = Covariance(60.0, 2.0)

    def kernel(x: np.ndarray, d: np.ndarray) -> np.ndarray:
        lag = ((x[:, None] - cells) ** 2).sum(axis=-1)
        return 4 * 0.05 * covariance.of(lag, np.abs(d[:, None] - own).sum(axis=-1))

    inside, across = kernel(cells, own) + 0.05 * np.eye(len(rows)), kernel(place, at / sheet.scale * gaps)
    mean = field.centre + across @ np.linalg.solve(inside, stack.features[rows] - field.centre)
    variance = 4 * 0.05 - np.einsum("ij,ji->i", across, np.linalg.solve(inside, across.T))
    found = field.at(place, at, with_variance=True)
    np.testing.assert_allclose(found[0], mean, atol=1e-4)
    np.testing.assert_allclose(found[1], np.column_stack([variance, variance]), atol=1e-4)


def test_variance_grows_away_from_sections(field: SheetField) -> None:
    """Along depth and along age, and far away from all cells to that of the prior."""
    place = asked(80)[0]

    def mean_variance(z: float, age: float, places: np.ndarray = place) -> float:
        return float(field.at(places, np.tile([z, age], (len(places), 1)), with_variance=True)[1].mean())

    here = mean_variance(50, 3)
    assert 0 < here < mean_variance(60, 3) < mean_variance(75, 3)
    assert here < mean_variance(50, 3.4) < mean_variance(50, 4)
    assert mean_variance(75, 4) > mean_variance(50, 4)
    assert mean_variance(50, 3, place + 9000) == pytest.approx(4 * 0.05, rel=1e-5)


def test_factors_scale_deviations_alone(field: SheetField) -> None:
    place, at = asked(10)
    scaled = field.scaled_by(np.array([2.0, 0.5]))
    (mean, variance), (same, changed) = (one.at(place, at, with_variance=True) for one in (field, scaled))
    np.testing.assert_array_equal(mean, same)
    np.testing.assert_allclose(changed, variance * [4.0, 0.25], rtol=1e-5)


def test_no_seam_where_the_sections_change_that_a_place_is_predicted_from(field: SheetField) -> None:
    """Neither at a measured age nor at a measured depth."""
    place = asked(30)[0]
    step = np.array([1e-4, 1e-5])
    for at in ([50.0, 3.0], [25.0, 3.0], [50.0, 2.0], [40.0, 2.0], [0.0, 3.0]):
        before, after = (field.at(place, np.tile(one, (30, 1)))[0] for one in (at - step, at + step))
        assert np.abs(after - before).max() < 2e-3


def test_places_are_predicted_whatever_others_are_asked(field: SheetField) -> None:
    place, at = asked(40)
    together = field.at(place, at, with_variance=True)
    for rows in (slice(0, 1), slice(7, 9)):
        alone = field.at(place[rows], at[rows], with_variance=True)
        np.testing.assert_allclose(alone[0], together[0][rows], atol=1e-5)
        np.testing.assert_allclose(alone[1], together[1][rows], atol=1e-5)


def test_many_cells_go_by_a_grid(field: SheetField, monkeypatch: pytest.MonkeyPatch) -> None:
    place, at = asked(80)
    exact = field.at(place, at, with_variance=True)
    monkeypatch.setattr("isost._time.field._FEW", 0)
    grid = SheetField(field.sheet, field.shift, KERNEL).at(place, at, with_variance=True)
    off = grid[0] - exact[0]
    assert (off.std(axis=0) < 0.15 * exact[0].std(axis=0)).all()
    assert grid[1].mean() == pytest.approx(exact[1].mean(), rel=0.3)


@pytest.mark.parametrize("section", [0, 4, 8])
def test_a_measured_section_is_drawn_as_it_was_measured(field: SheetField, section: int) -> None:
    cells = field.draw(*AT[section], generator())
    stack = field.sheet.stack
    rows = np.arange(stack.starts[section], stack.starts[section + 1])
    np.testing.assert_array_equal(np.sort(cells.row), rows)
    np.testing.assert_array_equal(cells.coords[:, :2], stack.coords[cells.row, :2])
    np.testing.assert_array_equal(cells.coords[:, 2], AT[section][0])
    np.testing.assert_array_equal(cells.features, stack.features[cells.row])


def test_between_sections_cells_are_drawn_by_their_weights(field: SheetField) -> None:
    """All sections have 90 cells, and so has what is drawn; of each section as many as it weighs."""
    weights = field.sheet.about(20, 4)
    drawn = [field.draw(20, 4, generator(seed)) for seed in range(8)]
    assert all(abs(len(cells.row) - 90) <= 1 for cells in drawn)
    share = np.bincount(np.concatenate([cells.section for cells in drawn]), minlength=9) / (8 * 90)
    expected = np.array([weights.get(k, 0.0) for k in range(9)])
    np.testing.assert_allclose(share, expected, atol=0.06)
    assert (share[expected > 0] > 0).all() and not share[expected == 0].any()


def test_a_number_of_cells_can_be_asked(field: SheetField) -> None:
    assert abs(len(field.draw(20, 4, generator(), n=25).row) - 25) <= 1


def test_cells_are_drawn_where_they_have_come_to(field: SheetField) -> None:
    """With the expression of their material at that depth and age."""
    at = (20.0, 4.0)
    cells, stack = field.draw(*at, generator()), field.sheet.stack
    np.testing.assert_array_equal(cells.coords[:, 2], 20.0)
    material = stack.coords[cells.row, :2] - drift(field.sheet.at)[cells.section]
    np.testing.assert_allclose(cells.coords[:, :2], material + drift(np.array([at]))[0], atol=0.6)
    known = truth(material, np.tile(at, (len(material), 1)))
    off, before = cells.features - known, stack.features[cells.row] - known
    assert (off.mean(axis=0) < 0.05).all() and off.std(axis=0).max() < 0.15
    assert (np.abs(off).mean(axis=0) < 0.7 * np.abs(before).mean(axis=0)).all()


def test_the_seed_decides_which_cells(field: SheetField) -> None:
    one, same, other = (field.draw(20, 4, generator(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.row, same.row)
    np.testing.assert_array_equal(one.coords, same.coords)
    assert one.row.tolist() != other.row.tolist()


def test_without_a_section_its_cells_say_nothing(field: SheetField, sheet: Sheet) -> None:
    left = field.without(4)
    rows = sheet.stack.slice_of(4)
    assert left.sheet.stack.n_sections == 8 and len(left.shift) == len(field.shift) - 90
    np.testing.assert_array_equal(left.shift, np.delete(field.shift, np.r_[rows], axis=0))
    assert left.kernel is field.kernel
    coords = np.column_stack([sheet.stack.coords[rows, :2], np.tile(AT[4], (90, 1))])
    off = [np.abs(one.predict(coords)[0] - sheet.stack.features[rows]).mean() for one in (field, left)]
    assert off[0] < off[1] < 0.15


def test_the_kernel_is_estimated_in_units_of_the_cells(sheet: Sheet) -> None:
    field = SheetField(sheet, -drift(sheet.at)[sheet.stack.section_index])
    hyper = field.kernel.hyper
    assert (hyper.length > spacing_of(sheet.stack)).all() and (hyper.ratio > 1).all()
    np.testing.assert_array_less(hyper.noise, 0.03)
    assert field.kernel.gaps[0] == 1.0
