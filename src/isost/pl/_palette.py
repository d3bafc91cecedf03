"""Categorical colours that stay apart for colour-blind readers."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.colors import to_hex, to_rgb

# Okabe and Ito 2008, without black, which reads as an outline among small dots.
_OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")

# Machado, Oliveira and Fernandes 2009, severity 1, in linear RGB: protanopia, deuteranopia.
_PROTAN = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
_DEUTAN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))

# Ottosson 2020: linear RGB to cone responses, and their cube roots to OKLab.
_TO_LMS = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
           (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
_TO_LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
           (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip


def seen(rgb: np.ndarray) -> np.ndarray:
    """OKLab coordinates of sRGB colours as seen with normal, protanope and deuteranope vision: (n, 3) -> (3, n, 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    visions = np.stack([linear @ np.asarray(m).T for m in (np.eye(3), _PROTAN, _DEUTAN)]).clip(0, 1)
    return np.cbrt(visions @ np.asarray(_TO_LMS).T) @ np.asarray(_TO_LAB).T


def separation(rgb: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance between colours in the vision that tells them apart worst: (n, 3), (m, 3) -> (n, m)."""
    return np.linalg.norm(seen(rgb)[:, :, None] - seen(others)[:, None], axis=-1).min(axis=0)


@cache
def palette(n: int) -> tuple[str, ...]:
    """`n` colours: Okabe and Ito's, then whichever colour is farthest from all taken so far in any of three visions."""
    taken = [to_rgb(color) for color in _OKABE_ITO[:n]]
    steps = np.linspace(0, 1, 11)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness = seen(grid)[0, :, 0]
    grid = grid[(lightness > 0.38) & (lightness < 0.9)]
    nearest = separation(grid, np.array([*taken, (1.0, 1.0, 1.0)])).min(axis=1) if n > len(taken) else np.empty(0)
    while len(taken) < n:
        best = int(nearest.argmax())
        taken.append(tuple(grid[best]))
        nearest = np.minimum(nearest, separation(grid, grid[best : best + 1])[:, 0])
    return tuple(to_hex(color) for color in taken)
