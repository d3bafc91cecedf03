from __future__ import annotations

import numpy as np

from isost.metrics._bins import joint_counts
from isost.metrics._check import check_matrix, check_plane
from isost.metrics._distance import energy_distance

FEATURES = 20


def score_cells(
    coords: np.ndarray,
    features: np.ndarray,
    *,
    measured_coords: np.ndarray,
    measured_features: np.ndarray,
    side: float,
    feature_scale: float = 1.0,
) -> dict[str, float]:
    """Score a predicted sample of cells beside the measured cells of a section.

    Parameters
    ----------
    coords, features
        (m, 2 or more) positions, of which x and y count, and (m, P) principal components of the predicted cells. Draw
        as many as were measured: fewer cells occupy fewer bins.
    measured_coords, measured_features
        (n, 2 or more) and (n, P), the same of the measured cells.
    side
        Half the side of the bins: `bin_side` of the stack, in the unit of positions.
    feature_scale
        Spread (standard deviation) of the first component, over the cells that the components were fitted on.

    Returns
    -------
    dict
        ``"dice"``, ``"dens"``: `dice` and `density_correlation` on bins of side 2 x `side`.
        ``"energy"``: `energy_distance` in (x / 2 `side`, y / 2 `side`, the first 20 components / `feature_scale`),
        about 0 where the two samples cannot be told apart.

    Raises
    ------
    ValueError
        If shapes do not fit or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> draw = np.random.default_rng(0)
    >>> a, b = draw.random((2, 400, 2))
    >>> score = isost.metrics.score_cells(a, a, measured_coords=b, measured_features=b, side=0.1)
    >>> score["dice"], abs(score["energy"]) < 0.02
    (1.0, True)
    """
    here, there = check_plane("coords", coords), check_plane("measured_coords", measured_coords)
    predicted = np.concatenate([here / (2 * side), _leading("features", features, len(here), feature_scale)], axis=1)
    measured = np.concatenate(
        [there / (2 * side), _leading("measured_features", measured_features, len(there), feature_scale)], axis=1
    )
    return {
        "dice": dice(here, there, side=2 * side),
        "dens": density_correlation(here, there, side=2 * side),
        "energy": energy_distance(predicted, measured),
    }


def dice(coords: np.ndarray, measured_coords: np.ndarray, *, side: float) -> float:
    """Overlap of the bins that hold a cell: ``2 |A and B| / (|A| + |B|)``.

    Parameters
    ----------
    coords, measured_coords
        (m, 2 or more) and (n, 2 or more) positions; x and y count. Bins start at the least x and y of both clouds.
    side
        Side of a bin.

    Returns
    -------
    float
        0 (apart) to 1 (the same bins); above 0.95 the outlines agree to about a bin.

    Raises
    ------
    ValueError
        If positions are not finite or there are none.

    Examples
    --------
    >>> import isost
    >>> round(isost.metrics.dice([[0.5, 0.5], [1.5, 0.5]], [[0.6, 0.6]], side=1.0), 3)
    0.667
    """
    a, b = joint_counts(check_plane("coords", coords), check_plane("measured_coords", measured_coords), side)
    return float(2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum()))


def density_correlation(coords: np.ndarray, measured_coords: np.ndarray, *, side: float) -> float:
    """Pearson correlation of the shares of cells in bins, over bins that hold a cell of either cloud.

    Parameters
    ----------
    coords, measured_coords
        (m, 2 or more) and (n, 2 or more) positions; x and y count. Bins start at the least x and y of both clouds.
    side
        Side of a bin.

    Returns
    -------
    float
        -1 to 1. Two independent draws from one density do not reach 1: with c cells a bin and a density whose standard
        deviation is v times its mean they reach v^2 / (v^2 + 1 / c). NaN where all bins of a cloud hold as many.

    Raises
    ------
    ValueError
        If positions are not finite or there are none.

    Examples
    --------
    >>> import isost
    >>> here = [[0.5, 0.5], [0.4, 0.4], [1.5, 0.5]]
    >>> round(isost.metrics.density_correlation(here, here, side=1.0), 6)
    1.0
    """
    a, b = joint_counts(check_plane("coords", coords), check_plane("measured_coords", measured_coords), side)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _leading(name: str, features: np.ndarray, n: int, scale: float) -> np.ndarray:
    array = check_matrix(name, features)
    if len(array) != n:
        raise ValueError(
            f"{name}: expected a row for each of {n} positions, found {len(array)}. Next: pass cells of one draw."
        )
    return array[:, :FEATURES] / scale
