"""Spatial features of the voxels of a volume, a slab of planes at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np

from isost._tools.features import Layout
from isost._tools.smoothing import AXES, Filters, reach

_BLOCK_BYTES = 2**29  # of the features of a slab
_MOST_THREADS = 4


class VolumeFeatures:
    """Features of the voxels inside a mask, in the order of `numpy.argwhere(mask)`.

    Parameters
    ----------
    values
        Lazy (P, z, y, x); what is not finite is unknown, inside the mask too.
    mask
        (z, y, x) bool.
    sigma
        Standard deviation of the Gaussian, in voxels.
    own
        Whether the values of the voxel itself are features too.
    block_bytes
        Of the features that are held at once.
    """

    def __init__(
        self, values: da.Array, mask: np.ndarray, *, sigma: float, own: bool, block_bytes: float = _BLOCK_BYTES
    ) -> None:
        self.layout = Layout(values.shape[0], own)
        self._values, self._mask, self._sigma = values, mask, sigma
        self._block_bytes = block_bytes

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield (m, F) float32, of voxels that have known values around."""
        for core, values, filters, inner in self._slabs():
            inside = self._mask[core]
            found = np.empty((int(inside.sum()), self.layout.width), dtype=np.float32)
            self._fill(found, values, filters, inner, inside)
            found[:, self.layout.position] = _positions(core, inside)
            yield found[filters.reached[inner][inside]]

    def project(self, axes: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(n, q) float32: filters are linear, so that q projected channels are filtered instead of all of them."""
        layout, offset = self.layout, (mean @ axes).astype(np.float32)
        scores = np.zeros((int(self._mask.sum()), axes.shape[1]), dtype=np.float32)
        done = 0
        for core, values, filters, inner in self._slabs():
            inside = self._mask[core]
            rows = slice(done, done + int(inside.sum()))
            done = rows.stop
            scores[rows] = self._project_slab(values, filters, axes)[:, inner][:, inside].T
            scores[rows] += _positions(core, inside) @ axes[layout.position] - offset
            scores[rows][~filters.reached[inner][inside]] = 0
        return scores

    def _project_slab(self, values: np.ndarray, filters: Filters, axes: np.ndarray) -> np.ndarray:
        """(q, z, y, x): means, slopes and own values of the slab times their axes."""
        layout, found = self.layout, np.empty((axes.shape[1], *values.shape[1:]), dtype=np.float32)

        def one(k: int) -> None:
            found[k] = filters.mean(np.tensordot(axes[layout.mean, k], values, axes=1))
            for number, axis in enumerate(AXES):
                along = self._sigma * axes[layout.slope(number), k]
                found[k] += filters.slope(np.tensordot(along, values, axes=1), axis)
            if layout.own:
                own = np.tensordot(axes[layout.values, k], values, axes=1)
                found[k] += np.where(filters.known, own, filters.mean(own))

        _side_by_side(one, range(axes.shape[1]))
        return found

    def _fill(self, found: np.ndarray, values: np.ndarray, filters: Filters, inner: slice, inside: np.ndarray) -> None:
        layout = self.layout

        def one(k: int) -> None:
            mean = filters.mean(values[k])
            found[:, k] = mean[inner][inside]
            for number, axis in enumerate(AXES):
                slope = filters.slope(values[k], axis)
                found[:, layout.slope(number).start + k] = self._sigma * slope[inner][inside]
            if layout.own:
                found[:, layout.values.start + k] = np.where(filters.known, values[k], mean)[inner][inside]

        _side_by_side(one, range(layout.n_values))

    def _slabs(self) -> Iterator[tuple[slice, np.ndarray, Filters, slice]]:
        """Yield planes, the values of these and those around that filters see, and where the planes lie in them."""
        halo, depth = reach(self._sigma), len(self._mask)
        plane = max(1, int(self._mask.sum(axis=(1, 2)).max())) * self.layout.width * 4
        step = max(1, int(self._block_bytes // plane))
        for start in range(0, depth, step):
            core = slice(start, min(start + step, depth))
            around = slice(max(0, core.start - halo), min(depth, core.stop + halo))
            values = np.asarray(self._values[:, around], dtype=np.float32)
            known = self._mask[around] & np.isfinite(values).all(axis=0)
            values = np.where(known, values, np.float32(0))
            yield core, values, Filters(known, self._sigma), slice(core.start - around.start, core.stop - around.start)


def _positions(core: slice, inside: np.ndarray) -> np.ndarray:
    """(m, 3) float32, x, y, z in voxels."""
    z, y, x = np.nonzero(inside)
    return np.column_stack([x, y, z + core.start]).astype(np.float32)


def _side_by_side(function: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Call a function for each channel; filters let other threads run."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(function, numbers))
