"""The known truth behind a phantom: expression, density and outline at every depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np

from isost._core.random import Rng, numpy_generator
from isost.datasets._panel import DOMAINS, TARGET_SUM, GenePanel, domain_membership, softmax, type_of_domain
from isost.datasets._sampling import SLOPE, assemble, blocks, draw_section
from isost.datasets._shapes import ROUNDNESS, Geometry, round_area, round_jacobian


@dataclass(frozen=True)
class PhantomTruth:
    """What is true of a phantom at any place and depth; `isost.datasets.phantom_truth` makes it.

    Positions are in the unit of the phantom (µm). Section effects, holes and count noise are no part of the truth.

    Parameters
    ----------
    geometry
        Map between material and physical coordinates.
    panel
        Domains' and genes' patterns in material coordinates.
    n_cells
        Expected number of cells of a section.
    library_size
        Mean number of transcripts of a cell.

    Examples
    --------
    >>> import isost
    >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("bending", n_cells=100, n_genes=10))
    >>> truth.inside([[0.0, 0.0, 75.0], [5000.0, 0.0, 75.0]]).tolist()
    [True, False]
    >>> truth.sample_section(75.0, n=300, rng=0).shape
    (300, 10)
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
        """Say whether positions lie in the tissue.

        Parameters
        ----------
        coords
            Positions (n, 3).

        Returns
        -------
        np.ndarray
            (n,) bool.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> truth.inside([[0.0, 0.0, 75.0], [5000.0, 0.0, 75.0]]).tolist()
        [True, False]
        """
        return np.isfinite(self.geometry.to_material(coords)[0])

    def density(self, coords: np.ndarray) -> np.ndarray:
        """Give the expected number of cells of a section per unit area of its plane.

        The density of the material divided by the Jacobian of the map to physical coordinates: it integrates to
        `n_cells` over the plane at every depth.

        Parameters
        ----------
        coords
            Positions (n, 3).

        Returns
        -------
        np.ndarray
            (n,) float64, per µm²; 0 outside the tissue.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> truth.density([[0.0, 0.0, 75.0], [5000.0, 0.0, 75.0]]) > 0
        array([ True, False])
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

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> truth.expression([[0.0, 0.0, 75.0]], genes=list(truth.genes[:3])).shape
        (1, 3)
        """
        return self._mean_over_types(coords, genes, lambda p: np.log1p(TARGET_SUM * p))

    def rate(self, coords: np.ndarray, *, genes: Sequence[str] | None = None) -> np.ndarray:
        """Give the expected number of transcripts of each gene in 1e4, the mean over the types found at x.

        A cell's expected count is this times its library size over 1e4.

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

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> round(float(truth.rate([[0.0, 0.0, 75.0]]).sum()))
        10000
        """
        return self._mean_over_types(coords, genes, lambda p: TARGET_SUM * p)

    def domain(self, coords: np.ndarray) -> np.ndarray:
        """Name the domain at each position.

        Parameters
        ----------
        coords
            Positions (n, 3).

        Returns
        -------
        np.ndarray
            (n,) str; empty outside the tissue.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> truth.domain([[5000.0, 0.0, 75.0]]).tolist()
        ['']
        """
        a, b = self.geometry.to_material(coords)
        found = np.isfinite(a)
        names = np.full(len(a), "", dtype=object)
        names[found] = np.array(DOMAINS, dtype=object)[domain_membership(a[found], b[found]).argmax(axis=1)]
        return names.astype(str)

    def type_probability(self, coords: np.ndarray) -> np.ndarray:
        """Give the probability of each cell type at each position.

        Parameters
        ----------
        coords
            Positions (n, 3).

        Returns
        -------
        np.ndarray
            (n, n_types) float64, types in the order of the categories of ``obs["cell_type"]``; NaN outside the tissue.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> round(float(truth.type_probability([[0.0, 0.0, 75.0]]).sum()), 6)
        1.0
        """
        return domain_membership(*self.geometry.to_material(coords)) @ type_of_domain()

    def sample_section(
        self, z: float, *, n: int | None = None, count_noise: bool = True, rng: Rng = None
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

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.phantom_truth(isost.datasets.phantom("still", n_cells=100, n_genes=10))
        >>> truth.sample_section(75.0, n=300, rng=0).shape
        (300, 10)
        """
        if not 0.0 <= z <= self.geometry.depth:
            raise ValueError(
                f"z: expected a depth between 0 and {self.geometry.depth:g}, found {z:g}. "
                "Next: choose a depth inside the phantom, or make one with more sections."
            )
        cells = draw_section(self, z, n, numpy_generator(rng), count_noise=count_noise)
        return assemble([cells], [f"z{z:g}"], self.panel, count_noise=count_noise)

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
        for block in blocks(len(coords), len(self.genes)):
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
