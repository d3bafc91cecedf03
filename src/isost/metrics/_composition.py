from __future__ import annotations

import numpy as np
from scipy.spatial.distance import jensenshannon


def composition_similarity(
    labels: np.ndarray, measured_labels: np.ndarray, *, regions: np.ndarray, measured_regions: np.ndarray
) -> dict[str, float]:
    """Compare the shares of cell types in each region, predicted beside measured.

    Parameters
    ----------
    labels, measured_labels
        (m,) and (n,) type of each cell, in any type that compares.
    regions, measured_regions
        (m,) and (n,) region (domain, bin) of each cell.

    Returns
    -------
    dict
        Means over the regions that hold a measured cell, weighted by their measured cells. ``"jensen_shannon"``:
        divergence in bits, 0 (the same shares) to 1 (no type in common; also a region without predicted cells).
        ``"pearson"``: correlation over types of the shares, -1 to 1; 0 for a region without predicted cells, and
        regions whose types are all equally frequent are left out; 1 is perfect. Two draws of n cells from the same
        shares of T types are about 0.36 (T - 1) / n bits apart: a good divergence is not much larger.

    Raises
    ------
    ValueError
        If labels and regions differ in length, or there are no cells.

    Examples
    --------
    >>> import isost
    >>> here = dict(regions=["left", "left", "right"], measured_regions=["left", "right", "right"])
    >>> score = isost.metrics.composition_similarity(["a", "b", "b"], ["a", "b", "b"], **here)
    >>> {name: round(value, 3) for name, value in score.items()}
    {'jensen_shannon': 0.104, 'pearson': 0.667}
    """
    labels, regions = _check_labels("labels", labels, "regions", regions)
    measured_labels, measured_regions = _check_labels(
        "measured_labels", measured_labels, "measured_regions", measured_regions
    )
    types = np.unique(np.concatenate([labels, measured_labels]))
    places = np.unique(measured_regions)
    predicted = _shares(labels, regions, types, places)
    measured = _shares(measured_labels, measured_regions, types, places)
    sizes = np.array([(measured_regions == place).sum() for place in places], dtype=np.float64)
    found = predicted.sum(axis=1) > 0
    divergence, correlation = np.ones(len(places)), np.zeros(len(places))
    divergence[found] = [
        jensenshannon(p, m, base=2) ** 2 for p, m in zip(predicted[found], measured[found], strict=True)
    ]
    varies = np.ptp(measured, axis=1) > 0
    for k in np.flatnonzero(found & varies & (np.ptp(predicted, axis=1) > 0)):
        correlation[k] = np.corrcoef(predicted[k], measured[k])[0, 1]
    return {
        "jensen_shannon": float(np.average(divergence, weights=sizes)),
        "pearson": float(np.average(correlation[varies], weights=sizes[varies])) if varies.any() else float("nan"),
    }


def _check_labels(
    name: str, labels: np.ndarray, regions_name: str, regions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    labels, regions = np.asarray(labels), np.asarray(regions)
    if labels.ndim != 1 or labels.shape != regions.shape or not len(labels):
        raise ValueError(
            f"{name}, {regions_name}: expected one of each per cell, found shapes {labels.shape}, {regions.shape}. "
            "Next: pass two columns of one table."
        )
    return labels, regions


def _shares(labels: np.ndarray, regions: np.ndarray, types: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Share (regions, types) of each type; zeros for a region without cells."""
    counts = np.array([[np.sum((regions == place) & (labels == kind)) for kind in types] for place in places], float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
