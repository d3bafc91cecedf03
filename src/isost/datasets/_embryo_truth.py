"""The known truth behind the embryo phantom, at every age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd

from isost._core.checks import show
from isost._core.random import Rng, numpy_generator
from isost.datasets._body import Body
from isost.datasets._embryo_sampling import draw_stage, material_grid
from isost.datasets._organs import ORGANS, TYPES, Programme, membership, type_of_organ
from isost.datasets._sampling import blocks


@dataclass(frozen=True)
class EmbryoTruth:
    """What is true of the embryo phantom; `isost.datasets.embryo_truth` makes it.

    Positions are x, y (µm, the body along x, the middle of its axis at the origin) and age (days); or x, y, z and age,
    with z (µm) from the middle plane, for (n, 4).

    Parameters
    ----------
    body
        Map between material and physical coordinates.
    programme
        Patterns of genes.
    n_cells
        Expected number of cells at the first age.
    library_size
        Mean number of transcripts of a cell.

    Examples
    --------
    >>> import isost
    >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
    >>> truth.proportions([9.5, 15.5])["kidney"].round(2).tolist()
    [0.0, 0.09]
    """

    body: Body
    programme: Programme
    n_cells: int
    library_size: float

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of the genes."""
        return self.programme.names

    def inside(self, coords: np.ndarray) -> np.ndarray:
        """Say whether positions lie in the body.

        Parameters
        ----------
        coords
            Positions (n, 3) x, y, age in the middle plane, or (n, 4) x, y, z, age.

        Returns
        -------
        np.ndarray
            (n,) bool.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
        >>> truth.inside([[0.0, 0.0, 12.0], [9000.0, 0.0, 12.0]]).tolist()
        [True, False]
        """
        return np.isfinite(self._material(coords)[0])

    def organ(self, coords: np.ndarray) -> np.ndarray:
        """Name the organ at each position.

        Parameters
        ----------
        coords
            Positions (n, 3) x, y, age in the middle plane, or (n, 4) x, y, z, age.

        Returns
        -------
        np.ndarray
            (n,) str; empty outside the body.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
        >>> truth.organ([[0.0, 0.0, 12.0], [9000.0, 0.0, 12.0]]).tolist()
        ['trunk', '']
        """
        a, b, tau, w = self._material(coords)
        found = np.isfinite(a)
        names = np.full(len(a), "", dtype=object)
        member = membership(a[found], b[found], tau[found], w[found])
        names[found] = np.array(ORGANS, dtype=object)[member.argmax(axis=1)]
        return names.astype(str)

    def expression(self, coords: np.ndarray, *, genes: Sequence[str] | None = None) -> np.ndarray:
        """Mean log-normalised expression without measurement noise.

        The mean of log1p of the expected transcripts in 1e4 over the cell types found at a position: to compare it with
        a fit, use ``isost.pp.embed(adata, target_sum=1e4)``, or correlate.

        Parameters
        ----------
        coords
            Positions (n, 3) x, y, age in the middle plane, or (n, 4) x, y, z, age.
        genes
            Names of the genes wanted, in order; all of them by default.

        Returns
        -------
        np.ndarray
            (n, n_genes) float64; NaN outside the body.

        Raises
        ------
        KeyError
            If a gene is not one of the phantom's.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
        >>> truth.expression([[0.0, 0.0, 12.0]], genes=["marker_1"]).shape
        (1, 1)
        """
        names = list(self.genes if genes is None else genes)
        chosen = pd.Index(self.genes).get_indexer(names)
        if (chosen < 0).any():
            missing = [name for name, at in zip(names, chosen, strict=True) if at < 0]
            raise KeyError(
                f"genes: expected names among the phantom's {len(self.genes)} genes, found {show(missing)}. "
                "Next: look at `truth.genes`."
            )
        a, b, tau, w = self._material(coords)
        mean = np.empty((len(a), len(chosen)))
        for block in blocks(len(a), len(self.genes) * len(TYPES)):
            member = membership(a[block], b[block], tau[block], w[block])
            rates = self.programme.rates(a[block], b[block], tau[block], member)[..., chosen]
            mean[block] = np.einsum("nt,tng->ng", member @ type_of_organ(), np.log1p(rates))
        return mean

    def proportions(self, ages: Sequence[float] | np.ndarray) -> pd.DataFrame:
        """Give the share of the area of the middle plane that belongs to each organ.

        Parameters
        ----------
        ages
            Of the body.

        Returns
        -------
        pandas.DataFrame
            A row an age, a column an organ; rows sum to 1.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
        >>> truth.proportions([10.0, 12.0]).shape
        (2, 6)
        """
        shares = []
        for age in np.asarray(ages, dtype=np.float64).tolist():
            a, b, area = material_grid(self.body, age)
            shares.append(np.bincount(self._organ(a, b, age), area, minlength=len(ORGANS)) / area.sum())
        return pd.DataFrame(shares, pd.Index(ages, name="age"), list(ORGANS))

    def curves(self, organ: str, ages: Sequence[float] | np.ndarray) -> pd.DataFrame:
        """Give the mean expression of every gene over the area of an organ in the middle plane.

        Parameters
        ----------
        organ
            Its name.
        ages
            Of the body.

        Returns
        -------
        pandas.DataFrame
            A row an age, a column a gene; NaN where there is no such organ yet.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
        >>> truth.curves("brain", [10.0, 11.0]).shape
        (2, 12)
        """
        mean = np.full((len(ages), len(self.genes)), np.nan)
        for row, age in enumerate(np.asarray(ages, dtype=np.float64).tolist()):
            a, b, area = material_grid(self.body, age)
            own = np.flatnonzero(self._organ(a, b, age) == ORGANS.index(organ))
            own = own[:: max(1, len(own) // 400)]  # evenly over it
            if len(own):
                known = self.expression(self.body.to_physical(a[own], b[own], age))
                mean[row] = np.average(known, axis=0, weights=area[own])
        return pd.DataFrame(mean, pd.Index(ages, name="age"), list(self.genes))

    def sample_stage(
        self, age: float, *, depth: float = 0.0, n: int | None = None, count_noise: bool = True, rng: Rng = None
    ) -> ad.AnnData:
        """Draw the cells of a stage of any age, lying as the truth does.

        Parameters
        ----------
        age
            Within those of the phantom.
        depth
            Relative depth of the section, between -1 and 1; 0 is the middle plane.
        n
            Number of cells; by default a Poisson number that grows with the body.
        count_noise
            Counts, or the exact log-normalised expression of each cell.
        rng
            Seed or generator.

        Returns
        -------
        anndata.AnnData
            Laid out like `isost.datasets.embryo`, with one stage.

        Raises
        ------
        ValueError
            If age or depth are not within the phantom.

        Examples
        --------
        >>> import isost
        >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
        >>> truth.sample_stage(12.0, n=300, rng=0).shape
        (300, 12)
        """
        if not self.body.start <= age <= self.body.stop:
            raise ValueError(
                f"age: expected one from {self.body.start:g} to {self.body.stop:g}, found {age:g}. Next: one of these."
            )
        if not -1.0 < depth < 1.0:
            raise ValueError(f"depth: expected above -1 and below 1, found {depth:g}. Next: 0 is the middle plane.")
        return draw_stage(self, age, n, numpy_generator(rng), count_noise=count_noise, w=depth)

    def _material(self, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Material coordinates, relative age and relative depth of positions."""
        coords = np.asarray(coords, dtype=np.float64)
        age = coords[:, -1]
        w = coords[:, 2] / self.body.thickness(age) if coords.shape[1] == 4 else np.zeros(len(coords))
        a, b = self.body.to_material(np.column_stack([coords[:, :2], age]), w)
        return a, b, self.body.relative(age), w

    def _organ(self, a: np.ndarray, b: np.ndarray, age: np.ndarray | float) -> np.ndarray:
        """Index of the organ at material points."""
        return membership(a, b, np.broadcast_to(self.body.relative(age), a.shape)).argmax(axis=1)
