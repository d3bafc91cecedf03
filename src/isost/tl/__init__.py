"""Tools: fit, reconstruct, cross-validate, export."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isost.tl._cross_validate import cross_validate
    from isost.tl._fit import fit
    from isost.tl._reconstruct import reconstruct
    from isost.tl._section_titration import section_titration
    from isost.tl._to_neuroglancer import to_neuroglancer
    from isost.tl._to_ome_zarr import to_ome_zarr

__all__ = ["cross_validate", "fit", "reconstruct", "section_titration", "to_neuroglancer", "to_ome_zarr"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"isost.tl._{name}"), name)
    raise AttributeError(f"module 'isost.tl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
