"""How much of the coupled motion and change to believe: sections left out say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import t as student

from isost._core.clouds import MOST_CELLS, energy_of, some
from isost._core.graph import median_spacing
from isost._core.imaged import Way
from isost._core.transport import MASSES, Coupling, couple

_MOTIONS = (0.0, 0.5, 1.0)
_CHANGES = (0.0, 1.0)
_ENDS = (0.0, 1.0)  # of a way by images: where these lead, or where the coupling does
_MAX_SECTIONS = 8
_MAX_CELLS_ASKED = 6000  # over all sections asked: few large sections say as much as many small ones
_N_FEATURES = 20
_NEAREST = 64  # cells that a mean is of
_WIDTH = 5.0  # spacings, of the kernel of a mean and the unit of distances
_MARGIN = 0.02  # share of its error, and at least _TIE, by which leaving the cells where they are has to be worse
_SURE, _FEW = 0.99, 3  # or by Student's t at this level, over so many left-out sections or more, where that is less
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
    imaged
        Whether cells go by the planes of images between the sections, to where these lead if `motion` is 0.
    error, tried
        Mean error of this choice, and of every one.
    """

    motion: float
    change: float
    masses: str
    imaged: bool = False
    error: float = 0.0
    tried: dict[str, float] = field(default_factory=dict)


def believe(
    sections: list[Section], depths: list[float], *, n_candidates: int, feature_weight: float,
    ways: Callable[[list[int]], list[Way | None]] | None = None,
) -> Belief:  # fmt: skip
    """Choose the share of the coupled displacement, and of the coupled change of expression, that predicts best.

    Inner sections are predicted from couplings of their two neighbours with each other, which never saw them, by
    cells moved straight by ``motion`` times their displacement. Their error is the sum of the energy distances to the
    measured cells in (x, y) and in (x, y, features), and of the squared error of the mean expression at the measured
    cells in units of its variance. Standing still is left only for a gain that is large, or alike in all sections:
    noise, too, couples to something. Of motions that are as good the largest is taken. Ways by images are gone for a
    clear gain. Cells rather than tissue are carried over for a clear gain too, and where there is no section to ask:
    then the next section is all that is known.

    Parameters
    ----------
    sections
        Positions ``(n, 2)`` and scaled features ``(n, P)`` of every section.
    depths
        Of the sections, rising.
    n_candidates, feature_weight
        Of the couplings.
    ways
        Ways between the neighbours of sections of these numbers, by a plane at the depth of each.
    """
    inner = np.arange(1, len(sections) - 1)
    if not inner.size:
        return Belief(1.0, 1.0, "cells")
    size = min(MOST_CELLS, float(np.mean([len(place) for place, _ in sections])))
    at_most = int(np.clip(_MAX_CELLS_ASKED / size, 3, _MAX_SECTIONS))
    asked = inner[np.unique(np.linspace(0, len(inner) - 1, at_most).round().astype(int))]
    by_images = ways(asked.tolist()) if ways else [None] * len(asked)
    beliefs = []
    for masses in MASSES:
        left_out = [
            _LeftOut.of(
                sections[k - 1 : k + 2], depths[k - 1 : k + 2], masses, way,
                n_candidates=n_candidates, feature_weight=feature_weight,
            )
            for k, way in zip(asked, by_images, strict=True)
        ]  # fmt: skip
        beliefs.append(_choose(left_out, masses))
    tissue, cells = beliefs
    best = cells if cells.error < tissue.error - _TIE and cells.motion else tissue
    return replace(best, tried=tissue.tried | cells.tried)


def _choose(left_out: list[_LeftOut], masses: str) -> Belief:
    """Choose motion and change, given what is carried over."""
    choices = [(motion, change, False) for motion, change in product(_MOTIONS, _CHANGES)]
    if any(one.way for one in left_out):
        choices += [(motion, change, True) for motion, change in product(_ENDS, _CHANGES)]
    errors = np.array([[one.error(*choice) for choice in choices] for one in left_out])
    error = errors.mean(axis=0)
    names = [f"motion {motion:g}, change {change:g}{', images' * imaged}" for motion, change, imaged in choices]
    names = [name if masses == "area" else f"{name}, {masses}" for name in names]
    best, plain = 0, error[: len(_MOTIONS) * len(_CHANGES)]
    if plain.min() <= error[0] - _margin(errors[:, 0], errors[:, plain.argmin()]):
        alike = np.flatnonzero(plain <= plain.min() + _TIE).tolist()
        largest = max(choices[index][0] for index in alike)
        best = min((index for index in alike if choices[index][0] == largest), key=lambda index: error[index])
    if error.min() <= error[best] - max(_TIE, _MARGIN * error[best]):
        best = int(error.argmin())
    motion, change, imaged = choices[best]
    tried = dict(zip(names, error.tolist(), strict=True))
    return Belief(motion, change, masses, imaged, float(error[best]), tried)


def _margin(still: np.ndarray, other: np.ndarray) -> float:
    """By how much the mean error has to be less than that of standing still, given both of each section left out."""
    margin = _MARGIN * still.mean()
    if len(still) >= _FEW:
        error = (still - other).std(ddof=1) / np.sqrt(len(still))
        margin = min(margin, float(student.ppf(_SURE, len(still) - 1)) * error)
    return float(max(_TIE, margin))


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """A section, its neighbours, and their couplings with each other."""

    before: Section
    measured: Section
    after: Section
    ahead: Coupling
    behind: Coupling
    t: float
    way: Way | None = None

    @classmethod
    def of(
        cls,
        sections: Sequence[Section],
        depths: Sequence[float],
        masses: str,
        way: Way | None = None,
        *,
        n_candidates: int,
        feature_weight: float,
    ) -> _LeftOut:
        before, measured, after = (some(*section) for section in sections)
        ahead, behind = (
            couple(*a, *b, n_candidates=n_candidates, feature_weight=feature_weight, masses=masses)
            for a, b in ((before, after), (after, before))
        )
        return cls(before, measured, after, ahead, behind, (depths[1] - depths[0]) / (depths[2] - depths[0]), way)

    def predict(self, motion: float, change: float, imaged: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, features and weights (of sum 1) of the cells of both neighbours, moved straight or by images."""
        ways = ((self.before, self.ahead, self.t), (self.after, self.behind, 1 - self.t))
        place = [cells[0] + way * motion * (coupling.target - cells[0]) for cells, coupling, way in ways]
        if imaged and self.way:  # elsewhere cells go straight
            place = [self._imaged(cells[0], coupling.target, motion, coupling is self.ahead)
                     for cells, coupling, _ in ways]  # fmt: skip
        features = [cells[1] + way * change * coupling.change for cells, coupling, way in ways]
        weight = [np.full(len(cells[0]), (1 - way) / len(cells[0])) for cells, _, way in ways]
        return np.concatenate(place), np.concatenate(features), np.concatenate(weight)

    def _imaged(self, start: np.ndarray, target: np.ndarray, motion: float, ahead: bool) -> np.ndarray:
        """Places on the plane at the depth of the section."""
        assert self.way is not None
        end = target if motion else self.way.end(start, ahead=ahead)
        at = int(np.abs(self.way.shares - self.t).argmin())
        places = self.way.via(start, end, ahead=ahead)
        return places[at if ahead else len(places) - 1 - at]

    def error(self, motion: float, change: float, imaged: bool = False) -> float:
        """Energy distances in place alone and in place and features, and squared error of the mean features."""
        place, features, weight = self.predict(motion, change, imaged)
        if (motion, imaged) not in self._apart:  # a change of expression leaves places as they are
            self._apart[motion, imaged] = energy_of(place / self._unit, weight, self.measured[0] / self._unit)
        known = np.column_stack([self.measured[0] / self._unit, self.measured[1][:, :_N_FEATURES]])
        predicted = np.column_stack([place / self._unit, features[:, :_N_FEATURES]])
        total = self._apart[motion, imaged] + energy_of(predicted, weight, known)
        return total + _error_of_mean((place, features), weight, self.measured, self._unit)

    @cached_property
    def _unit(self) -> float:
        return _WIDTH * max(median_spacing(self.measured[0]), 1e-12)

    @cached_property
    def _apart(self) -> dict[tuple[float, bool], float]:
        """Energy distance in place of each motion."""
        return {}


def _error_of_mean(predicted: Section, weight: np.ndarray, measured: Section, unit: float) -> float:
    """Squared error of the mean features at the measured cells, in units of their variance."""
    (place, features), (asked, known) = predicted, measured
    variance = float(((known - known.mean(axis=0)) ** 2).sum())
    if variance <= 0:
        return 0.0
    distance, near = cKDTree(place).query(asked, k=np.arange(1, min(_NEAREST, len(place)) + 1))
    kernel = weight[near] * np.exp(-0.5 * (distance / unit) ** 2) + 1e-12 * weight[near]
    mean = (kernel[..., None] * features[near]).sum(axis=1) / kernel.sum(axis=1, keepdims=True)
    return float(((mean - known) ** 2).sum()) / variance
