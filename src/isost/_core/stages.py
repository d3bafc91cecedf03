"""Stages of development in one frame of the plane: each centred, of one size, and turned as the one before it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from isost._core.plan import area

_POINTS = 1500  # of a stage, that are compared
_TURNS = 36  # that are started from
_KEPT = 3
_HANG, _APART, _FAIR = 8, 3.0, 0.05  # neighbours; their usual distances to the next part; share of cells of a part
_LOCAL = 20  # nearest cells of a local mean
_SAME_AGE = 1e-6  # of the range of ages
_WEIGHT = 1.0  # of the expression beside the place, each in units of its spread


@dataclass(frozen=True, eq=False)
class Pose:
    """How a stage lies: x in the common frame is (x - centre) @ turn.T * (common size / size).

    Attributes
    ----------
    centre
        (2,) middle of its area.
    size
        Root mean square distance of its area from the middle.
    turn
        (2, 2) rotation, of determinant -1 if it was mirrored.
    """

    centre: np.ndarray
    size: float
    turn: np.ndarray

    def applied(self, coords: np.ndarray, common: float) -> np.ndarray:
        return (coords - self.centre) @ self.turn.T * (common / self.size)


def align(stages: Sequence[tuple[np.ndarray, np.ndarray]], *, mirror: bool, turned: bool = True) -> list[Pose]:
    """Find how stages, places (n, 2) and features (n, P) each, lie beside the first.

    The middle and the size are those of the area that cells cover, whatever their density. Turns all around are tried;
    of those that bring alike cells of neighbouring stages nearest together the best is refined.
    """
    poses = [_pose(places) for places, _ in stages]
    if not turned:
        return poses
    clouds = [_Cloud.of(pose.applied(places, 1.0), features)
              for pose, (places, features) in zip(poses, stages, strict=True)]  # fmt: skip
    found = [poses[0]]
    for number in range(1, len(stages)):
        before = clouds[number - 1].turned(found[-1].turn)
        turn = _best(before, clouds[number], mirror=mirror)
        found.append(Pose(poses[number].centre, poses[number].size, turn))
    return found


def merged(values: np.ndarray) -> np.ndarray:
    """Make ages (n,), or depths, that differ by rounding alone the same."""
    known = np.unique(values)
    first = np.concatenate([[True], np.diff(known) > _SAME_AGE * max(np.ptp(known), 1e-300)])
    return known[np.maximum.accumulate(np.where(first, np.arange(len(known)), 0))][np.searchsorted(known, values)]


def read_growth(adata: AnnData, frame: str, ages: np.ndarray) -> np.ndarray | None:
    """Sizes (K,) of stages beside the common frame that `isost.pp.align_stages` wrote to `obsm[frame]`; None without.

    Raises
    ------
    ValueError
        If there is a stage that it did not see.
    """
    said = adata.uns.get(frame)
    if not isinstance(said, Mapping) or not {"ages", "size", "size_common"} <= set(said):
        return None
    known = np.asarray(said["ages"], dtype=np.float64)
    at = np.abs(known[:, None] - ages).argmin(axis=0)
    off = np.abs(known[at] - ages) > _SAME_AGE * max(np.ptp(known), 1e-300)
    if off.all():  # depths within a stage, and not ages
        return None
    if off.any():
        raise ValueError(
            f"adata.uns[{frame!r}]: expected the stages of adata, found none of age {ages[off][0]:g}. "
            "Next: isost.pp.align_stages(adata)."
        )
    return np.asarray(said["size"], dtype=np.float64)[at] / float(said["size_common"])


def _pose(places: np.ndarray) -> Pose:
    kept = tissue(places)
    share = area(places[kept])
    centre = share @ places[kept]
    return Pose(centre, float(np.sqrt(share @ ((places[kept] - centre) ** 2).sum(axis=1))), np.eye(2))


def tissue(places: np.ndarray) -> np.ndarray:
    """Rows of places (n, 2) that lie in tissue: in parts that hang together and have a fair share of the cells."""
    k = min(_HANG, len(places) - 1)
    distance, near = cKDTree(places).query(places, k=np.arange(2, k + 2))
    close = distance <= _APART * float(np.median(distance[:, -1]))
    rows = np.repeat(np.arange(len(places)), k)[close.ravel()]
    graph = sparse.coo_matrix((np.ones(len(rows)), (rows, near.ravel()[close.ravel()])), shape=(len(places),) * 2)
    part = connected_components(graph, directed=False)[1]
    size = np.bincount(part)
    return np.flatnonzero((size >= min(_FAIR * len(places), size.max()))[part])


@dataclass(frozen=True, eq=False)
class _Cloud:
    """Some cells: (n, 2) places about the origin, of size 1; (n, P) local mean features less those of the stage."""

    places: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, places: np.ndarray, features: np.ndarray) -> _Cloud:
        some = np.random.default_rng(0).permutation(len(places))[:_POINTS]
        near = cKDTree(places).query(places[some], k=np.arange(1, min(_LOCAL, len(places)) + 1))[1]
        local = features[near].mean(axis=1, dtype=np.float64)
        return cls(places[some], local - local.mean(axis=0))

    def turned(self, turn: np.ndarray) -> _Cloud:
        return _Cloud(self.places @ turn.T, self.features)


def _best(before: _Cloud, after: _Cloud, *, mirror: bool) -> np.ndarray:
    spread = np.sqrt(max(float((before.features**2).sum(axis=1).mean()), 1e-300))
    trees = cKDTree(before.places), before

    def cost(angle: float, flipped: bool) -> float:
        turned = after.turned(_rotation(angle, flipped))
        return _apart(*trees, turned, spread) + _apart(cKDTree(turned.places), turned, before, spread)

    angles = np.arange(_TURNS) * 2.0 * np.pi / _TURNS
    tried = [(cost(angle, flipped), angle, flipped) for flipped in (False, True)[: 1 + mirror] for angle in angles]
    refined = []
    for _, angle, flipped in sorted(tried)[:_KEPT]:
        bounds = angle - 2.0 * np.pi / _TURNS, angle + 2.0 * np.pi / _TURNS
        result = minimize_scalar(cost, bounds=bounds, args=(flipped,), method="bounded", options={"xatol": 1e-3})
        refined.append((float(result.fun), float(result.x), flipped))
    _, angle, flipped = min(refined)
    return _rotation(angle, flipped)


def _apart(tree: cKDTree, known: _Cloud, asked: _Cloud, spread: float) -> float:
    """Mean squared distance of cells from the nearest of the other stage, in place and in expression."""
    distance, near = tree.query(asked.places)
    off = ((known.features[near] - asked.features) ** 2).sum(axis=1) / spread**2
    return float((distance**2 + _WEIGHT * off).mean())


def _rotation(angle: float, flipped: bool) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, -1.0 if flipped else 1.0])
