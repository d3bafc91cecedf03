"""Neighbouring sections as they are, and kernels over them."""

from __future__ import annotations

import numpy as np

from isost._core.baselines.training import Cloud, Gap, Training, draw
from isost._core.kernel import kernel_field

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
    """The cells of both neighbouring sections, drawn with weights 1 - t and t; all are (1 - t) m + t n cells."""

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        gap = self._training.gap(depth)
        sizes = np.array([len(gap.before), len(gap.after)])
        weights = np.repeat([1 - gap.t, gap.t], sizes)
        n = round(float(weights.sum())) if n is None else n
        return draw(gap.before.join(gap.after), n, rng, weights)


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
        return blended_kernel(self._training.gap(depth), coords[:, :2], self.width)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> None:
        return None


def blended_kernel(gap: Gap, places: np.ndarray, width: float) -> np.ndarray:
    """Kernel regression (m, G) over each neighbouring section, blended (1 - t, t)."""
    before, after = (kernel_field(places, cloud.coords, cloud.genes, width) for cloud in (gap.before, gap.after))
    return (1 - gap.t) * before + gap.t * after


def choose_width(training: Training) -> float:
    """Choose the width of a kernel by leaving training sections out; 2 h where there are only two."""
    errors, variance = np.zeros(len(WIDTHS)), training.gene_variance
    for k in range(1, len(training.clouds) - 1):
        cloud, gap = training.clouds[k], training.without(k).gap(float(training.z[k].mean()))
        for index, width in enumerate(WIDTHS):
            square = (blended_kernel(gap, cloud.coords, width * training.width) - cloud.genes) ** 2
            errors[index] += float((square.mean(axis=0) / variance).mean())
    best = int(errors.argmin()) if len(training.clouds) > 2 else WIDTHS.index(2.0)
    return WIDTHS[best] * training.width
