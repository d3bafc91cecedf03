"""Where images lie among sections: a rigid, then an affine map of the plane that lays their tissue over the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from scipy.spatial import cKDTree

_POINTS = 1500  # of the cells, and of the tissue, of a section
_SECTIONS = 12
_TURNS = 16  # that are started from
_KEPT = 4
_ROUNDS = 60
_POLISHED, _SIMPLEX = 2, 0.08
_RASTER, _BLUR, _MARGIN = 64, 2.0, 0.2  # pixels, pixels, of the extent of the cells
_FULL = 15.0  # of a raster: cells that lie thinner than usual cover the ground as well
_FAR = 3.0  # times the median distance: farther pairs say nothing


@dataclass(frozen=True, eq=False)
class Pair:
    """Cells of a section (n, 2), and the tissue of the image at its depth (m, 2), each in its own frame."""

    cells: np.ndarray
    tissue: np.ndarray

    def thinned(self, rng: np.random.Generator) -> Pair:
        some = [one[rng.permutation(len(one))[:_POINTS]] for one in (self.cells, self.tissue)]
        return Pair(*some)


def register(pairs: Sequence[Pair], *, affine: bool) -> np.ndarray:
    """Map (2, 3) from the frame of the images to that of the sections.

    Turns about the common middle are tried, without mirroring; from each, points of either are drawn to the nearest of
    the other (iterated closest points, both ways) by a rigid map; of those that end nearest the best is refined, as an
    affine map if asked for, until both cover the same ground.
    """
    rng = np.random.default_rng(0)
    numbers = np.unique(np.linspace(0, len(pairs) - 1, _SECTIONS).round().astype(int))
    chosen = [pairs[k].thinned(rng) for k in numbers.tolist()]
    cells, tissue = (np.concatenate([getattr(one, name) for one in chosen]) for name in ("cells", "tissue"))
    found: list[tuple[float, int, np.ndarray]] = []
    for angle in np.arange(_TURNS) * 2 * np.pi / _TURNS:
        start = _about(angle, tissue.mean(axis=0), cells.mean(axis=0))
        matrix = _closest(chosen, start, rounds=_ROUNDS // 4)
        found.append((difference_of(chosen, matrix), len(found), matrix))
    best = [_closest(chosen, matrix, rounds=_ROUNDS) for *_, matrix in sorted(found)[:_KEPT]]
    matrix = min(best, key=lambda one: difference_of(chosen, one))
    for _ in range(_POLISHED):
        matrix = _polish(chosen, matrix, affine=affine)
    return matrix


def difference_of(pairs: Sequence[Pair], matrix: np.ndarray) -> float:
    """Mean squared difference of where there are cells and where there is tissue, each blurred and between 0 and 1."""
    total = 0.0
    for pair in pairs:
        low, high = pair.cells.min(axis=0), pair.cells.max(axis=0)
        margin = _MARGIN * (high - low).max()
        frame = low - margin, float((high - low).max() + 2 * margin)
        total += float(((_covered(pair.cells, *frame) - _covered(moved_by(matrix, pair.tissue), *frame)) ** 2).mean())
    return total / len(pairs)


def _covered(places: np.ndarray, low: np.ndarray, side: float) -> np.ndarray:
    """Raster of a square that is about 0 where there is none of the places and about 1 where they are."""
    at = (places - low) / side * _RASTER - 0.5
    corner, image = np.floor(at).astype(int), np.zeros((_RASTER, _RASTER))
    part = at - corner
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (corner + (dx, dy)).T
            weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            inside = (x >= 0) & (y >= 0) & (x < _RASTER) & (y < _RASTER)
            np.add.at(image, (x[inside], y[inside]), weight[inside])
    image = gaussian_filter(image, _BLUR)
    # of as much as there is in the middle of the tissue
    usual = np.median(image[tuple(np.clip(corner, 0, _RASTER - 1).T)])
    return 1 - np.exp(-_FULL * image / max(float(usual), 1e-12))


def overlap_of(pairs: Sequence[Pair], matrix: np.ndarray, reach: float) -> float:
    """Share of the cells with tissue within reach, or of the tissue with cells, the smaller, of all pairs."""
    shares = []
    for pair in pairs:
        moved = moved_by(matrix, pair.tissue)
        shares.append([(cKDTree(moved).query(pair.cells)[0] <= reach).mean(),
                       (cKDTree(pair.cells).query(moved)[0] <= reach).mean()])  # fmt: skip
    return float(np.mean(shares, axis=0).min())


def moved_by(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    return places @ matrix[:, :2].T + matrix[:, 2]


def _about(angle: float, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, there - turn @ here])


def _closest(pairs: Sequence[Pair], matrix: np.ndarray, *, rounds: int) -> np.ndarray:
    """Improve a map by iterated closest points, in both directions, without the farthest."""
    for _ in range(rounds):
        here, there = [], []
        for pair in pairs:
            moved = moved_by(matrix, pair.tissue)
            to_cell, to_tissue = cKDTree(pair.cells).query(moved), cKDTree(moved).query(pair.cells)
            for (distance, near), own, other in (
                (to_cell, pair.tissue, pair.cells),
                (to_tissue, pair.cells, pair.tissue),
            ):
                close = distance <= _FAR * np.median(distance)
                here.append(own[close] if own is pair.tissue else other[near[close]])
                there.append(other[near[close]] if own is pair.tissue else own[close])
        fitted = _fitted(np.concatenate(here), np.concatenate(there))
        if np.allclose(fitted, matrix, rtol=1e-6, atol=1e-9 * np.abs(fitted).max()):
            return fitted
        matrix = fitted
    return matrix


def _fitted(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Least squares of turns and shifts (Kabsch 1976)."""
    middle, aim = here.mean(axis=0), there.mean(axis=0)
    left, _, right = np.linalg.svd((there - aim).T @ (here - middle))
    linear = left @ np.diag([1.0, np.sign(np.linalg.det(left @ right))]) @ right
    return np.column_stack([linear, aim - linear @ middle])


def _polish(pairs: Sequence[Pair], matrix: np.ndarray, *, affine: bool) -> np.ndarray:
    """Lower the difference itself, which closest points, most of them within the tissue, hardly see."""
    middle = np.concatenate([pair.tissue for pair in pairs]).mean(axis=0)
    extent = float(np.ptp(np.concatenate([pair.cells for pair in pairs]), axis=0).max())
    aim = moved_by(matrix, middle[None])[0]

    def of(change: np.ndarray) -> np.ndarray:
        turn = _about(change[2], np.zeros(2), np.zeros(2))[:, :2]
        linear = turn @ matrix[:, :2]
        if affine:
            linear = (np.eye(2) + np.array([[change[3], change[4]], [change[4], change[5]]])) @ linear
        return np.column_stack([linear, aim + extent * change[:2] - linear @ middle])

    n = 6 if affine else 3
    simplex = np.vstack([np.zeros(n), _SIMPLEX * np.eye(n)])
    found = minimize(
        lambda change: difference_of(pairs, of(change)), np.zeros(n), method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxiter": 300, "xatol": 1e-4, "fatol": 1e-8},
    )  # fmt: skip
    return of(found.x)
