from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isost.metrics._check import check_matrix, check_plane, check_same_shape
from isost.metrics._moran import morans_i

_CONSTANT = 1e-12


def score_expression(
    told: np.ndarray,
    measured: np.ndarray,
    *,
    expressed: np.ndarray | None = None,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    coords: np.ndarray | None = None,
    sample: np.ndarray | pd.Series | Sequence[object] | None = None,
    genes: Sequence[str] | pd.Index | None = None,
) -> pd.DataFrame:
    """Score expression that was told of cells, from an image for instance, beside what was measured of the same cells.

    Parameters
    ----------
    told, measured
        (n, G) log1p.
    expressed
        (n, G) probabilities that a gene is found.
    lower, upper
        (n, G) ends of intervals.
    coords
        (n, 2 or more) positions; x and y count.
    sample
        (n,) section of each cell: correlations are within sections, and their mean is given. None: one.
    genes
        G names.

    Returns
    -------
    pandas.DataFrame
        A row a gene: ``pcc``, Pearson's r (0 where either is constant); ``rmse``; ``r2``, of all cells; ``expressed``,
        the share of cells that express it; with `expressed`, ``call_accuracy``, balanced over cells that express it and
        cells that do not (0.5 is chance), called where the probability is above that share; with intervals,
        ``coverage``, the share of measured values inside; with `coords`, ``moran_told`` and ``moran_measured``,
        Moran's I.

        ``attrs["mean"]``: of each column over genes. ``attrs["gene_structure"]``: Pearson's r, over pairs of genes,
        between their correlations as told and as measured; ``attrs["spatial_structure"]``, with `coords`: over genes,
        between Moran's I as told and as measured. Told expression lacks the noise of measured, so that these two, and
        not the values themselves, are to be compared.

    Raises
    ------
    ValueError
        If shapes do not fit or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> draw = np.random.default_rng(0)
    >>> truth = draw.normal(size=(200, 5))
    >>> scores = isost.metrics.score_expression(truth + draw.normal(size=(200, 5)), truth)
    >>> bool((scores["pcc"] - 0.5**0.5).abs().max() < 0.15)
    True
    """
    told, measured = check_same_shape("told", told, "measured", measured)
    n, n_genes = told.shape
    section = np.zeros(n, dtype=np.int64) if sample is None else pd.factorize(np.asarray(sample, dtype=object))[0]
    if len(section) != n or (section < 0).any():
        raise ValueError(f"sample: expected one for each of {n} cells, found {len(section)}, or missing ones. Next: "
                         "pass a column of the same table.")  # fmt: skip
    if coords is not None and np.bincount(section).min() < 2:
        raise ValueError("sample: expected two cells or more in each, to look for neighbours, found one. Next: leave "
                         "such samples out, or coords=None.")  # fmt: skip
    if genes is not None and len(genes) != n_genes:
        raise ValueError(f"genes: expected {n_genes} names, found {len(genes)}. Next: leave it out.")
    if (lower is None) != (upper is None):
        raise ValueError("lower, upper: expected both ends, found one. Next: give both.")
    columns = columns_of(told, measured, section)
    if expressed is not None:
        columns["call_accuracy"] = call_accuracy(
            check_same_shape("expressed", expressed, "told", told)[0], measured > 0
        )
    if lower is not None and upper is not None:
        low, high = check_same_shape("lower", lower, "upper", upper)
        check_same_shape("lower", low, "told", told)
        columns["coverage"] = ((low <= measured) & (measured <= high)).mean(axis=0)
    attrs: dict[str, object] = {"gene_structure": _gene_structure(told, measured, section)}
    if coords is not None:
        place = check_plane("coords", coords, n)
        for name, values in (("moran_told", told), ("moran_measured", measured)):
            columns[name] = np.mean(
                [_moran(values[section == k], place[section == k]) for k in np.unique(section)], axis=0
            )
        attrs["spatial_structure"] = _agreement(columns["moran_told"], columns["moran_measured"])
    scores = pd.DataFrame(columns, index=None if genes is None else pd.Index(genes, name="gene"))
    scores.attrs = attrs | {"mean": {name: float(np.nanmean(values)) for name, values in columns.items()}}
    return scores


def columns_of(told: np.ndarray, measured: np.ndarray, section: np.ndarray) -> dict[str, np.ndarray]:
    """Pearson's r and root mean square error, means of sections, r2 of all, and the share of cells that express it."""
    rows = [section == number for number in np.unique(section)]
    variance = measured.var(axis=0)
    r2 = 1 - ((told - measured) ** 2).mean(axis=0) / np.where(variance > 0, variance, np.inf)
    return {
        "pcc": np.mean([correlations(told[part], measured[part]) for part in rows], axis=0),
        "rmse": np.mean([np.sqrt(((told[part] - measured[part]) ** 2).mean(axis=0)) for part in rows], axis=0),
        "r2": np.where(variance > 0, r2, 0.0),
        "expressed": (measured > 0).mean(axis=0),
    }


def call_accuracy(probability: np.ndarray, on: np.ndarray) -> np.ndarray:
    """(G,) balanced accuracy; NaN where all cells express a gene, or none."""
    call, share = probability > on.mean(axis=0), on.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((call & on).mean(axis=0) / share + (~call & ~on).mean(axis=0) / (1 - share)) / 2


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(G,) Pearson's r of columns; 0 where one is constant."""
    a, b = a - a.mean(axis=0, dtype=np.float64), b - b.mean(axis=0, dtype=np.float64)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros(a.shape[1]), where=scale > _CONSTANT)


def _gene_structure(told: np.ndarray, measured: np.ndarray, section: np.ndarray) -> float:
    pairs = []
    for values in (told, measured):
        each = []
        for number in np.unique(section):
            part = check_matrix("values", values[section == number])
            part = part - part.mean(axis=0)
            scale = np.sqrt((part**2).sum(axis=0))
            part = np.divide(part, scale, out=np.zeros_like(part), where=scale > _CONSTANT)
            each.append((part.T @ part)[np.triu_indices(part.shape[1], 1)])
        pairs.append(np.mean(each, axis=0))
    return _agreement(*pairs)


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or min(np.ptp(a[both]), np.ptp(b[both])) <= _CONSTANT:
        return float("nan")
    return float(np.corrcoef(a[both], b[both])[0, 1])


def _moran(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    return morans_i(values, place, neighbours=min(6, len(values) - 1))
