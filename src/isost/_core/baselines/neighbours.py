"""Neighbouring sections as they are, and kernels over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from isost._core.baselines.training import Cloud, Gap, Training, draw
from isost._core.kernel import kernel_fields

# Widths of a kernel in units of h, 2.5 x the median distance of nearest neighbours.
WIDTHS = (0.5, 1.0, 2.0, 4.0)


class _CellsOnly:
    def __init__(self, training: Training) -> None:
        self._training = training

    def field(self, coords: np.ndarray, depth: float) -> None:
        return None


class Nearest(_CellsOnly):
    """The cells of the section nearest in depth; of two equally near, of the one before."""

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        gap = self._training.gap(depth)
        return draw(gap.before if gap.t <= 0.5 else gap.after, n, rng)


class Union(_CellsOnly):
    """The cells of both neighbouring sections, drawn alike."""

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        gap = self._training.gap(depth)
        return draw(gap.before.join(gap.after), n, rng)


class WeightedUnion(_CellsOnly):
    """The cells of both neighbouring sections, drawn with weights 1 - t and t, which all of them carry."""

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        gap = self._training.gap(depth)
        sizes = np.array([len(gap.before), len(gap.after)])
        weights = np.repeat([1 - gap.t, gap.t], sizes)
        both = gap.before.join(gap.after)
        if n is None:
            return replace(both, weight=weights).take(np.flatnonzero(weights))
        return draw(both, n, rng, weights)


class Kernel:
    """Gaussian kernel regression over each neighbouring section, blended (1 - t, t).

    Parameters
    ----------
    training
        Sections.
    width
        Standard deviation of the Gaussian. None: of 0.5, 1, 2 and 4 h the one with the least squared error, in units of
        each gene's variance, at the cells of inner training sections predicted from their own neighbours.
    """

    def __init__(self, training: Training, width: float | None = None) -> None:
        self._training = training
        self.width = choose_width(training) if width is None else width

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        return next(blended_kernels(self._training.gap(depth), coords[:, :2], (self.width,)))

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> None:
        return None


def blended_kernels(gap: Gap, places: np.ndarray, widths: Sequence[float]) -> Iterator[np.ndarray]:
    """Kernel regression (m, G) over each neighbouring section, blended (1 - t, t), of one width after the other."""
    before, after = (kernel_fields(places, cloud.coords, cloud.genes, widths) for cloud in (gap.before, gap.after))
    return ((1 - gap.t) * one + gap.t * other for one, other in zip(before, after, strict=True))


def choose_width(training: Training) -> float:
    """Choose the width of a kernel by leaving training sections out; 2 h where there are only two."""
    errors, variance = np.zeros(len(WIDTHS)), training.gene_variance
    widths = [width * training.width for width in WIDTHS]
    for k in range(1, len(training.clouds) - 1):
        cloud, gap = training.clouds[k], training.without(k).gap(float(training.z[k].mean()))
        for index, predicted in enumerate(blended_kernels(gap, cloud.coords, widths)):
            errors[index] += float((((predicted - cloud.genes) ** 2).mean(axis=0) / variance).mean())
    best = int(errors.argmin()) if len(training.clouds) > 2 else WIDTHS.index(2.0)
    return widths[best]
