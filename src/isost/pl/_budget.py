"""A volume in memory, averaged in blocks where it has more voxels than can be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isost._core.downsample import block_mean, factors_within
from isost._logging import logger
from isost.pl._quantity import Volume


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is drawn of a volume.

    Attributes
    ----------
    values
        (z, y, x) float32, NaN outside the tissue.
    origin, voxel
        (3,) x, y, z of the outer corner of the first voxel, and of the edges of a voxel.
    factors
        Voxels of the volume in each of these, along z, y, x.
    of
        What it was made of.
    """

    values: np.ndarray
    origin: np.ndarray
    voxel: np.ndarray
    factors: tuple[int, ...]
    of: Volume

    @property
    def inside(self) -> np.ndarray:
        """(z, y, x) bool."""
        return np.isfinite(self.values)

    @property
    def tissue(self) -> np.ndarray:
        """(n,) values inside the tissue, x running fastest."""
        return self.values[self.inside]

    @property
    def note(self) -> str:
        """What was averaged; empty where nothing was."""
        if max(self.factors) == 1:
            return ""
        return f"means of {' × '.join(map(str, self.factors[::-1]))} voxels (x × y × z)"

    def centres(self, index: np.ndarray) -> np.ndarray:
        """(m, 3) x, y, z of voxels given by (m, 3) z, y, x."""
        return self.origin + (np.asarray(index)[:, ::-1] + 0.5) * self.voxel

    def enclosed(self, outside: float) -> Drawn:
        """Add a layer of voxels all around, and put a number there and wherever else no tissue is."""
        values = np.pad(np.where(self.inside, self.values, np.float32(outside)), 1, constant_values=outside)
        return Drawn(values, self.origin - self.voxel, self.voxel, self.factors, self.of)


def within_budget(volume: Volume, max_voxels: int, *, quiet: bool = False) -> Drawn:
    """Read a volume, in blocks that are averaged so that at most `max_voxels` are left, and say so unless `quiet`."""
    if not max_voxels >= 1:
        raise ValueError(f"max_voxels: expected 1 or more, found {max_voxels!r}. Next: leave it out.")
    shape = volume.values.shape
    factors = factors_within(shape, int(max_voxels))
    values = np.asarray(block_mean(volume.tissue, factors)).astype(np.float32)
    if not np.isfinite(values).any():
        raise ValueError(
            f"max_voxels: expected tissue in the volume, found none in blocks of {factors} voxels (z, y, x). "
            "Next: raise max_voxels, or look at isost_mask."
        )
    voxel = volume.voxel * np.array(factors[::-1])
    drawn = Drawn(values, volume.origin, voxel, factors, volume)
    if drawn.note and not quiet:
        logger.info(
            "%s: %s voxels (z, y, x) are drawn as %s, to keep to max_voxels=%d",
            volume.label, " x ".join(map(str, shape)), drawn.note, max_voxels,
        )  # fmt: skip
    return drawn
