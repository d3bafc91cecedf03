"""Tools: fit, reconstruct, cross-validate, what is done with a reconstruction, and exports."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.tl._composition import composition
    from isost.tl._composition_difference import composition_difference
    from isost.tl._cross_validate import cross_validate
    from isost.tl._domain_graph import domain_graph
    from isost.tl._domain_markers import domain_markers
    from isost.tl._dynamic_genes import dynamic_genes
    from isost.tl._enrichment import enrichment
    from isost.tl._fit import fit
    from isost.tl._fit_histology import fit_histology
    from isost.tl._growth import growth
    from isost.tl._histology_features import histology_features
    from isost.tl._organ_proportions import organ_proportions
    from isost.tl._predict_expression import predict_expression
    from isost.tl._propagate_labels import propagate_labels
    from isost.tl._radial_gradients import radial_gradients
    from isost.tl._reconstruct import reconstruct
    from isost.tl._section_titration import section_titration
    from isost.tl._spatial_clusters import spatial_clusters
    from isost.tl._spatial_domains import spatial_domains
    from isost.tl._spatial_features import spatial_features
    from isost.tl._to_neuroglancer import to_neuroglancer
    from isost.tl._to_ome_zarr import to_ome_zarr
    from isost.tl._transfer_labels import transfer_labels
    from isost.tl._virtual_section import virtual_section

__all__ = [
    "composition",
    "composition_difference",
    "cross_validate",
    "domain_graph",
    "domain_markers",
    "dynamic_genes",
    "enrichment",
    "fit",
    "fit_histology",
    "growth",
    "histology_features",
    "organ_proportions",
    "predict_expression",
    "propagate_labels",
    "radial_gradients",
    "reconstruct",
    "section_titration",
    "spatial_clusters",
    "spatial_domains",
    "spatial_features",
    "to_neuroglancer",
    "to_ome_zarr",
    "transfer_labels",
    "virtual_section",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"isost.tl._{name}"), name)
    raise AttributeError(f"module 'isost.tl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
