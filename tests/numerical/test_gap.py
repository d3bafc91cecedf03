"""The field inside one gap: which cells it sees, at which depth, and in which frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isost._core.covariance import Hyperparameters, estimate, spacing_of
from isost._core.field import Field
from isost._core.gap import GapField, _planes
from isost._core.gaussian import Covariance
from isost._core.model import SDEModel
from isost._core.paths import Paths, gap_shares
from isost._core.stack import Stack

DEPTHS = np.arange(6) * 50.0
N = 90
HYPER = Hyperparameters(*(np.array([value]) for value in (60.0, 100.0, 20.0, 0.05)))


@pytest.fixture(autouse=True, params=["few cells", "grid"])
def solver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stack this small is solved exactly; what is asked of a field holds on the grid too."""
    if request.param == "grid":
        monkeypatch.setattr("isost._core.gap._FEW", 0)
    return request.param


def still(stack: Stack) -> SDEModel:
    """An untrained model: nothing moves."""
    x, y, z = (float(value) for value in stack.scaling.origin)
    return SDEModel(
        stack.n_features, origin=(x, y, z), plane_scale=stack.scaling.xy, depth_unit=50.0, depth_range=5.0, step=0.25,
        width=8,
    ).eval()  # fmt: skip


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    """One feature: a pattern that every section shares, and a little noise."""
    draw = np.random.default_rng(0)
    cells = [draw.uniform(0, [300, 200], (N, 2)) for _ in DEPTHS]
    return stack_of(cells, [np.sin(xy[:, [0]] / 40) + 0.2 * draw.normal(size=(N, 1)) for xy in cells], DEPTHS)


def places(z: float, n: int = 30) -> np.ndarray:
    inside = np.random.default_rng(1).uniform(20, [280, 180], (n, 2))
    return np.column_stack([inside, np.full(n, z)])


def dense(stack: Stack, rows: np.ndarray, at: np.ndarray, hyper: Hyperparameters = HYPER) -> np.ndarray:
    """Posterior mean of one feature given these rows, where nothing moves."""
    covariance = Covariance(float(hyper.length[0]), float(hyper.depth_length[0]))
    coords, ratio = stack.coords[rows], float(hyper.ratio[0])

    def matrix(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        lag = ((one[:, None, :2] - other[None, :, :2]) ** 2).sum(axis=-1)
        return covariance.of(lag, np.abs(one[:, None, 2] - other[None, :, 2]))

    centre = stack.features.mean(axis=0, dtype=np.float64)
    inside = matrix(coords, coords) + np.eye(len(rows)) / ratio
    return centre + matrix(at, coords) @ np.linalg.solve(inside, stack.features[rows] - centre)


def field_of(stack: Stack, hyper: Hyperparameters = HYPER) -> Field:
    return Field(still(stack), stack, hyper, width=2.5 * spacing_of(stack))


# within a quarter of a gap of a section the next gap has its part, too
@pytest.mark.parametrize("z", [113.0, 125.0, 137.0])
def test_where_nothing_moves_it_is_the_posterior_given_four_sections(stack: Stack, z: float, solver: str) -> None:
    at = places(z)
    seen = np.arange(stack.starts[1], stack.starts[5])
    exact = dense(stack, seen, at)
    found = field_of(stack).predict(at).mean
    assert np.sqrt(((found - exact) ** 2).mean()) < (0.06 if solver == "grid" else 1e-4) * exact.std()


def test_every_score_has_the_variance_of_its_own_covariance(stack: Stack, solver: str) -> None:
    """Scores of unlike lengths and noise, asked together and one by one."""
    n = 6
    draw = np.random.default_rng(4)
    many = replace(stack, features=draw.normal(size=(stack.n_cells, n)).astype(np.float32))
    hyper = Hyperparameters(
        np.array([20.0, 20.0, 40.0, 40.0, 80.0, 20.0]), np.array([25.0, 25.0, 50.0, 400.0, 50.0, 400.0]),
        np.array([0.01, 10.0, 0.2, 0.2, 5.0, 10.0]), np.linspace(0.5, 2.0, n),
    )  # fmt: skip
    gap = GapField(Paths(still(many), many), 2, hyper, np.zeros(n))
    at = places(110.0)
    found = gap.variance_at(at[:, :2], at[:, 2])
    for k in range(n):
        alone = GapField(
            Paths(still(many), replace(many, features=many.features[:, [k]])), 2,
            Hyperparameters(*(getattr(hyper, name)[[k]] for name in ("length", "depth_length", "ratio", "noise"))),
            np.zeros(1),
        ).variance_at(at[:, :2], at[:, 2])  # fmt: skip
        np.testing.assert_allclose(found[:, [k]], alone, rtol=1e-4)


def test_sections_beyond_the_reach_do_not_matter(stack: Stack) -> None:
    other = stack.features.copy()
    other[:N] += 100.0
    gap = GapField(Paths(still(stack), stack), 2, HYPER, np.zeros(1))
    changed = GapField(Paths(still(stack), replace(stack, features=other)), 2, HYPER, np.zeros(1))
    np.testing.assert_array_equal(changed.value(places(120.0))[0], gap.value(places(120.0))[0])
    near = stack.features.copy()
    near[stack.slice_of(1)] += 100.0
    changed = GapField(Paths(still(stack), replace(stack, features=near)), 2, HYPER, np.zeros(1))
    assert np.abs(changed.value(places(120.0))[0] - gap.value(places(120.0))[0]).max() > 0.1


def test_cells_of_a_thick_section_each_keep_their_depth(stack: Stack) -> None:
    """A level that rises along depth inside sections of 30 µm: slabs of an eighth of the gap follow it."""
    draw = np.random.default_rng(2)
    coords = stack.coords + np.column_stack([np.zeros((len(stack.coords), 2)), draw.uniform(-15, 15, stack.n_cells)])
    features = (coords[:, [2]] / 10 + 0.2 * draw.normal(size=(len(coords), 1))).astype(np.float32)
    thick = replace(stack, coords=coords, features=features)
    hyper = replace(HYPER, ratio=np.array([200.0]), depth_length=np.array([200.0]))
    field = field_of(thick, hyper)
    levels = [field.predict(places(z)).mean.mean() for z in (103.0, 113.0, 123.0, 147.0)]
    # of planes at the sections' depths, what is measured 13 µm away would be noise
    np.testing.assert_allclose(levels, [10.3, 11.3, 12.3, 14.7], atol=0.35)


def test_planes_are_slabs_of_an_eighth_of_the_gap(stack: Stack) -> None:
    every = range(stack.n_sections)
    plane, depths = _planes(stack, every)
    np.testing.assert_array_equal(plane, stack.section_index)
    np.testing.assert_allclose(depths, DEPTHS)
    # a hair of unevenness makes no slabs
    draw = np.random.default_rng(0)
    uneven = stack.coords + np.column_stack([np.zeros((stack.n_cells, 2)), draw.uniform(-2, 2, stack.n_cells)])
    plane, depths = _planes(replace(stack, coords=uneven), every)
    np.testing.assert_array_equal(plane, stack.section_index)
    np.testing.assert_allclose(depths, DEPTHS, atol=1.0)
    thick = stack.coords + np.column_stack([np.zeros((stack.n_cells, 2)), draw.uniform(-20, 20, stack.n_cells)])
    plane, depths = _planes(replace(stack, coords=thick), every)
    assert np.abs(thick[:, 2] - depths[plane]).max() < 50.0 / 8
    assert 6 * 6 <= len(depths) <= 8 * 6
    # no slab mixes sections
    assert len(np.unique(np.column_stack([plane, stack.section_index]), axis=0)) == len(depths)


def test_thick_sections_that_overlap_will_do(stack: Stack) -> None:
    draw = np.random.default_rng(2)
    coords = stack.coords + np.column_stack([np.zeros((len(stack.coords), 2)), draw.uniform(-60, 60, stack.n_cells)])
    at = places(130.0)
    value = field_of(replace(stack, coords=coords)).predict(at)
    assert np.corrcoef(value.mean[:, 0], np.sin(at[:, 0] / 40))[0, 1] > 0.9
    assert np.isfinite(value.var).all()


def test_a_stack_of_two_sections_has_one_gap(stack: Stack, solver: str) -> None:
    two = stack.select([0, 1])
    at = places(20.0)
    found = field_of(two).predict(at).mean
    exact = dense(two, np.arange(two.n_cells), at)
    assert np.sqrt(((found - exact) ** 2).mean()) < (0.06 if solver == "grid" else 1e-4) * exact.std()


def test_gaps_agree_at_the_section_between_them_where_their_cells_do(stack: Stack) -> None:
    """Each sees a section that the other does not, but the section itself says most: no seam."""
    at = places(100.0)
    centre = stack.features.mean(axis=0, dtype=np.float64)
    before, after = (GapField(Paths(still(stack), stack), k, HYPER, centre).value(at)[0] for k in (1, 2))
    assert np.sqrt(((before - after) ** 2).mean()) < 0.15 * after.std()


def test_there_is_no_seam_at_a_section(stack: Stack) -> None:
    """Shares of the gaps' fields are one in all, and change along depth without a jump."""
    field = field_of(stack)
    z = np.linspace(0, 250, 1001)
    shares = gap_shares(field.stack.depths, z)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares >= 0).all() and np.abs(np.diff(shares, axis=0)).max() < 0.02
    exact = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0.5, 0.5, 0, 0]]
    np.testing.assert_allclose(gap_shares(field.stack.depths, np.array([0.0, 75.0, 100.0])), exact)
    at = [field.predict(places(100.0 + step)).mean for step in (-0.02, 0.0, 0.02)]
    np.testing.assert_allclose(at[0], at[1], atol=0.01)
    np.testing.assert_allclose(at[2], at[1], atol=0.01)


def test_lengths_and_noise_are_within_a_step_of_those_planted(stack_of: Callable[..., Stack]) -> None:
    """Twelve draws of a known covariance at four sections: medians within a grid step, a factor of two."""
    draw = np.random.default_rng(0)
    cells = [draw.uniform(0, [400, 300], (120, 2)) for _ in range(4)]
    coords = np.concatenate([np.column_stack([xy, np.full(120, 50.0 * k)]) for k, xy in enumerate(cells)])
    base = stack_of(cells, [np.zeros((120, 1))] * 4, 50.0 * np.arange(4))
    lag = ((coords[:, None, :2] - coords[None, :, :2]) ** 2).sum(axis=-1)
    along = np.abs(coords[:, None, 2] - coords[None, :, 2])
    for length, depth_length in ((2.5 * 1.4 * spacing_of(base), 50.0), (2.5 * 2.8 * spacing_of(base), 200.0)):
        dense = Covariance(length, depth_length).of(lag, along) + 1e-8 * np.eye(480)
        truth = np.sqrt(2.0) * np.linalg.cholesky(dense) @ draw.normal(size=(480, 12))
        values = truth + np.sqrt(0.5) * draw.normal(size=(480, 12))
        found = estimate(replace(base, features=values.astype(np.float32)))
        assert 0.49 < np.median(found.length) / length < 2.05
        assert 0.49 < np.median(found.depth_length) / depth_length < 2.05
        assert np.median(found.noise) == pytest.approx(0.5, rel=0.35)
        assert 0.4 < np.median(found.ratio) / 4.0 < 2.5
