"""How much of the coupled motion and change to believe: sections left out say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from isost._core.graph import median_spacing
from isost._core.transport import MASSES, Coupling, couple

_MOTIONS = (0.0, 0.5, 1.0)
_CHANGES = (0.0, 1.0)
_MAX_SECTIONS = 8
_MAX_CELLS_ASKED = 6000  # over all sections asked: few large sections say as much as many small ones
_MAX_CELLS = 1500
_N_FEATURES = 20
_NEAREST = 64  # cells that a mean is of
_ABOUT = 20  # cells that a cell is compared with
_WIDTH = 5.0  # spacings, of the kernel of a mean and the unit of distances
_MARGIN = 0.02  # share of its error, and at least _TIE, by which leaving the cells where they are has to be worse
_TIE = 0.005  # left-out sections lie twice as far apart, over which a straight way is a worse guess

Section = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Belief:
    """What left-out sections say; full shares where there is none to ask.

    Attributes
    ----------
    motion, change
        Share of the coupled displacement, and of the coupled change of expression.
    masses
        What is carried over, an option of `couple`.
    diffusion
        ``(P,)`` variance per unit of depth that the features of carried cells lack.
    error, tried
        Mean error of this choice, and of every one.
    """

    motion: float
    change: float
    masses: str
    diffusion: np.ndarray
    error: float = 0.0
    tried: dict[str, float] = field(default_factory=dict)


def believe(sections: list[Section], depths: list[float], *, n_candidates: int, feature_weight: float) -> Belief:
    """Choose the share of the coupled displacement, and of the coupled change of expression, that predicts best.

    Inner sections are predicted from couplings of their two neighbours with each other, which never saw them, by
    cells moved straight by ``motion`` times their displacement. Their error is the sum of the energy distances to the
    measured cells in (x, y) and in (x, y, features), and of the squared error of the mean expression at the measured
    cells in units of its variance. Standing still is left only for a clear gain: noise, too, couples to something.
    Of motions that are as good the largest is taken. Cells rather than tissue are carried over for a clear gain too,
    and where there is no section to ask: then the next section is all that is known.

    Parameters
    ----------
    sections
        Positions ``(n, 2)`` and scaled features ``(n, P)`` of every section.
    depths
        Of the sections, rising.
    n_candidates, feature_weight
        Of the couplings.
    """
    inner = np.arange(1, len(sections) - 1)
    n_features = sections[0][1].shape[1]
    if not inner.size:
        return Belief(1.0, 1.0, "cells", np.zeros(n_features))
    size = min(_MAX_CELLS, float(np.mean([len(place) for place, _ in sections])))
    at_most = int(np.clip(_MAX_CELLS_ASKED / size, 3, _MAX_SECTIONS))
    asked = inner[np.unique(np.linspace(0, len(inner) - 1, at_most).round().astype(int))]
    beliefs = []
    for masses in MASSES:
        left_out = [
            _LeftOut.of(
                sections[k - 1 : k + 2], depths[k - 1 : k + 2], masses,
                n_candidates=n_candidates, feature_weight=feature_weight,
            )
            for k in asked
        ]  # fmt: skip
        beliefs.append(_choose(left_out, masses))
    tissue, cells = beliefs
    best = cells if cells.error < tissue.error - _TIE and cells.motion else tissue
    return replace(best, tried=tissue.tried | cells.tried)


def _choose(left_out: list[_LeftOut], masses: str) -> Belief:
    """Choose motion and change, given what is carried over."""
    choices = list(product(_MOTIONS, _CHANGES))
    error = np.array([np.mean([one.error(*choice) for one in left_out]) for choice in choices])
    names = [f"motion {motion:g}, change {change:g}" for motion, change in choices]
    names = [name if masses == "area" else f"{name}, {masses}" for name in names]
    best = 0
    if error.min() <= error[0] - max(_TIE, _MARGIN * error[0]):
        alike = np.flatnonzero(error <= error.min() + _TIE).tolist()
        largest = max(choices[index][0] for index in alike)
        best = min((index for index in alike if choices[index][0] == largest), key=lambda index: error[index])
    diffusion = _lower_bound(np.stack([one.lacking(*choices[best]) for one in left_out]))
    return Belief(*choices[best], masses, diffusion, float(error[best]), dict(zip(names, error.tolist(), strict=True)))


def _lower_bound(values: np.ndarray) -> np.ndarray:
    """Mean over sections less one standard error, at least 0; nothing from one section, which has no error to show."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    return np.maximum(values.mean(axis=0) - values.std(axis=0, ddof=1) / np.sqrt(len(values)), 0.0)


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """A section, its neighbours, and their couplings with each other."""

    before: Section
    measured: Section
    after: Section
    ahead: Coupling
    behind: Coupling
    t: float
    span: float

    @classmethod
    def of(
        cls,
        sections: Sequence[Section],
        depths: Sequence[float],
        masses: str,
        *,
        n_candidates: int,
        feature_weight: float,
    ) -> _LeftOut:
        before, measured, after = (_some(*section) for section in sections)
        ahead, behind = (
            couple(*a, *b, n_candidates=n_candidates, feature_weight=feature_weight, masses=masses)
            for a, b in ((before, after), (after, before))
        )
        span = depths[2] - depths[0]
        return cls(before, measured, after, ahead, behind, (depths[1] - depths[0]) / span, span)

    def predict(self, motion: float, change: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, features and weights (of sum 1) of the cells of both neighbours, moved straight."""
        ways = ((self.before, self.ahead, self.t), (self.after, self.behind, 1 - self.t))
        place = [cells[0] + way * motion * (coupling.target - cells[0]) for cells, coupling, way in ways]
        features = [cells[1] + way * change * coupling.change for cells, coupling, way in ways]
        weight = [np.full(len(cells[0]), (1 - way) / len(cells[0])) for cells, _, way in ways]
        return np.concatenate(place), np.concatenate(features), np.concatenate(weight)

    def error(self, motion: float, change: float) -> float:
        return _error(*self.predict(motion, change), *self.measured)

    def lacking(self, motion: float, change: float) -> np.ndarray:
        """Variance ``(P,)`` per unit of depth by which measured cells differ more from those about them than predicted.

        A carried cell diffuses over its way, t or 1 - t of the span, and counts by 1 - t or t.
        """
        predicted = variance_about(*self.predict(motion, change))
        uniform = np.full(len(self.measured[0]), 1 / len(self.measured[0]))
        return (variance_about(*self.measured, uniform) - predicted) / (2 * self.t * (1 - self.t) * self.span)


def variance_about(place: np.ndarray, features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean over cells of the unbiased variance ``(P,)`` of the features of a cell and those nearest to it."""
    near = cKDTree(place).query(place, k=np.arange(1, min(_ABOUT, len(place)) + 1))[1]
    share = weight[near] / weight[near].sum(axis=1, keepdims=True)
    mean, square = np.zeros_like(features), np.zeros_like(features)
    for column in range(near.shape[1]):
        part = share[:, [column]] * features[near[:, column]]
        mean += part
        square += part * features[near[:, column]]
    unbiased = np.maximum(1 - (share**2).sum(axis=1), 1e-12)
    return weight @ ((square - mean**2) / unbiased[:, None])


def _error(
    place: np.ndarray, features: np.ndarray, weight: np.ndarray, measured_place: np.ndarray, measured: np.ndarray
) -> float:
    """Energy distances in place alone and in place and features, and squared error of the mean features."""
    unit = _WIDTH * max(median_spacing(measured_place), 1e-12)
    total = sum(
        _energy(
            np.column_stack([place / unit, features[:, :n]]), weight,
            np.column_stack([measured_place / unit, measured[:, :n]]),
        )
        for n in (0, _N_FEATURES)
    )  # fmt: skip
    variance = float(((measured - measured.mean(axis=0)) ** 2).sum())
    if variance > 0:
        distance, near = cKDTree(place).query(measured_place, k=np.arange(1, min(_NEAREST, len(place)) + 1))
        kernel = weight[near] * np.exp(-0.5 * (distance / unit) ** 2) + 1e-12 * weight[near]
        mean = (kernel[..., None] * features[near]).sum(axis=1) / kernel.sum(axis=1, keepdims=True)
        total += float(((mean - measured) ** 2).sum()) / variance
    return total


def _energy(a: np.ndarray, weight: np.ndarray, b: np.ndarray) -> float:
    """Unbiased energy distance of weighted points to others."""
    m = len(b)
    within = weight @ cdist(a, a) @ weight / (1 - (weight**2).sum())
    return float(2 * (weight @ cdist(a, b)).mean() - within - cdist(b, b).sum() / (m * (m - 1)))


def _some(place: np.ndarray, features: np.ndarray) -> Section:
    chosen = np.random.default_rng(0).permutation(len(place))[:_MAX_CELLS]
    return place[chosen].astype(np.float64), features[chosen].astype(np.float64)
