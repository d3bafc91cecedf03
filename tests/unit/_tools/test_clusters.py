from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from isost._tools.clusters import by_size, draw_landmarks, leiden_clusters, mixture_clusters
from isost._tools.mixture import choose_number, fit_mixture, from_shares, refit, valley


def sheets(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three groups, long along a gradient that all share and that is larger than what divides them."""
    rng = np.random.default_rng(seed)
    group, along = rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.uniform(-1, 1, n)
    step = np.array([[0.0, 0.0], [1.2, 0.0], [0.0, 1.2]])[group] + rng.normal(0, 0.12, (n, 2))
    return np.column_stack([3 * along + step[:, 0], step + along[:, None] * 0.8]), group, along


def test_the_likelihood_never_falls() -> None:
    x = sheets(300)[0]
    second = x.T @ x / len(x)
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 300)
    mixture, rises = from_shares(shares, x, second), []
    for _ in range(30):
        following = mixture.step(x, second)
        rises.append(following.likelihood - mixture.likelihood)
        mixture = following
    assert min(rises[1:]) > -1e-6


def test_the_likelihood_is_that_of_gaussians() -> None:
    x = sheets(400)[0]
    ours = fit_mixture(x, 3, np.random.default_rng(0))
    covariance = np.linalg.inv(ours.precision)
    density = np.column_stack([multivariate_normal(mean, covariance).pdf(x) for mean in ours.means]) * ours.weights
    assert ours.step(x, x.T @ x / len(x)).likelihood == pytest.approx(np.log(density.sum(axis=1)).mean(), abs=1e-6)
    assert np.array_equal(ours.predict(x), density.argmax(axis=1))


def test_a_gradient_makes_no_clusters() -> None:
    x, group, _ = sheets(1500)
    found, valleys = mixture_clusters(x, n_clusters=None, n_landmarks=1000, rng=np.random.default_rng(0))
    assert found.max() + 1 == 3 and valleys[3] < 0.1 and min(valleys[k] for k in range(4, 11)) > 0.8
    assert adjusted_rand_score(group, found) > 0.95


@pytest.mark.parametrize("kind", ["gradient", "noise"])
def test_where_nothing_stands_apart_it_is_said(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 15))
    if kind == "gradient":
        x = rng.uniform(-1, 1, (2000, 1)) * [3.0, 1.0, 0.5] + rng.normal(0, 0.1, (2000, 3))
    with caplog.at_level(logging.WARNING, logger="isost"):
        valleys = choose_number(x, np.random.default_rng(0))[1]
    assert min(valleys.values()) > 0.8 and "no number of clusters from 2 to 10 stands apart" in caplog.text


def test_a_few_outliers_are_no_cluster() -> None:
    x = sheets(1500)[0]
    far = np.concatenate([x, x[:6] + np.repeat([[30.0], [-30.0]], 3, axis=0)])
    found, valleys = mixture_clusters(far, n_clusters=None, n_landmarks=2000, rng=np.random.default_rng(0))
    assert found.max() + 1 == 3 or np.bincount(found).min() >= 15


def test_refitting_ends_where_the_likelihood_rises_no_more() -> None:
    x = sheets(4000)[0]
    mixture = refit(fit_mixture(x[:200], 3, np.random.default_rng(0)), x)
    second = x.T @ x / len(x)
    assert mixture.step(x, second).step(x, second).likelihood - mixture.step(x, second).likelihood < 3e-6


@pytest.mark.parametrize("distance", [2.0, 3.0, 5.0, 8.0])
def test_a_valley_is_that_of_the_density(distance: float) -> None:
    """Of two Gaussians, of which the density at the middle over that at the peaks is known."""
    x = np.random.default_rng(0).normal(size=(20_000, 2)) + np.repeat([[0.0, 0.0], [distance, 0.0]], 10_000, axis=0)
    mixture = from_shares(np.repeat(np.eye(2), 10_000, axis=0), x, x.T @ x / len(x))
    along = np.linspace(0, distance, 200)
    # the blur of the density widens both
    wide = np.hypot(1.0, 0.12 * distance)
    density = np.exp(-0.5 * (along / wide) ** 2) + np.exp(-0.5 * ((along - distance) / wide) ** 2)
    assert valley(mixture, x) == pytest.approx(density[100] / density.max(), abs=0.05)


def test_landmarks_agree_with_all_places() -> None:
    x = sheets(3000)[0]
    few, every = (
        mixture_clusters(x, n_clusters=3, n_landmarks=n, rng=np.random.default_rng(0))[0] for n in (400, 3000)
    )
    assert adjusted_rand_score(few, every) > 0.95


def test_units_and_order_of_rows_do_not_matter() -> None:
    x = sheets(600)[0]
    order = np.random.default_rng(5).permutation(600)
    one = mixture_clusters(x, n_clusters=3, n_landmarks=600, rng=np.random.default_rng(0))[0]
    scaled = mixture_clusters(x * 100 + 3, n_clusters=3, n_landmarks=600, rng=np.random.default_rng(0))[0]
    other = mixture_clusters(x[order], n_clusters=3, n_landmarks=600, rng=np.random.default_rng(0))[0]
    assert adjusted_rand_score(one, scaled) > 0.98 and adjusted_rand_score(one[order], other) > 0.98


def test_the_number_is_one_where_there_are_too_few_rows() -> None:
    assert choose_number(np.zeros((6, 2)), np.random.default_rng(0)) == (1, {})


def test_leiden_through_landmarks() -> None:
    pytest.importorskip("igraph", reason="leiden needs the extra isost[leiden]")
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(4) * 10, [100, 150, 200, 250], axis=0) + rng.normal(size=(700, 4))
    options = {"resolution": 0.3, "n_iterations": 2, "n_neighbors": 15}
    every = leiden_clusters(x, n_landmarks=700, rng=np.random.default_rng(0), **options)
    some = leiden_clusters(x, n_landmarks=250, rng=np.random.default_rng(0), **options)
    again = leiden_clusters(x, n_landmarks=250, rng=np.random.default_rng(0), **options)
    assert adjusted_rand_score(every, np.repeat(range(4), [100, 150, 200, 250])) > 0.95
    assert adjusted_rand_score(every, some) > 0.95 and np.array_equal(some, again)


def test_leiden_without_igraph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "igraph", None)
    with pytest.raises(ImportError, match=r"expected igraph.*found none. Next: pip install 'isost\[leiden\]'"):
        leiden_clusters(np.eye(5), resolution=1.0, n_iterations=2, n_neighbors=2, n_landmarks=5,
                        rng=np.random.default_rng(0))  # fmt: skip


def test_the_largest_cluster_comes_first() -> None:
    assert by_size(np.array([5, 5, 2, 9, 9, 9])).tolist() == [1, 1, 2, 0, 0, 0]


def test_landmarks_are_all_where_there_are_few() -> None:
    rng = np.random.default_rng(0)
    assert draw_landmarks(5, 10, rng).tolist() == [0, 1, 2, 3, 4]
    rows = draw_landmarks(100, 10, rng)
    assert len(np.unique(rows)) == 10 and np.all(np.diff(rows) > 0)
