"""Predictors that need no model: what a fit has to beat on sections that were held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isost._core.kernel import kernel_field

# Widths of a kernel in units of h, 2.5 x the median distance of nearest neighbours.
WIDTHS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class Cloud:
    """Cells in a plane.

    Attributes
    ----------
    coords
        (n, 2) float64.
    features
        (n, P) principal components.
    genes
        (n, G) log-normalised expression.
    """

    coords: np.ndarray
    features: np.ndarray
    genes: np.ndarray

    def __len__(self) -> int:
        return len(self.coords)

    def take(self, rows: np.ndarray) -> Cloud:
        return Cloud(self.coords[rows], self.features[rows], self.genes[rows])

    def join(self, other: Cloud) -> Cloud:
        return Cloud(
            np.concatenate([self.coords, other.coords]),
            np.concatenate([self.features, other.features]),
            np.concatenate([self.genes, other.genes]),
        )


@dataclass(frozen=True, eq=False)
class Gap:
    """A depth to predict, between the section before it and the section after, at t in [0, 1] of the way."""

    before: Cloud
    after: Cloud
    t: float


@dataclass(frozen=True, eq=False)
class Training:
    """Sections that a predictor may see.

    Attributes
    ----------
    clouds
        Cells of each section, sections sorted by depth.
    z
        For each section (n_k,) the depths of its cells.
    width
        h, 2.5 x the median distance of nearest neighbours in the plane, median over these sections.
    feature_scale
        Standard deviation of the first component.
    """

    clouds: tuple[Cloud, ...]
    z: tuple[np.ndarray, ...]
    width: float
    feature_scale: float

    @property
    def depths(self) -> np.ndarray:
        """(K,) mean z of the cells of each section."""
        return np.array([z.mean() for z in self.z])

    def gap(self, z: float) -> Gap:
        """Return the sections about a depth; beyond the first and the last, those."""
        depths = self.depths
        k = int(np.clip(np.searchsorted(depths, z, side="right") - 1, 0, len(depths) - 2))
        t = float(np.clip((z - depths[k]) / (depths[k + 1] - depths[k]), 0.0, 1.0))
        return Gap(self.clouds[k], self.clouds[k + 1], t)

    def without(self, k: int) -> Training:
        """Leave section k out."""
        keep = [j for j in range(len(self.clouds)) if j != k]
        clouds, z = tuple(self.clouds[j] for j in keep), tuple(self.z[j] for j in keep)
        return Training(clouds, z, self.width, self.feature_scale)


class Predictor(Protocol):
    """What is scored on a section that was held out."""

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray | None:
        """Mean expression (n, G) at places (n, 3) of the section at `depth`; None where the method gives cells only."""

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud | None:
        """Cells of the section at `depth`, n drawn at most, or all that the method knows; None where it gives none."""


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
        Standard deviation of the Gaussian. None: of 0.5, 1, 2 and 4 h the one with the least squared error at the cells
        of each inner training section, predicted from its own neighbours among the training sections.
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
    errors = np.zeros(len(WIDTHS))
    for k in range(1, len(training.clouds) - 1):
        cloud, gap = training.clouds[k], training.without(k).gap(float(training.z[k].mean()))
        scale = np.maximum(cloud.genes.var(axis=0), 1e-12)
        for index, width in enumerate(WIDTHS):
            error = (blended_kernel(gap, cloud.coords, width * training.width) - cloud.genes) ** 2
            errors[index] += float((error.mean(axis=0) / scale)[cloud.genes.var(axis=0) > 0].sum())
    best = int(errors.argmin()) if len(training.clouds) > 2 else WIDTHS.index(2.0)
    return WIDTHS[best] * training.width


def draw(cloud: Cloud, n: int | None, rng: np.random.Generator, weights: np.ndarray | None = None) -> Cloud:
    """Draw n cells, none twice and none of weight 0; all of them where there are no more than n."""
    p = np.full(len(cloud), 1 / len(cloud)) if weights is None else weights / weights.sum()
    possible = int((p > 0).sum())
    if n is None or n >= possible:
        return cloud if possible == len(cloud) else cloud.take(np.flatnonzero(p > 0))
    return cloud.take(rng.choice(len(cloud), n, replace=False, p=p))
