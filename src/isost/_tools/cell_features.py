"""Spatial features of cells without a grid: mean and slope among the nearest neighbours in three dimensions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from isost._tools.features import Layout

_ROWS = 4096
_RIDGE = 1e-9  # of the largest spread of neighbours: what a flat neighbourhood cannot tell, it says is 0


class CellFeatures:
    """Features of cells: Gaussian means over the nearest neighbours, and slopes by weighted least squares.

    The Gaussian of a cell has half the distance of its farthest neighbour as standard deviation. A slope is exact
    where values are linear in space; along a direction in which all neighbours lie at one place it is 0.

    Parameters
    ----------
    coords
        (n, 3) positions.
    values
        (n, P).
    n_neighbors
        Neighbours of a cell, other than itself.
    own
        Whether the values of the cell itself are features too.
    """

    def __init__(self, coords: np.ndarray, values: np.ndarray, *, n_neighbors: int, own: bool) -> None:
        self.layout = Layout(values.shape[1], own)
        self._coords, self._values = np.asarray(coords, dtype=np.float64), np.asarray(values, dtype=np.float32)
        k = min(n_neighbors + 1, len(coords))
        self._distance, self._neighbours = cKDTree(self._coords).query(self._coords, k=np.arange(1, k + 1), workers=-1)
        self._width = np.maximum(self._distance[:, -1] / 2, 1e-300)
        self.length = float(np.median(self._width))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield (m, F) float32; slopes are changes over `length`, the median standard deviation of the Gaussians."""
        layout = self.layout
        for start in range(0, len(self._coords), _ROWS):
            rows = slice(start, min(start + _ROWS, len(self._coords)))
            found = np.empty((rows.stop - rows.start, layout.width), dtype=np.float32)
            mean, slope = self._local(rows)
            found[:, layout.mean] = mean
            found[:, layout.slopes] = slope.reshape(len(slope), -1) * self.length
            found[:, layout.position] = self._coords[rows]
            if layout.own:
                found[:, layout.values] = self._values[rows]
            yield found

    def project(self, axes: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(n, q) float32."""
        return np.concatenate([(block - mean.astype(np.float32)) @ axes for block in self.blocks()])

    def _local(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """(m, P) means and (m, 3, P) slopes."""
        near, width = self._neighbours[rows], self._width[rows, None]
        weight = np.exp(-0.5 * (self._distance[rows] / width) ** 2)
        weight /= weight.sum(axis=1, keepdims=True)
        offset = (self._coords[near] - self._coords[rows, None]) / width[..., None]
        offset -= np.einsum("nk,nkd->nd", weight, offset)[:, None]
        values = self._values[near].astype(np.float64)
        mean = np.einsum("nk,nkp->np", weight, values)
        spread = np.einsum("nk,nkd,nke->nde", weight, offset, offset)
        together = np.einsum("nk,nkd,nkp->ndp", weight, offset, values - mean[:, None])
        ridge = _RIDGE * np.trace(spread, axis1=1, axis2=2) + 1e-300
        slope = np.linalg.solve(spread + ridge[:, None, None] * np.eye(3), together)
        return mean, slope / width[..., None]
