"""Lines through a tissue: how far places are from them and where along them, and tracing one through a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_BLOCK = 4_000_000  # pairs of a place and a piece of line at once
_GRID = 40  # positions along a side of a plane among which a lumen is looked for


@dataclass(frozen=True, eq=False)
class Line:
    """A line of straight pieces, which goes on straight beyond both ends.

    Attributes
    ----------
    points
        (m, 3) float64, x, y, z; two or more, each apart from the next.
    """

    points: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(m - 1,) lengths of the pieces."""
        return np.linalg.norm(np.diff(self.points, axis=0), axis=1)

    def project(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (n,) of places (n, 3), and the positions (n,) along the line of the points nearest to them.

        Positions count from the first point, and are negative before it.
        """
        distance, along = np.empty((2, len(places)))
        step = max(1, _BLOCK // len(self.lengths))
        for start in range(0, len(places), step):
            rows = slice(start, start + step)
            distance[rows], along[rows] = self._project(places[rows])
        return distance, along

    def _project(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lengths = self.lengths
        directions = np.diff(self.points, axis=0) / lengths[:, None]
        low, high = np.zeros(len(lengths)), lengths.copy()
        low[0], high[-1] = -np.inf, np.inf
        offset = places @ directions.T - (self.points[:-1] * directions).sum(axis=1)
        t = np.clip(offset, low, high)
        square = np.zeros_like(t)
        for axis in range(3):
            square += (places[:, axis, None] - self.points[:-1, axis] - t * directions[:, axis]) ** 2
        nearest = square.argmin(axis=1)
        rows = np.arange(len(places))
        starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        return np.sqrt(square[rows, nearest]), starts[nearest] + t[rows, nearest]


def centre_line(places: np.ndarray, smoothing: float) -> np.ndarray:
    """Centroids of the tissue along depth, smoothed by a Gaussian.

    Parameters
    ----------
    places
        (n, 3), spread evenly over the tissue.
    smoothing
        Standard deviation of the Gaussian along z, in the unit of the places.

    Returns
    -------
    (m, 3) float64 from the lowest depth to the highest.
    """
    depths, plane = np.unique(places[:, 2], return_inverse=True)
    if len(depths) > 1000:  # cells that lie at depths of their own
        edges = np.linspace(depths[0], depths[-1], 101)
        plane = np.clip(np.digitize(places[:, 2], edges) - 1, 0, 99)
        used, plane = np.unique(plane, return_inverse=True)
        depths = (edges[used] + edges[used + 1]) / 2.0
    count = np.bincount(plane)
    centroid = np.column_stack([np.bincount(plane, weights=places[:, axis]) / count for axis in range(2)])
    return smooth_line(np.column_stack([centroid, depths]), smoothing, count)


def smooth_line(points: np.ndarray, smoothing: float, weights: np.ndarray) -> np.ndarray:
    """Fit a straight line around each point of (m, 3), by weights that fall off along z: no end is drawn inwards."""
    z = points[:, 2]
    smoothed = points.copy()
    for row, depth in enumerate(z):
        weight = weights * np.exp(-0.5 * ((z - depth) / max(smoothing, 1e-12)) ** 2)
        weight /= weight.sum()
        mean = weight @ points
        spread = weight @ (z - mean[2]) ** 2
        # below the precision of the depths there is one point in reach, which is its own mean
        slope = weight @ ((z - mean[2])[:, None] * points) / spread if spread > 1e-12 * np.ptp(z) ** 2 else 0.0
        smoothed[row, :2] = (mean + slope * (depth - mean[2]))[:2]
    return smoothed


def trace_lumen(density: np.ndarray, mask: np.ndarray, size: np.ndarray, smoothing: float) -> np.ndarray:
    """Trace the emptiest way through the inside of a tissue from plane to plane: a canal, a ventricle, a vessel.

    The path minimises the sum over planes of the density, smoothed over a voxel, less that of its surroundings,
    smoothed over a third of the tissue's inner radius, both relative to the tissue's median; plus a price for moving
    sideways that is 1 for a move as long as that radius. So a hole is told from sparse tissue, such as white matter.
    Only the inner part of each plane, with its holes filled, can hold it: places at least half as far from the outline
    as the farthest one is.

    Parameters
    ----------
    density
        (z, y, x), 0 or more.
    mask
        (z, y, x) bool, the tissue.
    size
        (3,) edges of a voxel, x, y, z.
    smoothing
        Of `smooth_line`.

    Returns
    -------
    (m, 3) float64, x, y, z from the outer corner of the first voxel; a row for each plane with tissue.
    """
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    typical = float(np.median(density[mask])) or 1.0
    step = max(1, -(-max(mask.shape[1:]) // _GRID))
    spots: list[np.ndarray] = []
    paths: list[np.ndarray] = []
    total = np.empty(0)
    for plane in planes:
        filled = ndimage.binary_fill_holes(mask[plane])
        allowed, radius = _inner(filled, size)
        known = np.where(np.isfinite(density[plane]), density[plane], 0.0) / typical
        level = _smoothed(known, filled, 1.0) - _smoothed(known, filled, radius / 3.0 / size[1::-1])
        rows, columns = _candidates(level, allowed, step)
        xy = (np.column_stack([columns, rows]) + 0.5) * size[:2]
        cost = level[rows, columns]
        if spots:
            through = total + ((xy[:, None] - spots[-1]) ** 2).sum(axis=2) / radius**2
            paths.append(through.argmin(axis=1))
            cost = cost + through.min(axis=1)
        spots.append(xy)
        total = cost
    at = int(total.argmin())
    found = [spots[-1][at]]
    for before, path in zip(spots[-2::-1], paths[::-1], strict=True):
        at = int(path[at])
        found.append(before[at])
    points = np.column_stack([np.array(found[::-1]), (planes + 0.5) * size[2]])
    return smooth_line(points, smoothing, np.ones(len(points)))


def _smoothed(values: np.ndarray, inside: np.ndarray, sigma: float | np.ndarray) -> np.ndarray:
    """Gaussian mean over the places inside alone."""
    weight = ndimage.gaussian_filter(inside.astype(np.float64), sigma)
    return ndimage.gaussian_filter(np.where(inside, values, 0.0), sigma) / np.maximum(weight, 1e-12)


def _inner(filled: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, float]:
    """Inner part (y, x) of a plane without holes, and the largest distance from its outline."""
    depth = ndimage.distance_transform_edt(np.pad(filled, 1), sampling=size[1::-1])[1:-1, 1:-1]
    radius = float(depth.max())
    return depth >= radius / 2.0, radius


def _candidates(level: np.ndarray, allowed: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the emptiest allowed place in each square of `step` pixels."""
    rows, columns = np.nonzero(allowed)
    square = (rows // step) * (allowed.shape[1] // step + 1) + columns // step
    order = np.lexsort([level[rows, columns], square])
    first = order[np.unique(square[order], return_index=True)[1]]
    return rows[first], columns[first]
