"""Predictors that need no model of motion: what a fit has to beat on sections that were held out."""

from __future__ import annotations

from isost._core.baselines.low_rank import LowRank
from isost._core.baselines.neighbours import (
    WIDTHS,
    Kernel,
    Nearest,
    Union,
    WeightedUnion,
    blended_kernels,
    choose_width,
)
from isost._core.baselines.regression import Regression, fit_mlp
from isost._core.baselines.training import Cloud, Gap, Predictor, Training, Uncertain, draw
from isost._core.baselines.vector_field import fit_sparse_vfc

__all__ = [
    "WIDTHS",
    "Cloud",
    "Gap",
    "Kernel",
    "LowRank",
    "Nearest",
    "Predictor",
    "Regression",
    "Training",
    "Uncertain",
    "Union",
    "WeightedUnion",
    "blended_kernels",
    "choose_width",
    "draw",
    "fit_mlp",
    "fit_sparse_vfc",
]
