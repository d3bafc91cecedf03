"""A volume seen in 3D, whichever package draws it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import dask.array as da
import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from spatialdata import SpatialData

from isost._core.downsample import block_mean, factors_within
from isost.pl._budget import Drawn, within_budget
from isost.pl._quantity import read_volume
from isost.pl._style import Limit, contrast, limit

KINDS = ("points", "isosurface", "volume")
_OUTLINE = 40_000  # voxels of the outline, which is smooth and to be drawn quickly
_STEPS = 32  # of a colour map


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn, and how.

    Attributes
    ----------
    drawn
        The volume.
    kind
        One of `KINDS`.
    level
        Least value that is drawn.
    limits
        Of the colour scale.
    cmap
        Name of the colour map.
    opacity
        Of what is drawn, 0 to 1.
    """

    drawn: Drawn
    kind: str
    level: float
    limits: tuple[float, float]
    cmap: str
    opacity: float

    @property
    def label(self) -> str:
        return self.drawn.of.label

    @property
    def unit(self) -> str:
        return self.drawn.of.unit

    @property
    def title(self) -> str:
        """What is drawn, from which value on, and what was averaged for it."""
        name, above = self.label.partition(" (")[0], f"at {self.level:.3g} and above"
        return ", ".join(filter(None, (f"{name} {above}", self.drawn.note)))

    @property
    def top(self) -> float:
        """Highest of the surfaces: the end of the colour scale, or the highest value where that lies below `level`."""
        return max(self.limits[1], self.level * (1 + 1e-6)) if self.limits[1] > self.level else self.drawn.tissue.max()

    @cached_property
    def shown(self) -> np.ndarray:
        """(m, 3) z, y, x of the voxels at `level` or above."""
        return np.argwhere(np.nan_to_num(self.drawn.values, nan=-np.inf) >= self.level)

    @cached_property
    def closed(self) -> Drawn:
        """The volume in a layer of voxels below `level`, so that its surfaces are closed."""
        tissue = self.drawn.tissue
        return self.drawn.enclosed(min(float(tissue.min()), self.level - 0.1 * float(np.ptp(tissue) or 1.0)))

    def outline(self) -> Drawn:
        """Share of each block of voxels that is tissue, whose surface at a half is the outline."""
        inside = self.drawn.inside.astype(np.float32)
        factors = factors_within(inside.shape, _OUTLINE)
        share = np.asarray(block_mean(da.from_array(inside), factors))
        size = self.drawn.voxel * np.array(factors[::-1])
        return Drawn(share, self.drawn.origin, size, factors, self.drawn.of).enclosed(0.0)

    def frames(self) -> list[np.ndarray]:
        """Rectangles (5, 3) x, y, z about the tissue, one at the depth of each measured section, closed."""
        places = self.drawn.centres(np.argwhere(self.drawn.inside))
        (left, near), (right, far) = (
            places[:, :2].min(axis=0) - self.drawn.voxel[:2] / 2,
            places[:, :2].max(axis=0) + self.drawn.voxel[:2] / 2,
        )
        corners = [(left, near), (right, near), (right, far), (left, far), (left, near)]
        return [np.array([(*at, depth) for at in corners]) for depth in self.drawn.of.sections_inside]

    def colors(self) -> list[tuple[float, str]]:
        """Take stops of the colour map from 0 to 1."""
        return [(float(at), to_hex(mpl.colormaps[self.cmap](at))) for at in np.linspace(0, 1, _STEPS)]


def make_scene(
    sdata: SpatialData,
    color: str,
    *,
    kind: str,
    threshold: Limit,
    label: str | None,
    max_voxels: int,
    opacity: float | None,
    cmap: str,
    vmin: Limit,
    vmax: Limit,
) -> Scene:
    """Read what is to be drawn, after checking how."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}. Next: kind='points'.")
    if opacity is not None and not 0 < opacity <= 1:
        raise ValueError(f"opacity: expected above 0 and at most 1, found {opacity!r}. Next: leave it out.")
    if cmap not in mpl.colormaps:
        raise ValueError(f"cmap: expected the name of a colour map of matplotlib, found {cmap!r}. Next: 'viridis'.")
    drawn = within_budget(read_volume(sdata, color, label), max_voxels)
    values = drawn.tissue.astype(np.float64)
    level = limit(values, threshold, "threshold", float(values.min()))
    if level > values.max():
        raise ValueError(
            f"threshold: expected at most the highest value, {values.max():.4g}, found {level:.4g}. "
            "Next: threshold='p80', say."
        )
    usual = {"points": 0.6, "isosurface": 0.35, "volume": 0.12}[kind]
    return Scene(drawn, kind, level, contrast(values, vmin, vmax), cmap, usual if opacity is None else float(opacity))
