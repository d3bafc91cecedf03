"""Whether motion is believed, and how wide intervals over depth and age are: sections left out say.

Sections that have neighbours on both sides, along depth and along age, are predicted from the others, whose
displacements and covariances stay. The field's error with the cells in the common frame has to be less than with the
cells as they lie; factors of standard deviations are those of `isost._core.calibrate`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from isost._core.calibrate import MOST_CELLS, SIDE, LeftOut, factors_of
from isost._core.covariance import spacing_of
from isost._time.field import SheetField
from isost._time.sheet import Sheet

_MOST = 6  # sections that are left out


def calibrated(sheet: Sheet, shift: np.ndarray) -> tuple[SheetField, dict[str, Any]]:
    """Choose between cells in the common frame and as they lie, and scale the deviations; and say what was found."""
    asked = _inner(sheet)
    moved = SheetField(sheet, shift)
    if not asked:
        return moved, {"motion": True, "left_out": {}}
    still = SheetField(sheet, np.zeros_like(shift))
    found = {name: [_leave_out(field, k) for k in asked] for name, field in (("frame", moved), ("still", still))}
    noise = np.maximum(moved.kernel.hyper.noise, 1e-300)
    error = {
        name: float(np.mean([(part.residual**2 / noise).mean() for part in parts])) for name, parts in found.items()
    }
    chosen = "frame" if error["frame"] <= error["still"] else "still"
    field = moved if chosen == "frame" else still
    factor = factors_of(found[chosen], np.eye(sheet.stack.n_scores))
    return field.scaled_by(factor), {"motion": chosen == "frame", "left_out": error}


def _inner(sheet: Sheet) -> list[int]:
    """Sections between others, spread over all: along age, or along depth where there are but two stages."""
    between = sheet.ages.tolist()[1:-1] or sheet.ages.tolist()
    inner = [k for age in between for k in (sheet.stage(age)[1:-1].tolist() or sheet.stage(age).tolist())]
    inner = [k for k in inner if len(sheet.stage(sheet.at[k, 1])) > 2 or len(sheet.ages) > 2]
    return [inner[i] for i in np.unique(np.linspace(0, len(inner) - 1, _MOST).round().astype(int))] if inner else []


def _leave_out(field: SheetField, section: int) -> LeftOut:
    stack = field.sheet.stack
    rows = np.arange(stack.starts[section], stack.starts[section + 1])
    rows = np.random.default_rng(0).permutation(rows)[:MOST_CELLS]
    at = np.broadcast_to(field.sheet.at[section], (len(rows), 2))
    measured = stack.scores_of(rows)
    mean, variance = field.without(section).predict(np.column_stack([stack.coords[rows, :2], at]), with_variance=True)
    assert variance is not None
    bins = np.floor(stack.coords[rows, :2] / (SIDE * spacing_of(stack))).astype(np.int64)
    _, member, count = np.unique(bins, axis=0, return_inverse=True, return_counts=True)
    entries = (1 / count[member.ravel()], (member.ravel(), np.arange(len(rows))))
    average = sparse.csr_matrix(entries, shape=(len(count), len(rows)))
    off = measured - (average @ measured)[member.ravel()]
    scatter = off.T @ off / max(len(rows) - len(count), 1)
    residual = average @ (measured - mean)
    return LeftOut(residual, np.zeros((0, *residual.shape)), average @ variance, count, scatter)
