from __future__ import annotations

import numpy as np

from isost.metrics._check import check_same_shape


def minmax_mse(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Mean squared error of min-max normalised expression, as Li, Bao et al. 2025 compare methods.

    Both are scaled with the least and the largest measured value of each gene, so that an offset or a wrong scale of
    the prediction counts as error.

    Parameters
    ----------
    predicted, measured
        (n, n_genes) expression of the same cells, bins or voxels.

    Returns
    -------
    float
        0 is perfect; the mean of a gene that is uniform between its extremes scores 1 / 12. Genes that do not vary
        where measured are left out.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or no measured gene varies.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> measured = np.array([[0.0, 10.0], [2.0, 30.0]])
    >>> isost.metrics.minmax_mse(measured + [1.0, 0.0], measured)
    0.125
    """
    predicted, measured = check_same_shape("predicted", predicted, "measured", measured)
    extent = np.ptp(measured, axis=0)
    varies = _varying(extent)
    return float((((predicted - measured)[:, varies] / extent[varies]) ** 2).mean())


def normalised_mse(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Mean squared error of each gene in units of its measured variance, mean over genes: 1 - R^2.

    Parameters
    ----------
    predicted, measured
        (n, n_genes) expression of the same cells, bins or voxels.

    Returns
    -------
    float
        0 is perfect, 1 is as good as each gene's mean, more is worse than that. Genes that do not vary where measured
        are left out.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or no measured gene varies.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> measured = np.array([[0.0, 10.0], [2.0, 30.0]])
    >>> isost.metrics.normalised_mse(np.tile(measured.mean(axis=0), (2, 1)), measured)
    1.0
    """
    predicted, measured = check_same_shape("predicted", predicted, "measured", measured)
    variance = measured.var(axis=0)
    varies = _varying(np.ptp(measured, axis=0))
    return float((((predicted - measured) ** 2).mean(axis=0)[varies] / variance[varies]).mean())


def _varying(extent: np.ndarray) -> np.ndarray:
    varies = extent > 0
    if not varies.any():
        raise ValueError("measured: expected a gene that varies, found none. Next: take more cells or larger bins.")
    return varies
