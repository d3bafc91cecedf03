"""How far the field is believed, and how wide its intervals have to be: sections that it was not given say.

A few inner sections are predicted, each from the cells of the others; couplings, covariances and components stay
those of the whole stack. In a bin of such a section the measured mean of a gene differs from the predicted one by
what the field is unsure of, with standard deviation c s, and by the sampling of the n cells of the bin, with variance
w / n. The factor c of each gene is the likely one, given those of the other genes, raised where its errors have
outliers until 90 % of the bins, less two standard errors, lie within 1.64 standard deviations, as a conformal bound
would be (Lei et al. 2018, with s as the scale). Where sampling outweighs the field the share of bins says nothing of
c; the likelihood still does. Errors are those of the field drawn towards the simpler predictor that `blend` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from isost._core.blend import SHARPNESS, WIDTHS, Blend, choose_blend
from isost._core.covariance import Hyperparameters, spacing_of
from isost._core.gap import GapField
from isost._core.model import SDEModel
from isost._core.paths import Paths
from isost._core.settle import Evidence, Settling, choose_settling, evidence
from isost._core.stack import Stack
from isost._core.trust import without

_LEVEL, _QUANTILE = 0.9, 1.6448536269514722
_FACTORS = np.geomspace(0.2, 8.0, 38)
_SECTIONS_ASKED = 3, 8
_CELLS_ASKED = 12_000  # of all of them, but three sections in any case
MOST_CELLS = 20_000  # of a section
_ALIKE = 4.0  # neighbouring bins that err alike count as one
_SPREAD = 0.5  # of the logarithms of the genes' factors about their mean
SIDE = 2.5  # of a bin, in spacings
_AT_ONCE = 16  # genes


@dataclass(frozen=True, eq=False)
class Calibration:
    """Factors of the standard deviations of the scores ``(P + Q,)`` and of the decoder's genes ``(G,)``."""

    scores: np.ndarray
    genes: np.ndarray

    @classmethod
    def none(cls, stack: Stack) -> Calibration:
        return cls(np.ones(stack.n_scores), np.ones(0 if stack.decoder is None else len(stack.decoder.genes)))


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Bins of a section: ``(B, S)`` residuals of scores, variances; ``(B,)`` cells; ``(S, S)`` covariance in bins.

    ``deviation (C, B, S)`` is what simple predictors say beside the field.
    """

    residual: np.ndarray
    deviation: np.ndarray
    variance: np.ndarray
    count: np.ndarray
    scatter: np.ndarray

    def of(self, loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Squared residuals, variances of the field and of sampling, of genes by ``(G, S)`` loadings: ``(B, G)``."""
        within = ((loadings @ self.scatter) * loadings).sum(axis=1)
        square = (self.residual @ loadings.T) ** 2
        return square, self.variance @ (loadings**2).T, within / self.count[:, None]


def calibrate(
    model: SDEModel, stack: Stack, hyper: Hyperparameters, centre: np.ndarray, *, settle: bool = True
) -> tuple[Calibration, Blend | None, Settling | None]:
    """Leave inner sections out one at a time; where there is none, factors are 1, nothing is blended and settled.

    Sections whose expression was predicted are never asked: they are no truth.

    Parameters
    ----------
    model, stack
        What carries the cells, and the cells.
    hyper, centre
        Covariance and ``(P + Q,)`` mean of every score.
    settle
        Whether to ask the sections left out how far carried cells follow the field; None is returned if not.
    """
    inner = np.array(stack.measured[1:-1], dtype=np.int64)
    if not inner.size or not stack.n_scores:
        return Calibration.none(stack), None, None
    at_most = int(np.clip(_CELLS_ASKED * stack.n_sections / stack.n_cells, *_SECTIONS_ASKED))
    asked = inner[np.unique(np.linspace(0, len(inner) - 1, at_most).round().astype(int))]
    options = [(width * spacing_of(stack), sharpness) for width in WIDTHS for sharpness in SHARPNESS]
    left_out = [_leave_out(model, stack, int(k), hyper, centre, options, settle=settle) for k in asked]
    parts = [part for part, _ in left_out]
    settling = choose_settling([cells for _, cells in left_out if cells is not None]) if settle else None
    residual, deviation = [part.residual for part in parts], [part.deviation for part in parts]
    blend = choose_blend(options, residual, deviation, hyper.noise)
    if blend is not None:
        chosen = options.index((blend.width, blend.sharpness))
        parts = [replace(part, residual=part.residual - blend.weight * part.deviation[chosen]) for part in parts]
    scores = factors_of(parts, np.eye(stack.n_scores))
    if stack.decoder is None:
        return Calibration(scores, np.ones(0)), blend, settling
    index = np.arange(len(stack.decoder.genes))
    blocks = [index[first : first + _AT_ONCE] for first in range(0, len(index), _AT_ONCE)]
    genes = np.concatenate([factors_of(parts, stack.loadings_of(block)) for block in blocks])
    return Calibration(scores, genes), blend, settling


def _leave_out(
    model: SDEModel, stack: Stack, k: int, hyper: Hyperparameters, centre: np.ndarray,
    options: list[tuple[float, float]], *, settle: bool,
) -> tuple[LeftOut, Evidence | None]:  # fmt: skip
    rest = without(stack, k)
    rows = np.arange(stack.starts[k], stack.starts[k + 1])
    rows = np.random.default_rng(0).permutation(rows)[:MOST_CELLS]
    coords, measured = stack.coords[rows], stack.scores_of(rows)
    gap = GapField(Paths(model, rest, only=k - 1), k - 1, hyper, centre)
    frame = gap.to_frame(coords)
    mean, variance = gap.mean_at(frame, coords[:, 2]), gap.variance_at(frame, coords[:, 2])
    place = np.floor(coords[:, :2] / (SIDE * spacing_of(stack))).astype(np.int64)
    _, member, count = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    entries = (1 / count[member.ravel()], (member.ravel(), np.arange(len(rows))))
    average = sparse.csr_matrix(entries, shape=(len(count), len(rows)))
    off = measured - (average @ measured)[member.ravel()]
    scatter = off.T @ off / max(len(rows) - len(count), 1)
    sides = {width: gap.sides(width) for width, _ in options}
    deviation = []
    for width, sharpness in options:
        simple, known = sides[width].at(frame, coords[:, 2], sharpness)
        deviation.append(average @ (known[:, None] * (simple - mean)))
    residual = average @ (measured - mean)
    cells = evidence(model, rest, gap, k, coords, measured[:, : stack.n_features]) if settle else None
    return LeftOut(residual, np.stack(deviation), average @ variance, count, scatter), cells


def factors_of(parts: list[LeftOut], loadings: np.ndarray) -> np.ndarray:
    """Factor of each gene; genes borrow from each other."""
    found = [part.of(loadings.astype(np.float64)) for part in parts]
    square, variance, sampling = (np.concatenate(values).T for values in zip(*found, strict=True))
    # float32 in the gene's own unit, its bins side by side in memory: every number is looked at for every factor
    unit = (square + variance + sampling).mean(axis=1, keepdims=True) + 1e-300
    sampling = sampling / unit + 1e-9  # of a gene that hardly varies
    square, variance, sampling = (
        np.ascontiguousarray(part, dtype=np.float32) for part in (square / unit, variance / unit, sampling)
    )
    likely, covered = np.empty((2, len(_FACTORS), len(loadings)))
    expected, inverse = np.empty_like(square), np.empty_like(square)
    for i, factor in enumerate(_FACTORS):
        np.multiply(variance, np.float32(factor**2), out=expected)
        expected += sampling
        covered[i] = (square <= np.float32(_QUANTILE**2) * expected).mean(axis=1)
        np.divide(square, expected, out=inverse)
        inverse += np.log(expected, out=expected)
        likely[i] = -0.5 * inverse.mean(axis=1, dtype=np.float64)
    likely *= square.shape[1] / _ALIKE
    usual = _mean_logarithm(likely, np.zeros(len(_FACTORS))).mean()
    own = _mean_logarithm(likely, -0.5 * ((np.log(_FACTORS) - usual) / _SPREAD) ** 2)
    # less than the level by more than chance
    enough = covered >= _LEVEL - 2 * np.sqrt(_LEVEL * (1 - _LEVEL) / square.shape[1])
    first = np.where(enough.any(axis=0), enough.argmax(axis=0), len(_FACTORS) - 1)
    return np.maximum(np.exp(own), np.where(first > 0, _FACTORS[first], 0.0))


def _mean_logarithm(likely: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Posterior mean of log c of each gene, given its log likelihood and the log prior on the grid of factors."""
    weight = likely + prior[:, None]
    weight = np.exp(weight - weight.max(axis=0))
    return np.log(_FACTORS) @ weight / weight.sum(axis=0)
