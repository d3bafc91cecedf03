from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_number, as_whole
from isost._logging import logger
from isost.datasets._cord import CANAL_RADIUS, HALF_AXES, LESION_RADIUS, REST, Cord, CordGenes

_LIBRARY_SPREAD = 0.3


def spinal_cord(
    *,
    lesion: bool = False,
    n_sections: int = 12,
    n_cells: int = 1000,
    n_genes: int = 60,
    spacing: float = 150.0,
    library_size: float = 1500.0,
    rng: Rng = 0,
) -> ad.AnnData:
    """Make sections of a spinal cord with genes that depend on the distance from its canal, and from a lesion.

    The cord is an ellipse of 1800 x 1400 µm across and runs along z, about a central canal of 180 µm that bends by
    150 µm and holds no cells; gray matter is a butterfly about it. The same seed with and without a lesion gives the
    same cord and genes in the same frame, with other cells: an injured and an uninjured animal.

    Parameters
    ----------
    lesion
        Whether there is a lesion, a ball of 500 µm half way along the cord with fewer cells.
    n_sections
        Number of sections, at depths 0, `spacing`, 2 `spacing`, ...
    n_cells
        Mean number of cells of a section; the number itself is drawn from a Poisson distribution.
    n_genes
        Number of genes, besides one that makes up what they leave of the transcripts; the kinds take turns.
    spacing
        Distance of neighbouring sections, µm.
    library_size
        Mean number of transcripts of a cell; lognormal from cell to cell.
    rng
        Seed or generator.

    Returns
    -------
    anndata.AnnData
        ``X`` counts (sparse int32); ``obs["section"]`` (ordered categorical), ``obs["tissue"]`` ("gray", "white"),
        ``obs["in_lesion"]`` (bool, where the lesion is, or would be); ``obsm["spatial"]`` (n, 3) float64, µm;
        ``uns["spinal_cord"]``: ``canal`` (m, 3), ``lesion`` (3,), ``lesion_radius``. The truth is in ``var``:

        ``kind``
            ``canal_*`` and ``lesion_*`` rise, fall or peak with the distance from canal or lesion (these are constant
            without one); ``gray`` and ``white`` follow the matter; ``flat`` is constant; ``patchy`` a random field that
            knows of neither; ``rest`` the gene that makes up the rest.
        ``canal``, ``lesion``
            What `isost.tl.radial_gradients` should say of distance from the canal, and of injured minus uninjured and
            distance from the lesion: "rising", "falling", "peaked" or "flat"; "" where anatomy decides.

    Raises
    ------
    TypeError
        If something is no number.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.spinal_cord(lesion=True, n_cells=100, n_genes=10)
    >>> adata.var.loc["lesion_falling_4", ["canal", "lesion"]].tolist()
    ['', 'falling']
    >>> adata.uns["spinal_cord"]["canal"].shape
    (41, 3)
    """
    n_sections, n_cells = as_whole("n_sections", n_sections, 2), as_whole("n_cells", n_cells, 1)
    n_genes = as_whole("n_genes", n_genes, 1)
    for name, value in (("spacing", spacing), ("library_size", library_size)):
        if not 0 < as_number(name, value) < np.inf:
            raise ValueError(f"{name}: expected a number above 0, found {value!r}. Next: leave it out.")
    seed = int(numpy_generator(rng).integers(2**62))
    cord = Cord((n_sections - 1) * float(spacing))
    genes = CordGenes.draw(n_genes, np.random.default_rng([seed, 0]))
    draw = np.random.default_rng([seed, 2 if lesion else 1])
    sections = [_places(cord, k * float(spacing), n_cells, lesion, draw) for k in range(n_sections)]
    coords = np.concatenate(sections)
    library = library_size * draw.lognormal(-(_LIBRARY_SPREAD**2) / 2.0, _LIBRARY_SPREAD, (len(coords), 1))
    counts = draw.poisson(genes.shares(cord, coords, lesion=lesion) * library).astype(np.int32)
    names = [f"s{k + 1}" for k in range(n_sections)]
    number = np.repeat(np.arange(n_sections), [len(section) for section in sections])
    obs = pd.DataFrame(
        {
            "section": pd.Categorical.from_codes(number, names, ordered=True),
            "tissue": pd.Categorical.from_codes((cord.gray(coords) > 0.5).astype(int), ["white", "gray"]),
            "in_lesion": cord.from_lesion(coords) <= LESION_RADIUS,
        },
        index=pd.RangeIndex(len(coords)).astype(str),
    )
    adata = ad.AnnData(sparse.csr_matrix(counts), obs, _truth(genes, lesion=lesion), obsm={"spatial": coords})
    adata.uns["X_note"] = "raw integer counts"
    adata.uns["spatial_unit"] = "um"
    adata.uns["spinal_cord"] = {
        "canal": cord.canal, "canal_radius": CANAL_RADIUS, "lesion": cord.lesion, "lesion_radius": LESION_RADIUS,
        "injured": bool(lesion), "seed": seed,
    }  # fmt: skip
    logger.info("spinal_cord: %d sections, %d cells, %d genes", n_sections, adata.n_obs, n_genes)
    return adata


def _places(cord: Cord, z: float, n_cells: int, lesion: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw the places (n, 3) of the cells of one section by rejection."""
    n = max(1, int(rng.poisson(n_cells)))
    centre = [np.interp(z, cord.canal[:, 2], cord.canal[:, axis]) for axis in range(2)]
    found = np.empty((0, 3))
    while len(found) < n:
        xy = centre + rng.uniform(-1.0, 1.0, (3 * n, 2)) * HALF_AXES
        drawn = np.column_stack([xy, np.full(len(xy), z)])
        found = np.concatenate([found, drawn[rng.random(len(drawn)) < cord.density(drawn, lesion=lesion)]])
    return found[:n]


def _truth(genes: CordGenes, *, lesion: bool) -> pd.DataFrame:
    kind = pd.Series([*genes.kind, REST], index=[*genes.names, REST])
    about, profile = kind.str.partition("_")[0], kind.str.partition("_")[2]
    anatomy = kind.isin(["gray", "white", REST])
    canal = profile.where(about == "canal", "flat").mask(anatomy | ((about == "lesion") & lesion), "")
    wound = profile.where(about == "lesion", "flat").mask(kind == REST, "")
    return pd.DataFrame({"kind": pd.Categorical(kind), "canal": canal, "lesion": wound})
