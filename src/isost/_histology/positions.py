"""Where cells lie in the frame that slides share, as features beside those of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

_SHARE = 0.1  # of the longer side of the tissue, that a Gaussian is wide
_STRAY = 0.005  # of the cells, on each side, that the tissue is measured without
_HEIGHT, _CELLS = 0.5, 3  # that a Gaussian reaches on so many cells, else it is left out
_MOST = 1024  # Gaussians
_UNIT = 0.25  # of heights, whose deviation is about 0.2, so that features stay within 4


@dataclass(frozen=True, eq=False)
class Positions:
    """Gaussians on a grid over the tissue.

    Attributes
    ----------
    centres
        (b, 2) µm.
    mean
        (b,) of their heights, on the cells of the fit.
    places
        (n, 2) float32 of these cells.
    width
        µm, of the Gaussians and between them.
    """

    centres: np.ndarray
    mean: np.ndarray
    places: np.ndarray
    width: float

    def features(self, at: np.ndarray) -> np.ndarray:
        """(m, b) float32 for positions (m, 2): quarters of a height, of mean 0 on the cells of the fit."""
        return ((gaussians(at, self.centres, self.width) - self.mean) / _UNIT).astype(np.float32)

    def away(self, at: np.ndarray) -> np.ndarray:
        """(m,) float32 distance to the nearest cell of the fit, in widths."""
        return np.asarray(cKDTree(self.places).query(at)[0] / self.width, dtype=np.float32)


def gaussians(at: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """(m, b) heights at positions (m, 2)."""
    square = (at**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * at @ centres.T
    return np.exp(-np.maximum(square, 0) / (2 * width**2))


def find_positions(place: np.ndarray, width: float | None) -> Positions:
    """Lay Gaussians over the positions (n, 2) of cells, as wide as asked for or a tenth of the longer side.

    Raises
    ------
    ValueError
        If cells lie in one place, or Gaussians of this width are too many, or wider than the tissue.
    """
    low, high = np.quantile(place, [_STRAY, 1 - _STRAY], axis=0)
    side = high - low
    longer = float(side.max())
    if not longer > 0:
        raise ValueError("use_positions: expected cells in different places, found all in one. Next: name positions by "
                         "spatial_key=, or leave it out.")  # fmt: skip
    usual = _SHARE * longer
    width = usual if width is None else width
    with np.errstate(over="ignore"):  # infinitely many are too many
        n_steps = np.floor(side / width) + 2
        many = float(n_steps.prod())
    if width > longer or many > _MOST:
        found = f"{width:g}, wider than that" if width > longer else f"{many:.3g} of {width:g}"
        raise ValueError(
            f"position_width: expected µm of at most {_MOST} Gaussians over {side[0]:.0f} x {side[1]:.0f} µm, found "
            f"{found}. Next: position_width={usual:.3g}, or leave it out."
        )
    start = low - ((n_steps - 1) * width - side) / 2
    axes = [at + width * np.arange(int(count)) for at, count in zip(start, n_steps, strict=True)]
    centres = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    values = gaussians(place, centres, width)
    kept = (values > _HEIGHT).sum(axis=0) >= min(_CELLS, len(place))
    return Positions(centres[kept], values[:, kept].mean(axis=0), place.astype(np.float32), float(width))
