from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from isost.metrics._check import check_matrix, check_plane


def morans_i(values: np.ndarray, coords: np.ndarray, *, neighbours: int = 6) -> np.ndarray:
    """Moran's I of each gene: the correlation of a cell's value with the mean over its nearest neighbours in the plane.

    I = sum_i (x_i - m) (mean of x_j - m over the neighbours j of i) / sum_i (x_i - m)^2 (Moran 1950, with weights 1 / k
    of the k nearest cells).

    Parameters
    ----------
    values
        (n, n_genes) expression.
    coords
        (n, 2 or more) positions; x and y count.
    neighbours
        k, less than n.

    Returns
    -------
    (n_genes,) float64, about -1 to 1; -1 / (n - 1) is expected without spatial structure. NaN for a constant gene.

    Raises
    ------
    ValueError
        If shapes do not fit or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> coords = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    >>> float(isost.metrics.morans_i(coords[:, 0], coords)[0].round(2))
    0.99
    """
    array, plane = check_matrix("values", values), check_plane("coords", coords, len(values))
    if not 0 < neighbours < len(array):
        raise ValueError(f"neighbours: expected 1 to {len(array) - 1}, found {neighbours}. Next: leave it out.")
    near = cKDTree(plane).query(plane, k=neighbours + 1)[1]
    # of cells at one place any may come first: the cell itself is left out, or else the farthest
    others = near != np.arange(len(near))[:, None]
    others[others.all(axis=1), -1] = False
    index = near[others].reshape(len(near), neighbours)
    starts = np.arange(len(array) + 1) * neighbours
    mean_of = sparse.csr_matrix((np.full(index.size, 1 / neighbours), index.ravel(), starts), shape=(len(array),) * 2)
    centred = array - array.mean(axis=0)
    square = (centred**2).sum(axis=0)
    varies = np.ptp(array, axis=0) > 0
    return np.where(varies, (centred * (mean_of @ centred)).sum(axis=0) / np.where(varies, square, 1.0), np.nan)


def morans_i_agreement(
    values: np.ndarray,
    coords: np.ndarray,
    *,
    measured: np.ndarray,
    measured_coords: np.ndarray,
    neighbours: int = 6,
) -> dict[str, float]:
    """Compare how spatially structured genes are among predicted and among measured cells.

    Parameters
    ----------
    values, coords
        (m, n_genes) and (m, 2 or more) of the predicted cells.
    measured, measured_coords
        (n, n_genes) and (n, 2 or more) of the measured cells.
    neighbours
        Of each cell, see `morans_i`.

    Returns
    -------
    dict
        ``"pearson"``: correlation over genes of the two Moran's I, -1 to 1; above 0.9 the same genes are patterned.
        ``"difference"``: mean of predicted minus measured I; positive where predicted cells are too smooth, as cells
        from a smoothed field are. Genes constant in either are left out.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or fewer than three genes vary in both.

    Examples
    --------
    >>> import numpy as np
    >>> import isost
    >>> draw = np.random.default_rng(0)
    >>> coords = draw.random((300, 2))
    >>> values = np.column_stack([coords, draw.random((300, 3))])
    >>> isost.metrics.morans_i_agreement(values, coords, measured=values, measured_coords=coords)["difference"]
    0.0
    """
    here = morans_i(values, coords, neighbours=neighbours)
    there = morans_i(measured, measured_coords, neighbours=neighbours)
    if len(here) != len(there):
        raise ValueError(
            f"values, measured: expected the same genes, found {len(here)} and {len(there)}. Next: align them."
        )
    both = np.isfinite(here) & np.isfinite(there)
    if both.sum() < 3:
        raise ValueError(
            f"values, measured: expected three or more genes that vary in both, found {both.sum()}. "
            "Next: pass more genes or more cells."
        )
    here, there = here[both], there[both]
    return {"pearson": float(np.corrcoef(here, there)[0, 1]), "difference": float((here - there).mean())}
