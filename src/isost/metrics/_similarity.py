from __future__ import annotations

import numpy as np
from scipy import ndimage

from isost.metrics._bins import bin_of
from isost.metrics._check import check_plane, check_same_shape

# Wang et al. 2004: the window's standard deviation in pixels, and the constants in shares of the range.
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def structural_similarity(predicted: np.ndarray, measured: np.ndarray, coords: np.ndarray, *, side: float) -> float:
    """Structural similarity (SSIM; Wang et al. 2004) of the images of bin means, mean over bins and genes.

    SSIM = (2 m_p m_m + c_1) (2 s_pm + c_2) / ((m_p^2 + m_m^2 + c_1) (s_p^2 + s_m^2 + c_2)) with means m and
    (co)variances s in a Gaussian window of 1.5 bins, c_1 = (0.01 L)^2, c_2 = (0.03 L)^2 and L the range of the measured
    bin means. Bins without cells have no weight in any window.

    Parameters
    ----------
    predicted, measured
        (n_cells, n_genes) expression.
    coords
        (n_cells, 2 or more) positions; x and y count. Bins start at the least x and y.
    side
        Side of a bin, such as `bin_side`.

    Returns
    -------
    float
        -1 to 1, 1 is perfect; noise in the measured bins keeps it well below 1. Genes whose measured bin means do not
        vary are left out.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or no measured gene varies over bins.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> coords = np.random.default_rng(0).random((400, 2))
    >>> round(isost.metrics.structural_similarity(coords, coords, coords, side=0.1), 6)
    1.0
    """
    predicted, measured = check_same_shape("predicted", predicted, "measured", measured)
    plane = check_plane("coords", coords, len(measured))
    bins = bin_of(plane, side, plane.min(axis=0))
    shape = tuple(bins.max(axis=0) + 1)
    index = np.ravel_multi_index((bins[:, 0], bins[:, 1]), shape)
    count = np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)
    scores = []
    for gene in range(measured.shape[1]):
        here, there = (_image(values[:, gene], index, count) for values in (predicted, measured))
        extent = float(np.ptp(there[count > 0]))
        if extent > 0:
            scores.append(_ssim(here, there, count > 0, extent))
    if not scores:
        raise ValueError("measured: expected a gene that varies over bins, found none. Next: take smaller bins.")
    return float(np.mean(scores))


def _image(values: np.ndarray, index: np.ndarray, count: np.ndarray) -> np.ndarray:
    total = np.bincount(index, weights=values, minlength=count.size).reshape(count.shape)
    return total / np.maximum(count, 1)


def _ssim(predicted: np.ndarray, measured: np.ndarray, inside: np.ndarray, extent: float) -> float:
    share = ndimage.gaussian_filter(inside.astype(np.float64), _SIGMA, mode="constant")

    def smooth(image: np.ndarray) -> np.ndarray:
        filtered = ndimage.gaussian_filter(np.where(inside, image, 0.0), _SIGMA, mode="constant")
        return filtered[inside] / share[inside]

    mean_p, mean_m = smooth(predicted), smooth(measured)
    var_p, var_m = smooth(predicted**2) - mean_p**2, smooth(measured**2) - mean_m**2
    covariance = smooth(predicted * measured) - mean_p * mean_m
    c1, c2 = (_K1 * extent) ** 2, (_K2 * extent) ** 2
    luminance = (2 * mean_p * mean_m + c1) / (mean_p**2 + mean_m**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_p + var_m + c2)).mean())
