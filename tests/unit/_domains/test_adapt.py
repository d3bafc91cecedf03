"""A mixture that is moved to a batch: by how much, and what holds it back."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from isost._domains.adapt import adapted
from isost._domains.components import Components
from isost._domains.model import Member
from isost._domains.network import DualBranch

CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def cells(n: int, rng: np.random.Generator, *, shift: float = 0.0, spread: float = 1.0) -> tuple[np.ndarray, ...]:
    """(3 n, 2) around the centres, and which."""
    codes = np.repeat(np.arange(3), n)
    return CENTRES[codes] + shift + spread * rng.normal(size=(3 * n, 2)), codes


@pytest.fixture(params=["tied", "full"])
def mixture(request: pytest.FixtureRequest) -> GaussianMixture:
    x, _ = cells(500, np.random.default_rng(0))
    return GaussianMixture(3, covariance_type=request.param, means_init=CENTRES, random_state=0).fit(x)


def objective(model: GaussianMixture, x: np.ndarray, prior: GaussianMixture, drawn: float) -> float:
    """Log-likelihood of rows, and the expectation of that of cells drawn from the prior, domains known."""
    total = float(model.score_samples(x).sum())
    for k, weight in enumerate(prior.weights_):
        own, first = (one.covariances_ if one.covariances_.ndim == 2 else one.covariances_[k] for one in (model, prior))
        at = multivariate_normal(model.means_[k], own).logpdf(prior.means_[k])
        about = -0.5 * np.trace(np.linalg.solve(own, first))
        total += drawn * weight * (np.log(model.weights_[k]) + at + about)
    return total


def changed(model: GaussianMixture, rng: np.random.Generator) -> GaussianMixture:
    other = GaussianMixture(3, covariance_type=model.covariance_type)
    weights = model.weights_ * np.exp(0.05 * rng.normal(size=3))
    turn = np.eye(2) + 0.05 * rng.normal(size=(2, 2))
    other.weights_ = weights / weights.sum()
    other.means_ = model.means_ + 0.05 * rng.normal(size=(3, 2))
    other.covariances_ = turn @ model.covariances_ @ turn.T
    lower = np.linalg.cholesky(np.linalg.inv(other.covariances_))
    other.precisions_cholesky_ = lower
    return other


def test_domains_move_with_their_batch(mixture: GaussianMixture) -> None:
    x, codes = cells(500, np.random.default_rng(1), shift=1.3, spread=0.6)
    before, after = (np.mean(one.predict(x) == codes) for one in (mixture, adapted(mixture, x)))
    assert before < 0.95
    assert after > 0.985


def test_nothing_near_is_likelier(mixture: GaussianMixture) -> None:
    """Of the rows and a quarter as many that are drawn from the mixture."""
    rng = np.random.default_rng(2)
    x, _ = cells(200, rng, shift=0.8)
    found = adapted(mixture, x)
    best = objective(found, x, mixture, 150)
    assert best > objective(mixture, x, mixture, 150) + 10
    assert all(objective(changed(found, rng), x, mixture, 150) < best for _ in range(100))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_domain_stays_missing(mixture: GaussianMixture, missing: int) -> None:
    x, codes = cells(500, np.random.default_rng(3), shift=0.4)
    x, codes = x[codes != missing], codes[codes != missing]
    found = adapted(mixture, x)
    assert np.mean(found.predict(x) == codes) > 0.95
    assert np.mean(found.predict(x) == missing) < 0.03
    assert np.linalg.norm(found.means_[missing] - CENTRES[missing]) < 1


@pytest.mark.parametrize("covariance", ["tied", "full"])
@pytest.mark.parametrize("n", [30, 2000])
def test_the_mixture_counts_for_a_quarter_of_the_cells_or_ten_for_each_dimension(n: int, covariance: str) -> None:
    """Of each covariance: where it ends, another step leads nowhere else."""
    draw = np.random.default_rng(7)
    centres, size = 3 * np.eye(3), np.array([0.6, 0.3, 0.1])
    x = centres[draw.choice(3, 3000, p=size)] + draw.normal(size=(3000, 3))
    prior = GaussianMixture(3, covariance_type=covariance, means_init=centres, random_state=0).fit(x)
    x = centres[draw.choice(3, n)] + 0.5 + 0.7 * draw.normal(size=(n, 3))
    found = adapted(prior, x)
    drawn = (500 if n == 2000 else 30 if covariance == "tied" else 90) * prior.weights_
    share = found.predict_proba(x)
    count = drawn + share.sum(axis=0)
    np.testing.assert_allclose(found.weights_, count / count.sum(), atol=5e-4)
    np.testing.assert_allclose(found.means_, (drawn[:, None] * prior.means_ + share.T @ x) / count[:, None], atol=3e-3)


def test_the_mixture_is_left_as_it_is(mixture: GaussianMixture) -> None:
    names = ("weights_", "means_", "covariances_", "precisions_cholesky_")
    before = [getattr(mixture, name).copy() for name in names]
    adapted(mixture, cells(100, np.random.default_rng(4), shift=1)[0])
    assert all(np.array_equal(getattr(mixture, name), old) for name, old in zip(names, before, strict=True))


def test_densities_are_those_of_the_covariance(mixture: GaussianMixture) -> None:
    x, _ = cells(50, np.random.default_rng(5), shift=1, spread=2)
    found = adapted(mixture, x)
    own = found.covariances_ if found.covariances_.ndim == 3 else [found.covariances_] * 3
    density = sum(weight * multivariate_normal(mean, covariance).pdf(x)
                  for weight, mean, covariance in zip(found.weights_, found.means_, own, strict=True))  # fmt: skip
    np.testing.assert_allclose(found.score_samples(x), np.log(density), rtol=1e-8)


def test_each_batch_has_domains_of_its_own(mixture: GaussianMixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the cells, and where the mixture of a batch is fitted on some of them."""
    rng = np.random.default_rng(6)
    parts = [cells(400, rng, shift=shift) for shift in (-1.3, 1.3)]
    order = rng.permutation(2400)
    z = np.concatenate([x for x, _ in parts])[order]
    codes, batch = np.concatenate([own for _, own in parts])[order], np.repeat([3, 7], 1200)[order]
    network = DualBranch(4, place=None, n_latent=2)
    member = Member(network, Components(np.zeros(2), np.eye(2)), mixture, np.arange(3))
    for limit in (20_000, 600):
        monkeypatch.setattr("isost._domains.model.ENOUGH", limit)
        apart = member.shares(z, batch)
        np.testing.assert_allclose(apart.sum(axis=1), 1)
        assert np.mean(apart.argmax(axis=1) == codes) > 0.93
    assert np.mean(member.shares(z).argmax(axis=1) == codes) < 0.88
