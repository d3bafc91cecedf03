"""Couplings of sections whose motion is known: planted maps, and phantoms with their truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

import isost
from isost._core import plan
from isost._core.plan import Sample, barycentre
from isost._core.transport import Coupling, couple

N = 200
CENTRE = np.array([0.5, 0.5])
SPACING = float(np.sqrt(np.pi * 0.4 * 0.3 / N))  # side of a cell's share of the ellipse's area


def ellipse(n: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    radius, angle = np.sqrt(draw.random(n)), 2 * np.pi * draw.random(n)
    return CENTRE + np.column_stack([0.4 * radius * np.cos(angle), 0.3 * radius * np.sin(angle)])


def pattern(x: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Four smooth patterns over the tissue, with noise from cell to cell unless there is no seed."""
    clean = np.column_stack(
        [np.sin(4 * x[:, 0]), np.cos(5 * x[:, 1]), 3 * x[:, 0] * x[:, 1], np.sin(3 * x[:, 0] + 6 * x[:, 1])]
    )
    return clean if seed is None else clean + 0.3 * np.random.default_rng(seed).normal(size=clean.shape)


def moved(x: np.ndarray, degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return scale * (x - CENTRE) @ np.array([[c, s], [-s, c]]) + CENTRE + shift


MAPS = {
    "translation": {"shift": (0.15, -0.1)},
    "rotation": {"degrees": 30.0},
    "scale": {"scale": 1.25},
    "all": {"degrees": 20.0, "scale": 1.15, "shift": (0.1, 0.05)},
}


@pytest.mark.parametrize("name", MAPS)
def test_a_planted_map_of_the_same_cells_is_recovered(name: str) -> None:
    here = ellipse(N, 0)
    order = np.random.default_rng(1).permutation(N)
    there = moved(here, **MAPS[name])
    found = couple(here, pattern(here, 2), there[order], pattern(here, 3)[order])
    distance = np.linalg.norm(there - here, axis=1)
    error = np.linalg.norm(found.target - there, axis=1)
    assert np.median(distance) > SPACING
    assert error.max() < 0.3 * SPACING
    assert found.dropped < 0.06 and np.quantile(found.mass, 0.1) > 0.8


def test_a_planted_map_of_other_cells_is_recovered_to_less_than_a_spacing() -> None:
    here, others = ellipse(N, 0), ellipse(N + 40, 5)
    found = couple(here, pattern(here, 2), moved(others, **MAPS["all"]), pattern(others, 3))
    error = np.linalg.norm(found.target - moved(here, **MAPS["all"]), axis=1)
    assert np.median(error) < 0.7 * SPACING
    assert error.max() < 2 * SPACING


def test_expression_decides_where_the_outline_does_not() -> None:
    """A disc turned by 50 degrees: the outline says nothing, the pattern all."""
    draw = np.random.default_rng(0)
    radius, angle = 0.4 * np.sqrt(draw.random(N)), 2 * np.pi * draw.random(N)
    here = CENTRE + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    there = moved(here, degrees=50.0)
    with_it = couple(here, pattern(here), there, pattern(here))
    without = couple(here, pattern(here), there, pattern(here), feature_weight=0.0)
    none = couple(here, np.zeros((N, 0)), there, np.zeros((N, 0)))

    def error(found: Coupling) -> float:
        return float(np.median(np.linalg.norm(found.target - there, axis=1))) / SPACING

    assert error(with_it) < 0.3
    assert error(without) > 2.0
    np.testing.assert_allclose(none.target, without.target, atol=1e-12)
    assert none.change.shape == (N, 0)


def test_a_section_coupled_with_itself_stays() -> None:
    here = ellipse(N, 0)
    found = couple(here, pattern(here, 1), here, pattern(here, 1))
    np.testing.assert_allclose(found.target, here, atol=1e-2 * SPACING)
    np.testing.assert_allclose(found.change, 0.0, atol=1e-12)


def test_change_is_the_difference_of_the_local_means() -> None:
    """A new level of every gene, the same everywhere; the same cells, so that each is compared with itself."""
    here = ellipse(N, 0)
    level = np.array([0.5, -0.2, 0.0, 0.1])
    found = couple(here, pattern(here, 1), here + 0.2, pattern(here, 1) + level, feature_weight=0.0)
    np.testing.assert_allclose(np.median(found.change, axis=0), level, atol=1e-9)
    np.testing.assert_allclose(found.change.mean(axis=0), level, atol=0.01)


def test_units_and_places_of_the_plane_do_not_matter() -> None:
    here, others = ellipse(N, 0), moved(ellipse(N, 5), **MAPS["all"])
    found = couple(here, pattern(here, 2), others, pattern(others, 3))
    large = couple(2000 * here - 700, pattern(here, 2), 2000 * others - 700, pattern(others, 3))
    np.testing.assert_allclose((large.target + 700) / 2000, found.target, atol=1e-6)
    np.testing.assert_allclose(large.mass, found.mass, atol=1e-6)


def test_the_order_of_the_cells_does_not_matter() -> None:
    here, others = ellipse(N, 0), moved(ellipse(N, 5), **MAPS["all"])
    draw = np.random.default_rng(0)
    p, q = draw.permutation(N), draw.permutation(N)
    found = couple(here, pattern(here, 2), others, pattern(others, 3))
    shuffled = couple(here[p], pattern(here, 2)[p], others[q], pattern(others, 3)[q])
    np.testing.assert_allclose(shuffled.target, found.target[p], atol=1e-6)
    np.testing.assert_allclose(shuffled.change, found.change[p], atol=1e-6)


@pytest.mark.parametrize("masses", ["area", "cells"])
@pytest.mark.parametrize("end", [0.5, 0.6, 0.7, 1.0])
def test_the_mass_that_is_dropped_is_that_of_the_tissue_that_ends(end: float, masses: str) -> None:
    here, others = ellipse(1200, 0), ellipse(1200, 5)
    left = others[others[:, 0] < end]
    found = couple(here, pattern(here), left, pattern(left), masses=masses)
    gone, kept = here[:, 0] > end + 0.05, here[:, 0] < end - 0.05
    assert found.dropped == pytest.approx((here[:, 0] > end).mean(), abs=0.1)
    assert found.mass[kept].mean() > 0.9
    assert not gone.any() or found.mass[gone].mean() < 0.3
    assert ((found.mass >= 0) & (found.mass <= 1)).all()


def test_tissue_that_stays_is_not_dragged_along_with_what_is_gone() -> None:
    here, others = ellipse(N, 0), ellipse(N, 5)
    left = others[others[:, 0] < 0.55]
    found = couple(here, pattern(here), left, pattern(left))
    assert np.median(np.linalg.norm(found.target - here, axis=1)[here[:, 0] < 0.5]) < SPACING


def test_mass_that_is_dropped_gets_more_candidates() -> None:
    """Tissue that moves by half its width: the nearest few cells are none of those it becomes."""
    here = ellipse(N, 0)
    there = here + [0.4, 0.0]
    start, end = (Sample.of(x, pattern(here), "area") for x in (here, there))
    near = {"n_candidates": 8, "reach": 0.3, "weight": 5.0, "rho": 1.0}
    grown = barycentre(start, end, **near)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_WIDER", 1)
        fixed = barycentre(start, end, **near)[1]
    short = fixed < 0.5
    assert short.sum() > 0.1 * N
    assert grown[short].sum() > 1.5 * fixed[short].sum()


@pytest.mark.parametrize("copies", [2, 12])
def test_cells_may_share_spots(copies: int) -> None:
    spots = np.repeat(ellipse(40, 0), copies, axis=0)
    found = couple(spots, pattern(spots), spots + 0.1, pattern(spots))
    np.testing.assert_allclose(found.target, spots + 0.1, atol=0.02)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 30), (3, 2), (30, 1)])
def test_few_cells_give_finite_targets(n: int, m: int) -> None:
    here, there = ellipse(n, 0), ellipse(m, 1)
    found = couple(here, pattern(here), there, pattern(there))
    assert np.isfinite(found.target).all() and np.isfinite(found.change).all() and np.isfinite(found.mass).all()
    assert found.target.shape == (n, 2)


@pytest.fixture(scope="module")
def phantom_errors() -> Callable[[str, tuple[int, ...]], tuple[list[np.ndarray], list[np.ndarray]]]:
    """Error of each cell's target and the way it truly goes, in spacings, for some gaps of a phantom."""

    def measure(shape: Literal["still", "bending", "branching"], gaps: tuple[int, ...]):
        adata = isost.datasets.phantom(shape, n_sections=6, n_cells=300, n_genes=40, spacing=50.0, extent=400.0, rng=1)
        truth = isost.datasets.phantom_truth(adata)
        isost.pp.embed(adata, n_comps=8)
        xyz, errors, ways = adata.obsm["spatial"], [], []
        for gap in gaps:
            here, there = (np.flatnonzero(xyz[:, 2] == 50.0 * k) for k in (gap, gap + 1))
            found = couple(xyz[here, :2], adata.obsm["X_pca"][here], xyz[there, :2], adata.obsm["X_pca"][there])
            goes_to = truth.geometry.to_physical(*adata.obsm["material"][here].T, 50.0 * (gap + 1))[:, :2]
            spacing = 1 / np.sqrt(np.median(truth.density(xyz[here])))
            errors.append(np.linalg.norm(found.target - goes_to, axis=1) / spacing)
            ways.append(np.linalg.norm(goes_to - xyz[here, :2], axis=1) / spacing)
        return errors, ways

    return measure


def test_still_tissue_is_kept_still(phantom_errors: Callable) -> None:
    errors, ways = phantom_errors("still", (0, 2))
    assert max(way.max() for way in ways) < 1e-4
    for error in errors:
        assert np.median(error) < 1.0
        assert np.quantile(error, 0.9) < 1.5


@pytest.mark.parametrize("shape", ["bending", "branching"])
def test_moving_tissue_is_followed(phantom_errors: Callable, shape: str) -> None:
    errors, ways = phantom_errors(shape, (2, 3, 4))
    for error in errors:
        assert np.median(error) < 1.0
        assert np.quantile(error, 0.9) < 2.0
    # staying where one is would not do
    assert np.median(np.concatenate(errors)) < 0.6 * np.median(np.concatenate(ways))
