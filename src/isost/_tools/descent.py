"""Which cells of a stage those of the next descend from, once carried to its age."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from isost._core.graph import median_spacing

_REACH = 4.0  # spacings of the thinner stage


def descend(carried: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest carried cell of each measured one, and which carried cells have a measured one within reach.

    Parameters
    ----------
    carried, measured
        (n, 2) and (m, 2) places at one age.

    Returns
    -------
    ancestor
        (m,) row of `carried`, -1 where none lies within reach.
    alive
        (n,) bool.
    """
    reach = _REACH * max(median_spacing(carried), median_spacing(measured), 1e-12)
    distance, nearest = cKDTree(carried).query(measured)
    alive = cKDTree(measured).query(carried)[0] <= reach
    return np.where(distance <= reach, nearest, -1), alive
