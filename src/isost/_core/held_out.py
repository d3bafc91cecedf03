"""Sections held out, and the scores of predictors on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from isost._core.baselines import Cloud, Predictor, Training, Uncertain
from isost._core.kernel import kernel_fields, own_section_field
from isost.metrics import interval_coverage, interval_width, score_cells, score_field
from isost.metrics._bins import bin_counts, bin_means, bin_of

# A method that gives cells only has the field of a Gaussian kernel over all its cells, of these widths (units of h) for
# each score the best, with hindsight.
WIDTHS = (0.5, 1.0, 2.0, 4.0)

Score = dict[str, float]

# Quantile of the normal distribution: 90 % lie within so many standard deviations.
NORMAL_95 = 1.6448536269514722
NO_INTERVALS: Score = {"coverage": np.nan, "width": np.nan}
NO_CELLS: Score = {"dice": np.nan, "dens": np.nan, "energy": np.nan}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A section that nothing was fitted on.

    Attributes
    ----------
    name, depth
        Its name and the mean z of its cells.
    coords
        (n, 3) float64.
    cells
        Its cells; their components are the projections on loadings that were fitted without them.
    side
        h of all sections: bins of a field have side h, bins of cells 2 h.
    feature_scale
        Standard deviation of the first component over the training cells.
    """

    name: str
    depth: float
    coords: np.ndarray
    cells: Cloud
    side: float
    feature_scale: float

    def score_field(self, predicted: np.ndarray) -> Score:
        """Score expression (n, G) predicted at the section's cells: `isost.metrics.score_field`."""
        return score_field(predicted, self.cells.genes, self.coords, side=self.side)

    def score_intervals(self, predicted: np.ndarray, spread: np.ndarray) -> Score:
        """Score 90 % intervals of bin means: their ``coverage``, and mean ``width`` in standard deviations of the gene.

        A measured bin mean scatters about the field by what the field is unsure of, `spread` (n, G), alike in all cells
        of the bin, and by sampling: the variance of a gene within bins over the number of cells.
        """
        genes = self.cells.genes.astype(np.float64)
        measured, mean, error, square = bin_means(self.coords, self.side, genes, predicted, spread, genes**2)
        count = bin_counts(self.coords, self.side)[:, None]
        within = ((square - measured**2) * count).sum(axis=0) / max(len(self.coords) - len(count), 1)
        half = NORMAL_95 * np.sqrt(error**2 + np.maximum(within, 0.0) / count)
        varies = np.ptp(genes, axis=0) > 0
        low, high = (mean - half)[:, varies], (mean + half)[:, varies]
        return {
            "coverage": interval_coverage(low, high, measured[:, varies]),
            "width": interval_width(low, high, scale=genes[:, varies].std(axis=0)),
        }

    def score_cells(self, draws: list[Cloud]) -> Score:
        """Score drawn cells, averaged over draws: `isost.metrics.score_cells`; NaN without a draw."""
        if not draws:
            return dict(NO_CELLS)
        scores = [
            score_cells(
                cloud.coords,
                cloud.features,
                measured_coords=self.coords,
                measured_features=self.cells.features,
                side=self.side,
                feature_scale=self.feature_scale,
            )
            for cloud in draws
        ]
        return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def score_predictor(predictor: Predictor, sections: list[HeldOut], *, n_draws: int = 3, seed: int = 0) -> list[Score]:
    """Score the field and the cells of a predictor on each held-out section.

    As many cells are drawn as were measured, `n_draws` times, and scores are averaged over draws. A score that the
    predictor does not have is NaN.
    """
    # One section after the other: a fit keeps what it has solved for the last places it was asked for.
    return [
        score | score_draws(predictor, held, n_draws=n_draws, seed=seed)
        for held, score in zip(sections, score_fields(predictor, sections, seed=seed), strict=True)
    ]


def score_fields(predictor: Predictor, sections: list[HeldOut], *, seed: int = 0) -> Iterable[Score]:
    """Score the field alone, and its intervals, on each held-out section."""
    if isinstance(predictor, Uncertain):
        return (_score_uncertain(predictor, held) for held in sections)
    return [score | NO_INTERVALS for score in _score_certain(predictor, sections, seed)]


def score_draws(predictor: Predictor, held: HeldOut, *, n_draws: int = 3, seed: int = 0) -> Score:
    """Score drawn cells alone on a held-out section."""
    clouds = [predictor.cells(held.depth, len(held.cells), np.random.default_rng([seed, i])) for i in range(n_draws)]
    return held.score_cells([cloud for cloud in clouds if cloud is not None])


def _score_uncertain(predictor: Uncertain, held: HeldOut) -> Score:
    field, spread = predictor.field_and_spread(held.coords, held.depth)
    return held.score_field(field) | held.score_intervals(field, spread)


def _score_certain(predictor: Predictor, sections: list[HeldOut], seed: int) -> list[Score]:
    fields = [predictor.field(held.coords, held.depth) for held in sections]
    known = [field for field in fields if field is not None]
    if len(known) == len(sections):
        return [held.score_field(field) for held, field in zip(sections, known, strict=True)]
    return _score_fields_over_cells(predictor, sections, seed)


def _score_fields_over_cells(predictor: Predictor, sections: list[HeldOut], seed: int) -> list[Score]:
    generator = np.random.default_rng(seed)
    tried: list[list[Score]] = []
    for held in sections:
        cloud = predictor.cells(held.depth, None, generator)
        if cloud is None:
            raise TypeError(f"{type(predictor).__name__} has neither a field nor cells")
        widths = [width * held.side for width in WIDTHS]
        fields = kernel_fields(held.coords[:, :2], cloud.coords, cloud.genes, widths, cloud.weight)
        tried.append([held.score_field(field) for field in fields])
    by_width = [list(scores) for scores in zip(*tried, strict=True)]
    correlated = max(by_width, key=lambda scores: _mean(scores, "pcc"))
    nearest = min(by_width, key=lambda scores: _mean(scores, "nmse"))
    return [score | {"pcc": other["pcc"]} for score, other in zip(nearest, correlated, strict=True)]


def score_ceiling(sections: list[HeldOut]) -> list[Score]:
    """Score the kernel regression of each section from its own cells in other bins; of four widths the least error."""

    def score(held: HeldOut, width: float) -> Score:
        plane = held.coords[:, :2]
        bins = bin_of(plane, held.side, plane.min(axis=0))
        return held.score_field(own_section_field(plane, held.cells.genes, width * held.side, bins))

    tried = [[score(held, width) for held in sections] for width in WIDTHS]
    scores = min(tried, key=lambda scores: _mean(scores, "nmse"))
    return [score | NO_CELLS | NO_INTERVALS for score in scores]


def _mean(scores: list[Score], name: str) -> float:
    return float(np.mean([score[name] for score in scores]))


@dataclass(frozen=True, eq=False)
class Split:
    """Training sections and the sections held out of them, in one representation.

    Attributes
    ----------
    training
        What baselines are fitted on.
    held_out
        What is scored.
    genes
        Names of the G genes that are scored.
    """

    training: Training
    held_out: list[HeldOut]
    genes: tuple[str, ...]

    def score(self, predictors: Mapping[str, Predictor], *, n_draws: int = 3, seed: int = 0) -> list[dict[str, Any]]:
        """Score predictors and the ceiling: a record of method, section, depth and scores for each held-out section."""
        scores = {
            method: score_predictor(predictor, self.held_out, n_draws=n_draws, seed=seed)
            for method, predictor in predictors.items()
        }
        scores["ceiling"] = score_ceiling(self.held_out)
        return [
            {"method": method, "section": held.name, "depth": held.depth, **score}
            for method, of_method in scores.items()
            for held, score in zip(self.held_out, of_method, strict=True)
        ]
