"""How much each neighbour counts, so that what lies about a place is centred on it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

_RIDGE = 0.01  # of the mean variance of the steps to neighbours


def balanced(graph: sparse.csr_matrix, place: np.ndarray) -> sparse.csr_matrix:
    """Weigh neighbours so that their mean place is as near the cell as can be, and none counts below 0.

    A plain mean over neighbours is one of a place beside the cell, wherever there are more of them on one side, and
    moves a border there. Weights 1 - (d - m)^T C^-1 m, with m and C the mean and covariance of the steps d to the
    neighbours, as those of a local linear fit (Fan & Gijbels 1996), take that out to first order.

    Parameters
    ----------
    graph
        (n, n) bool: the neighbours of each row, itself included.
    place
        (n, d).

    Returns
    -------
    (n, n) float64; rows sum to one.
    """
    n, dims = place.shape
    rows = np.repeat(np.arange(n), np.diff(graph.indptr))
    step = place[graph.indices] - place[rows]
    count = np.maximum(np.diff(graph.indptr), 1)[:, None]
    adding = sparse.csr_matrix((np.ones(len(rows)), np.arange(len(rows)), graph.indptr), shape=(n, len(rows)))
    middle = adding @ step / count
    square = (adding @ (step[:, :, None] * step[:, None]).reshape(len(rows), -1) / count).reshape(n, dims, dims)
    spread = square - middle[:, :, None] * middle[:, None]
    size = np.trace(spread, axis1=1, axis2=2) / dims
    spread += (_RIDGE * size + 1e-6 * size.mean() + 1e-300)[:, None, None] * np.eye(dims)
    slope = np.linalg.solve(spread, middle[:, :, None])[:, :, 0]
    less = ((step - middle[rows]) * slope[rows]).sum(axis=1)
    most = np.ones(n)
    np.maximum.at(most, rows, less)
    values = (1 - less / most[rows]) / count[rows, 0]
    return sparse.csr_matrix((values, graph.indices, graph.indptr), shape=graph.shape)
