"""Read a reconstruction."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.get._gene import gene
    from isost.get._radial_gradients import radial_gradients

__all__ = ["gene", "radial_gradients"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"isost.get._{name}"), name)
    raise AttributeError(f"module 'isost.get' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
