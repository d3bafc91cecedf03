"""A simpler predictor beside the Gaussian process, believed as far as left-out sections say.

The simple ones are Gaussian kernel means over the two sections about a place, with weights (1 - t)^p and t^p: both
alike (p = 0), by the distance along depth (p = 1), mostly the nearer one (p = 2) or almost only that (p = 8; it alone
would leave a seam halfway). In left-out sections the field errs by r, and the simple predictor differs by d: the
share w = <r, d> / <d, d> of d is to be believed. One predictor is taken, with a w for each score, which the scores
borrow from each other; none where it hardly gains. Genes follow by their loadings, so that a volume of scores and one
of genes agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isost._core.smooth import KernelPlane

WIDTHS = (2.5, 5.0)  # of the kernel, in spacings
SHARPNESS = (1.0, 2.0, 0.0, 8.0)  # halfway between two sections, where evenly spaced ones are left out, all are one
_TIE = 1e-3  # of the squared error: between predictors that gain as much the first is taken
_LEAST_GAIN = 0.005  # of the squared error of the field
_ALIKE = 4.0  # neighbouring bins that err alike count as one
_TINY = 1e-200
_THIN = 1e-3  # of the usual density of cells: there the kernel mean knows no more


@dataclass(frozen=True, eq=False)
class Blend:
    """One simple predictor, and how far it is believed.

    Attributes
    ----------
    width
        Standard deviation of the kernel, input unit.
    sharpness
        p.
    weight
        ``(P + Q,)`` share of the simple predictor of every score, in [0, 1].
    gain
        Share of the squared error in left-out sections that it takes away.
    """

    width: float
    sharpness: float
    weight: np.ndarray
    gain: float = 0.0


class Sides:
    """Kernel means of scores over the two sections about a gap, all in one frame.

    Parameters
    ----------
    places, scores
        ``(n, 2)`` and ``(n, S)`` of the cells of the section before, and of that after.
    depths
        Of the two.
    width
        Standard deviation of the kernel.
    """

    def __init__(
        self, places: Sequence[np.ndarray], scores: Sequence[np.ndarray], depths: np.ndarray, width: float
    ) -> None:
        both = np.concatenate(places)
        bounds = both.min(axis=0), both.max(axis=0)
        self._depths = depths
        self._planes = [
            KernelPlane(place, values, np.ones(len(place)), width, bounds)
            for place, values in zip(places, scores, strict=True)
        ]
        self._thin = [
            _THIN * float(np.median(plane.at(place)[0])) for plane, place in zip(self._planes, places, strict=True)
        ]

    def at(self, place: np.ndarray, z: np.ndarray, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean scores ``(m, S)`` at places of the frame and depths, and how far there are cells ``(m,)``, 0 to 1."""
        t = np.clip((z - self._depths[0]) / np.diff(self._depths)[0], 0.0, 1.0)
        share = np.stack([(1 - t) ** sharpness, t**sharpness])
        share /= share.sum(axis=0)
        mean, known = 0.0, np.zeros(len(place))
        for part, plane, thin in zip(share, self._planes, self._thin, strict=True):
            density, sums = plane.at(place)
            mean = mean + part[:, None] * sums / np.maximum(density, thin * _THIN)[:, None]
            known += part * density / (density + thin)
        return np.asarray(mean), known


def choose_blend(
    options: Sequence[tuple[float, float]],
    residual: Sequence[np.ndarray],
    deviation: Sequence[np.ndarray],
    noise: np.ndarray,
) -> Blend | None:
    """Choose the simple predictor that takes most of the squared error away, if it takes any.

    It is believed by one standard error less than what the left-out sections say on average, of which it takes two.

    Parameters
    ----------
    options
        Width and sharpness of C predictors.
    residual
        For each left-out section ``(B, S)``, measured less predicted by bins.
    deviation
        For each ``(C, B, S)``, simple predictor less the field.
    noise
        ``(S,)`` variance of a cell about the field: the unit of a score's error.
    """
    best: Blend | None = None
    if len(residual) < 2:
        return best
    unit = np.maximum(noise, _TINY)
    square = np.concatenate(residual) ** 2
    total = max(float((square / unit).sum()), _TINY)
    for index, (width, sharpness) in enumerate(options):
        own = np.stack([(off[index] ** 2).sum(axis=0) for off in deviation])
        along = np.stack([(off[index] * left).sum(axis=0) for off, left in zip(deviation, residual, strict=True)])
        share = (along / unit).sum(axis=1) / np.maximum((own / unit).sum(axis=1), _TINY)
        sure = share.mean() - share.std(ddof=1) / np.sqrt(len(share))
        if sure <= 0:
            continue
        own, along = np.maximum(own.sum(axis=0), _TINY), along.sum(axis=0)
        weight = _shrink(along / own, _ALIKE * square.mean(axis=0) / own)
        weight *= min(1.0, sure / share.mean())
        gain = float(((2 * weight * along - weight**2 * own) / unit).sum() / total)
        if gain > max(_LEAST_GAIN, best.gain + _TIE if best else 0.0):
            best = Blend(width, sharpness, weight, gain)
    return best


def _shrink(estimate: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Empirical Bayes: towards the mean of all scores, by how little they differ beyond their errors; in [0, 1]."""
    variance = np.maximum(variance, _TINY)
    usual = np.average(estimate, weights=1 / variance)
    spread = max(0.0, np.average((estimate - usual) ** 2, weights=1 / variance) - 1 / (1 / variance).mean())
    return np.clip((usual * variance + estimate * spread) / (variance + spread), 0.0, 1.0)
