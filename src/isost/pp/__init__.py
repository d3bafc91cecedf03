"""Preprocessing: sections into one stack, expression into what decodes to genes, images into what guides a fit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.pp._align_images import align_images
    from isost.pp._align_stages import align_stages
    from isost.pp._embed import embed
    from isost.pp._image_features import image_features
    from isost.pp._segment_nuclei import segment_nuclei
    from isost.pp._stack_sections import stack_sections

__all__ = ["align_images", "align_stages", "embed", "image_features", "segment_nuclei", "stack_sections"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"isost.pp._{name}"), name)
    raise AttributeError(f"module 'isost.pp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
