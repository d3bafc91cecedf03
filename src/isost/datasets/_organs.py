"""Organs, cell types and gene programmes of the embryo phantom, as functions of material coordinates and age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from isost.datasets._panel import TARGET_SUM, softmax
from isost.datasets._shapes import smoothstep

ORGANS = ("trunk", "brain", "spinal cord", "heart", "liver", "kidney")
#: Two cell types of each organ, the first the more frequent.
TYPES_OF_ORGAN = {
    "trunk": ("mesenchyme", "muscle"),
    "brain": ("neuroblast", "radial glia"),
    "spinal cord": ("motor neuron", "interneuron"),
    "heart": ("cardiomyocyte", "endocardium"),
    "liver": ("hepatoblast", "erythroblast"),
    "kidney": ("nephron progenitor", "ureteric bud"),
}
TYPES = tuple(name for names in TYPES_OF_ORGAN.values() for name in names)
#: Cells per area of each organ.
DENSITY = np.array([0.8, 1.4, 1.2, 1.0, 1.5, 1.0])
#: Kinds of genes, in the order in which a panel is filled; `Programme` explains them.
KINDS = ("marker", "peak", "cyclic", "cell_type", "gradient", "constant")

_TYPE_SHARES = (0.6, 0.3)  # of an organ's own types; the others share the rest


def membership(a: np.ndarray, b: np.ndarray, tau: np.ndarray, w: np.ndarray | float = 0.0) -> np.ndarray:
    """Share (n, n_organs) of each organ in a place: a softmax, 1/2 on the border of two organs.

    The heart migrates, the liver grows, and the kidney appears as one bud that splits into two.
    """
    logit = np.zeros((len(a), len(ORGANS)))
    logit[:, 1] = 14.0 * (a - 0.42)
    logit[:, 2] = np.minimum(14.0 * (b - 0.42 * np.sqrt(np.maximum(1.0 - a**2, 0.0))), 12.0 * (0.45 - a)) - 20.0 * w**2
    logit[:, 3] = _ball(a, b, w, 0.45 - 0.45 * tau, -0.42, 0.2)
    logit[:, 4] = _ball(a, b, w, -0.22, -0.3, 0.1 + 0.22 * smoothstep(tau, 0.0, 1.0))
    size, apart = 0.2 * smoothstep(tau, 0.1, 0.5), 0.2 * smoothstep(tau, 0.4, 1.0)
    buds = [_ball(a, b, w, -0.5 + side * apart, 0.02 + 0.3 * side * apart, size) for side in (-1, 1)]
    logit[:, 5] = np.maximum(*buds)
    return softmax(logit)


def type_of_organ() -> np.ndarray:
    """Probability (n_organs, n_types) of each cell type in each organ; rows sum to 1."""
    share = np.full((len(ORGANS), len(TYPES)), (1.0 - sum(_TYPE_SHARES)) / (len(TYPES) - 2))
    for number in range(len(ORGANS)):
        share[number, 2 * number : 2 * number + 2] = _TYPE_SHARES
    return share


@dataclass(frozen=True)
class Programme:
    """Log-rates of a panel of genes; one row of each parameter array per gene.

    The log-rate of gene j is ``base[j] + amplitude[j] * pattern[j]``:

    =========  =====================================================================================
    marker     membership of one organ
    peak       membership of one organ, times a Gaussian in age about ``peak[j]``
    cyclic     cosine of age about ``peak[j]``, with a period as long as all ages or somewhat longer
    cell_type  1 in the cells of one type
    gradient   linear along the body, or across it
    constant   0
    =========  =====================================================================================
    """

    names: tuple[str, ...]
    kind: np.ndarray  # (G,) str
    target: np.ndarray  # (G,) int: organ of a marker or peak, type of a cell_type gene, 0 or 1 of a gradient, else -1
    base: np.ndarray  # (G,)
    amplitude: np.ndarray  # (G,)
    peak: np.ndarray  # (G,) relative age; NaN for genes that do not change with age
    width: np.ndarray  # (G,) standard deviation of a peak, or period, in relative age

    @classmethod
    def draw(cls, n_genes: int, rng: np.random.Generator) -> Programme:
        """Draw the parameters of `n_genes` genes, the kinds in turn."""
        kind = np.resize(np.array(KINDS), n_genes)
        turn = np.arange(n_genes) // len(KINDS)
        target, width = np.full(n_genes, -1), np.full(n_genes, np.nan)
        target[kind == "marker"] = turn[kind == "marker"] % len(ORGANS)
        target[kind == "peak"] = turn[kind == "peak"] % (
            len(ORGANS) - 1
        )  # not of the kidney, which is not always there
        target[kind == "cell_type"] = turn[kind == "cell_type"] % len(TYPES)
        target[kind == "gradient"] = turn[kind == "gradient"] % 2
        peak = np.where(np.isin(kind, ("peak", "cyclic")), rng.uniform(0.2, 0.8, n_genes), np.nan)
        width[kind == "peak"] = rng.uniform(0.17, 0.23, n_genes)[kind == "peak"]
        width[kind == "cyclic"] = rng.uniform(0.9, 1.2, n_genes)[kind == "cyclic"]
        low, high = np.where(kind == "cyclic", 0.5, 1.4), np.where(kind == "cyclic", 0.9, 2.4)
        return cls(
            names=tuple(f"{k}_{i + 1}" for k, i in zip(kind, turn, strict=True)),
            kind=kind,
            target=target,
            base=rng.normal(0.0, 0.7, n_genes),
            amplitude=rng.uniform(low, high),
            peak=peak,
            width=width,
        )

    def log_rate(self, a: np.ndarray, b: np.ndarray, tau: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Log-rates (n, G) before what the cell type adds, at material (a, b) and relative age tau."""
        pattern = np.zeros((len(a), len(self.names)))
        late = tau[:, None] - self.peak
        j = np.flatnonzero(self.kind == "marker")
        pattern[:, j] = member[:, self.target[j]]
        j = np.flatnonzero(self.kind == "peak")
        pattern[:, j] = member[:, self.target[j]] * np.exp(-0.5 * (late[:, j] / self.width[j]) ** 2)
        j = np.flatnonzero(self.kind == "cyclic")
        pattern[:, j] = np.cos(2.0 * np.pi * late[:, j] / self.width[j])
        j = np.flatnonzero(self.kind == "gradient")
        pattern[:, j] = np.where(self.target[j] == 0, a[:, None], b[:, None])
        return self.base + self.amplitude * pattern

    def rates(self, a: np.ndarray, b: np.ndarray, tau: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Give the expected transcripts (n_types, n, G) of a cell of each type in 1e4."""
        log_rate = self.log_rate(a, b, tau, member)
        return np.stack([TARGET_SUM * softmax(log_rate + added) for added in self.type_effect()])

    def type_effect(self) -> np.ndarray:
        """Addition (n_types, G) to the log-rates in cells of each type."""
        effect = np.zeros((len(TYPES), len(self.names)))
        j = np.flatnonzero(self.kind == "cell_type")
        effect[self.target[j], j] = self.amplitude[j]
        return effect


def _ball(a: np.ndarray, b: np.ndarray, w: np.ndarray | float, at: Any, height: Any, radius: Any) -> np.ndarray:
    """Logit of a round organ: 0 on its rim, well below far away or while it has no size."""
    distance = (a - at) ** 2 + (b - height) ** 2 + (w / 2) ** 2
    logit = np.maximum(5.0 * (1.0 - distance / np.maximum(radius, 0.02) ** 2), -30.0)
    return np.where(np.asarray(radius) < 0.02, -30.0, logit)
