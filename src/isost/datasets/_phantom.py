from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import get_args

import anndata as ad
import numpy as np

from isost._core.random import Rng, numpy_generator
from isost._logging import logger
from isost.datasets._panel import GenePanel, softmax
from isost.datasets._sampling import SectionEffect, assemble, draw_section
from isost.datasets._shapes import Geometry, Shape
from isost.datasets._truth import PhantomTruth


@dataclass(frozen=True)
class _Parameters:
    """All that decides a phantom, as it is recorded in ``uns["phantom"]``."""

    shape: Shape
    n_sections: int
    n_cells: int
    n_genes: int
    spacing: float
    extent: float
    library_size: float
    count_noise: bool
    section_effects: float
    dropout: float
    seed: int

    def check(self) -> None:
        """Raise one ValueError that names every parameter out of range."""
        wrong = []
        if self.shape not in get_args(Shape):
            wrong.append(f"shape: expected one of {', '.join(get_args(Shape))}, found {self.shape!r}")
        for name, least in (("n_sections", 2), ("n_cells", 1), ("n_genes", 1)):
            if not _is(Integral, value := getattr(self, name)) or value < least:
                wrong.append(f"{name}: expected a whole number of {least} or more, found {value!r}")
        for name in ("spacing", "extent", "library_size"):
            if not _is(Real, value := getattr(self, name)) or not 0.0 < value < np.inf:
                wrong.append(f"{name}: expected a positive number, found {value!r}")
        if not _is(Real, self.section_effects) or not 0.0 <= self.section_effects < np.inf:
            wrong.append(f"section_effects: expected 0 or a positive number, found {self.section_effects!r}")
        if not _is(Real, self.dropout) or not 0.0 <= self.dropout < 1.0:
            wrong.append(f"dropout: expected a share of at least 0 and below 1, found {self.dropout!r}")
        if wrong:
            raise ValueError("; ".join(wrong) + ". Next: call phantom() with values in these ranges.")

    def truth(self) -> PhantomTruth:
        geometry = Geometry(self.shape, self.extent, (self.n_sections - 1) * self.spacing)
        panel = GenePanel.draw(self.n_genes, np.random.default_rng([self.seed, 0]))
        return PhantomTruth(geometry, panel, self.n_cells, self.library_size)


def phantom(
    shape: Shape = "still",
    *,
    n_sections: int = 9,
    n_cells: int = 2000,
    n_genes: int = 60,
    spacing: float = 50.0,
    extent: float = 1000.0,
    library_size: float = 1000.0,
    count_noise: bool = True,
    section_effects: float = 0.0,
    dropout: float = 0.0,
    rng: Rng = 0,
) -> ad.AnnData:
    """Make a stack of sections through an analytic 3D tissue whose truth is known at every depth.

    The tissue is a smooth map of material coordinates (a, b) in [-1, 1]^2 to the plane at each depth. Domains, cell
    types and most genes are functions of (a, b), so that patterns move with the tissue; genes of the kinds
    ``gradient_z`` and ``travelling`` change along depth within the tissue too. Cells of a section are an independent
    Poisson sample of a known density. Time and memory grow linearly with cells times genes.

    Parameters
    ----------
    shape
        ``"still"``: every section has the same outline. ``"bending"``: the body axis is curved; sections shift by
        0.3 of `extent`, turn by 40 degrees and bow over the stack. ``"branching"``: one trunk splits into two.
    n_sections
        Number of sections, at depths 0, `spacing`, 2 `spacing`, ...
    n_cells
        Mean number of cells of a section; the number itself is drawn from a Poisson distribution.
    n_genes
        Number of genes; their kinds (``var["kind"]``) take turns, so that ten genes hold every kind once.
    spacing
        Distance of neighbouring sections, µm.
    extent
        Width of the tissue at its first section, µm.
    library_size
        Mean number of transcripts of a cell; lognormal from cell to cell.
    count_noise
        Poisson counts (sparse int32). False: the exact log-normalised expression of each cell (dense float32).
    section_effects
        Strength s of technical differences between sections: a gene's rate p becomes ``gain * p + offset`` with
        log(gain) ~ N(0, s^2) and an offset uniform between 0 and s / 2 of the gene's base rate.
    dropout
        Share of each section's cells lost in a round hole at a random place, at least 0 and below 1.
    rng
        Seed or generator. The same seed gives the same tissue and the same cells.

    Returns
    -------
    anndata.AnnData
        ``X`` counts or expression; ``obs["section"]`` (ordered categorical), ``obs["domain"]``, ``obs["cell_type"]``;
        ``obsm["spatial"]`` (n, 3) float64, ``obsm["material"]`` (n, 2) float32 the true material coordinates;
        ``var["kind"]``, ``var["target"]`` (domain of a marker, type of a cell_type gene);
        ``varm["section_gain"]``, ``varm["section_offset"]`` (n_genes, n_sections) if `section_effects` > 0;
        ``uns["phantom"]`` the parameters, from which `phantom_truth` makes the truth.

    Raises
    ------
    ValueError
        If a parameter is out of range; all such parameters are named at once.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom("bending", n_cells=200)
    >>> adata.obs["section"].cat.categories.size
    9
    >>> truth = isost.datasets.phantom_truth(adata)
    >>> truth.expression(adata.obsm["spatial"][:3], genes=["gradient_x_1"]).shape
    (3, 1)
    """
    parameters = _Parameters(
        shape,
        n_sections,
        n_cells,
        n_genes,
        spacing,
        extent,
        library_size,
        count_noise,
        section_effects,
        dropout,
        seed=int(numpy_generator(rng).integers(2**62)),
    )
    parameters.check()
    truth = parameters.truth()
    generator = np.random.default_rng([parameters.seed, 1])
    effects = [_draw_effect(truth.panel, section_effects, generator) for _ in range(n_sections)]
    sections = [
        draw_section(truth, k * spacing, None, generator, count_noise=count_noise, effect=effect, hole=dropout)
        for k, effect in enumerate(effects)
    ]
    adata = assemble(sections, [f"s{k + 1}" for k in range(n_sections)], truth.panel, count_noise=count_noise)
    if section_effects > 0.0:
        adata.varm["section_gain"] = np.column_stack([effect.gain for effect in effects if effect])
        adata.varm["section_offset"] = np.column_stack([effect.offset for effect in effects if effect])
    adata.uns["phantom"] = asdict(parameters)
    logger.info("phantom: %s, %d sections, %d cells, %d genes", shape, n_sections, adata.n_obs, n_genes)
    return adata


def phantom_truth(adata: ad.AnnData) -> PhantomTruth:
    """Make the truth of a phantom from the parameters recorded in it.

    Parameters
    ----------
    adata
        What `isost.datasets.phantom` returned, or a subset of it, or the same read from a file.

    Returns
    -------
    PhantomTruth
        The truth, with all the genes that the phantom was made with.

    Raises
    ------
    KeyError
        If ``uns["phantom"]`` is missing.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom("branching", n_cells=100)
    >>> truth = isost.datasets.phantom_truth(adata)
    >>> bool(truth.inside(adata.obsm["spatial"]).all())
    True
    """
    if "phantom" not in adata.uns:
        raise KeyError(
            'uns["phantom"]: expected the parameters of a phantom, found none. '
            "Next: pass what isost.datasets.phantom() returned."
        )
    recorded = adata.uns["phantom"]
    # A file gives numpy scalars back.
    return _Parameters(
        **{key: value.item() if isinstance(value, np.generic) else value for key, value in recorded.items()}
    ).truth()


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _draw_effect(panel: GenePanel, strength: float, rng: np.random.Generator) -> SectionEffect | None:
    if strength == 0.0:
        return None
    base = softmax(panel.base[None])[0]
    gain = np.exp(strength * rng.standard_normal(len(base)))
    return SectionEffect(gain, rng.uniform(0.0, 0.5 * strength, len(base)) * base)
