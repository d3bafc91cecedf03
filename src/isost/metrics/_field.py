from __future__ import annotations

import numpy as np

from isost.metrics._bins import bin_means
from isost.metrics._check import check_plane, check_same_shape


def score_field(predicted: np.ndarray, measured: np.ndarray, coords: np.ndarray, *, side: float) -> dict[str, float]:
    """Score a predicted field of expression at the places of measured cells, on the means of square bins.

    Parameters
    ----------
    predicted, measured
        (n_cells, n_genes) log-normalised expression.
    coords
        (n_cells, 2 or more) positions of the cells; only x and y count. Bins start at the least x and y.
    side
        Side of a bin, in the unit of `coords`: `bin_side` of the stack. All bins that hold a cell count the same.

    Returns
    -------
    dict
        ``"pcc"``: Pearson correlation over bins, mean over genes, -1 to 1. Measured bin means are noisy, so that the
        best possible value is far below 1; compare with the ceiling that `isost.tl.cross_validate` reports. Genes
        that are constant over bins, measured or predicted, are left out of the measured ones and count 0 among
        the predicted ones.
        ``"nmse"``: mean squared error of bin means in units of the variance of the measured cells of the section, mean
        over genes; 0 is perfect. Predicting a gene's own mean gives the share of its variance that lies between bins.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or no gene varies.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> coords = np.random.default_rng(0).random((500, 2))
    >>> score = isost.metrics.score_field(coords, coords, coords, side=0.1)
    >>> round(score["pcc"], 3), round(score["nmse"], 3)
    (1.0, 0.0)
    """
    predicted, measured = check_same_shape("predicted", predicted, "measured", measured)
    predicted_mean, measured_mean = bin_means(check_plane("coords", coords, len(measured)), side, predicted, measured)
    return {
        "pcc": gene_correlation(predicted_mean, measured_mean),
        "nmse": _normalised_error(predicted_mean, measured_mean, measured.var(axis=0)),
    }


def gene_correlation(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Pearson correlation over rows (cells or bins), mean over genes.

    Parameters
    ----------
    predicted, measured
        (n, n_genes) expression of the same cells or bins.

    Returns
    -------
    float
        Between -1 and 1; 1 is perfect, 0 knows nothing of the pattern. Where measured values are noisy, good is close
        to the ceiling that `isost.tl.cross_validate` reports, not to 1. A gene that does not vary where measured is
        left out; one that does not vary where predicted counts 0.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or no measured gene varies.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> measured = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
    >>> round(isost.metrics.gene_correlation(3 * measured + 1, measured), 6)
    1.0
    """
    predicted, measured = check_same_shape("predicted", predicted, "measured", measured)
    varies = np.ptp(measured, axis=0) > 0
    if not varies.any():
        raise ValueError("measured: expected a gene that varies, found none. Next: take more cells or larger bins.")
    p, m = (
        predicted[:, varies] - predicted[:, varies].mean(axis=0),
        measured[:, varies] - measured[:, varies].mean(axis=0),
    )
    scale = np.sqrt((p**2).sum(axis=0) * (m**2).sum(axis=0))
    # Rounding leaves a trace of variation in a constant prediction.
    flat = np.ptp(predicted[:, varies], axis=0) <= 1e-7 * np.abs(predicted[:, varies]).max(axis=0)
    return float(np.where(flat, 0.0, (p * m).sum(axis=0) / np.where(flat, 1.0, scale)).mean())


def _normalised_error(predicted: np.ndarray, measured: np.ndarray, variance: np.ndarray) -> float:
    varies = variance > 0
    return float((((predicted - measured) ** 2).mean(axis=0)[varies] / variance[varies]).mean())
