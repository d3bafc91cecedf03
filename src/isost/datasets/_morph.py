from __future__ import annotations

import anndata as ad
import numpy as np

from isost._core.random import Rng, numpy_generator
from isost.datasets._outline import Inside, two_sections


def morph(n_cells: int = 2000, *, rng: Rng = 0) -> ad.AnnData:
    """Make two sections in the shapes of a caterpillar and a butterfly, 100 µm apart.

    The toy of the paper's Fig 1D. The caterpillar is a chain of discs on a wave, the butterfly a union of wings
    ``r(phi) = L cos(pi (phi - phi_0) / (2 w))^p``, a body and feelers; cells fill both evenly.

    Parameters
    ----------
    n_cells
        Number of cells of each section.
    rng
        Seed or generator.

    Returns
    -------
    anndata.AnnData
        ``X`` (2 n_cells, 12) float32 smooth log-normalised expression with a little noise; ``obs["section"]`` (ordered
        categorical: caterpillar, butterfly); ``obsm["spatial"]`` (2 n_cells, 3) float64, µm, z = 0 and z = 100.

    Raises
    ------
    ValueError
        If `n_cells` is below 1.

    Examples
    --------
    >>> import isost
    >>> isost.datasets.morph(300).obs["section"].cat.categories.tolist()
    ['caterpillar', 'butterfly']
    """
    outlines: dict[str, tuple[Inside, np.ndarray]] = {
        "caterpillar": (_in_caterpillar, np.array([[-590.0, -220.0], [565.0, 360.0]])),
        "butterfly": (_in_butterfly, np.array([[-700.0, -460.0], [700.0, 580.0]])),
    }
    return two_sections(outlines, n_cells, gap=100.0, rng=numpy_generator(rng))


def _in_caterpillar(xy: np.ndarray) -> np.ndarray:
    x = np.linspace(-500.0, 310.0, 8)
    y = 80.0 * np.cos(2.0 * np.pi * (x + 500.0) / 560.0)
    head = (430.0, 60.0)
    inside = _in_capsule(xy, head, head, 125.0)
    for tip in (370.0, 530.0):
        inside |= _in_capsule(xy, (440.0, 160.0), (tip, 330.0), 18.0)
    for centre in zip(x, y, strict=True):
        inside |= _in_capsule(xy, centre, centre, 80.0)
        inside |= _in_capsule(xy, centre, (centre[0], centre[1] - 115.0), 20.0)
    return inside


def _in_butterfly(xy: np.ndarray) -> np.ndarray:
    right = np.column_stack([np.abs(xy[:, 0]), xy[:, 1]])
    inside = _in_capsule(right, (0.0, -250.0), (0.0, 210.0), 40.0) | _in_capsule(
        right, (0.0, 240.0), (0.0, 240.0), 58.0
    )
    inside |= _in_capsule(right, (20.0, 280.0), (130.0, 500.0), 18.0)
    inside |= _in_wing(right, (0.0, 60.0), 740.0, direction=33.0, half_angle=30.0)
    return inside | _in_wing(right, (0.0, 40.0), 540.0, direction=-42.0, half_angle=34.0)


def _in_capsule(xy: np.ndarray, start: tuple[float, float], stop: tuple[float, float], radius: float) -> np.ndarray:
    """Whether positions (n, 2) lie within `radius` of the segment from `start` to `stop`."""
    origin, along = np.array(start), np.subtract(stop, start)
    t = np.clip((xy - origin) @ along / max(along @ along, 1e-12), 0.0, 1.0)
    return np.hypot(*(xy - origin - t[:, None] * along).T) <= radius


def _in_wing(
    xy: np.ndarray, root: tuple[float, float], length: float, *, direction: float, half_angle: float
) -> np.ndarray:
    """Whether positions (n, 2) lie in a petal of `length` that opens by `half_angle` (degrees) about `direction`."""
    x, y = (xy - np.array(root)).T
    angle = (np.rad2deg(np.arctan2(y, x)) - direction) / half_angle
    return np.hypot(x, y) <= length * np.cos(np.pi / 2.0 * np.clip(angle, -1.0, 1.0)) ** 0.5
