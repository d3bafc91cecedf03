"""Mixtures of Gaussians find what was planted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from isost._domains.components import components
from isost._domains.mixture import MOST, choose_number, evidence, fit_mixtures


def planted(n: int = 400, k: int = 4, seed: int = 0, *, alike: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 6) of k Gaussians of the same covariance, or of ones whose widths are 1, 2, 3, ... fold."""
    draw = np.random.default_rng(seed)
    label = draw.choice(k, n, p=np.arange(2, k + 2) / np.arange(2, k + 2).sum())
    centre = 9 * np.eye(6)[:k] + draw.normal(size=(k, 6))
    mix = draw.normal(size=(6, 6)) * 0.4 + np.eye(6)
    width = np.ones(k) if alike else np.arange(1, k + 1) * 0.35
    return centre[label] + (draw.normal(size=(n, 6)) * width[label, None]) @ mix, label


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_planted_gaussians_are_found(covariance: str) -> None:
    x, label = planted(alike=covariance == "tied")
    found = fit_mixtures(x, 4, covariance=covariance, n_init=8, rng=generator())[0]
    assert adjusted_rand_score(label, found.predict(x)) > 0.97
    assert found.converged_ and found.covariance_type == covariance
    np.testing.assert_allclose(np.sort(found.weights_), np.sort(np.bincount(label) / len(label)), atol=0.02)


def test_domains_along_one_axis_are_found_where_another_is_wider() -> None:
    """Nearest means would cut the widest axis, which tells nothing."""
    draw = np.random.default_rng(0)
    label = np.repeat([0, 1], 150)
    x = np.column_stack([draw.normal(0, 30, 300), label * 8 + draw.normal(0, 1, 300), draw.normal(0, 3, 300)])
    found = fit_mixtures(x, 2, covariance="tied", n_init=8, rng=generator())[0]
    assert adjusted_rand_score(label, found.predict(x)) > 0.97


@pytest.mark.parametrize(("covariance", "k"), [("tied", 3), ("full", 4), ("tied", 1)])
def test_the_planted_number_has_the_lowest_criterion(covariance: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost._domains.mixture.MOST", 6)
    parts = [planted(k=k, seed=seed)[0] for seed in (0, 1)]
    number, criterion = choose_number(parts, n_apart=np.inf, covariance=covariance, n_init=4, rng=generator())
    assert number == k == min(criterion, key=lambda one: criterion[one])
    assert list(criterion) == list(range(1, 7))


def test_the_criterion_is_that_of_as_many_rows() -> None:
    """Each row three times, counted for a third: as if it were there once; counted in full, sklearn's."""
    x = planted(n=300)[0]
    once = choose_number([x], n_apart=np.inf, covariance="tied", n_init=4, rng=generator())[1]
    model = fit_mixtures(x, 4, covariance="tied", n_init=4, rng=generator())[0]
    assert once[4] == pytest.approx(model.bic(x), rel=1e-3)
    thrice = choose_number([np.repeat(x, 3, axis=0)], n_apart=300.0, covariance="tied", n_init=4, rng=generator())[1]
    assert thrice[4] == pytest.approx(once[4], rel=1e-3)


def test_a_few_rows_are_no_more_than_half_as_many_domains() -> None:
    _, criterion = choose_number([planted(n=7)[0]], n_apart=np.inf, covariance="tied", n_init=2, rng=generator())
    assert list(criterion) == [1, 2, 3]
    assert MOST == 15


@pytest.mark.parametrize("covariance", ["tied", "full"])
@pytest.mark.parametrize("rows", ["all alike", "two values", "as many as domains"])
def test_rows_that_are_no_mixture(rows: str, covariance: str) -> None:
    x = {
        "all alike": np.ones((10, 3)),
        "two values": np.repeat([[0.0, 1, 2], [3.0, 1, 0]], 5, axis=0),
        "as many as domains": planted(n=3)[0],
    }[rows]
    found = fit_mixtures(x, 3, covariance=covariance, n_init=4, rng=generator())[0]
    assert found.predict(x).shape == (len(x),)
    np.testing.assert_allclose(found.predict_proba(x).sum(axis=1), 1.0)


def test_the_same_seed_gives_the_same_mixture() -> None:
    x, _ = planted()
    one, other = (fit_mixtures(x, 4, covariance="tied", n_init=4, rng=generator())[0] for _ in range(2))
    np.testing.assert_array_equal(one.means_, other.means_)


def test_components() -> None:
    """Scores are those of the singular value decomposition, up to sign, without those of rounding."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(50, 3)) @ draw.normal(size=(3, 8)) + 5
    found = components(x, 30, generator())
    assert found.axes.shape == (8, 3)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.scores(x)), np.abs(u[:, :3] * s[:3]), atol=1e-8)
    assert components(x, 2, generator()).axes.shape == (8, 2)


def test_components_of_rows_that_are_all_alike() -> None:
    x = np.full((6, 4), 3.0)
    np.testing.assert_allclose(components(x, 3, generator()).scores(x), 0.0, atol=1e-12)


def test_evidence_by_hand() -> None:
    """Two domains of one and three rows: the determinant of the pooled covariance, and the entropy of the shares."""
    x = np.array([[5.0, 5.0], [0.0, 0.0], [2.0, 0.0], [1.0, 3.0]])
    codes = np.array([0, 2, 2, 2])
    within = np.array([[2.0, 0.0], [0.0, 6.0]]) / 4
    truth = -0.5 * np.log(np.linalg.det(within)) + 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    assert evidence(x, codes) == pytest.approx(truth, abs=1e-4)


def test_the_planted_division_has_more_evidence_than_another() -> None:
    x, label = planted()
    assert evidence(x, label) > evidence(x, np.random.default_rng(0).permutation(label))
