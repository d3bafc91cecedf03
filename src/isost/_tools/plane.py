"""Planes at any position and angle through a volume: their axes, where they cut it, and values on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane with axes of its own.

    Attributes
    ----------
    origin
        (3,) a point of the plane.
    right, up, normal
        (3,) unit vectors at right angles, right-handed.
    """

    origin: np.ndarray
    right: np.ndarray
    up: np.ndarray
    normal: np.ndarray

    @classmethod
    def through(cls, origin: np.ndarray, normal: np.ndarray, right: np.ndarray | None = None) -> Plane:
        """Make one across `normal`; its first axis is that part of `right` which lies in it, of x or else y if None."""
        normal = normal / np.linalg.norm(normal)
        if right is None:
            right = np.array([1.0, 0.0, 0.0]) if abs(normal[0]) < 1.0 - 1e-6 else np.array([0.0, 1.0, 0.0])
        right = right - (right @ normal) * normal
        right = right / np.linalg.norm(right)
        return cls(origin, right, np.cross(normal, right), normal)

    def flat(self, places: np.ndarray) -> np.ndarray:
        """In-plane coordinates (n, 2) of the feet of places (n, 3): their parts along `right` and `up`."""
        return places @ np.column_stack([self.right, self.up])

    def offset(self, places: np.ndarray) -> np.ndarray:
        """Signed distances (n,) from the plane, positive on the side that the normal points to."""
        return (places - self.origin) @ self.normal

    def places(self, flat: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the plane with in-plane coordinates (n, 2)."""
        return flat @ np.stack([self.right, self.up]) + (self.origin @ self.normal) * self.normal

    def cut(self, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
        """Where the plane cuts a box: ((right low, up low), (right high, up high)), None where it misses it."""
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
        side = self.offset(corners)
        # to a hair's breadth, so that a plane in a face of the box is in it
        hair = 1e-9 * float(np.linalg.norm(high - low))
        found = [corners[np.abs(side) <= hair]]
        for one in range(8):
            for bit in (1, 2, 4):
                other = one ^ bit
                if one < other and side[one] * side[other] < 0:
                    share = side[one] / (side[one] - side[other])
                    found.append((corners[one] + share * (corners[other] - corners[one]))[None])
        crossing = np.concatenate(found)
        if not len(crossing):
            return None
        flat = self.flat(crossing)
        return np.stack([flat.min(axis=0), flat.max(axis=0)])


@dataclass(frozen=True, eq=False)
class Pixels:
    """A grid on a plane: the lower corner of its first pixel, the edge of a pixel, and rows and columns."""

    corner: np.ndarray
    size: float
    shape: tuple[int, int]

    @classmethod
    def over(cls, box: np.ndarray, anchor: np.ndarray, size: float) -> Pixels:
        """Cover a box (2, 2) by pixels, one of which has a corner at `anchor` (2,)."""
        # a border that lies on a pixel's edge but for rounding needs no further pixel
        first = np.floor((box[0] - anchor) / size + 1e-6)
        last = np.maximum(np.ceil((box[1] - anchor) / size - 1e-6), first + 1)
        columns, rows = (last - first).astype(int)
        return cls(anchor + first * size, size, (int(rows), int(columns)))

    def centres(self) -> np.ndarray:
        """In-plane coordinates (rows x columns, 2) of all pixels, row after row."""
        rows, columns = np.indices(self.shape).reshape(2, -1)
        return self.corner + (np.column_stack([columns, rows]) + 0.5) * self.size


def interpolate(
    read: Callable[[np.ndarray], np.ndarray], mask: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate between the voxels of a tissue, trilinearly, by those of the eight around a place that lie in it.

    Parameters
    ----------
    read
        Values (m, C) of voxels (m, 3), z, y, x.
    mask
        (z, y, x) bool, the tissue.
    position
        (n, 3) z, y, x in voxels, the centre of the first voxel at 0; within half a voxel of the border the border's
        values hold.

    Returns
    -------
    (n,) bool, whether a place lies in the tissue: where half or more of the weight is on voxels that do, and the
    (k, C) float32 values of those that do.
    """
    shape = np.array(mask.shape)
    in_volume = ((position >= -0.5 - 1e-9) & (position <= shape - 0.5 + 1e-9)).all(axis=1)
    clipped = np.clip(position, 0.0, shape - 1.0)
    # rounding does not bring in a neighbour with a weight of nothing
    near = np.rint(clipped)
    clipped = np.where(np.abs(clipped - near) < 1e-9, near, clipped)
    floor = np.floor(clipped).astype(np.int64)
    share = clipped - floor
    weights, corners = [], []
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, share, 1.0 - share).prod(axis=1)
        index = np.minimum(floor + corner, shape - 1)
        weights.append(weight * mask[tuple(index.T)])
        corners.append(np.ravel_multi_index(tuple(index.T), mask.shape))
    weight, voxel = np.stack(weights, axis=1), np.stack(corners, axis=1)
    weight[~in_volume] = 0.0
    row, column = np.nonzero(weight)
    used, at = np.unique(voxel[row, column], return_inverse=True)
    if not len(used):
        return np.zeros(len(position), dtype=bool), np.empty((0, 0), dtype=np.float32)
    values = read(np.column_stack(np.unravel_index(used, mask.shape)))
    # voxels of the tissue in which nothing is known count as outside
    known = np.isfinite(values).all(axis=1)
    sum_of = sparse.csr_matrix((weight[row, column], (row, at)), shape=(len(position), len(used)))[:, known]
    total = np.asarray(sum_of.sum(axis=1)).ravel()
    inside = total >= 0.5
    return inside, ((sum_of[inside] @ values[known].astype(np.float64)) / total[inside, None]).astype(np.float32)
