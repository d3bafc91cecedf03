"""Sections whose expression was predicted, from images say, count by how accurate it is.

The cells of a section of weight w < 1 take the scores w x + (1 - w) n. x are their own; n is what the measured
sections (weight 1) nearest above and below say at the cell's x and y: a Gaussian kernel mean over each of the two,
linear in depth between them, or over the only one. The kernel is 2 h wide, h = 2.5 x the distance of neighbouring
cells: as wide as that of the kernel baseline where there is no section to choose a width by.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from isost._core.checks import Problems, show, show_rows, to_numbers
from isost._core.kernel import kernel_fields
from isost.metrics._bins import bin_side

if TYPE_CHECKING:
    from isost._core.stack import Stack

WEIGHT_KEY = "section_weight"
NEIGHBOURS_WIDTH = 2.0  # of the kernel, in h
_AT_ONCE = 30_000  # cells


def measured_of(weights: np.ndarray | None, n_sections: int) -> list[int]:
    """Sections of weight 1: all where there are no weights."""
    return list(range(n_sections)) if weights is None else np.flatnonzero(weights == 1).tolist()


def read_weights(adata: AnnData, codes: np.ndarray, names: np.ndarray, problems: Problems) -> np.ndarray | None:
    """Read the weight (K,) of each section from `obs["section_weight"]`; None without it, or where all are 1.

    Parameters
    ----------
    codes, names
        (n,) section of each cell, -1 for none, and the K names.
    """
    if WEIGHT_KEY not in adata.obs:
        return None
    where, remedy = f"adata.obs[{WEIGHT_KEY!r}]", "isost.pp.stack_sections(sections, z=depths, weight=...) writes it"
    values = to_numbers(adata.obs[WEIGHT_KEY])
    if isinstance(values, list) or not np.all((values >= 0) & (values <= 1)):
        found = show(values) if isinstance(values, list) else f"others in {show_rows(~((values >= 0) & (values <= 1)))}"
        problems.add(where, expected="numbers from 0 to 1", found=found, next=remedy)
        return None
    low, high = np.full((2, len(names)), [[np.inf], [-np.inf]])
    known = codes >= 0
    np.minimum.at(low, codes[known], values[known])
    np.maximum.at(high, codes[known], values[known])
    if np.any(low < high):
        found = f"several in {show(names[low < high])}"
        problems.add(where, expected="one value for each section", found=found, next=remedy)
    elif not np.any(low == 1):
        problems.add(
            where,
            expected="a section of weight 1, one that was measured",
            found=f"weights up to {high.max():g}",
            next="give measured sections, or the best predicted ones, weight 1",
        )
    elif np.any(low < 1):
        return low
    return None


def trusted(stack: Stack) -> Stack:
    """Draw predicted sections towards what the measured ones say; the very stack where all were measured."""
    if stack.weights is None:
        return stack
    scores, width = stack.scores.copy(), _width_of(stack)
    for k in np.flatnonzero(stack.weights < 1).tolist():
        rows, weight = stack.slice_of(k), stack.weights[k]
        scores[rows] = weight * scores[rows] + (1 - weight) * _neighbours(stack, k, width)
    return stack.with_scores(scores)


def without(stack: Stack, section: int) -> Stack:
    """Leave a measured section out, with all that predicted ones took from it."""
    rest = stack.select([k for k in range(stack.n_sections) if k != section])
    return follow(stack, rest, [section])


def follow(before: Stack, after: Stack, changed: Collection[int]) -> Stack:
    """Let predicted sections follow measured ones that changed, or are not there any more.

    Parameters
    ----------
    before, after
        Stacks of the same predicted sections, drawn towards what the first one says.
    changed
        Numbers of the measured sections in `before`.
    """
    if before.weights is None:
        return after
    width, scores = _width_of(before), None
    for k in np.flatnonzero(before.weights < 1).tolist():
        if set(_beside(before, k)) & set(changed):
            now = after.names.index(before.names[k])
            change = _neighbours(after, now, width) - _neighbours(before, k, width)
            scores = after.scores.copy() if scores is None else scores
            scores[after.slice_of(now)] += ((1 - before.weights[k]) * change).astype(np.float32)
    return after if scores is None else after.with_scores(scores)


def measured_part(stack: Stack) -> Stack:
    """Sections that were measured; the very stack where all were, or fewer than two."""
    return stack if stack.weights is None or len(stack.measured) < 2 else stack.select(stack.measured)


def describe(stack: Stack) -> str:
    """Say how many sections were predicted and how much they count; nothing where all were measured."""
    if stack.weights is None or len(stack.measured) == stack.n_sections:
        return ""
    weights = stack.weights[stack.weights < 1]
    low, high = f"{weights.min():.2g}", f"{weights.max():.2g}"
    span = low if low == high else f"{low} to {high}"
    return f"{len(weights)} of {stack.n_sections} sections are predicted, and count by weights of {span}"


def _width_of(stack: Stack) -> float:
    return NEIGHBOURS_WIDTH * bin_side([stack.coords[stack.slice_of(k)] for k in range(stack.n_sections)])


def _beside(stack: Stack, section: int) -> list[int]:
    """Find the measured sections nearest above and below, or the only one."""
    below = [k for k in stack.measured if k < section]
    above = [k for k in stack.measured if k > section]
    return [*below[-1:], *above[:1]]


def _neighbours(stack: Stack, section: int, width: float) -> np.ndarray:
    """Scores (m, S) that measured sections say for the cells of another."""
    rows, beside = stack.slice_of(section), _beside(stack, section)
    places, z = stack.coords[rows, :2], stack.coords[rows, 2:]
    low, high = stack.depths[[beside[0], beside[-1]]]
    t = np.clip((z - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(z)
    found = np.zeros((len(places), stack.n_scores), dtype=np.float32)
    for k, share in zip(beside, (1 - t, t), strict=False):
        coords, scores = stack.coords[stack.slice_of(k), :2], stack.scores_of(stack.slice_of(k))
        for start in range(0, len(places), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found[part] += share[part] * next(iter(kernel_fields(places[part], coords, scores, (width,))))
    return found
