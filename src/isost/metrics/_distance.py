from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from isost.metrics._check import check_matrix

_BLOCK = 16_000_000


def energy_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased energy distance of two samples: 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Székely and Rizzo 2013).

    Pairs of a point with itself are left out, so that two samples of one distribution have 0 as their mean and half of
    them fall below. Time grows as (n + m)^2, memory does not.

    Parameters
    ----------
    first, second
        (n, d) and (m, d) points, two or more each, with coordinates in comparable units.

    Returns
    -------
    float
        In the unit of the coordinates; about 0 is alike, positive is different.

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
    x, y = check_matrix("first", first), check_matrix("second", second)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"first, second: expected two or more points each, of one dimension, found shapes {x.shape} and {y.shape}. "
            "Next: pass more cells, with the same columns."
        )
    n, m = len(x), len(y)
    between = _sum_of_distances(x, y) / (n * m)
    within = _sum_of_distances(x, x) / (n * (n - 1)) + _sum_of_distances(y, y) / (m * (m - 1))
    return float(2 * between - within)


def _sum_of_distances(x: np.ndarray, y: np.ndarray) -> float:
    step = max(1, _BLOCK // len(y))
    return float(sum(cdist(x[start : start + step], y).sum() for start in range(0, len(x), step)))
