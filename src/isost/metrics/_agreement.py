from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score, homogeneity_score, normalized_mutual_info_score


def label_agreement(labels: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare labels, such as clusters, with reference labels, such as anatomy, of the same places.

    Parameters
    ----------
    labels, reference
        (n,) labels, in any type that compares; what they are called does not matter.

    Returns
    -------
    dict
        ``"nmi"``: normalised mutual information, 0 (they say nothing of each other) to 1 (the same up to names).
        ``"ari"``: adjusted Rand index, 0 for labels at random, 1 for the same up to names; below 0, worse than random.
        ``"homogeneity"``: 0 to 1, 1 where every label lies in one reference label only, however many there are.

    Raises
    ------
    ValueError
        If the two differ in length, or there are none.

    Examples
    --------
    >>> import isost
    >>> scores = isost.metrics.label_agreement([1, 1, 0, 2], ["a", "a", "b", "b"])
    >>> {name: round(value, 2) for name, value in scores.items()}
    {'nmi': 0.8, 'ari': 0.57, 'homogeneity': 1.0}
    """
    labels, reference = np.asarray(labels), np.asarray(reference)
    if labels.ndim != 1 or labels.shape != reference.shape or not len(labels):
        raise ValueError(
            f"labels, reference: expected one of each for every place, found shapes {labels.shape}, {reference.shape}. "
            "Next: pass two columns of one table."
        )
    return {
        "nmi": float(normalized_mutual_info_score(reference, labels)),
        "ari": float(adjusted_rand_score(reference, labels)),
        "homogeneity": float(homogeneity_score(reference, labels)),
    }


def plane_consistency(labels: np.ndarray) -> dict[str, float]:
    """Say how far labels of a volume agree between adjacent planes.

    Parameters
    ----------
    labels
        (z, y, x) int labels, 0 outside the tissue, as in a labels element of a reconstruction.

    Returns
    -------
    dict
        ``"agreement"``: share of voxels with the label of the voxel behind them in the next plane, 0 to 1, over all
        pairs of planes that share tissue, each weighted by its pairs of voxels. ``"kappa"``: the same beyond chance
        (Cohen), which takes each plane's shares of labels into account: 0 for labels at random, 1 for full agreement,
        NaN where a single label leaves nothing to agree on. Noise lowers both; so does tissue that changes
        quickly along depth, which is no fault.

    Raises
    ------
    ValueError
        If `labels` is no volume, or no two planes share tissue.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> columns = np.tile(np.array([[1, 1, 2, 2, 0]]), (3, 4, 1))
    >>> isost.metrics.plane_consistency(columns)
    {'agreement': 1.0, 'kappa': 1.0}
    """
    labels = np.asarray(labels)
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected integers (z, y, x), found shape {labels.shape} of {labels.dtype}. "
            "Next: pass the values of a labels element, such as sdata['isost_spatial_clusters'].values."
        )
    agreed = expected = pairs = 0.0
    n_labels = int(labels.max(initial=0)) + 1
    for one, other in zip(labels[:-1], labels[1:], strict=True):
        both = (one > 0) & (other > 0)
        n = int(both.sum())
        if n:
            shares = [np.bincount(plane[both], minlength=n_labels) / n for plane in (one, other)]
            agreed += float((one[both] == other[both]).sum())
            expected += n * float(shares[0] @ shares[1])
            pairs += n
    if not pairs:
        raise ValueError(
            "labels: expected two adjacent planes with labels at the same places, found none. "
            "Next: look at the labels with isost.pl.clusters."
        )
    kappa = (agreed - expected) / (pairs - expected) if expected < pairs else float("nan")
    return {"agreement": agreed / pairs, "kappa": float(kappa)}
