"""The known truth behind a phantom: expression, density and outline at every depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from isost._core.random import Rng, numpy_generator
from isost.datasets._panel import (
    CELL_TYPES,
    DOMAINS,
    NOISE_SHAPE,
    GenePanel,
    domain_membership,
    softmax,
    type_of_domain,
)
from isost.datasets._shapes import ROUNDNESS, Geometry, round_area, round_jacobian

#: Cells per unit of evenly spread material grow from 1 - SLOPE at a = -1 to 1 + SLOPE at a = 1.
SLOPE = 0.4
#: Spread of the log library size from cell to cell.
LIBRARY_SPREAD = 0.3
TARGET_SUM = 1e4

_BLOCK = 4_000_000  # numbers of one dense block of rates, so that memory does not grow with the cells


@dataclass(frozen=True)
class SectionEffect:
    """Technical effect of one section: a rate p becomes ``gain * p + offset``, gene by gene, both (G,)."""

    gain: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class PhantomTruth:
    """What is true of a phantom at any place and depth; see `isost.datasets.phantom`.

    All methods take positions (n, 3) in the unit of the phantom (µm). Section effects, holes and count noise are no
    part of the truth.
    """

    geometry: Geometry
    panel: GenePanel
    n_cells: int
    library_size: float

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of the genes."""
        return self.panel.names

    def inside(self, coords: np.ndarray) -> np.ndarray:
        """Whether positions (n, 3) lie in the tissue, as (n,) bool."""
        return np.isfinite(self.geometry.to_material(coords)[0])

    def density(self, coords: np.ndarray) -> np.ndarray:
        """Give the expected cells of a section per unit area of its plane (n,) float64; 0 outside the tissue.

        The density of the material divided by the Jacobian of the map to physical coordinates: it integrates to
        `n_cells` over the plane at every depth.
        """
        a, b = self.geometry.to_material(coords)
        found = np.isfinite(a)
        material = (1.0 + SLOPE * a) * round_jacobian(a, b, ROUNDNESS) / round_area(ROUNDNESS)
        area = self.geometry.jacobian(a, b, np.asarray(coords, dtype=np.float64)[:, 2])
        return np.where(found, self.n_cells * material / area, 0.0)

    def expression(self, coords: np.ndarray, *, genes: Sequence[str] | None = None) -> np.ndarray:
        """Mean log-normalised expression without measurement noise.

        A cell of type c at x spends the share p_cj(x) of its transcripts on gene j. The expression is the mean of
        ``log1p(1e4 * p_cj(x))`` over the types found at x. Total-count normalisation to 1e4 and log1p of noisy counts
        tend to it as the library size grows; at a finite library size log1p lies lower by Jensen's inequality, while
        the normalised counts themselves have the expectation `rate` at any library size (but for `noise` genes, whose
        scatter also stirs the totals slightly).

        Parameters
        ----------
        coords
            Positions (n, 3).
        genes
            Names of the genes wanted, in order; all of them by default.

        Returns
        -------
        np.ndarray
            (n, n_genes) float64; NaN outside the tissue.

        Raises
        ------
        KeyError
            If a gene is not one of the phantom's.
        """
        return self._mean_over_types(coords, genes, lambda p: np.log1p(TARGET_SUM * p))

    def rate(self, coords: np.ndarray, *, genes: Sequence[str] | None = None) -> np.ndarray:
        """Give the expected transcripts of each gene in 1e4, the mean over the types found at x, (n, n_genes) float64.

        A cell's expected count is this times its library size over 1e4. NaN outside the tissue.
        """
        return self._mean_over_types(coords, genes, lambda p: TARGET_SUM * p)

    def domain(self, coords: np.ndarray) -> np.ndarray:
        """Name of the domain at each position (n,), as str; empty outside the tissue."""
        a, b = self.geometry.to_material(coords)
        found = np.isfinite(a)
        names = np.full(len(a), "", dtype=object)
        names[found] = np.array(DOMAINS, dtype=object)[domain_membership(a[found], b[found]).argmax(axis=1)]
        return names.astype(str)

    def type_probability(self, coords: np.ndarray) -> np.ndarray:
        """Give the probability (n, n_types) of each cell type, in the order of ``obs["cell_type"]``; NaN outside."""
        return domain_membership(*self.geometry.to_material(coords)) @ type_of_domain()

    def sample_section(
        self, z: float, n: int | None = None, *, count_noise: bool = True, rng: Rng = None
    ) -> ad.AnnData:
        """Draw the cells of a section at any depth, without section effects.

        Parameters
        ----------
        z
            Depth between the first and the last section.
        n
            Number of cells; a Poisson number with mean `n_cells` by default.
        count_noise
            Counts, or the exact log-normalised expression of each cell.
        rng
            Seed or generator.

        Returns
        -------
        anndata.AnnData
            Laid out like `isost.datasets.phantom`, with one section.

        Raises
        ------
        ValueError
            If the depth lies outside the tissue.
        """
        if not 0.0 <= z <= self.geometry.depth:
            raise ValueError(
                f"z: expected a depth between 0 and {self.geometry.depth:g}, found {z:g}. "
                "Next: choose a depth inside the phantom, or make one with more sections."
            )
        cells = self.draw(z, n, numpy_generator(rng), count_noise=count_noise)
        return self.assemble([cells], [f"z{z:g}"], count_noise=count_noise)

    def draw(
        self,
        z: float,
        n: int | None,
        rng: np.random.Generator,
        *,
        count_noise: bool,
        effect: SectionEffect | None = None,
        hole: float = 0.0,
    ) -> DrawnCells:
        """Draw cells at one depth; see `sample_section`. The share `hole` of them around a random one is lost."""
        n = max(1, int(rng.poisson(self.n_cells))) if n is None else n
        a, b = _draw_material(n, rng)
        coords = self.geometry.to_physical(a, b, z)
        if hole > 0.0:
            keep = _outside_hole(coords[:, :2], hole, rng)
            a, b, coords = a[keep], b[keep], coords[keep]
        domain, cell_type = np.empty((2, len(a)), dtype=np.int8)
        rows: list[np.ndarray | sparse.csr_matrix] = []
        for block in self._blocks(len(a)):
            membership = domain_membership(a[block], b[block])
            domain[block] = membership.argmax(axis=1)
            cell_type[block] = _draw_category(membership @ type_of_domain(), rng)
            t = coords[block, 2] / self.geometry.depth
            log_rate = self.panel.log_rate(a[block], b[block], t, membership)
            rate = softmax(log_rate + self.panel.type_effect()[cell_type[block]])
            if effect is not None:
                rate = effect.gain * rate + effect.offset
            rows.append(self._measure(rate, rng) if count_noise else np.log1p(TARGET_SUM * rate).astype(np.float32))
        return DrawnCells(rows, coords, np.column_stack([a, b]).astype(np.float32), domain, cell_type)

    def assemble(self, sections: Sequence[DrawnCells], names: Sequence[str], *, count_noise: bool) -> ad.AnnData:
        """Put drawn sections together into one AnnData."""
        rows = [block for section in sections for block in section.rows]
        sizes = [len(section.coords) for section in sections]
        obs = pd.DataFrame(
            {
                "section": pd.Categorical.from_codes(np.repeat(np.arange(len(names)), sizes), names, ordered=True),
                "domain": pd.Categorical.from_codes(np.concatenate([s.domain for s in sections]), DOMAINS),
                "cell_type": pd.Categorical.from_codes(np.concatenate([s.cell_type for s in sections]), CELL_TYPES),
            },
            index=pd.RangeIndex(sum(sizes)).astype(str),
        )
        panel = self.panel
        target = [
            DOMAINS[i] if kind == "marker" else CELL_TYPES[i] if kind == "cell_type" else ""
            for kind, i in zip(panel.kind, panel.target, strict=True)
        ]
        var = pd.DataFrame({"kind": pd.Categorical(panel.kind), "target": target}, index=list(panel.names))
        adata = ad.AnnData(sparse.vstack(rows, format="csr") if count_noise else np.concatenate(rows), obs, var)
        adata.obsm["spatial"] = np.concatenate([section.coords for section in sections])
        adata.obsm["material"] = np.concatenate([section.material for section in sections])
        adata.uns["X_note"] = (
            "raw integer counts" if count_noise else "log1p of rates in 1e4, without count noise; not counts"
        )
        adata.uns["spatial_unit"] = "um"
        return adata

    def _measure(self, rate: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
        """Poisson counts of shares `rate` (n, G) in libraries of lognormal size with mean `library_size`."""
        noise = np.flatnonzero(self.panel.kind == "noise")
        rate[:, noise] *= rng.gamma(NOISE_SHAPE, 1.0 / NOISE_SHAPE, (len(rate), len(noise)))
        library = self.library_size * rng.lognormal(-(LIBRARY_SPREAD**2) / 2.0, LIBRARY_SPREAD, (len(rate), 1))
        return sparse.csr_matrix(rng.poisson(rate * library).astype(np.int32))

    def _mean_over_types(
        self, coords: np.ndarray, genes: Sequence[str] | None, of: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Mean over the types at each position of a function of the shares p (n, G)."""
        chosen = slice(None) if genes is None else self._index(genes)
        coords = np.asarray(coords, dtype=np.float64)
        a, b = self.geometry.to_material(coords)
        t = coords[:, 2] / self.geometry.depth
        effect = self.panel.type_effect()
        mean = np.zeros((len(coords), len(self.genes) if genes is None else len(genes)))
        for block in self._blocks(len(coords)):
            membership = domain_membership(a[block], b[block])
            log_rate = self.panel.log_rate(a[block], b[block], t[block], membership)
            for probability, added in zip((membership @ type_of_domain()).T, effect, strict=True):
                mean[block] += probability[:, None] * of(softmax(log_rate + added)[:, chosen])
        return mean

    def _index(self, genes: Sequence[str]) -> np.ndarray:
        place = {name: i for i, name in enumerate(self.genes)}
        missing = [gene for gene in genes if gene not in place]
        if missing:
            raise KeyError(
                f"genes: expected names among the phantom's {len(self.genes)} genes, found {missing[:5]}. "
                "Next: look at `truth.genes`."
            )
        return np.array([place[gene] for gene in genes], dtype=np.int64)

    def _blocks(self, n: int) -> Iterator[slice]:
        size = max(1, _BLOCK // len(self.genes))
        return (slice(start, start + size) for start in range(0, n, size))


@dataclass(frozen=True)
class DrawnCells:
    """Cells of one section before they become an AnnData; the expression in blocks of rows."""

    rows: list[np.ndarray | sparse.csr_matrix]
    coords: np.ndarray
    material: np.ndarray
    domain: np.ndarray
    cell_type: np.ndarray


def _draw_material(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw material points with density proportional to (1 + SLOPE a) times the area that rounding leaves them."""
    drawn = np.empty((0, 2))
    while len(drawn) < n:
        m = int(1.3 * (n - len(drawn))) + 16
        # Inverse of the distribution function of (1 + SLOPE a) / 2 on [-1, 1].
        a = (np.sqrt(1.0 - SLOPE * (2.0 - SLOPE - 4.0 * rng.random(m))) - 1.0) / SLOPE
        b = rng.uniform(-1.0, 1.0, m)
        kept = rng.random(m) < round_jacobian(a, b, ROUNDNESS)
        drawn = np.concatenate([drawn, np.column_stack([a, b])[kept]])
    return drawn[:n, 0], drawn[:n, 1]


def _outside_hole(xy: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Mask of the cells that stay when the `share` of them nearest to a random one is lost."""
    distance = np.hypot(*(xy - xy[rng.integers(len(xy))]).T)
    lost = min(int(round(share * len(xy))), len(xy) - 1)
    return distance >= np.partition(distance, lost)[lost]


def _draw_category(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one column index per row of probabilities."""
    below = np.cumsum(probability, axis=1) < rng.random((len(probability), 1))
    return np.minimum(below.sum(axis=1), probability.shape[1] - 1)
