"""Carried cells scatter about the mean where they are, as much as measured ones, at any depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from anndata import AnnData

from isost._core.carry import carry
from isost._core.clouds import variance_about
from isost._core.field import Field
from isost._core.fit import fit_stack
from isost._core.gap import GapField
from isost._core.grid import make_grid
from isost._core.guard import Belief
from isost._core.model import SDEModel
from isost._core.options import FitOptions
from isost._core.paths import Paths
from isost._core.settle import SHARES, Evidence, Settling, choose_settling, evidence, lower_bound
from isost._core.stack import Stack, read_stack
from isost._core.voxelize import fill

SPREAD = 0.5
Pattern = Callable[[np.ndarray, int], np.ndarray]


@pytest.fixture
def still(stack_of: Callable[..., Stack]) -> Callable[..., Stack]:
    """Sections 30 apart of a tissue that stands still, whose cells scatter about a mean, with a spread of their own."""

    def make(mean: Pattern, spread: list[float] | None = None, n_sections: int = 7, seed: int = 0) -> Stack:
        draw = np.random.default_rng(seed)
        about = spread or [SPREAD] * n_sections
        places = [draw.uniform(0, 300, (500, 2)) for _ in about]
        values = [
            mean(p, k) + s * draw.normal(size=(500, 2)) for k, (p, s) in enumerate(zip(places, about, strict=True))
        ]
        return stack_of(places, values, 30.0 * np.arange(len(about)))

    return make


@pytest.fixture
def fit(moving_model: Callable[..., SDEModel]) -> Callable[[Stack], Field]:
    return lambda stack: Field.fit(moving_model(stack, moving=False, changing=0.0, width=8), stack)


def rising(place: np.ndarray, k: int) -> np.ndarray:
    """A mean that differs much between sections, and smoothly."""
    return np.sin(place / 50 + [0.0, 1.0]) + [1.2 * k, -0.9 * k]


def batches(place: np.ndarray, k: int) -> np.ndarray:
    """Two sections alike, then two others: every inner one has a neighbour like it and one unlike it."""
    return np.sin(place / 50) + 1.5 * (k // 2 % 2)


def variance(place: np.ndarray, features: np.ndarray) -> np.ndarray:
    return variance_about(place, features.astype(float), np.full(len(place), 1 / len(place)))


def test_cells_of_both_sections_scatter_about_one_mean(still, fit) -> None:
    field = fit(still(rising))
    assert field.settling.share == 1.0
    cells = field.draw(45.0, torch.Generator().manual_seed(0))
    mean = rising(cells.coords[:, :2], 0) + [1.2 * 1.5, -0.9 * 1.5]
    assert np.abs((cells.features - mean).mean(axis=0)).max() < 0.1
    np.testing.assert_allclose((cells.features - mean).std(axis=0), SPREAD, rtol=0.12)
    # those of each section alone, too
    for section in (1, 2):
        part = cells.section == section
        assert np.abs((cells.features - mean)[part].mean(axis=0)).max() < 0.12


def test_cells_that_keep_the_mean_of_their_section_are_a_mixture(still, fit) -> None:
    field = fit(still(rising))
    drawn = field.draw(45.0, torch.Generator().manual_seed(0))
    field.settling = Settling(0.0, np.zeros(2))
    mixed = field.draw(45.0, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(mixed.coords, drawn.coords)
    own = variance(drawn.coords[:, :2], drawn.features)
    np.testing.assert_allclose(own, SPREAD**2, rtol=0.35)
    assert (variance(mixed.coords[:, :2], mixed.features) > own + 0.15).all()


def test_sections_that_jump_are_mixed(still, fit) -> None:
    field = fit(still(batches))
    assert field.settling.share == 0.0, field.settling
    assert field.settling.tried["share 1"] > field.settling.tried["share 0"] + 0.002


def test_drawn_cells_meet_the_measured_ones_at_a_section(still, fit) -> None:
    field = fit(still(rising))
    stack = field.stack
    np.testing.assert_array_equal(
        field.draw(60.0, torch.Generator().manual_seed(0)).features, stack.features[stack.slice_of(2)]
    )
    for z in (60.0 - 1e-4, 60.0 + 1e-4):
        cells = field.settle(carry(field.model, stack, z))
        own = cells.section == 2
        np.testing.assert_allclose(cells.features[own], stack.features[stack.slice_of(2)], atol=1e-3)


def test_what_is_learned_is_not_counted_twice(still, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field's change takes the place of the drift's, so that s = 1 leaves no drift of expression."""
    stack = still(rising, n_sections=4)
    for share in (0.0, 1.0):
        with monkeypatch.context() as patched:
            patched.setattr("isost._core.settle.SHARES", (share,))
            patched.setattr("isost._core.bridge.believe", lambda *_, **__: Belief(0.0, 1.0, "area"))
            fitted = fit_stack(stack, options=FitOptions(epochs=1), progress=False)
        assert (fitted.info["change"], fitted.info["settled"]) == (1.0, share)
        assert fitted.model.config["changing"] == 1 - share
        changed = carry(fitted.model, stack, 45.0).features - stack.features[carry(fitted.model, stack, 45.0).row]
        assert (np.abs(changed).max() > 1e-3) == (share == 0.0)


def test_the_cells_of_a_volume_and_of_a_section_follow_the_mean(still, fit) -> None:
    field = fit(still(rising))
    grid = make_grid(field.stack, 30.0, n_channels=2)
    cells = fill(field, grid, slice(1, 3), 0)
    planes = grid.depths[1:3]
    plane = planes[(cells.coords[:, 2] > planes.mean()).astype(int), None]
    centred = rising(cells.coords[:, :2], 0) + plane / 30 * [1.2, -0.9]
    assert np.abs((cells.features - centred).mean(axis=0)).max() < 0.12
    np.testing.assert_allclose((cells.features - centred).std(axis=0), SPREAD, rtol=0.15)
    field.settling = Settling(0.0, np.zeros(2))
    assert not np.array_equal(fill(field, grid, slice(1, 3), 0).features, cells.features)


def test_the_paper_objective_draws_cells_as_the_equations_carry_them(toy_embedded: AnnData) -> None:
    stack = read_stack(toy_embedded)
    fitted = fit_stack(stack, objective="trajectory", options=FitOptions(epochs=1), progress=False)
    assert fitted.field.settling.share == 0.0
    assert fitted.model.config["changing"] == 1.0
    assert fitted.model.config["sigma_g"] == 0.04


def test_one_section_left_out_says_nothing_of_diffusion(still, fit) -> None:
    found = fit(still(lambda place, _: np.sin(place / 50), [0.5, 0.9, 0.5]))
    assert not found.settling.diffusion.any()


def test_cells_as_varied_as_measured_need_no_diffusion(still, fit) -> None:
    assert fit(still(lambda place, _: np.sin(place / 50))).settling.diffusion.max() < 0.02


def test_the_largest_share_that_predicts_as_well_is_taken() -> None:
    lacking = np.array([[0.5, 0.5], [0.2, 0.0]])
    alike = [Evidence(np.array([0.100, 0.1015]), lacking)] * 3
    worse = [Evidence(np.array([0.100, 0.1025]), lacking)] * 3
    assert choose_settling(alike).share == 1.0
    assert choose_settling(worse).share == 0.0
    np.testing.assert_allclose(choose_settling(alike).diffusion, [0.2, 0.0])
    np.testing.assert_allclose(choose_settling(worse).diffusion, [0.5, 0.5])
    assert choose_settling(worse).tried == pytest.approx({"share 0": 0.1, "share 1": 0.1025})


def test_the_lower_bound_is_one_standard_error_below_the_mean_and_not_below_0() -> None:
    values = np.array([[1.0, 0.1, -1.0, 4.0], [2.0, -0.5, -1.0, 4.0], [3.0, 0.5, -1.0, 4.0]])
    np.testing.assert_allclose(lower_bound(values), [2 - 1 / np.sqrt(3), 0.0, 0.0, 4.0])
    np.testing.assert_array_equal(lower_bound(values[:1]), 0.0)


@pytest.mark.parametrize(("length", "spread"), [(15.0, 0.2), (30.0, 0.2), (50.0, 0.5)])
def test_drawn_cells_scatter_about_the_truth_as_measured_ones(still, fit, length: float, spread: float) -> None:
    """Whether the mean is smooth or rough beside the cells: no diffusion is made up of its gradient."""
    field = fit(still(lambda place, _: np.sin(place / length), [spread] * 5))
    assert np.sqrt(field.settling.diffusion.max()) < 0.2 * spread
    drawn = np.concatenate([
        (cells := field.draw(z, torch.Generator().manual_seed(0))).features - np.sin(cells.coords[:, :2] / length)
        for z in (45.0, 75.0)
    ])  # fmt: skip
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.15)


def test_the_mean_gives_back_what_it_took_of_a_cell(still, fit) -> None:
    """In a rough field of quiet cells the mean follows each cell; what it leaves is made as large as the noise."""
    field = fit(still(lambda place, _: np.sin(place / 12), [0.3] * 5))
    own, leverage = field._gap(1).own[1]
    left = field.stack.features[field.stack.slice_of(1)] - own
    assert (leverage > 0.15).all()
    assert (left.std(axis=0) < 0.93 * 0.3).all()
    np.testing.assert_allclose(left.std(axis=0) / np.sqrt(1 - leverage), 0.3, rtol=0.15)


def test_diffusion_makes_drawn_cells_as_varied_as_measured(still, fit) -> None:
    """What one left-out section lacks, given back as noise over the ways of the carried cells, makes it up."""
    stack = still(lambda place, _: np.sin(place / 50), [0.5, 0.7, 0.5])
    field, rest = fit(stack), stack.select([0, 2])
    gap = GapField(Paths(field.model, rest), 0, field.hyper, field._centre)
    rows = stack.slice_of(1)
    one = evidence(field.model, rest, gap, 1, stack.coords[rows], stack.features[rows])
    scale = field.model.feature_scale.numpy()
    measured = variance(stack.coords[rows, :2], stack.features[rows]) / scale**2
    for share, lacking in zip(SHARES, one.lacking, strict=True):
        settled = Field(field.model, rest, field.hyper, field.width, settling=Settling(share, lacking))
        for sigma, of_measured in ((np.sqrt(lacking).tolist(), 1.0), (0.0, 0.5 / 0.7)):
            field.model.config["sigma_g"] = sigma
            drawn = settled.draw(30.0, torch.Generator().manual_seed(1), 500)
            found = variance(drawn.coords[:, :2], drawn.features) / scale**2
            np.testing.assert_allclose(found, of_measured**2 * measured, rtol=0.2)


def test_settling_leaves_the_cells_that_came_in_alone(still, fit) -> None:
    field = fit(still(rising))
    cells = carry(field.model, field.stack, 45.0)
    before = replace(cells, features=cells.features.copy(), coords=cells.coords.copy())
    assert not np.array_equal(field.settle(cells).features, cells.features)
    np.testing.assert_array_equal(cells.features, before.features)
    np.testing.assert_array_equal(cells.coords, before.coords)
