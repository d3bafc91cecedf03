"""The anatomy and the genes of a made spinal cord: where tissue is, and how much of each gene at every place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isost._tools.axis import Line

#: Kinds of genes, in the order in which a panel is filled; `spinal_cord` explains them.
KINDS = (
    "canal_rising",
    "canal_falling",
    "canal_peaked",
    "lesion_falling",
    "lesion_rising",
    "lesion_peaked",
    "flat",
    "patchy",
    "gray",
    "white",
)
REST = "rest"
HALF_AXES = (900.0, 700.0)
CANAL_RADIUS = 90.0
LESION_RADIUS = 250.0

_REACH = 700.0  # distance from the canal over which genes rise and fall
_RING, _RING_WIDTH = 350.0, 120.0
_DECAY, _SCAR, _SCAR_WIDTH = 300.0, 550.0, 130.0
_PATCH, _WAVES = 250.0, 64
_LARGEST_SHARE = 0.8  # of all transcripts that planted genes may take together
_WHITE_DENSITY, _LESION_DENSITY = 0.6, 0.4


@dataclass(frozen=True, eq=False)
class Cord:
    """A cord of a length along z, elliptic across, about a central canal that bends."""

    length: float

    @property
    def canal(self) -> np.ndarray:
        """(41, 3) points of the canal."""
        t = np.linspace(0.0, 1.0, 41)
        return np.column_stack([150.0 * np.sin(np.pi * t), 80.0 * np.cos(np.pi * t), t * self.length])

    @property
    def lesion(self) -> np.ndarray:
        """(3,) centre of the lesion: half way along, behind the canal."""
        middle = self.canal[20]
        return np.array([middle[0] + 150.0, middle[1] + 250.0, middle[2]])

    def across(self, coords: np.ndarray) -> np.ndarray:
        """Position (n, 2) relative to the canal in the plane, in half axes."""
        canal = self.canal
        x, y = (np.interp(coords[:, 2], canal[:, 2], canal[:, axis]) for axis in range(2))
        return np.column_stack([coords[:, 0] - x, coords[:, 1] - y]) / HALF_AXES

    def gray(self, coords: np.ndarray) -> np.ndarray:
        """Share (n,) of gray matter: two horns on either side, and a bridge about the canal."""
        u, v = np.abs(self.across(coords)).T
        horn = 1.0 - ((u - 0.36) / 0.22) ** 2 - (v / 0.62) ** 2
        bridge = 1.0 - np.maximum(u / 0.4, v / 0.2) ** 4
        return 1.0 / (1.0 + np.exp(-8.0 * np.maximum(horn, bridge)))

    def from_canal(self, coords: np.ndarray) -> np.ndarray:
        """Distances (n,) from the canal's axis."""
        return Line(self.canal).project(coords)[0]

    def from_lesion(self, coords: np.ndarray) -> np.ndarray:
        """Distances (n,) from the centre of the lesion."""
        return np.linalg.norm(coords - self.lesion, axis=1)

    def density(self, coords: np.ndarray, *, lesion: bool) -> np.ndarray:
        """Density (n,) of cells in the plane over that in gray matter; 0 outside the cord and in the canal."""
        gray = self.gray(coords)
        density = _WHITE_DENSITY + (1.0 - _WHITE_DENSITY) * gray
        if lesion:
            density = np.where(self.from_lesion(coords) <= LESION_RADIUS, _LESION_DENSITY * density, density)
        tissue = (np.square(self.across(coords)).sum(axis=1) <= 1.0) & (self.from_canal(coords) > CANAL_RADIUS)
        return np.where(tissue, density, 0.0)


@dataclass(frozen=True, eq=False)
class CordGenes:
    """Genes of a cord: what share of a cell's transcripts each takes, ``base * exp(fold * (pattern - 1/2))``.

    A last gene, ``rest``, takes what the others leave, so that no gene changes because others do.
    """

    names: tuple[str, ...]
    kind: np.ndarray  # (G,)
    base: np.ndarray  # (G,)
    fold: np.ndarray  # (G,) largest natural-log fold change
    waves: np.ndarray  # (G, waves, 3)
    phases: np.ndarray  # (G, waves)

    @classmethod
    def draw(cls, n_genes: int, rng: np.random.Generator) -> CordGenes:
        """Draw the parameters of `n_genes` genes, the kinds in turn."""
        kind = np.resize(np.array(KINDS), n_genes)
        fold = rng.uniform(1.4, 2.2, n_genes)
        base = rng.lognormal(0.0, 0.4, n_genes)
        base *= min(0.4 / base.sum(), _LARGEST_SHARE / (base * np.exp(fold / 2.0)).sum())
        return cls(
            names=tuple(f"{one}_{i + 1}" for i, one in enumerate(kind)),
            kind=kind,
            base=base,
            fold=fold,
            waves=rng.standard_normal((n_genes, _WAVES, 3)) / _PATCH,
            phases=rng.uniform(0.0, 2.0 * np.pi, (n_genes, _WAVES)),
        )

    def shares(self, cord: Cord, coords: np.ndarray, *, lesion: bool) -> np.ndarray:
        """Shares (n, G + 1) of each gene and of the rest among the transcripts of cells at places (n, 3)."""
        canal, wound, gray = cord.from_canal(coords), cord.from_lesion(coords), cord.gray(coords)
        if not lesion:
            wound = np.full_like(wound, np.inf)
        near = np.exp(-wound / _DECAY)
        pattern_of = {
            "canal_rising": np.clip(canal / _REACH, 0.0, 1.0),
            "canal_falling": 1.0 - np.clip(canal / _REACH, 0.0, 1.0),
            "canal_peaked": np.exp(-0.5 * ((canal - _RING) / _RING_WIDTH) ** 2),
            "lesion_falling": near,
            "lesion_rising": 1.0 - near,
            "lesion_peaked": np.exp(-0.5 * ((wound - _SCAR) / _SCAR_WIDTH) ** 2),
            "flat": np.full(len(coords), 0.5),
            "gray": gray,
            "white": 1.0 - gray,
        }
        pattern = np.empty((len(coords), len(self.names)))
        for gene, kind in enumerate(self.kind):
            pattern[:, gene] = self._patches(gene, coords) if kind == "patchy" else pattern_of[kind]
        shares = self.base * np.exp(self.fold * (pattern - 0.5))
        return np.column_stack([shares, 1.0 - shares.sum(axis=1)])

    def _patches(self, gene: int, coords: np.ndarray) -> np.ndarray:
        """Values (n,) of a random field that knows nothing of canal and lesion, 1/2 +- 1/3."""
        wave = np.cos(coords @ self.waves[gene].T + self.phases[gene]).sum(axis=1) * np.sqrt(2.0 / _WAVES)
        return 0.5 + wave / 3.0
