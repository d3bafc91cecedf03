"""Entropic transport on a sparse support against known plans and a dense solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.special import logsumexp

from isost._core.plan import sinkhorn


def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None] - y[None]) ** 2).sum(axis=-1)


def dense_sinkhorn(cost: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float, rho: float) -> np.ndarray:
    """Chizat et al. 2018, proximal steps of KL on a dense matrix, run to the end."""
    f, g = np.zeros(len(a)), np.zeros(len(b))
    share = 1.0 if np.isinf(rho) else rho / (rho + epsilon)
    before = f + 1
    while np.abs(f - before).max() > 1e-12:
        before = f
        f = -share * epsilon * logsumexp((g - cost) / epsilon + np.log(b), axis=1)
        g = -share * epsilon * logsumexp((f[:, None] - cost) / epsilon + np.log(a)[:, None], axis=0)
    return a[:, None] * b * np.exp((f[:, None] + g - cost) / epsilon)


def free_energy(plan: np.ndarray, cost: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float, rho: float) -> float:
    def kl(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q) - p + q).sum())

    return float(
        (plan * cost).sum()
        + epsilon * kl(plan, np.outer(a, b))
        + rho * kl(plan.sum(axis=1), a)
        + rho * kl(plan.sum(axis=0), b)
    )


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    a, b = draw.random(13) + 0.2, draw.random(17) + 0.2
    return draw.random((13, 2)), draw.random((17, 2)), a / a.sum(), b / b.sum()


def test_a_permutation_of_diracs_is_recovered() -> None:
    draw = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    points, order = grid / 6 + 0.05 * draw.random((30, 2)), draw.permutation(30)
    cost = squared(points, points[order])
    plan = sinkhorn(sparse.csr_matrix(cost + 1e-12), epsilon=1e-4, n_iter=2000).toarray()
    assert np.array_equal(order[plan.argmax(axis=1)], np.arange(30))
    assert plan.max(axis=1) == pytest.approx(np.full(30, 1 / 30), rel=1e-6)


def test_the_balanced_plan_has_the_marginals_asked_for(clouds: tuple[np.ndarray, ...]) -> None:
    x, y, a, b = clouds
    plan = sinkhorn(sparse.csr_matrix(squared(x, y)), epsilon=0.05, masses=(a, b), n_iter=2000, tol=1e-10)
    assert np.asarray(plan.sum(axis=1)).ravel() == pytest.approx(a, rel=1e-6)
    assert np.asarray(plan.sum(axis=0)).ravel() == pytest.approx(b, rel=1e-6)


def test_masses_are_equal_unless_given(clouds: tuple[np.ndarray, ...]) -> None:
    x, y, _, _ = clouds
    plan = sinkhorn(sparse.csr_matrix(squared(x, y)), epsilon=0.05, n_iter=2000, tol=1e-10)
    assert np.asarray(plan.sum(axis=1)).ravel() == pytest.approx(np.full(13, 1 / 13), rel=1e-6)
    assert np.asarray(plan.sum(axis=0)).ravel() == pytest.approx(np.full(17, 1 / 17), rel=1e-6)


@pytest.mark.parametrize("rho", [0.05, 1.0, np.inf])
@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_it_agrees_with_a_dense_solver_on_a_full_support(
    clouds: tuple[np.ndarray, ...], epsilon: float, rho: float
) -> None:
    x, y, a, b = clouds
    cost = squared(x, y)
    plan = sinkhorn(sparse.csr_matrix(cost), epsilon=epsilon, rho=rho, masses=(a, b), n_iter=5000, tol=1e-12)
    assert plan.toarray() == pytest.approx(dense_sinkhorn(cost, a, b, epsilon, rho), rel=1e-6, abs=1e-12)


def test_the_unbalanced_plan_is_a_minimum(clouds: tuple[np.ndarray, ...]) -> None:
    x, y, a, b = clouds
    cost, (epsilon, rho) = squared(x, y), (0.1, 0.3)
    plan = sinkhorn(sparse.csr_matrix(cost), epsilon=epsilon, rho=rho, masses=(a, b), n_iter=5000, tol=1e-12).toarray()
    least = free_energy(plan, cost, a, b, epsilon, rho)
    draw = np.random.default_rng(1)
    for _ in range(20):
        other = plan * np.exp(0.05 * draw.normal(size=plan.shape))
        assert free_energy(other, cost, a, b, epsilon, rho) > least


def test_nothing_is_carried_off_the_support() -> None:
    """Two islands that are each other's only candidates: the plan is that of each island alone."""
    draw = np.random.default_rng(0)
    cost = squared(draw.random((8, 2)), draw.random((8, 2)))
    support = np.kron(np.eye(2), np.ones((4, 4))) > 0
    plan = sinkhorn(sparse.csr_matrix(np.where(support, cost, 0.0)), epsilon=0.05, n_iter=3000, tol=1e-12)
    assert plan.nnz == 32
    even = np.full(4, 1 / 4)
    for island in (slice(4), slice(4, 8)):
        alone = dense_sinkhorn(cost[island, island], even, even, 0.05, np.inf) / 2
        assert plan.toarray()[island, island] == pytest.approx(alone, rel=1e-6)


def test_mass_that_is_too_far_is_left_out() -> None:
    draw = np.random.default_rng(0)
    here = draw.random((20, 2))
    here[-4:] += 10.0  # no one there in the next section
    plan = sinkhorn(sparse.csr_matrix(squared(here, here[:16])), epsilon=0.02, rho=0.5)
    mass = 20 * np.asarray(plan.sum(axis=1)).ravel()
    assert mass[-4:].max() < 1e-6
    assert mass[:16].min() > 0.8
    assert float(plan.sum()) < 0.95


def test_a_cell_without_candidates_carries_nothing_and_disturbs_no_one() -> None:
    cost = sparse.csr_matrix(np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.0]]))
    plan = sinkhorn(cost, epsilon=0.1, rho=1.0).toarray()
    assert np.isfinite(plan).all()
    assert plan[1].sum() == 0 and plan[:, 2].sum() == 0
    assert plan[0, 0] > plan[0, 1] > 0


def test_a_larger_cost_everywhere_changes_no_balanced_plan(clouds: tuple[np.ndarray, ...]) -> None:
    x, y, a, b = clouds
    cost = squared(x, y)
    plans = [
        sinkhorn(sparse.csr_matrix(c), epsilon=0.05, masses=(a, b), n_iter=3000, tol=1e-12).toarray()
        for c in (cost, cost + 7.0)
    ]
    assert plans[1] == pytest.approx(plans[0], rel=1e-6)
