"""Shells about an axis, a point or a surface: profiles of genes over them, and what kind of profile each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from isost._tools.linear import Linear, one_hot

CLASSES = ("rising", "falling", "peaked", "flat")
_N_SHELLS = 12
_SMALLEST_SHARE = 0.01  # of the places, for a shell to count where a profile is judged
_SMALLEST_OF_MEAN = 1 / 8  # of the places of a mean shell: of more than a dozen few hold 1 %
_PEAK = 1 / 3  # of the range of a profile, by which an extreme within has to lie beyond both ends
_RANKED_PLACES = 100_000
_RANKED_VALUES = 1 << 23


@dataclass(frozen=True, eq=False)
class Profiles:
    """Genes over K shells.

    Attributes
    ----------
    mean, spread
        (G, K) mean and standard deviation of the places of each shell; NaN where a shell is empty.
    count
        (K,) places.
    pearson, slope
        (G,) correlation with distance, NaN for constant genes; slope of the line, per unit of distance.
    eta_squared
        (G,) share of the variance that lies between shells.
    sd
        (G,) standard deviation over all places.
    """

    mean: np.ndarray
    spread: np.ndarray
    count: np.ndarray
    pearson: np.ndarray
    slope: np.ndarray
    eta_squared: np.ndarray
    sd: np.ndarray


def counting(count: np.ndarray) -> np.ndarray:
    """Tell which shells hold enough places, of which they have (K,), to count: 1 %, or an eighth of their mean if less.

    So some do however fine they are, and the same part of a tissue does. The mean is over shells that are not empty.
    """
    mean = count.sum() / max(1, np.count_nonzero(count))
    return count >= max(1.0, min(_SMALLEST_SHARE * count.sum(), _SMALLEST_OF_MEAN * mean))


def choose_width(distance: np.ndarray, least: float) -> float:
    """Take a twelfth of the distance within which 99 % of the places lie, but no less than `least`."""
    span = float(np.quantile(distance, 0.99) - distance.min())
    return max(span / _N_SHELLS, least)


def profiles(linear: Linear, distance: np.ndarray, shell: np.ndarray, n_shells: int) -> Profiles:
    """Find the profiles of all genes from the moments of their scores, which are few: exact, and one pass over places.

    Parameters
    ----------
    linear
        n places.
    distance
        (n,) float64.
    shell
        (n,) int, 0 to n_shells - 1.
    """
    n_scores = linear.loadings.shape[1]
    sums, squares = np.zeros((n_shells, n_scores)), np.zeros((n_shells, n_scores, n_scores))
    cross = np.zeros(n_scores)
    for rows, scores in linear.blocks():
        sums += one_hot(shell[rows], n_shells) @ scores
        cross += distance[rows] @ scores
        for k in np.unique(shell[rows]):
            inside = scores[shell[rows] == k]
            squares[k] += inside.T @ inside
    count = np.bincount(shell, minlength=n_shells)
    overall = sums.sum(axis=0) / linear.n
    total = squares.sum(axis=0) / linear.n
    variance = linear.variances(total - np.outer(overall, overall))
    with np.errstate(divide="ignore", invalid="ignore"):
        centres = sums / count[:, None]
        within = (squares[k] / count[k] - np.outer(centres[k], centres[k]) for k in range(n_shells))
        spread = np.stack([np.sqrt(linear.variances(covariance)) for covariance in within], axis=1)
        mean = linear.genes(centres).T

    # what is left of a constant by rounding is no variance
    size = linear.variances(total) + linear.mean**2
    constant = variance <= 1e-10 * size
    covaries = linear.loadings @ (cross / linear.n - distance.mean() * overall)
    between = (count / linear.n) @ np.nan_to_num(mean - linear.genes(overall)[:, None]).T ** 2
    safe = np.where(constant, 1.0, variance)
    pearson = np.where(constant, np.nan, covaries / np.sqrt(safe * (distance.var() or 1.0)))
    return Profiles(
        mean, spread, count, np.clip(pearson, -1.0, 1.0), covaries / (distance.var() or 1.0),
        np.where(constant, 0.0, np.minimum(between / safe, 1.0)), np.where(constant, 0.0, np.sqrt(variance)),
    )  # fmt: skip


def spearman(linear: Linear, distance: np.ndarray) -> np.ndarray:
    """Rank correlation (G,) of each gene with distance, over at most 100,000 places spread evenly over all of them."""
    rows = np.unique(np.linspace(0, linear.n - 1, min(linear.n, _RANKED_PLACES)).astype(np.int64))
    scores = np.asarray(linear.read(rows), dtype=np.float64)
    ranks = _standardised(rankdata(distance[rows])[:, None])[:, 0]
    found = np.empty(len(linear.mean))
    step = max(1, _RANKED_VALUES // len(rows))
    for start in range(0, len(found), step):
        some = slice(start, start + step)
        # float32, as all values are read, so that rounding in float64 does not break ties
        values = (scores @ linear.loadings[some].T + linear.mean[some]).astype(np.float32)
        found[some] = ranks @ _standardised(rankdata(values, axis=0))
    return found


def _standardised(ranks: np.ndarray) -> np.ndarray:
    centred = ranks - ranks.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    return np.where(norm > 0, centred / np.where(norm > 0, norm, 1.0), np.nan)


def classify(found: Profiles, significant: np.ndarray, centres: np.ndarray) -> dict[str, np.ndarray]:
    """Sort genes by the shape of their profiles.

    A gene that is not `significant` is flat. Of the others, one whose largest (or smallest) shell mean lies in an inner
    shell and beyond those of both the first and the last shell by a third of the profile's range or more is peaked.
    What is left rises or falls, by the sign of its correlation with distance. Shells that are not `counting` do not.

    Parameters
    ----------
    significant
        (G,) bool.
    centres
        (K,) distances of the shells.

    Returns
    -------
    ``class`` (G,) str, ``change`` (G,) largest minus smallest shell mean, negative for falling genes and dips, and
    ``extreme`` (G,) distance of the largest shell mean, or of the smallest of falling genes and dips.
    """
    used = counting(found.count)
    mean, centres = found.mean[:, used], centres[used]
    low, high = mean.min(axis=1), mean.max(axis=1)
    top = high - np.maximum(mean[:, 0], mean[:, -1])
    bottom = np.minimum(mean[:, 0], mean[:, -1]) - low
    least = _PEAK * (high - low)
    peaked = (np.maximum(top, bottom) >= least) & (high > low)
    rises = np.where(peaked, top >= bottom, np.nan_to_num(found.pearson) >= 0)
    kind = np.where(peaked, "peaked", np.where(rises, "rising", "falling"))
    at = np.where(rises, mean.argmax(axis=1), mean.argmin(axis=1))
    return {
        "class": np.where(significant, kind, "flat"),
        "change": np.where(rises, high - low, low - high),
        "extreme": centres[at],
    }
