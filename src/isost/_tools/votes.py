"""Labels of carried cells on a grid: in each pixel both stages about an age vote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from isost._core.graph import median_spacing
from isost._core.plan import area
from isost._core.smooth import KernelPlane

_VOTERS = 8  # nearest cells
_WIDTH = 3.0  # spacings, of the kernel of the density
_EDGE = 0.5  # of the median density of the area about cells: what a straight edge has


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """A square grid over the plane; pixels count along y, then x.

    Attributes
    ----------
    low
        (2,) its corner.
    size
        Side of a pixel.
    side
        Pixels along either direction.
    """

    low: np.ndarray
    size: float
    side: int

    @classmethod
    def over(cls, coords: np.ndarray, side: int) -> PixelGrid:
        """Cover places (n, 2) with a margin of 2 %."""
        low, high = coords.min(axis=0), coords.max(axis=0)
        extent = 1.04 * max(float((high - low).max()), 1e-300)
        return cls((low + high - extent) / 2, extent / side, side)

    @property
    def line(self) -> np.ndarray:
        """(side,) middles of the pixels, from the corner."""
        return (np.arange(self.side) + 0.5) * self.size

    @property
    def centres(self) -> np.ndarray:
        """(side * side, 2) x, y."""
        x, y = np.meshgrid(self.low[0] + self.line, self.low[1] + self.line)
        return np.column_stack([x.ravel(), y.ravel()])


@dataclass(frozen=True, eq=False)
class Ballot:
    """What one stage says of the pixels.

    Attributes
    ----------
    share
        (m, L) share of the votes of the nearest cells for each label; None where no cell of the stage has one.
    depth
        (m,) distance from the edge of its tissue, in pixels, below 0 outside.
    """

    share: np.ndarray | None
    depth: np.ndarray


def vote(places: np.ndarray, code: np.ndarray, n_labels: int, grid: PixelGrid) -> Ballot:
    """Let the nearest cells with a label vote in each pixel, each the less the farther it is; and find the tissue.

    Parameters
    ----------
    places, code
        (n, 2) where the cells of the stage are, and (n,) their labels, -1 for none.
    """
    width = _WIDTH * max(median_spacing(places), 1e-12)
    bounds = grid.low, grid.low + grid.side * grid.size
    # by area, so that the edge is where it is beside sparse tissue and dense
    plane = KernelPlane(places, np.zeros((len(places), 0)), area(places), width, bounds)
    dense = plane.at(grid.centres)[0] >= _EDGE * float(np.median(plane.at(places)[0]))
    return Ballot(votes_at(places, code, n_labels, grid.centres), _depth_in(dense.reshape(grid.side, grid.side)))


def votes_at(places: np.ndarray, code: np.ndarray, n_labels: int, asked: np.ndarray) -> np.ndarray | None:
    """Shares (m, L) of the votes of the nearest cells with a label, at places (m, 2); None where no cell has one."""
    known = np.flatnonzero(code >= 0)
    if not len(known):
        return None
    k = np.arange(1, min(_VOTERS, len(known)) + 1)
    distance, near = cKDTree(places[known]).query(asked, k=k)
    weight = np.exp(-((distance / np.maximum(distance[:, -1:], 1e-300)) ** 2))
    weight /= weight.sum(axis=1, keepdims=True)
    share, rows = np.zeros((len(asked), n_labels), np.float32), np.arange(len(asked))
    for column in range(len(k)):
        np.add.at(share, (rows, code[known[near[:, column]]]), weight[:, column])
    return share


def _depth_in(tissue: np.ndarray) -> np.ndarray:
    """Distance from the edge, in pixels: above 0 inside."""
    padded = np.pad(tissue, 1)  # there is none beyond the grid
    inside, outside = (ndimage.distance_transform_edt(one)[1:-1, 1:-1] for one in (padded, ~padded))
    return np.where(tissue, inside - 0.5, 0.5 - outside).ravel()


def count(ballots: list[tuple[float, Ballot]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up the votes of stages, each with its weight; weights sum to 1.

    Returns
    -------
    label
        (m,) int16, k for the k-th label, 0 outside the tissue: where the mean distance from the edges is below 0, so
        that an outline moves steadily.
    confidence
        (m,) float32, share of all votes that the label has, NaN outside.
    proportion
        (L,) share of the area that belongs to each label, where each stage counts its own map with its weight.
    """
    inside = sum(weight * ballot.depth for weight, ballot in ballots) > 0
    voting = [(weight, ballot.share, ballot.depth > 0) for weight, ballot in ballots if ballot.share is not None]
    weights = sum(weight for weight, *_ in voting)
    total = sum(weight / weights * share for weight, share, _ in voting)
    assert isinstance(total, np.ndarray)
    label = np.where(inside, total.argmax(axis=1) + 1, 0).astype(np.int16)
    confidence = np.where(inside, total.max(axis=1), np.nan).astype(np.float32)
    proportion = np.zeros(total.shape[1])
    for weight, share, tissue in voting:
        own = np.bincount(share[tissue].argmax(axis=1), minlength=len(proportion))
        proportion += weight / weights * own / max(own.sum(), 1)
    return label, confidence, proportion
