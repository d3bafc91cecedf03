"""Domains, cell types and gene programmes of a phantom, as functions of material coordinates and relative depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Kinds of genes, in the order in which a panel is filled; `GenePanel` explains them.
KINDS = (
    "layered",
    "marker",
    "gradient_x",
    "cell_type",
    "gradient_z",
    "radial",
    "gradient_y",
    "travelling",
    "constant",
    "noise",
)
DOMAINS = ("layer 1", "layer 2", "layer 3", "layer 4", "nucleus")
CELL_TYPES = ("type 1", "type 2", "type 3", "type 4", "type N", "glia", "vascular")

#: Transcripts of a cell after total-count normalisation.
TARGET_SUM = 1e4
#: Shape of the gamma distribution (mean 1) that scatters the rate of a `noise` gene from cell to cell.
NOISE_SHAPE = 2.0

_LAYER_CENTRES = np.array([-0.75, -0.25, 0.25, 0.75])
_NUCLEUS_CENTRE, _NUCLEUS_RADIUS = (0.45, -0.1), 0.33


def layer_depth(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Coordinate across the layers, which are bowed like a cortex."""
    return b + 0.25 * a**2 - 0.08


def domain_membership(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share (n, n_domains) that each domain has in a place: a softmax, 1/2 on the border between two domains."""
    layers = -0.5 * ((layer_depth(a, b)[:, None] - _LAYER_CENTRES) / 0.16) ** 2
    distance2 = (a - _NUCLEUS_CENTRE[0]) ** 2 + (b - _NUCLEUS_CENTRE[1]) ** 2
    nucleus = 5.0 * (1.0 - distance2 / _NUCLEUS_RADIUS**2)
    return softmax(np.column_stack([layers, nucleus]))


def type_of_domain() -> np.ndarray:
    """Probability (n_domains, n_types) of each cell type in each domain; rows sum to 1."""
    n = len(DOMAINS)
    own = np.full((n, n), 0.025)
    np.fill_diagonal(own, 0.65)
    return np.column_stack([own, np.full(n, 0.18), np.full(n, 0.07)])


@dataclass(frozen=True)
class GenePanel:
    """Log-rates of a panel of genes; one row of each parameter array per gene.

    The log-rate of gene j is ``base[j] + amplitude[j] * pattern[j]``, where the pattern lies between 0 and 1:

    ============  ==========================================================================================
    layered       Gaussian band across the layers
    marker        membership of one domain
    gradient_x    linear along the material x (a), rising or falling; likewise ``gradient_y`` (b)
    gradient_z    linear along depth
    radial        Gaussian ring around the centre of the tissue
    travelling    Gaussian spot that moves through the tissue along depth
    cell_type     1 in the cells of one type, wherever they are
    constant      0: a constant rate
    noise         0, and a gamma-distributed rate (mean 1, shape 2) that knows nothing of its neighbours
    ============  ==========================================================================================
    """

    names: tuple[str, ...]
    kind: np.ndarray  # (G,) str
    target: np.ndarray  # (G,) int: domain of a marker, type of a cell_type gene, -1 for others
    base: np.ndarray  # (G,)
    amplitude: np.ndarray  # (G,)
    centre: np.ndarray  # (G, 2): band, ring or spot; the spot's place at the first section
    stop: np.ndarray  # (G, 2): the spot's place at the last section
    width: np.ndarray  # (G,)
    sign: np.ndarray  # (G,) direction of a gradient: 1 or -1

    @classmethod
    def draw(cls, n_genes: int, rng: np.random.Generator) -> GenePanel:
        """Draw the parameters of `n_genes` genes, the kinds in turn."""
        kind = np.resize(np.array(KINDS), n_genes)
        turn = np.arange(n_genes) // len(KINDS)
        target = np.where(
            kind == "marker", turn % len(DOMAINS), np.where(kind == "cell_type", turn % len(CELL_TYPES), -1)
        )
        return cls(
            names=tuple(f"{k}_{i + 1}" for k, i in zip(kind, turn, strict=True)),
            kind=kind,
            target=target,
            base=rng.normal(0.0, 0.7, n_genes),
            amplitude=rng.uniform(1.2, 2.4, n_genes),
            centre=rng.uniform(-0.8, 0.8, (n_genes, 2)),
            stop=rng.uniform(-0.8, 0.8, (n_genes, 2)),
            width=rng.uniform(0.15, 0.35, n_genes),
            sign=rng.choice([-1.0, 1.0], n_genes),
        )

    def log_rate(self, a: np.ndarray, b: np.ndarray, t: np.ndarray, membership: np.ndarray) -> np.ndarray:
        """Log-rates (n, G) before what the cell type adds, at material (a, b) and relative depth t."""
        pattern = np.zeros((len(a), len(self.names)))
        a, b, t = a[:, None], b[:, None], t[:, None]

        def of(kind: str) -> np.ndarray:
            return np.flatnonzero(self.kind == kind)

        for kind, along in (("gradient_x", a), ("gradient_y", b), ("gradient_z", 2.0 * t - 1.0)):
            j = of(kind)
            pattern[:, j] = (1.0 + self.sign[j] * along) / 2.0
        j = of("layered")
        pattern[:, j] = _bell(layer_depth(a, b) - self.centre[j, 0], self.width[j])
        j = of("radial")
        pattern[:, j] = _bell(np.hypot(a, b) - np.abs(self.centre[j, 0]), self.width[j])
        j = of("travelling")
        spot = self.centre[j] + (self.stop[j] - self.centre[j]) * t[..., None]
        pattern[:, j] = _bell(np.hypot(a - spot[..., 0], b - spot[..., 1]), self.width[j])
        j = of("marker")
        pattern[:, j] = membership[:, self.target[j]]
        return self.base + self.amplitude * pattern

    def type_effect(self) -> np.ndarray:
        """Addition (n_types, G) to the log-rates in cells of each type."""
        effect = np.zeros((len(CELL_TYPES), len(self.names)))
        j = np.flatnonzero(self.kind == "cell_type")
        effect[self.target[j], j] = self.amplitude[j]
        return effect


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax of each row."""
    x = np.exp(x - x.max(axis=1, keepdims=True))
    x /= x.sum(axis=1, keepdims=True)
    return x


def _bell(distance: np.ndarray, width: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * (distance / width) ** 2)
