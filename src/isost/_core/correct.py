"""A gain and an offset of every gene for the sections that their neighbours are predicted better without.

A section is summed up by the mean and the spread of each gene over squares of tissue that it shares with its
neighbours. Both are predicted, linearly in depth, from the sections next to it; what is smooth along depth has no
difference from its prediction, and is left alone. A badly stained section differs, and makes its neighbours differ by
half as much. It is told from a change of the tissue by leaving it out: its neighbours are then predicted better from
sections that lie farther away, which a step or a trend of biology does not do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from isost._core.covariance import spacing_of
from isost._core.stack import Stack
from isost._core.trust import follow
from isost._logging import logger

_SIDE = 5.0  # of a square, in spacings
_FEWEST_CELLS = 3  # of a square that counts
_FEWEST_BINS = 6
_FEWEST_SECTIONS = 5
_USELESS = 0.4  # share of its neighbours' error that has to stay without a bad section
_OUTLYING = 4.0  # its own error, in units of the others' median error
_MOST = 1 / 3  # of the inner sections


def correct_sections(stack: Stack) -> tuple[Stack, dict[str, dict[str, float]]]:
    """Undo, gene by gene, the gain and the offset of badly stained sections.

    In a section found bad a cell's expression x becomes m + (x - m) exp(-l) - d, with m the section's mean, and l and d
    the differences of the log spread and of the mean from what the neighbours predict, drawn to 0 where such
    differences are ordinary between good sections (James and Stein's positive part). The map is applied to the scores,
    by least squares of the decoded genes. The first and the last section are never changed: beyond them
    nothing says whether they or the tissue differ. Predicted sections are not asked, and follow the measured ones.

    Parameters
    ----------
    stack
        Sections with features. Without a decoder, features stand for genes.

    Returns
    -------
    stack
        The very stack that came in where nothing is corrected; else one with other features and scores.
    found
        By the name of each corrected section: ``offset`` and ``gain``, mean sizes over genes of d in standard
        deviations of bin means, and of exp(l); ``error`` of its neighbours as measured (mean squared difference, in the
        same units), and ``error_without`` the section.
    """
    measured = stack.measured
    if len(measured) < _FEWEST_SECTIONS or not stack.n_features:
        return stack, {}
    sections = _Sections.of(stack)
    bad: dict[int, tuple[float, float]] = {}
    while len(bad) < max(1, int(_MOST * (len(measured) - 2))):
        found = sections.worst([k for k in measured if k not in bad])
        if found is None:
            break
        bad[found[0]] = found[1:]
    if not bad:
        return stack, {}
    good = [k for k in measured if k not in bad]
    scores = stack.scores.copy()
    report: dict[str, dict[str, float]] = {}
    for k, (error, without) in sorted(bad.items()):
        offset, log_gain = sections.effect(k, good)
        scores[stack.slice_of(k)] += sections.change(k, stack.scores_of(stack.slice_of(k)), offset, log_gain)
        report[stack.names[k]] = {
            "offset": float(np.abs(offset).mean()), "gain": float(np.exp(np.abs(log_gain).mean())),
            "error": error, "error_without": without,
        }  # fmt: skip
    logger.info(
        "fit: %s stand out from their neighbours, which are predicted better without: gain and offset corrected",
        ", ".join(report),
    )
    return follow(stack, stack.with_scores(scores), list(bad)), report


@dataclass(frozen=True, eq=False)
class _Sections:
    """Squares of all sections in one plane, and what makes genes of their scores.

    Attributes
    ----------
    depths
        ``(K,)``.
    count, mean
        ``(K, B)`` cells and ``(K, B, S)`` mean scores of every square.
    within
        ``(K, S, S)`` covariance of the scores of cells about the mean of their square.
    loadings
        ``(G, S)``, of which the first ``n_features`` columns are of the components.
    spread
        ``(G,)`` standard deviation of bin means, of a typical section.
    """

    depths: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    within: np.ndarray
    loadings: np.ndarray
    n_features: int
    spread: np.ndarray
    known: dict[Any, np.ndarray]

    @classmethod
    def of(cls, stack: Stack) -> _Sections:
        scores = stack.scores.astype(np.float64)
        loadings = np.eye(stack.n_features)
        if stack.decoder is not None:
            loadings = stack.loadings_of(np.arange(len(stack.decoder.genes))).astype(np.float64)
        side = _SIDE * spacing_of(stack)
        square = np.floor((stack.coords[:, :2] - stack.coords[:, :2].min(axis=0)) / side).astype(np.int64)
        names, square_of = np.unique(square, axis=0, return_inverse=True)
        n_bins, n_scores = len(names), scores.shape[1]
        count = np.zeros((stack.n_sections, n_bins))
        mean = np.zeros((stack.n_sections, n_bins, n_scores))
        within = np.zeros((stack.n_sections, n_scores, n_scores))
        for k in range(stack.n_sections):
            rows, at = stack.slice_of(k), square_of.ravel()[stack.slice_of(k)]
            count[k] = np.bincount(at, minlength=n_bins)
            np.add.at(mean[k], at, scores[rows])
            mean[k] /= np.maximum(count[k], 1)[:, None]
            left = scores[rows] - mean[k, at]
            within[k] = left.T @ left / max(len(left) - np.count_nonzero(count[k]), 1)
        covariance = np.mean([np.cov(mean[k, count[k] >= _FEWEST_CELLS].T, ddof=0) for k in range(stack.n_sections)
                              if np.count_nonzero(count[k] >= _FEWEST_CELLS) > 1], axis=0)  # fmt: skip
        spread = np.sqrt(np.maximum(_diagonal(loadings, covariance), 0.0))
        spread = np.where(spread > 1e-6 * spread.max(), spread, np.inf)
        return cls(stack.depths, count, mean, within, loadings, stack.n_features, spread, {})

    def worst(self, good: list[int]) -> tuple[int, float, float] | None:
        """Find the section that its neighbours gain most without: it, and their error with and without it."""
        found = []
        for place in range(1, len(good) - 1):
            k, others = good[place], good[:place] + good[place + 1 :]
            beside = good[place - 1], good[place + 1]
            error = sum(self.error(j, good) for j in beside)
            without = sum(self.error(j, others) for j in beside)
            ordinary = [x for j in others[1:-1] if np.isfinite(x := self.error(j, others))]
            if without < _USELESS * error and ordinary and self.error(k, good) > _OUTLYING * np.median(ordinary):
                found.append((without / error, k, error / 2, without / 2))
        return min(found)[1:] if found else None

    def error(self, k: int, good: list[int]) -> float:
        """Mean square over genes of a section's difference from what the nearest good ones say; NaN if unknown."""
        return float(2 * (self.difference(k, good) ** 2).mean())

    def difference(self, k: int, good: list[int]) -> np.ndarray:
        """Difference (2 G,) from what other good sections say, of means (in spreads) and of log spreads."""
        weights = self._weights(k, good)
        chosen = (k, *weights)
        if chosen not in self.known:
            shared = np.all(self.count[list(chosen)] >= _FEWEST_CELLS, axis=0)
            if np.count_nonzero(shared) < _FEWEST_BINS:
                self.known[chosen] = np.full(2 * len(self.loadings), np.nan)
            else:
                noise = (1 / self.count[list(chosen)][:, shared]).mean(axis=1)
                sums = [self._sum_up(j, shared, float(noise[i] - noise.mean())) for i, j in enumerate(chosen)]
                self.known[chosen] = sums[0] - sum(w * s for w, s in zip(weights.values(), sums[1:], strict=True))
        return self.known[chosen]

    def _weights(self, k: int, good: list[int]) -> dict[int, float]:
        """Linear in depth through the nearest section on either side, or through the two nearest to an end."""
        before = [j for j in good if j < k][::-1]
        after = [j for j in good if j > k]
        a, b = (before[0], after[0]) if before and after else (before or after)[:2]
        t = (self.depths[k] - self.depths[a]) / (self.depths[b] - self.depths[a])
        return {a: 1 - t, b: t}

    def _sum_up(self, k: int, shared: np.ndarray, noise: float) -> np.ndarray:
        """Means (in spreads) and log spreads of genes over squares; as noisy as if each section had as many cells."""
        means = self.mean[k, shared]
        covariance = np.cov(means.T, ddof=0) - noise * self.within[k]
        variance = np.maximum(_diagonal(self.loadings, np.atleast_2d(covariance)) / self.spread**2, 1e-2)
        return np.concatenate([self.loadings @ means.mean(axis=0) / self.spread, 0.5 * np.log(variance)])

    def effect(self, k: int, good: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Offset, in spreads, and log gain ``(G,)`` of a section, drawn to 0 by what is ordinary in good ones."""
        difference = self.difference(k, good)
        others = [self.difference(j, good) for j in good[1:-1]]
        ordinary = np.mean([d**2 for d in others if np.isfinite(d).all()], axis=0)
        parts = []
        for d, own in zip(np.split(difference, 2), np.split(ordinary, 2), strict=True):
            scale = (own + own.mean()) / 2
            parts.append(d * np.maximum(1 - scale / np.maximum(d**2, 1e-300), 0.0))
        return parts[0], parts[1]

    def change(self, k: int, scores: np.ndarray, offset: np.ndarray, log_gain: np.ndarray) -> np.ndarray:
        """Change ``(n, S)`` of the scores of a section's cells that undoes its effect on the genes."""
        back = self._encoder()
        known = self.count[k] >= _FEWEST_CELLS
        centre = self.mean[k, known].mean(axis=0)
        gain = (back * np.expm1(-log_gain)) @ self.loadings
        shift = back @ (offset * np.where(np.isfinite(self.spread), self.spread, 0.0))
        return ((scores - centre) @ gain.T - shift).astype(np.float32)

    def _encoder(self) -> np.ndarray:
        """Scores of genes ``(S, G)``: of the components first, then of what these leave, as the remainder was made."""
        components, rest = self.loadings[:, : self.n_features], self.loadings[:, self.n_features :]
        first, second = np.linalg.pinv(components), np.linalg.pinv(rest)
        return np.vstack([first, second - (second @ components) @ first])


def _diagonal(loadings: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Variance (G,) of genes from the covariance (S, S) of scores."""
    return ((loadings @ covariance) * loadings).sum(axis=1)
