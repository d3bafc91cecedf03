from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from isost._tools.linear import Linear, minus
from isost._tools.shells import Profiles, choose_width, classify, counting, profiles, spearman

WIDTH = 0.1


def ball() -> tuple[np.ndarray, np.ndarray]:
    step = np.linspace(-1, 1, 31)
    places = np.stack(np.meshgrid(step, step, step), axis=-1).reshape(-1, 3)
    radius = np.linalg.norm(places, axis=1)
    return places[radius <= 1], radius[radius <= 1]


def cylinder() -> tuple[np.ndarray, np.ndarray]:
    step = np.linspace(-1, 1, 31)
    places = np.stack(np.meshgrid(step, step, np.linspace(0, 3, 20)), axis=-1).reshape(-1, 3)
    radius = np.hypot(places[:, 0], places[:, 1])
    return places[radius <= 1], radius[radius <= 1]


def as_linear(values: np.ndarray) -> Linear:
    return Linear(len(values), np.eye(values.shape[1]), np.zeros(values.shape[1]), lambda rows: values[rows])


def in_shells(radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shell = np.floor(radius / WIDTH).astype(int)
    return shell, (np.arange(shell.max() + 1) + 0.5) * WIDTH


@pytest.fixture
def mixed() -> tuple[Linear, np.ndarray, np.ndarray]:
    """Five genes of three scores at 300 places, and their values."""
    rng = np.random.default_rng(0)
    scores, loadings, mean = rng.normal(size=(300, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    return Linear(300, loadings, mean, lambda rows: scores[rows]), scores @ loadings.T + mean, rng.uniform(0, 1, 300)


def test_profiles_of_genes_are_those_of_their_values(mixed: tuple[Linear, np.ndarray, np.ndarray]) -> None:
    linear, values, radius = mixed
    shell, _ = in_shells(radius)
    found = profiles(linear, radius, shell, 11)
    for k in range(10):
        np.testing.assert_allclose(found.mean[:, k], values[shell == k].mean(axis=0))
        np.testing.assert_allclose(found.spread[:, k], values[shell == k].std(axis=0))
    assert np.isnan(found.mean[:, 10]).all(), "an empty shell has no mean"
    np.testing.assert_array_equal(found.count, np.bincount(shell, minlength=11))
    np.testing.assert_allclose(found.sd, values.std(axis=0))
    np.testing.assert_allclose(found.pearson, [pearsonr(gene, radius)[0] for gene in values.T])
    np.testing.assert_allclose(found.slope, [np.polyfit(radius, gene, 1)[0] for gene in values.T])
    between = [np.var(found.mean[gene, shell]) / values[:, gene].var() for gene in range(5)]
    np.testing.assert_allclose(found.eta_squared, between)


def test_rank_correlations_are_those_of_the_values(mixed: tuple[Linear, np.ndarray, np.ndarray]) -> None:
    linear, values, radius = mixed
    np.testing.assert_allclose(spearman(linear, radius), [spearmanr(gene, radius)[0] for gene in values.T], atol=1e-6)


def test_genes_and_places_in_blocks_are_alike(
    mixed: tuple[Linear, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    linear, _, radius = mixed
    shell, _ = in_shells(radius)
    whole, ranks = profiles(linear, radius, shell, 10), spearman(linear, radius)
    monkeypatch.setattr("isost._tools.linear._BLOCK", 60)
    monkeypatch.setattr("isost._tools.shells._RANKED_VALUES", 600)
    np.testing.assert_allclose(profiles(linear, radius, shell, 10).mean, whole.mean)
    np.testing.assert_allclose(spearman(linear, radius), ranks, rtol=1e-12)


def test_a_baseline_is_taken_off_group_by_group(mixed: tuple[Linear, np.ndarray, np.ndarray]) -> None:
    linear, values, _ = mixed
    group = np.arange(300) % 4
    means = np.random.default_rng(1).normal(size=(4, 2))
    other = Linear(9, np.random.default_rng(2).normal(size=(5, 2)), np.ones(5), lambda rows: np.empty((0, 2)))
    less = minus(linear, other, means, group)
    np.testing.assert_allclose(less.genes(less.read(slice(0, 300))), values - other.genes(means)[group])


@pytest.mark.parametrize("shape", [ball, cylinder])
def test_known_functions_of_radius(shape: object) -> None:
    places, radius = shape()  # type: ignore[operator]
    angle = np.cos(np.arctan2(places[:, 1], places[:, 0]))
    # the innermost shells of a ball hold too few places to count: the peak lies well inside those that do
    values = np.column_stack(
        [radius, radius**2, -radius, np.full(len(radius), 3.0), angle, -((radius - 0.6) ** 2), (radius - 0.6) ** 2]
    )
    linear = as_linear(values)
    shell, centres = in_shells(radius)
    found, ranks = profiles(linear, radius, shell, len(centres)), spearman(linear, radius)
    np.testing.assert_allclose(found.pearson[[0, 2]], [1.0, -1.0])
    np.testing.assert_allclose(found.slope[:3:2], [1.0, -1.0])
    np.testing.assert_allclose(ranks[:3], [1.0, 1.0, -1.0], atol=1e-4)
    np.testing.assert_allclose(found.pearson[1], pearsonr(values[:, 1], radius)[0])
    assert np.isnan(found.pearson[3]), "a constant has no correlation"
    assert np.isnan(ranks[3])
    assert found.eta_squared[3] == found.sd[3] == 0.0
    np.testing.assert_allclose([found.pearson[4], ranks[4], found.eta_squared[4]], 0.0, atol=0.01)
    means = np.array([values[shell == k].mean(axis=0) for k in range(shell.max() + 1)])[shell]
    varies = [0, 1, 2, 5, 6]
    between, all_of_it = means.var(axis=0)[varies], values.var(axis=0)[varies]
    np.testing.assert_allclose(found.eta_squared[varies], between / all_of_it, rtol=1e-6)
    assert (found.eta_squared[varies] > 0.9).all()
    sorted_by = classify(found, np.array([True, True, True, False, False, True, True]), centres)
    assert sorted_by["class"].tolist() == ["rising", "rising", "falling", "flat", "flat", "peaked", "peaked"]
    assert (sorted_by["change"][[0, 1, 5]] > 0).all()
    assert (sorted_by["change"][[2, 6]] < 0).all()
    np.testing.assert_allclose(sorted_by["extreme"][5:], 0.6, atol=WIDTH)


def test_the_rule_of_a_peak() -> None:
    """An extreme within by a third of the range beyond both ends; a shell of few voxels does not decide."""

    def of(*means: float, last: int = 100) -> str:
        count = np.full(len(means), 100)
        count[-1] = last
        profile, n = np.array([means]), np.ones(1)
        found = Profiles(profile, profile, count, n * np.sign(means[-1] - means[0]), n, n, n)
        return str(classify(found, np.ones(1, bool), np.arange(len(means)) + 0.5)["class"][0])

    assert of(0, 0.5, 1, 0.6, 0.6) == "peaked"
    assert of(0, 0.5, 1, 0.9, 0.8) == "rising"
    assert of(1, 0.2, 0, 0.2, 0.1) == "falling"
    assert of(1, 0.2, 0, 0.2, 0.6) == "peaked"
    assert of(0, 0.3, 0.6, 1, -9.0, last=1) == "falling"  # by the sign of the correlation that is given here
    assert of(0, 0.3, 0.6, 1, 9.0, last=1) == "rising"


@pytest.mark.parametrize("n_shells", [5, 12, 13, 150, 250, 1000])
def test_the_same_part_of_a_tissue_counts_however_fine_shells_are(n_shells: int) -> None:
    number = np.arange(n_shells)
    used = counting(1000 * (2 * number + 1))  # of a cylinder
    assert used[number >= n_shells / 10].all()
    assert used[number < n_shells / 20].sum() <= 1
    used = counting(1000 * (3 * number * (number + 1) + 1))  # of a ball
    assert used[number >= n_shells / 4].all()
    assert not used[number < n_shells / 6].any()


def test_empty_shells_and_a_stray_place_do_not_count() -> None:
    count = np.array([100, 0, 100, *np.zeros(300, int), 1])
    assert counting(count).tolist() == [True, False, True, *[False] * 301]
    assert counting(np.ones(500, int)).all()


def test_width_of_a_shell() -> None:
    distance = np.linspace(0, 120, 1201)
    assert choose_width(distance, 1.0) == pytest.approx(9.9, rel=0.01)
    assert choose_width(distance, 25.0) == 25.0
