"""Sections that a predictor may see, and what every predictor answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


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
    weight
        (n,) how much of a cell each stands for; None for cells that are all alike.
    """

    coords: np.ndarray
    features: np.ndarray
    genes: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.coords)

    def take(self, rows: np.ndarray) -> Cloud:
        weight = None if self.weight is None else self.weight[rows]
        return Cloud(self.coords[rows], self.features[rows], self.genes[rows], weight)

    def join(self, other: Cloud) -> Cloud:
        """Put two clouds of cells that are all alike together."""
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

    @property
    def gene_variance(self) -> np.ndarray:
        """(G,) variance of each gene over all cells; 1 for genes that are constant."""
        variance = np.concatenate([cloud.genes for cloud in self.clouds]).var(axis=0, dtype=np.float64)
        return np.where(variance > 0, variance, 1.0)

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


@runtime_checkable
class Uncertain(Predictor, Protocol):
    """A predictor that says how sure its field is."""

    def field_and_spread(self, coords: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Give the field and its standard deviation, both (n, G), at places (n, 3)."""


def draw(cloud: Cloud, n: int | None, rng: np.random.Generator, weights: np.ndarray | None = None) -> Cloud:
    """Draw n cells, none twice and none of weight 0; all of them where there are no more than n.

    The probability of each to be drawn is proportional to its weight, up to 1 (systematic sampling of cells in random
    order, Madow 1949). Draws one after the other would even the weights out, as soon as many of the cells are drawn.
    """
    weights = np.ones(len(cloud)) if weights is None else np.asarray(weights, dtype=np.float64)
    possible = rng.permutation(np.flatnonzero(weights > 0))
    if n is None or n >= len(possible):
        return cloud if len(possible) == len(cloud) else cloud.take(np.sort(possible))
    ends = np.cumsum(inclusion_probabilities(weights[possible], n))
    picks = np.searchsorted(ends, rng.random() + np.arange(n), side="right")
    return cloud.take(possible[np.minimum(picks, len(possible) - 1)])


def inclusion_probabilities(weights: np.ndarray, n: int) -> np.ndarray:
    """Probabilities (m,), proportional to weights above 0 but at most 1, that add up to n < m."""
    sure = np.zeros(len(weights), dtype=bool)
    while True:
        found = np.where(sure, 1.0, weights * ((n - sure.sum()) / weights[~sure].sum()))
        if found.max() <= 1.0:
            return found
        sure |= found > 1.0
