"""Scores of predicted cells and fields beside measured ones: arrays in, numbers out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.metrics._bins import bin_side
    from isost.metrics._cells import density_correlation, dice, score_cells
    from isost.metrics._distance import energy_distance
    from isost.metrics._field import gene_correlation, score_field

_MODULES = {
    "bin_side": "_bins",
    "density_correlation": "_cells",
    "dice": "_cells",
    "energy_distance": "_distance",
    "gene_correlation": "_field",
    "score_cells": "_cells",
    "score_field": "_field",
}

__all__ = [
    "bin_side",
    "density_correlation",
    "dice",
    "energy_distance",
    "gene_correlation",
    "score_cells",
    "score_field",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"isost.metrics.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'isost.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
