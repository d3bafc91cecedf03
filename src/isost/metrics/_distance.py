from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from isost.metrics._check import check_matrix

_BLOCK = 16_000_000

# Iterations of transport at each temperature, and, within a sample, until no potential moves by more than this share of
# the temperature.
_ITERATIONS, _MOST_ITERATIONS, _STILL = 5, 100, 1e-3


def energy_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased energy distance of two samples: ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` (Székely and Rizzo 2013).

    Pairs of a point with itself are left out, so that two samples of one distribution have 0 as their mean and half of
    them fall below. Time grows as (n + m)^2, memory does not.

    Parameters
    ----------
    first, second
        (n, d) and (m, d) points, two or more each, with coordinates in comparable units.

    Returns
    -------
    float
        In the unit of the coordinates, from slightly below 0 up; about 0 is alike, positive is different.

    Raises
    ------
    ValueError
        If a sample has fewer than two points, dimensions differ, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> isost.metrics.energy_distance(np.zeros((3, 1)), np.full((5, 1), 2.0))
    4.0
    """
    x, y = _pair(first, second, least=2)
    n, m = len(x), len(y)
    between = _sum_of_distances(x, y) / (n * m)
    within = _sum_of_distances(x, x) / (n * (n - 1)) + _sum_of_distances(y, y) / (m * (m - 1))
    return float(2 * between - within)


def _sum_of_distances(x: np.ndarray, y: np.ndarray) -> float:
    step = max(1, _BLOCK // len(y))
    return float(sum(cdist(x[start : start + step], y).sum() for start in range(0, len(x), step)))


def chamfer_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Symmetric Chamfer distance: the mean distance to the nearest point of the other cloud, averaged over both.

    Parameters
    ----------
    first, second
        (n, d) and (m, d) points.

    Returns
    -------
    float
        In the unit of the coordinates; 0 is the same set. Two draws from one density are about one distance
        between nearest neighbours apart; it tells whether outlines agree and says little about density.

    Raises
    ------
    ValueError
        If dimensions differ or values are not finite.

    Examples
    --------
    >>> import isost
    >>> isost.metrics.chamfer_distance([[0.0], [1.0]], [[0.0], [1.0], [4.0]])
    0.5
    """
    x, y = _pair(first, second, least=1)
    there, back = cKDTree(y).query(x)[0], cKDTree(x).query(y)[0]
    return float((there.mean() + back.mean()) / 2)


def sinkhorn_divergence(first: np.ndarray, second: np.ndarray, *, blur: float = 0.05) -> float:
    """Debiased entropic optimal transport between two uniform samples, cost ``|x - y|^2 / 2`` (Feydy et al. 2019).

    S(a, b) = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 with temperature blur^2; the temperature of OT(a, b) starts at the
    squared extent and is halved every five iterations. Memory and time grow as n m.

    Parameters
    ----------
    first, second
        (n, d) and (m, d) points with coordinates in comparable units.
    blur
        Distance, in the unit of the coordinates, below which transport does not resolve.

    Returns
    -------
    float
        In squared units, 0 or more; 0 for the same sample, ``|shift|^2 / 2`` for a shifted one. As blur goes to 0,
        half the squared Wasserstein-2 distance. Good is no more than that of two halves of the measured sample.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite or `blur` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> points = np.random.default_rng(0).random((50, 2))
    >>> round(isost.metrics.sinkhorn_divergence(points, points + [3.0, 0.0]), 3)
    4.5
    """
    x, y = _pair(first, second, least=1)
    if not 0 < blur < np.inf:
        raise ValueError(f"blur: expected a positive distance, found {blur}. Next: leave it out, or pass blur=0.05.")
    both = np.concatenate([x, y])
    extent = float((np.ptp(both, axis=0) ** 2).sum())
    halvings = int(np.ceil(np.log2(max(extent / blur**2, 1.0))))
    temperatures = np.maximum(extent / 2.0 ** np.arange(1, halvings + 1), blur**2) if halvings else np.array([blur**2])
    within = (_transport_within(x, blur**2) + _transport_within(y, blur**2)) / 2
    return max(_transport(x, y, temperatures) - within, 0.0)


def _transport(x: np.ndarray, y: np.ndarray, temperatures: np.ndarray) -> float:
    """Dual value of entropic transport between uniform weights, at the last of falling temperatures."""
    cost = cdist(x, y, "sqeuclidean") / 2
    f, g = np.zeros(len(x)), np.zeros(len(y))
    for temperature in np.repeat(temperatures, _ITERATIONS):
        f = _soft_minimum(cost, g, temperature)
        g = _soft_minimum(cost.T, f, temperature)
    return float(f.mean() + g.mean())


def _transport_within(x: np.ndarray, temperature: float) -> float:
    """Dual value of entropic transport of a sample onto itself, where both potentials are one."""
    cost = cdist(x, x, "sqeuclidean") / 2
    f = np.zeros(len(x))
    for _ in range(_MOST_ITERATIONS):
        new = (f + _soft_minimum(cost, f, temperature)) / 2
        change = float(np.abs(new - f).max())
        f = new
        if change < _STILL * temperature:
            break
    return float(2 * _soft_minimum(cost, f, temperature).mean())


def _soft_minimum(cost: np.ndarray, potential: np.ndarray, temperature: float) -> np.ndarray:
    """-T log mean_j exp((potential_j - cost_ij) / T)."""
    return -temperature * (logsumexp((potential - cost) / temperature, axis=1) - np.log(len(potential)))


def _pair(first: np.ndarray, second: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = check_matrix("first", first), check_matrix("second", second)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"first, second: expected {least} or more points each of one dimension, found {x.shape}, {y.shape}. "
            "Next: pass more cells, with the same columns."
        )
    return x, y
