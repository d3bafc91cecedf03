"""Means of blocks of voxels, lazily, that keep to the tissue."""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np

_MOST_LEVELS = 8


def factors_within(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Find the edges of the smallest blocks that leave at most so many; an axis that is shorter becomes one block."""
    by = 1
    while math.prod(-(-length // min(by, length)) for length in shape) > max(1, most):
        by += 1
    return tuple(min(by, length) for length in shape)


def block_mean(values: da.Array, factors: tuple[int, ...]) -> da.Array:
    """Average blocks of the last axes of an array (..., z, y, x) that is NaN outside the tissue.

    Each block is the mean of its voxels inside the tissue, or NaN where more than half of it lies outside or beyond the
    volume, so that the tissue does not swell.
    """
    before = values.ndim - len(factors)
    room = [(0, -length % by) for length, by in zip(values.shape[before:], factors, strict=True)]
    if any(after for _, after in room):
        values = da.pad(values, [(0, 0)] * before + room, constant_values=np.nan)
    return da.coarsen(_mean_inside, values, {before + axis: by for axis, by in enumerate(factors)})


def halved(shape: tuple[int, ...], *, least: int) -> list[tuple[int, ...]]:
    """Find what each level of a pyramid divides the one before by, until its longest side is at most `least`."""
    levels: list[tuple[int, ...]] = []
    while max(shape) > least and len(levels) < _MOST_LEVELS:
        levels.append(tuple(min(2, length) for length in shape))
        shape = tuple(-(-length // by) for length, by in zip(shape, levels[-1], strict=True))
    return levels


def _mean_inside(blocks: np.ndarray, axis: tuple[int, ...] | None = None, **options: Any) -> np.ndarray:
    inside = np.isfinite(blocks)
    number = inside.sum(axis=axis, **options)
    total = np.where(inside, blocks, 0).sum(axis=axis, dtype=np.float64, **options)
    within = 2 * number * number.size >= inside.size
    return np.where(within, total / np.maximum(number, 1), np.nan).astype(blocks.dtype)
