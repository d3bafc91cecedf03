"""Plots: sections, reconstructed volumes and how the fit went."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.pl._compare import compare
    from isost.pl._cross_validation import cross_validation
    from isost.pl._morph import morph
    from isost.pl._napari import napari
    from isost.pl._orthoviews import orthoviews
    from isost.pl._rotate import rotate
    from isost.pl._section_titration import section_titration
    from isost.pl._sections import sections
    from isost.pl._training import training
    from isost.pl._uncertainty import uncertainty
    from isost.pl._volume import volume

__all__ = [
    "compare",
    "cross_validation",
    "morph",
    "napari",
    "orthoviews",
    "rotate",
    "section_titration",
    "sections",
    "training",
    "uncertainty",
    "volume",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"isost.pl._{name}"), name)
    raise AttributeError(f"module 'isost.pl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
