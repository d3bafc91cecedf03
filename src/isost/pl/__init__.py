"""Plots: sections, reconstructed volumes, what tools say of them, and how the fit went."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.pl._clusters import clusters
    from isost.pl._compare import compare
    from isost.pl._composition import composition
    from isost.pl._composition_difference import composition_difference
    from isost.pl._cross_validation import cross_validation
    from isost.pl._domain_graph import domain_graph
    from isost.pl._domain_markers import domain_markers
    from isost.pl._enrichment import enrichment
    from isost.pl._morph import morph
    from isost.pl._napari import napari
    from isost.pl._organ_proportions import organ_proportions
    from isost.pl._orthoviews import orthoviews
    from isost.pl._radial_gradients import radial_gradients
    from isost.pl._rotate import rotate
    from isost.pl._section_titration import section_titration
    from isost.pl._sections import sections
    from isost.pl._shells import shells
    from isost.pl._spatial_features import spatial_features
    from isost.pl._timeline import timeline
    from isost.pl._training import training
    from isost.pl._uncertainty import uncertainty
    from isost.pl._virtual_section import virtual_section
    from isost.pl._volume import volume

__all__ = [
    "clusters",
    "compare",
    "composition",
    "composition_difference",
    "cross_validation",
    "domain_graph",
    "domain_markers",
    "enrichment",
    "morph",
    "napari",
    "organ_proportions",
    "orthoviews",
    "radial_gradients",
    "rotate",
    "section_titration",
    "sections",
    "shells",
    "spatial_features",
    "timeline",
    "training",
    "uncertainty",
    "virtual_section",
    "volume",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"isost.pl._{name}"), name)
    raise AttributeError(f"module 'isost.pl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
