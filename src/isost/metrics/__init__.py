"""Scores of predicted cells and fields beside measured ones: arrays in, numbers out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.metrics._agreement import label_agreement, plane_consistency
    from isost.metrics._bins import bin_side
    from isost.metrics._cells import density_correlation, dice, score_cells
    from isost.metrics._composition import composition_similarity
    from isost.metrics._distance import chamfer_distance, energy_distance, sinkhorn_divergence
    from isost.metrics._domains import domains
    from isost.metrics._errors import minmax_mse, normalised_mse
    from isost.metrics._field import gene_correlation, score_field
    from isost.metrics._intervals import crps_normal, interval_coverage, interval_width
    from isost.metrics._moran import morans_i, morans_i_agreement
    from isost.metrics._score_expression import score_expression
    from isost.metrics._similarity import structural_similarity

_MODULES = {
    "bin_side": "_bins",
    "chamfer_distance": "_distance",
    "composition_similarity": "_composition",
    "crps_normal": "_intervals",
    "density_correlation": "_cells",
    "dice": "_cells",
    "domains": "_domains",
    "energy_distance": "_distance",
    "gene_correlation": "_field",
    "interval_coverage": "_intervals",
    "interval_width": "_intervals",
    "label_agreement": "_agreement",
    "minmax_mse": "_errors",
    "morans_i": "_moran",
    "morans_i_agreement": "_moran",
    "normalised_mse": "_errors",
    "plane_consistency": "_agreement",
    "score_cells": "_cells",
    "score_expression": "_score_expression",
    "score_field": "_field",
    "sinkhorn_divergence": "_distance",
    "structural_similarity": "_similarity",
}

__all__ = [
    "bin_side",
    "chamfer_distance",
    "composition_similarity",
    "crps_normal",
    "density_correlation",
    "dice",
    "domains",
    "energy_distance",
    "gene_correlation",
    "interval_coverage",
    "interval_width",
    "label_agreement",
    "minmax_mse",
    "morans_i",
    "morans_i_agreement",
    "normalised_mse",
    "plane_consistency",
    "score_cells",
    "score_expression",
    "score_field",
    "sinkhorn_divergence",
    "structural_similarity",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"isost.metrics.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'isost.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
