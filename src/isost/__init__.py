"""From a stack of spatial transcriptomics sections to a continuous 3D transcriptome."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost import datasets, get, metrics, pl, pp, tl
    from isost.histology_model import HistologyModel
    from isost.reconstruction import Reconstruction
    from isost.reconstruction4d import Reconstruction4D
    from isost.spatial_domains import SpatialDomains

__version__ = "0.1.0"

__all__ = [
    "HistologyModel",
    "Reconstruction",
    "Reconstruction4D",
    "SpatialDomains",
    "__version__",
    "datasets",
    "get",
    "metrics",
    "pl",
    "pp",
    "tl",
]

_NAMESPACES = ("datasets", "get", "metrics", "pl", "pp", "tl")


def __getattr__(name: str) -> Any:
    # torch, scanpy and spatialdata take seconds to load: they wait until a name that needs them is asked for (PEP 562).
    if name in _NAMESPACES:
        return import_module(f"isost.{name}")
    if name == "HistologyModel":
        return import_module("isost.histology_model").HistologyModel
    if name == "Reconstruction":
        return import_module("isost.reconstruction").Reconstruction
    if name == "Reconstruction4D":
        return import_module("isost.reconstruction4d").Reconstruction4D
    if name == "SpatialDomains":
        return import_module("isost.spatial_domains").SpatialDomains
    raise AttributeError(f"module 'isost' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
