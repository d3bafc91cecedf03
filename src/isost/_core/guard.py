"""How much of the coupled motion and change to believe: sections left out say."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from isost._core.graph import median_spacing
from isost._core.transport import couple

_MOTIONS = (0.0, 0.5, 1.0)
_CHANGES = (0.0, 1.0)
_MAX_SECTIONS = 8
_MAX_CELLS_ASKED = 6000  # over all sections asked: few large sections say as much as many small ones
_MAX_CELLS = 1500
_N_FEATURES = 20
_NEAREST = 64  # cells that a mean is of
_WIDTH = 5.0  # spacings, of the kernel of a mean and the unit of distances
_MARGIN = 0.02  # share of its error, and at least _TIE, by which leaving the cells where they are has to be worse
_TIE = 0.005  # left-out sections lie twice as far apart, over which a straight way is a worse guess

Section = tuple[np.ndarray, np.ndarray]


def believe(
    sections: list[Section], depths: list[float], *, n_candidates: int, feature_weight: float
) -> tuple[float, float, dict[str, float]]:
    """Choose the share of the coupled displacement, and of the coupled change of expression, that predicts best.

    Inner sections are predicted from couplings of their two neighbours with each other, which never saw them, by
    cells moved straight by ``motion`` times their displacement. Their error is the sum of the energy distances to the
    measured cells in (x, y) and in (x, y, features), and of the squared error of the mean expression at the measured
    cells in units of its variance. Standing still is left only for a clear gain: noise, too, couples to something.
    Of motions that are as good the largest is taken.

    Parameters
    ----------
    sections
        Positions ``(n, 2)`` and scaled features ``(n, P)`` of every section.
    depths
        Of the sections, rising.
    n_candidates, feature_weight
        Of the couplings.

    Returns
    -------
    Share of the motion, share of the change, and the mean error of every choice tried; full shares where there is no
    inner section to ask.
    """
    inner = np.arange(1, len(sections) - 1)
    if not inner.size:
        return 1.0, 1.0, {}
    size = min(_MAX_CELLS, float(np.mean([len(place) for place, _ in sections])))
    at_most = int(np.clip(_MAX_CELLS_ASKED / size, 3, _MAX_SECTIONS))
    asked = inner[np.unique(np.linspace(0, len(inner) - 1, at_most).round().astype(int))]
    choices = list(product(_MOTIONS, _CHANGES))
    error = np.zeros(len(choices))
    for section in asked:
        before, measured, after = (_some(*sections[k]) for k in (section - 1, section, section + 1))
        t = (depths[section] - depths[section - 1]) / (depths[section + 1] - depths[section - 1])
        options: dict[str, Any] = {"n_candidates": n_candidates, "feature_weight": feature_weight}
        ahead, behind = couple(*before, *after, **options), couple(*after, *before, **options)
        share = [np.full(len(cells[0]), part / len(cells[0])) for cells, part in ((before, 1 - t), (after, t))]
        weight = np.concatenate(share)
        for index, (motion, change) in enumerate(choices):
            place = np.concatenate([
                before[0] + t * motion * (ahead.target - before[0]),
                after[0] + (1 - t) * motion * (behind.target - after[0]),
            ])  # fmt: skip
            features = np.concatenate([
                before[1] + t * change * ahead.change, after[1] + (1 - t) * change * behind.change,
            ])  # fmt: skip
            error[index] += _error(place, features, weight, *measured) / len(asked)
    names = [f"motion {motion:g}, change {change:g}" for motion, change in choices]
    table = dict(zip(names, error.tolist(), strict=True))
    if error.min() > error[0] - max(_TIE, _MARGIN * error[0]):
        return *choices[0], table
    alike = np.flatnonzero(error <= error.min() + _TIE)
    largest = max(choices[index][0] for index in alike)
    best = min((index for index in alike if choices[index][0] == largest), key=lambda index: error[index])
    return *choices[best], table


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
