"""Clusters as a mixture of Gaussians that share one covariance, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans

from isost._logging import logger

MOST = 10  # clusters that are tried where their number is not given
STARTED_ON = 500  # rows: as many clusters can be found at most
_STARTS, _KEPT = 64, 6
_LEADING = 5  # columns that some of the starts see
_BRIEF, _LONG = 12, 300  # steps of all starts, and of the best
_SETTLED = 3e-6  # rise of the mean log-likelihood
_RIDGE = 1e-6
_APART = 0.8  # shallowest valley that counts; 1 is a gradient cut in two
_LINE = np.linspace(-0.2, 1.2, 57)  # from the mean of a cluster, 0, to that of another, 1
_BLUR = 0.12  # of the density along it
_ROWS_EACH, _SHARE_EACH = 20, 0.01  # of a cluster, at the least, where their number is chosen


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians with weights (K,), means (K, q) and one inverse covariance (q, q); `likelihood` is a row's mean log."""

    weights: np.ndarray
    means: np.ndarray
    precision: np.ndarray
    likelihood: float = -np.inf

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n,) the likeliest cluster of each row; borders are planes, as the covariance is shared."""
        return self._scores(x).argmax(axis=1)

    def step(self, x: np.ndarray, second: np.ndarray) -> Mixture:
        """One step of expectation and maximisation; `second` is the mean of x x^T."""
        joint = self._scores(x)
        highest = joint.max(axis=1)
        shares = np.exp(joint - highest[:, None])
        total = shares.sum(axis=1)
        half = -0.5 * np.einsum("ij,ij->i", x @ self.precision, x)
        constant = 0.5 * np.linalg.slogdet(self.precision)[1] - 0.5 * x.shape[1] * np.log(2 * np.pi)
        likelihood = float((highest + np.log(total) + half).mean() + constant)
        return from_shares(shares / total[:, None], x, second, likelihood)

    def _scores(self, x: np.ndarray) -> np.ndarray:
        """(n, K) log of weight times density, but for what all clusters have in common."""
        towards = self.means @ self.precision
        return x @ towards.T + (np.log(self.weights) - 0.5 * np.einsum("kq,kq->k", towards, self.means))


def from_shares(shares: np.ndarray, x: np.ndarray, second: np.ndarray, likelihood: float = -np.inf) -> Mixture:
    """Make the mixture that is likeliest, given the share (n, K) that each cluster has in each row."""
    size = shares.sum(axis=0) + 1e-9
    means = (shares.T @ x) / size[:, None]
    weights = size / size.sum()
    covariance = second - (means.T * weights) @ means + _RIDGE * np.eye(x.shape[1])
    return Mixture(weights, means, np.linalg.inv(covariance), likelihood)


def fit_mixture(x: np.ndarray, n_clusters: int, rng: np.random.Generator, spread: np.ndarray | None = None) -> Mixture:
    """Fit to (n, q) rows, the likeliest of many starts by k-means.

    What varies smoothly within all clusters, such as a gradient across the tissue, ends up in the shared covariance;
    steps between places make clusters.

    Parameters
    ----------
    spread
        (q,) of the columns by nature, where they have been made alike: principal components that vary most, which most
        starts see so, tell clusters best.
    """
    second, white = x.T @ x / len(x), _whitened(x)
    natural = x if spread is None else x * spread
    views = (natural, x[:, :_LEADING], natural, white)
    starts = [_start(x, views[number % len(views)], n_clusters, second, rng) for number in range(_STARTS)]
    brief = sorted((_climb(start, x, second, _BRIEF) for start in starts), key=lambda one: -one.likelihood)
    return max((_climb(one, x, second, _LONG) for one in brief[:_KEPT]), key=lambda one: one.likelihood)


def choose_number(
    x: np.ndarray, rng: np.random.Generator, spread: np.ndarray | None = None
) -> tuple[int, dict[int, float]]:
    """Choose the largest number of clusters, of 2 to 10, that stand apart in rows that they were not fitted to.

    They are fitted to either half of the rows, and looked at in the other.

    Parameters
    ----------
    x, rng, spread
        See `fit_mixture`.

    Returns
    -------
    The number, and the valley (`valley`) of each number that was tried. If none is 0.8 or less, the number with the
    deepest is taken, and the log says so; 1 where there are too few rows to try.
    """
    own = rng.permutation(len(x)) < len(x) // 2
    least = max(_ROWS_EACH, _SHARE_EACH * own.sum())
    valleys: dict[int, float] = {}
    for n_clusters in range(2, MOST + 1):
        if own.sum() < least * n_clusters:
            break
        both = [(fit_mixture(x[half], n_clusters, rng, spread), x[~half]) for half in (own, ~own)]
        sizes = [np.bincount(mixture.predict(rest), minlength=n_clusters).min() for mixture, rest in both]
        if min(sizes) >= least:
            valleys[n_clusters] = float(np.mean([valley(mixture, rest) for mixture, rest in both]))
    apart = [number for number, depth in valleys.items() if depth <= _APART]
    if not apart:
        logger.warning("spatial_clusters: no number of clusters from 2 to %d stands apart; they divide what changes "
                       "gradually. Next: give n_clusters if it is known", MOST)  # fmt: skip
    return max(apart) if apart else min(valleys, key=lambda number: valleys[number], default=1), valleys


def valley(mixture: Mixture, x: np.ndarray) -> float:
    """Say how much fewer rows lie between clusters than in them: 0 for none, 1 for as many, as where a gradient is cut.

    Rows of two clusters are looked at along their discriminant: the density at its lowest point between the means over
    that at the lower of the peaks to either side. The pair that stands apart least counts.
    """
    cluster, found = mixture.predict(x), []
    for one, other in combinations(range(len(mixture.means)), 2):
        way = mixture.means[other] - mixture.means[one]
        towards = mixture.precision @ way
        rows = (cluster == one) | (cluster == other)
        place = (x[rows] - mixture.means[one]) @ towards / max(float(way @ towards), 1e-300)
        density = np.exp(-0.5 * ((place[:, None] - _LINE) / _BLUR) ** 2).sum(axis=0)
        middle = np.flatnonzero((_LINE > 0.2) & (_LINE < 0.8))
        lowest = int(middle[density[middle].argmin()])
        peak = min(density[:lowest].max(), density[lowest:].max())
        found.append(min(float(density[lowest] / peak), 1.0) if peak > 0 else 1.0)
    return max(found)


def refit(mixture: Mixture, x: np.ndarray) -> Mixture:
    """Let a mixture climb on other rows, of which its likelihood says nothing."""
    return _climb(replace(mixture, likelihood=-np.inf), x, x.T @ x / len(x), _LONG)


def _start(x: np.ndarray, seen: np.ndarray, n_clusters: int, second: np.ndarray, rng: np.random.Generator) -> Mixture:
    some = seen[rng.choice(len(x), min(len(x), STARTED_ON), replace=False)]
    kmeans = KMeans(n_clusters, n_init=1, init="random", max_iter=10, random_state=int(rng.integers(2**31))).fit(some)
    return from_shares(np.eye(n_clusters)[kmeans.predict(seen)], x, second)


def _whitened(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=0)
    variance, axes = np.linalg.eigh(centred.T @ centred / len(x) + _RIDGE * np.eye(x.shape[1]))
    return centred @ (axes / np.sqrt(variance))


def _climb(mixture: Mixture, x: np.ndarray, second: np.ndarray, steps: int) -> Mixture:
    for _ in range(steps):
        following = mixture.step(x, second)
        settled = following.likelihood - mixture.likelihood < _SETTLED
        mixture = following
        if settled:
            break
    return mixture
