"""Toy stacks, phantoms with a known truth, and public data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.datasets._embryo import embryo, embryo_truth
    from isost.datasets._embryo_truth import EmbryoTruth
    from isost.datasets._fetch import available, fetch
    from isost.datasets._letters import letters
    from isost.datasets._morph import morph
    from isost.datasets._phantom import phantom, phantom_truth
    from isost.datasets._phantom_image import phantom_image
    from isost.datasets._phantom_slide import phantom_slide
    from isost.datasets._spinal_cord import spinal_cord
    from isost.datasets._truth import PhantomTruth

_HOME = {
    "EmbryoTruth": "_embryo_truth",
    "PhantomTruth": "_truth",
    "available": "_fetch",
    "embryo": "_embryo",
    "embryo_truth": "_embryo",
    "fetch": "_fetch",
    "letters": "_letters",
    "morph": "_morph",
    "phantom": "_phantom",
    "phantom_image": "_phantom_image",
    "phantom_slide": "_phantom_slide",
    "phantom_truth": "_phantom",
    "spinal_cord": "_spinal_cord",
}

__all__ = [
    "EmbryoTruth",
    "PhantomTruth",
    "available",
    "embryo",
    "embryo_truth",
    "fetch",
    "letters",
    "morph",
    "phantom",
    "phantom_image",
    "phantom_slide",
    "phantom_truth",
    "spinal_cord",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"isost.datasets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'isost.datasets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
