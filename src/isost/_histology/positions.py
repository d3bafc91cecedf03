"""Where cells lie in the frame that slides share, as features beside those of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

_SHARE = 0.1  # of the longer side of the tissue, that a Gaussian is wide
_HEIGHT = 0.5  # that a Gaussian reaches on some cell, else it is left out
_MOST = 1024  # Gaussians
_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Positions:
    """Gaussians on a grid over the tissue.

    Attributes
    ----------
    centres
        (b, 2) µm.
    mean, deviation
        (b,) of the Gaussians, on the cells of the fit.
    places
        (n, 2) float32 of these cells.
    width
        µm, of the Gaussians and between them.
    """

    centres: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    places: np.ndarray
    width: float

    def features(self, at: np.ndarray) -> np.ndarray:
        """(m, b) float32 of mean 0 and deviation 1 on the cells of the fit, for positions (m, 2)."""
        return ((gaussians(at, self.centres, self.width) - self.mean) / self.deviation).astype(np.float32)

    def away(self, at: np.ndarray) -> np.ndarray:
        """(m,) float32 distance to the nearest cell of the fit, in widths."""
        return np.asarray(cKDTree(self.places).query(at)[0] / self.width, dtype=np.float32)


def gaussians(at: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """(m, b) heights at positions (m, 2)."""
    square = (at**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * at @ centres.T
    return np.exp(-np.maximum(square, 0) / (2 * width**2))


def find_positions(place: np.ndarray, width: float | None) -> Positions:
    """Lay Gaussians over the positions (n, 2) of cells; None: a tenth of the longer side wide.

    Raises
    ------
    ValueError
        If cells lie in one place, or the tissue asks for too many Gaussians.
    """
    low, side = place.min(axis=0), np.ptp(place, axis=0)
    if not side.max() > 0:
        raise ValueError("use_positions: expected cells in different places, found all in one. Next: name positions by "
                         "spatial_key=, or leave it out.")  # fmt: skip
    width = _SHARE * float(side.max()) if width is None else width
    steps = np.floor(side / width).astype(np.int64) + 2
    if steps.prod() > _MOST:
        raise ValueError(
            f"position_width: expected at most {_MOST} Gaussians over {side[0]:.0f} x {side[1]:.0f} µm, found "
            f"{steps.prod()} with {width:g} µm. Next: position_width={_SHARE * float(side.max()):.3g}."
        )
    start = low - ((steps - 1) * width - side) / 2
    grid = np.stack(np.meshgrid(*(at + width * np.arange(count) for at, count in zip(start, steps, strict=True))), -1)
    centres = grid.reshape(-1, 2)
    values = gaussians(place, centres, width)
    kept = values.max(axis=0) > _HEIGHT
    values = values[:, kept]
    deviation = np.maximum(values.std(axis=0), _FLOOR)
    return Positions(centres[kept], values.mean(axis=0), deviation, place.astype(np.float32), float(width))
