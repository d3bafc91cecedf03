"""Fit one model over depth and age."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from isost._core.checkpoint import Checkpoint, identity_of
from isost._core.transport import N_CANDIDATES
from isost._logging import logger
from isost._time.calibrate import calibrated
from isost._time.field import SheetField
from isost._time.frame import common_frame
from isost._time.sheet import Sheet


def fit_sheet(
    sheet: Sheet, *, n_candidates: int = N_CANDIDATES, feature_weight: float = 2.0, progress: bool = True,
    checkpoint: Path | None = None, resume: bool = False,
) -> tuple[SheetField, dict[str, Any]]:  # fmt: skip
    """Lay all sections into one frame, estimate the covariance of the field there, and ask sections that are left out.

    Returns
    -------
    The field, and how it was fitted, JSON-able.
    """
    stack, started = sheet.stack, time.perf_counter()
    edges = sheet.edges()
    logger.info("fit: %d sections of %d stages, %d cells; %d pairs of neighbours", stack.n_sections, len(sheet.ages),
                stack.n_cells, len(edges))  # fmt: skip
    how = {"at": sheet.at.tolist(), "n_candidates": n_candidates, "feature_weight": feature_weight}
    kept = Checkpoint(checkpoint, identity_of(stack, torch.Generator().manual_seed(0), **how), resume=resume)
    shift = common_frame(stack, edges, n_candidates=n_candidates, feature_weight=feature_weight, show=progress,
                         checkpoint=kept)  # fmt: skip
    field, said = calibrated(sheet, shift)
    seconds = time.perf_counter() - started
    logger.info("fit: done in %.1f s", seconds)
    settings = {"n_candidates": n_candidates, "feature_weight": feature_weight}
    return field, {"objective": "sheet", "settings": settings, "seconds": round(seconds, 3), **said}
