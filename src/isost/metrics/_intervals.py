from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from isost.metrics._check import check_same_shape


def interval_coverage(low: np.ndarray, high: np.ndarray, measured: np.ndarray) -> float:
    """Share of measured values inside their intervals, ends included.

    Parameters
    ----------
    low, high
        (n,) or (n, n_genes) ends of the intervals.
    measured
        Of the same shape.

    Returns
    -------
    float
        0 to 1. Good is what the intervals promise: 0.85 to 0.95 of 90 % intervals; more means too wide, less too
        narrow.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or an interval ends before it starts.

    Examples
    --------
    >>> import isost
    >>> isost.metrics.interval_coverage([0.0, 0.0], [1.0, 1.0], [0.5, 2.0])
    0.5
    """
    low, high = _check_interval(low, high)
    low, measured = check_same_shape("low", low, "measured", measured)
    return float(((low <= measured) & (measured <= high)).mean())


def interval_width(low: np.ndarray, high: np.ndarray, *, scale: np.ndarray | float = 1.0) -> float:
    """Mean width of intervals, in units of `scale`.

    Parameters
    ----------
    low, high
        (n,) or (n, n_genes) ends of the intervals.
    scale
        Unit of the width: a number, or (n_genes,), such as the standard deviation of each measured gene.

    Returns
    -------
    float
        0 or more. Of two methods that cover as much, the one with narrower intervals knows more; 90 % intervals that
        know nothing but a normal gene's spread are 3.29 standard deviations wide.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or an interval ends before it starts.

    Examples
    --------
    >>> import isost
    >>> isost.metrics.interval_width([0.0, 1.0], [2.0, 5.0])
    3.0
    """
    low, high = _check_interval(low, high)
    return float(((high - low) / np.asarray(scale, dtype=np.float64)).mean())


def crps_normal(mean: np.ndarray, std: np.ndarray, measured: np.ndarray) -> float:
    """Continuous ranked probability score of normal predictions, mean over values (Gneiting and Raftery 2007).

    CRPS = s (u (2 F(u) - 1) + 2 f(u) - 1 / sqrt(pi)) with u = (measured - mean) / s, and F and f of the standard
    normal.

    Parameters
    ----------
    mean, std
        (n,) or (n, n_genes) predicted mean and standard deviation, 0 or more.
    measured
        Of the same shape.

    Returns
    -------
    float
        In the unit of the values, 0 or more, less is better. For std 0 it is the mean absolute error. Calibrated
        predictions of standard deviation s score s / sqrt(pi).

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or a standard deviation is negative.

    Examples
    --------
    >>> import isost
    >>> isost.metrics.crps_normal([1.0], [0.0], [3.0])
    2.0
    """
    mean, measured = check_same_shape("mean", mean, "measured", measured)
    std, _ = check_same_shape("std", std, "measured", measured)
    if (std < 0).any():
        raise ValueError(
            "std: expected 0 or more, found negative ones. Next: pass standard deviations, not logarithms."
        )
    error = measured - mean
    positive = std > 0
    u = error / np.where(positive, std, 1.0)
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    score = std * (u * (2 * ndtr(u) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return float(np.where(positive, score, np.abs(error)).mean())


def _check_interval(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = check_same_shape("low", low, "high", high)
    if (high < low).any():
        raise ValueError(
            "low, high: expected low <= high, found an interval that ends before it starts. Next: swap them."
        )
    return low, high
