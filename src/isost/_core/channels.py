"""Genes and channels of a volume as one lazy image."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import numpy as np

from isost._core.voxels import Voxels


def lazy_channels(voxels: Voxels, genes: str | Sequence[str] | None) -> tuple[list[str], da.Array]:
    """Stack genes, or the channels of the volume: their names, and (c, z, y, x) float32, NaN outside the tissue.

    Raises
    ------
    KeyError
        If a gene is unknown.
    ValueError
        If none is named, or one twice.
    """
    if genes is None:
        names, values = list(voxels.channels), voxels.values
    else:
        names = [genes] if isinstance(genes, str) else list(genes)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"genes: expected names, each once, found {names}. Next: leave genes out.")
        # one by one: a block of all genes at once could be larger than memory
        values = da.stack([voxels.gene(name) for name in names])
    return names, da.where(voxels.lazy_mask > 0, values, np.float32(np.nan)).astype(np.float32)
