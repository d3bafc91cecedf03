"""How means change with age: a smooth Gaussian process through the stages, its lengths and sizes averaged over.

The mean of gene g over the n_k cells of stage k, of variance v_g within stages, is c + f(age) + noise of variance
v_g / n_k, with c the mean over stages and f of covariance r v_g exp(-lag^2 / 2 l^2). Of every l and r on a grid the
marginal likelihood weighs the posterior mean of f (Rasmussen & Williams 2006, sections 2.2 and 5.2): a few stages
seldom tell one l.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f

_LENGTHS, _LEAST, _MOST = 12, 1.0, 2.0  # from so many median gaps to so many ranges
_RATIOS = np.geomspace(1e-4, 1e2, 19)
_TINY = 1e-12


def follow(ages: np.ndarray, mean: np.ndarray, count: np.ndarray, variance: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Curves (m, G) through means.

    Parameters
    ----------
    ages
        (K,) rising.
    mean, count
        (K, G) means of stages and (K,) the cells that they are of.
    variance
        (G,) of a cell within stages.
    at
        (m,) ages that are asked for.
    """
    lag = ages[:, None] - ages
    lengths = np.geomspace(_LEAST * float(np.median(np.diff(ages))), _MOST * float(np.ptp(ages)), _LENGTHS)
    scale = np.sqrt(np.maximum(variance, _TINY))
    level = mean.mean(axis=0)
    y = (mean - level) / scale
    scores, readers = [], []
    for length in lengths:
        for ratio in _RATIOS:
            prior = ratio * np.exp(-0.5 * (lag / length) ** 2)
            inverse, log_det = _inverse(prior + np.diag(1.0 / count))
            scores.append(-0.5 * ((inverse @ y) * y).sum(axis=0) - 0.5 * log_det)
            readers.append(ratio * np.exp(-0.5 * ((at[:, None] - ages) / length) ** 2) @ inverse)
    weight = np.exp(np.array(scores) - np.max(scores, axis=0))
    weight /= weight.sum(axis=0)
    curve = np.tile(level, (len(at), 1))
    for reader, share in zip(readers, weight, strict=True):
        curve += (reader @ y) * (share * scale)
    return curve


def _inverse(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, _TINY * values[-1])
    return (vectors / values) @ vectors.T, float(np.log(values).sum())


def differ(mean: np.ndarray, variance: np.ndarray, n_cells: float) -> np.ndarray:
    """P-values (G,) that means (K, G) are all of one: an F test of their scatter.

    Parameters
    ----------
    mean
        Of K stages.
    variance
        (K, G) of each mean, by the variance of cells within stages, which is taken to be that of all stages alike: that
        of a stage of few cells is hardly known.
    n_cells
        That the variance within stages is of.
    """
    weight = 1.0 / np.maximum(variance, _TINY)
    common = (weight * mean).sum(axis=0) / weight.sum(axis=0)
    between = (weight * (mean - common) ** 2).sum(axis=0) / (len(mean) - 1)
    return f.sf(between, len(mean) - 1, n_cells - len(mean))


@dataclass(frozen=True, eq=False)
class Peaks:
    """Of curves (m, G): where each is highest, how far above its lowest, and where above half of that; all (G,)."""

    age: np.ndarray
    height: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    at_edge: np.ndarray

    @classmethod
    def of(cls, ages: np.ndarray, curve: np.ndarray) -> Peaks:
        top, genes = curve.argmax(axis=0), np.arange(curve.shape[1])
        highest, lowest = curve[top, genes], curve.min(axis=0)
        above = curve >= (highest + lowest) / 2
        # the first age beyond the peak, either way, at which the curve is below half
        number = np.arange(len(ages))[:, None]
        left = np.where(~above & (number < top), number, -1).max(axis=0) + 1
        right = np.where(~above & (number > top), number, len(ages)).min(axis=0) - 1
        edge = (top == 0) | (top == len(ages) - 1)
        return cls(_refined(ages, curve, top), highest - lowest, ages[left], ages[right], edge)


def _refined(ages: np.ndarray, curve: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Summits of parabolas through the highest value and those beside it; ages have to be even about it."""
    genes, inner = np.arange(curve.shape[1]), np.clip(top, 1, len(ages) - 2)
    before, at, after = (curve[inner + step, genes] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    offset = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0)
    refined = ages[inner] + np.clip(offset, -0.5, 0.5) * (ages[inner + 1] - ages[inner - 1]) / 2
    return np.where(top == inner, refined, ages[top])
