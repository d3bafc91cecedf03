"""Gaussian means and Sobel gradients of a volume that is known inside a mask only."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

AXES = {"x": 2, "y": 1, "z": 0}  # of (z, y, x)
_ACROSS = np.array([0.25, 0.5, 0.25])  # what Sobel's operator averages by, across the direction of the gradient
_LEAST = 1e-6  # share of a kernel's weight below which nothing is known


class Filters:
    """Filters for the places of one mask, the same for all channels.

    Both are normalised convolutions (Knutsson and Westin 1993): means over what is known, weighted by a kernel, so
    that what lies outside has no say and a constant stays a constant up to the surface.

    Parameters
    ----------
    known
        (z, y, x) bool, where values are known.
    sigma
        Standard deviation of the Gaussian, in voxels; it is cut off at 3 sigma.
    """

    def __init__(self, known: np.ndarray, sigma: float) -> None:
        self.known = known
        self._gauss = gaussian_kernel(sigma)
        self._sobel = np.convolve(self._gauss, _ACROSS)
        weight = self._filter(known.astype(np.float32), None)
        self.reached = weight > _LEAST
        self._weight = np.where(self.reached, weight, 1)
        self._differing = {axis: _neighbours(known, place) for axis, place in AXES.items()}
        self._slope_weight = {axis: self._filter(self._has_slope(axis), axis) for axis in AXES}

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(z, y, x) Gaussian mean of known values; 0 where none is near."""
        total = self._filter(np.where(self.known, values, 0), None)
        return np.where(self.reached, total / self._weight, 0)

    def slope(self, values: np.ndarray, axis: str) -> np.ndarray:
        """(z, y, x) change for each voxel along an axis, by Sobel's operator and the Gaussian; 0 where unknown.

        Differences are central, and one-sided where one of the two neighbours is unknown; their mean is taken over
        places that have one. The slope of a linear field is exact up to the surface. Away from it, this is Sobel's
        operator on the Gaussian mean.
        """
        differences = _differences(np.where(self.known, values, 0), *self._differing[axis], AXES[axis])
        weight = self._slope_weight[axis]
        enough = weight > _LEAST
        return np.where(enough, self._filter(differences, axis) / np.where(enough, weight, 1), 0)

    def _has_slope(self, axis: str) -> np.ndarray:
        before, after = self._differing[axis]
        return (before | after).astype(np.float32)

    def _filter(self, values: np.ndarray, sobel: str | None) -> np.ndarray:
        for axis, place in AXES.items():
            kernel = self._gauss if sobel is None or axis == sobel else self._sobel
            values = correlate1d(values, kernel, axis=place, mode="constant")
        return values


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Weights of a Gaussian at whole voxels up to 3 sigma; they sum to 1."""
    radius = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def reach(sigma: float) -> int:
    """Voxels that a filter looks beyond a place."""
    return int(np.ceil(3 * sigma)) + 1


def _neighbours(known: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether a known place has a known neighbour before and after it."""
    before, after = np.zeros_like(known), np.zeros_like(known)
    low, high = _pair(known.ndim, axis)
    both = known[low] & known[high]
    before[high], after[low] = both, both
    return before, after


def _differences(values: np.ndarray, before: np.ndarray, after: np.ndarray, axis: int) -> np.ndarray:
    low, high = _pair(values.ndim, axis)
    step = values[high] - values[low]
    found = np.zeros_like(values)
    found[low] += np.where(after[low], step, 0)
    found[high] += np.where(before[high], step, 0)
    return np.where(before & after, found / 2, found)


def _pair(ndim: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    everything = [slice(None)] * ndim
    low, high = everything.copy(), everything.copy()
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)
