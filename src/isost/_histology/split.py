"""Tissue that is held out: sections, or blocks of one; never single cells, whose surroundings others have seen."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_MOST = 5  # folds of sections
FEWEST_SECTIONS = 3  # that are held out whole
_BLOCKS = 4  # where there are fewer
_MARGIN = 256.0  # µm
_SHARE = 0.25  # of the side of a block, that the margin takes at most


def in_blocks(section: np.ndarray, *, placed: bool) -> bool:
    """Whether parts of sections (n,) are held out, not whole ones; never where cells are told by places, too."""
    return not placed and int(section.max()) + 1 < FEWEST_SECTIONS


def folds_of(section: np.ndarray, coords: np.ndarray, *, placed: bool = False) -> np.ndarray:
    """(n,) the fold of each cell, of sections (n,) numbered from 0 and places (n, 2) in µm on the slide of each.

    From three sections on, or two where cells are told by places that these share, folds are sections, several in one
    where there are more than five. Else sections are halved across their longer side, and again, into four blocks in
    all.
    """
    n_sections = int(section.max()) + 1
    if not in_blocks(section, placed=placed):
        return section % min(n_sections, _MOST)
    fold = np.zeros(len(section), dtype=np.int64)
    for number in range(n_sections):
        rows = np.flatnonzero(section == number)
        parts = [rows]
        while len(parts) < _BLOCKS // n_sections:
            parts = [half for part in parts for half in _halves(part, coords)]
        for place, part in enumerate(parts):
            fold[part] = number * len(parts) + place
    return np.unique(fold, return_inverse=True)[1]  # a block of a single cell has halves without any


def seen(fold: np.ndarray, held: int, section: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """(m,) rows to train on where a fold is held out: the others, but those beside it, which share its surroundings."""
    out = fold == held
    kept = ~out
    for number in np.unique(section[out]):
        rows = np.flatnonzero(section == number)
        inside, outside = rows[out[rows]], rows[~out[rows]]
        if len(outside):
            side = float(np.ptp(coords[inside], axis=0).min())
            margin = min(_MARGIN, _SHARE * side)
            kept[outside[cKDTree(coords[inside]).query(coords[outside])[0] < margin]] = False
    return np.flatnonzero(kept)


def _halves(rows: np.ndarray, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = int(np.ptp(coords[rows], axis=0).argmax())
    order = rows[np.argsort(coords[rows, axis], kind="stable")]
    return order[: len(order) // 2], order[len(order) // 2 :]
