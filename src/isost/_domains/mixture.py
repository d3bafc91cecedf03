"""Domains of one network: a mixture of Gaussians on principal components of its latents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

_BRIEF, _LONG, _KEPT = 12, 300, 6
_PIECES, _LEADING = (2, 3, 5, 8), (None, 10, 5)  # of starts in turn: clusters for each domain; scores that are seen
_SOME = 4_000  # rows that the starts are tried on
_RIDGE = 1e-6
_SAME = 1e-4  # of the mean log-likelihood, between mixtures that are the same
MOST = 15  # domains that are tried where their number is not given
ENOUGH = 20_000  # cells to fit a mixture on


def fit_mixtures(
    x: np.ndarray, n_domains: int, *, covariance: str, n_init: int, rng: np.random.Generator
) -> list[GaussianMixture]:
    """Fit to (n, q) scores from many starts; the likeliest first, those that ended in the same place once.

    A start divides the rows into two to eight times as many clusters as domains, by k-means from random rows on some
    of the scores, and joins the clusters to domains, by k-means of their centres where the covariance within clusters
    is one. All starts climb a little on some of the rows, and the six best to the end on all.
    """
    ridge = _RIDGE * float(x.var(axis=0).max()) + 1e-12
    some = x[rng.choice(len(x), min(len(x), _SOME), replace=False)]
    tried = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # brief on purpose; and the best is asked below
        for number in range(n_init):
            pieces = min(_PIECES[number % len(_PIECES)] * n_domains, len(some))
            view = some[:, : _LEADING[number % len(_LEADING)]]
            label = _joined(some, view, pieces, n_domains, seed=int(rng.integers(2**31)))
            tried.append(_climb(some, _start(some, label, n_domains), covariance, ridge, _BRIEF))
        tried.sort(key=lambda one: -one.lower_bound_)
        final = [_climb(x, one, covariance, ridge, _LONG) for one in tried[:_KEPT]]
    final.sort(key=lambda one: -one.lower_bound_)
    gaps = [True, *(a.lower_bound_ - b.lower_bound_ > _SAME for a, b in pairwise(final))]
    return [one for one, apart in zip(final, gaps, strict=True) if apart]


def _joined(x: np.ndarray, view: np.ndarray, n_pieces: int, n_domains: int, *, seed: int) -> np.ndarray:
    """(n,) domain of each row, made of k-means clusters on a view of the rows."""
    piece = KMeans(n_pieces, n_init=1, init="random", max_iter=10, random_state=seed).fit_predict(view)
    size = np.bincount(piece, minlength=n_pieces)
    centre = np.zeros((n_pieces, x.shape[1]))
    np.add.at(centre, piece, x)
    centre /= np.maximum(size, 1)[:, None]
    value, vector = np.linalg.eigh(_within(x - centre[piece], x))
    centre = centre @ vector / np.sqrt(value)
    joined = KMeans(n_domains, n_init=5, random_state=seed).fit(centre, sample_weight=size).labels_
    return joined[piece]


def _start(x: np.ndarray, label: np.ndarray, k: int) -> GaussianMixture:
    shares = np.eye(k)[label] + 1e-3 / k
    size = shares.sum(axis=0)
    start = GaussianMixture(k)
    start.means_, start.weights_ = shares.T @ x / size[:, None], size / size.sum()
    value, vector = np.linalg.eigh(_within(x - start.means_[label], x))
    precision = (vector / np.maximum(value, 1e-12 * value[-1])) @ vector.T
    start.precisions_ = (precision + precision.T) / 2
    return start


def _within(rest: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Covariance of what is left of the rows when their centres are taken off, positive definite."""
    return rest.T @ rest / len(x) + (_RIDGE * float(x.var(axis=0).max()) + 1e-12) * np.eye(x.shape[1])


def _climb(x: np.ndarray, start: GaussianMixture, covariance: str, ridge: float, steps: int) -> GaussianMixture:
    precision = start.precisions_
    if covariance == "full" and precision.ndim == 2:
        precision = np.repeat(precision[None], len(start.means_), axis=0)
    model = GaussianMixture(
        len(start.means_), covariance_type=covariance, reg_covar=ridge, max_iter=steps, tol=1e-5,
        weights_init=start.weights_, means_init=start.means_, precisions_init=precision,
        init_params="random_from_data", random_state=0,
    )  # fmt: skip
    return model.fit(x)


def choose_number(
    parts: Sequence[np.ndarray], *, n_apart: float, covariance: str, n_init: int, rng: np.random.Generator
) -> tuple[int, dict[int, float]]:
    """Choose among 1 to 15 domains by the Bayesian information criterion, its mean over the networks.

    Scores of neighbours are not independent: rows count for `n_apart`, which is the number of cells over that of a cell
    and its neighbours, but no more than there are rows. Latents look two steps away, so that even this is generous. If
    all counted, the lowest would be at the largest number everywhere.

    Returns
    -------
    The number with the lowest, and the criterion of each.
    """
    n = float(np.clip(n_apart, 2.0, len(parts[0])))
    criterion = {}
    for number in range(1, min(MOST, len(parts[0]) // 2) + 1):
        models = [fit_mixtures(x, number, covariance=covariance, n_init=n_init, rng=rng)[0] for x in parts]
        criterion[number] = float(np.mean([_bic(model, x, n) for model, x in zip(models, parts, strict=True)]))
    return min(criterion, key=lambda number: criterion[number]), criterion


def _bic(model: GaussianMixture, x: np.ndarray, n: float) -> float:
    """Bayesian information criterion where rows count for n: -2 n L + p log n, L their mean log-likelihood."""
    mean = float(model.score(x))
    n_parameters = (float(model.bic(x)) + 2 * len(x) * mean) / np.log(len(x))
    return -2 * n * mean + n_parameters * float(np.log(n))


def evidence(x: np.ndarray, codes: np.ndarray) -> float:
    """Say how well a division (n,) explains values (n, q).

    The classification log-likelihood of Gaussians with one covariance, for a row, but for a constant:
    -log|W| / 2 + sum of p log p, W the covariance within domains and p their shares.
    """
    size = np.bincount(codes)
    present = np.flatnonzero(size)
    means = np.zeros((len(size), x.shape[1]))
    np.add.at(means, codes, x)
    means[present] /= size[present, None]
    within = x - means[codes]
    ridge = (_RIDGE * float(x.var(axis=0).max()) + 1e-12) * np.eye(x.shape[1])
    share = size[present] / len(codes)
    volume = np.linalg.slogdet(within.T @ within / len(x) + ridge)[1]
    return float(-0.5 * volume + (share * np.log(share)).sum())
