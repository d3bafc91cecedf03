"""The isotropic voxel grid over a stack, and whether what is to be put on it fits into memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isost._core.covariance import spacing_of
from isost._core.requests import as_number
from isost._core.stack import Stack
from isost._logging import logger

GIB = 2**30
_COPIES = 2  # on a disk: slabs, and the store that they become
_SPACINGS_PER_VOXEL = 2.5
_COARSEST = 64  # a pyramid ends where its larger side would fall below this
_MOST_LEVELS = 4


@dataclass(frozen=True, eq=False)
class Grid:
    """Cubes that cover the stack's bounding box in the plane, with a margin, and its depth range.

    The cubes are centred on the range, so that every plane of centres lies inside the stack. In the plane whole cubes
    are added around until their number is a multiple of a power of two, so that every level of a pyramid covers the
    same box.

    Attributes
    ----------
    origin
        (3,) float64, x, y, z of the lower corner of the first voxel, in the input's unit.
    voxel_size
        Edge of a cube, in the input's unit.
    shape
        Number of voxels along z, y, x.
    """

    origin: np.ndarray
    voxel_size: float
    shape: tuple[int, int, int]

    @property
    def n_voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def depths(self) -> np.ndarray:
        """(z,) float64, depth of each plane of voxel centres."""
        return self.origin[2] + (np.arange(self.shape[0]) + 0.5) * self.voxel_size

    @property
    def scale_factors(self) -> list[dict[str, int]]:
        """What each level of a pyramid divides the one before by; an odd number of planes is left as it is."""
        planes, rows, columns = self.shape
        factors: list[dict[str, int]] = []
        while not factors or (max(rows, columns) >= 2 * _COARSEST and len(factors) < _MOST_LEVELS):
            if rows % 2 or columns % 2:
                break
            by = 1 if planes % 2 else 2
            planes, rows, columns = planes // by, rows // 2, columns // 2
            factors.append({"z": by, "y": 2, "x": 2})
        return factors

    def part(self, planes: slice) -> Grid:
        """Make some planes a grid of their own."""
        origin = self.origin + np.array([0.0, 0.0, planes.start * self.voxel_size])
        return Grid(origin, self.voxel_size, (planes.stop - planes.start, *self.shape[1:]))

    def centres(self, planes: slice) -> np.ndarray:
        """(m, 3) float64, x, y, z of the voxel centres of these planes, x running fastest."""
        z, y, x = np.meshgrid(self.depths[planes], *(self._axis(axis) for axis in (1, 0)), indexing="ij")
        return np.column_stack([x.ravel(), y.ravel(), z.ravel()])

    def index(self, coords: np.ndarray) -> np.ndarray:
        """(n,) int64, the voxel (counted with x running fastest) that each place (n, 3) lies in; -1 outside."""
        size = np.array(self.shape[::-1])
        place = (np.asarray(coords, dtype=np.float64) - self.origin) / self.voxel_size
        # the last cube owns its upper face, within rounding, so that a cell at the end of the range is counted
        voxel = np.where(place <= size + 1e-9, np.minimum(np.floor(place + 1e-9), size - 1), -1).astype(np.int64)
        flat = (voxel[:, 2] * size[1] + voxel[:, 1]) * size[0] + voxel[:, 0]
        return np.where((voxel >= 0).all(axis=1), flat, -1)

    def _axis(self, axis: int) -> np.ndarray:
        return self.origin[axis] + (np.arange(self.shape[2 - axis]) + 0.5) * self.voxel_size


def make_grid(
    stack: Stack, voxel_size: float | None, *, n_channels: int, max_memory: float | None = None,
    room: float | None = None,
) -> Grid:  # fmt: skip
    """Lay a grid over a stack, after checking that the volume on it fits.

    Parameters
    ----------
    voxel_size
        Edge of a voxel in the input's unit. None: 2.5 times the median distance of neighbouring cells, at most the
        median distance of sections, coarser where that would not fit.
    n_channels
        Channels of the volume.
    max_memory
        GiB the result may take; None for half of the machine's memory.
    room
        Bytes that are free on the disk that the volume is streamed to: then it has to fit there, not into memory.

    Raises
    ------
    ValueError
        If the size is not a positive number, is larger than the tissue is wide, or makes a volume larger than
        `max_memory`, or than the disk has room for.
    """
    budget, of = _budget(max_memory), "max_memory"
    if room is not None:
        budget, of = room / _COPIES, "half of what is free on the disk"
    if voxel_size is None:
        size = _automatic_size(stack, n_channels, budget)
        logger.info("voxel size: %g %s, chosen from the distances of cells and of sections", size, stack.unit)
    else:
        size = _checked_size(stack, voxel_size, n_channels, budget)
    needed = _bytes(stack, size, n_channels)
    if needed > budget:
        shape = " x ".join(f"{count:,.0f}" if count < 1e9 else f"{count:.3g}" for count in _counts(stack, size))
        raise ValueError(
            f"voxel_size: expected one whose volume fits into {budget / GIB:,.3g} GiB ({of}), found {size:g} "
            f"{stack.unit}, which makes {shape} voxels (z, y, x) of {n_channels} channels, about "
            f"{needed / GIB:,.3g} GiB. Next: {_advice(stack, n_channels, budget, streamed=room is not None)}"
        )
    planes, rows, columns = (int(count) for count in _counts(stack, size))
    covering = np.array(_covering(stack, size))
    before = covering / 2 + (np.array([planes, rows, columns]) - covering) // 2
    low, high = stack.coords[:, :2].min(axis=0), stack.coords[:, :2].max(axis=0)
    middle = np.array([*(low + high) / 2, (stack.depths[0] + stack.depths[-1]) / 2])
    return Grid(middle - size * before[::-1], size, (planes, rows, columns))


def _checked_size(stack: Stack, voxel_size: float, n_channels: int, budget: float) -> float:
    size = as_number("voxel_size", voxel_size)
    if not (math.isfinite(size) and size > 0):
        raise ValueError(
            f"voxel_size: expected a finite number above 0, found {voxel_size!r}. Next: leave it out to have one chosen"
        )
    if size > _width(stack):
        raise ValueError(
            f"voxel_size: expected at most the width of the tissue, {_width(stack):g} {stack.unit}, found {size:g}. "
            f"Next: voxel_size={_automatic_size(stack, n_channels, budget):g}, which suits the distances of the cells."
        )
    return size


def _width(stack: Stack) -> float:
    """Larger extent in the plane; no limit where all cells lie at one place."""
    return float(np.ptp(stack.coords[:, :2], axis=0).max()) or math.inf


def _budget(max_memory: float | None) -> float:
    """Bytes that may be taken."""
    if max_memory is None:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
        except (AttributeError, ValueError, OSError):  # no such question on Windows
            return 8.0 * GIB
    gib = as_number("max_memory", max_memory)
    if not gib > 0:
        raise ValueError(f"max_memory: expected GiB above 0, found {max_memory!r}. Next: leave it out.")
    return gib * GIB


def _covering(stack: Stack, size: float) -> tuple[float, float, float]:
    """Voxels along z, y, x that cover the block; floats, as a tiny size makes more of them than an integer holds."""
    extent = [*np.ptp(stack.coords[:, :2], axis=0), stack.depths[-1] - stack.depths[0]]
    with np.errstate(over="ignore"):
        x, y, z = (max(1.0, float(np.ceil(length / size - 1e-9))) for length in extent)
    # one empty voxel on every side: cells may move a little beyond the box, and the tissue's surface is closed
    return z, y + 2, x + 2


def _counts(stack: Stack, size: float) -> tuple[float, float, float]:
    """Voxels of the grid along z, y, x; in the plane a multiple of a power of two."""
    z, y, x = _covering(stack, size)
    if not math.isfinite(x * y * z):
        return z, y, x
    multiple = 2 ** min(_MOST_LEVELS, max(1, int(math.log2(max(x, y) / _COARSEST))))
    return z, multiple * math.ceil(y / multiple), multiple * math.ceil(x / multiple)


def _bytes(stack: Stack, size: float, n_channels: int) -> float:
    """Upper estimate of what the volume, its uncertainty, the pyramid, the cells and the tables take."""
    planes, rows, columns = _counts(stack, size)
    per_voxel = 4 * n_channels * (2 + 1 / 3) + 4 * stack.n_scores + 80
    per_cell = 4 * stack.n_features + 4 * n_channels + 150
    return planes * rows * columns * per_voxel + planes * stack.n_cells / stack.n_sections * per_cell


def _automatic_size(stack: Stack, n_channels: int, budget: float) -> float:
    wanted = min(_SPACINGS_PER_VOXEL * spacing_of(stack), float(np.median(np.diff(stack.depths))))
    return min(_smallest_size(stack, n_channels, budget, start=_two_digits(wanted, math.floor)), _width(stack))


def _advice(stack: Stack, n_channels: int, budget: float, *, streamed: bool) -> str:
    otherwise = "free space" if streamed else "raise max_memory, or stream it to a file by output='volume.zarr'"
    size, more = _smallest_size(stack, n_channels, budget), f"ask for fewer genes, or {otherwise}."
    return f"voxel_size={size:g} or larger fits, or {more}" if _bytes(stack, size, n_channels) <= budget else more


def _smallest_size(stack: Stack, n_channels: int, budget: float, start: float | None = None) -> float:
    """Find the smallest voxel, to two digits, that fits the budget; `start` or larger, if given."""
    size = high = float(max(*np.ptp(stack.coords[:, :2], axis=0), np.ptp(stack.depths)))
    low = start or high * 1e-6
    if _bytes(stack, low, n_channels) <= budget:
        return _two_digits(low, math.ceil)
    for _ in range(60):
        size = math.sqrt(low * high)
        low, high = (low, size) if _bytes(stack, size, n_channels) <= budget else (size, high)
    return _two_digits(high, math.ceil)


def _two_digits(size: float, rounding: Callable[[float], int]) -> float:
    unit = 10.0 ** (math.floor(math.log10(size)) - 1)
    return float(f"{rounding(round(size / unit, 6)) * unit:.3g}")
