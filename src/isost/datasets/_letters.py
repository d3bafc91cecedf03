from __future__ import annotations

import anndata as ad
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from isost._core.random import Rng, numpy_generator
from isost.datasets._outline import Inside, two_sections

_HEIGHT = 1000.0


def letters(n_cells: int = 1000, *, rng: Rng = 0) -> ad.AnnData:
    """Make two sections in the shapes of the letters A and B, 100 µm apart.

    The toy of the paper's Fig 1D: cells fill the letters evenly, and the volume between them is to be found.

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
        categorical: A, B); ``obsm["spatial"]`` (2 n_cells, 3) float64, µm, letters 1000 µm high at z = 0 and z = 100.

    Raises
    ------
    ValueError
        If `n_cells` is below 1.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(300)
    >>> adata.obs["section"].value_counts().to_dict()
    {'A': 300, 'B': 300}
    """
    return two_sections({"A": _letter("A"), "B": _letter("B")}, n_cells, gap=100.0, rng=numpy_generator(rng))


def _letter(letter: str) -> tuple[Inside, np.ndarray]:
    """Membership test of a letter of the DejaVu font, and its bounding box [[x0, y0], [x1, y1]] in µm."""
    path = TextPath((0.0, 0.0), letter, size=100.0, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = path.get_extents()
    scale = _HEIGHT / box.height
    # Both letters are centred on the axis of the stack, the bottom at y = 0.
    origin = np.array([(box.x0 + box.x1) / 2.0, box.y0])
    outline = [np.asarray(ring) for ring in path.to_polygons(closed_only=True)]

    def inside(xy: np.ndarray) -> np.ndarray:
        # A counter (the hole of a letter) is enclosed by an even number of contours.
        return np.sum([_encloses(ring, xy / scale + origin) for ring in outline], axis=0) % 2 == 1

    return inside, (np.array([[box.x0, box.y0], [box.x1, box.y1]]) - origin) * scale


def _encloses(ring: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Whether the closed polygon `ring` (m, 2) encloses each point (n, 2): a ray to the right crosses it oddly."""
    x, y = xy[:, :1], xy[:, 1:]
    (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
    straddles = (y0 <= y) != (y1 <= y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return (straddles & (x < crossing)).sum(axis=1) % 2 == 1
