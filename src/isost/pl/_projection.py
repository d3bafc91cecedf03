"""Projections of a volume that turns, by scipy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Colormap
from scipy.ndimage import affine_transform

from isost._core.voxels import AXES
from isost.pl._budget import Drawn

# By the axis to turn about: what is to the right, up and towards the eye at 0 degrees, and its sign; right-handed.
_VIEWS = {
    "x": (("y", 1), ("x", 1), ("z", -1)),
    "y": (("x", 1), ("y", 1), ("z", 1)),
    "z": (("x", 1), ("z", 1), ("y", -1)),
}
_OPTICAL_DEPTH = 20.0  # across the tissue, where the value is highest
_HAZE = 0.02  # opacity of tissue without expression, as a share of the highest: its outline can be seen


@dataclass(frozen=True, eq=False)
class Turntable:
    """A volume and the axis that it turns about, seen from far away.

    Attributes
    ----------
    drawn
        The volume.
    axis
        ``"x"``, ``"y"`` or ``"z"``, which points up.
    """

    drawn: Drawn
    axis: str

    @property
    def step(self) -> float:
        """Edge of a pixel, and distance of the samples along a line of sight."""
        return float(self.drawn.voxel.min())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Samples towards the eye, pixels up and to the right."""
        right, up, near = (self._lengths[AXES.index(name)] for name, _ in _VIEWS[self.axis])
        across = int(np.ceil(np.hypot(right, near) / self.step))
        return across, int(np.ceil(up / self.step)), across

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of a projection, in the unit of the volume about its middle."""
        _, rows, columns = self.shape
        across, along = columns * self.step / 2, rows * self.step / 2
        return -across, across, -along, along

    def directions(self, angle: float) -> np.ndarray:
        """(3, 3): components of x, y, z to the right, up and towards the eye, after turning by degrees."""
        turned = np.zeros((3, 3))
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        (right, right_sign), (up, up_sign), (near, near_sign) = _VIEWS[self.axis]
        turned[AXES.index(right)] = np.array([cos, 0.0, -sin]) * right_sign
        turned[AXES.index(up)] = np.array([0.0, 1.0, 0.0]) * up_sign
        turned[AXES.index(near)] = np.array([sin, 0.0, cos]) * near_sign
        return turned

    def highest(self, angle: float) -> np.ndarray:
        """(up, right) float32, the highest value along each line of sight; NaN where it meets no tissue."""
        values, inside = self._samples(angle)
        highest = np.where(inside >= 0.5, values, -np.inf).max(axis=0)
        return np.where(np.isfinite(highest), highest, np.nan).astype(np.float32)

    def composite(self, angle: float, limits: tuple[float, float], cmap: Colormap) -> np.ndarray:
        """(up, right, 4), colours of the samples from the far end to the near one, each as opaque as its value is high.

        A sample's opacity is 1 - exp(-k (h + t^3) step), where t is its value from 0 to 1 between the limits, h a haze
        that shows tissue without expression, and k such that the tissue hides what is behind it where t is 1.
        """
        values, inside = self._samples(angle)
        shade = np.clip((values - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
        density = _OPTICAL_DEPTH / float(self._lengths.max())
        clear = np.exp(-density * self.step * np.clip(inside, 0, 1) * (_HAZE + shade**3))
        before = np.ones_like(clear)  # the last sample is nearest to the eye
        before[:-1] = np.cumprod(clear[:0:-1], axis=0)[::-1]
        weight = (before * (1 - clear))[..., None]
        color = (weight * cmap(shade)[..., :3]).sum(axis=0)
        opacity = weight.sum(axis=0)
        return np.concatenate([color / np.maximum(opacity, 1e-6), opacity], axis=-1)

    @property
    def _lengths(self) -> np.ndarray:
        return self.drawn.voxel * np.array(self.drawn.values.shape[::-1])

    def _samples(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Values, and shares of tissue, on the lines of sight: (near, up, right)."""
        # rows: x, y, z; columns: near, up, right, each from the middle of the samples
        turned = self.directions(angle)[:, ::-1] * self.step
        middle = (np.array(self.shape) - 1) / 2
        start = self._lengths / 2 - turned @ middle
        # voxels count along z, y, x, from the centre of the first
        matrix = (turned / self.drawn.voxel[:, None])[::-1]
        offset = (start / self.drawn.voxel - 0.5)[::-1]
        inside = self.drawn.inside.astype(np.float32)
        # a value at the surface is that of the tissue, not one faded towards what is outside
        filled = np.where(self.drawn.inside, self.drawn.values, 0.0).astype(np.float32)
        weighed, share = (
            affine_transform(part, matrix, offset, output_shape=self.shape, order=1, cval=0.0, prefilter=False)
            for part in (filled, inside)
        )
        return weighed / np.maximum(share, 1e-6), share
