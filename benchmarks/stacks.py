"""Stacks of the accuracy benchmark: real ones, log-normalised, and phantoms whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
from scipy import sparse

import isost
from isost._core.baselines import Cloud
from isost._core.held_out import HeldOut, Split
from isost._core.kernel import kernel_fields
from isost.metrics._bins import bin_counts, bin_means
from isost.tl._held_out import Representation, split

# Expression of the real stacks: totals scaled to their median and log1p, or as it is.
REAL = {"merfish_hypothalamus": True, "heart_asp2019": True, "bdtnp_embryo": False}
PHANTOMS = ("still", "bending", "branching")
STACKS = (*REAL, *PHANTOMS)

GENES = 500
# Cells that stand for the truth of a phantom's section, in units of the cells of a section.
TRUTH_CELLS = 10


def load(name: str, seed: int = 0) -> ad.AnnData:
    """Load a stack: log-normalised with at most the 500 most variable genes, or counts of a phantom."""
    if name in PHANTOMS:
        return isost.datasets.phantom(name, rng=seed)
    raw = isost.datasets.fetch(name)
    values = np.asarray(raw.X.toarray() if sparse.issparse(raw.X) else raw.X, dtype=np.float64)
    if REAL[name]:
        totals = values.sum(axis=1, keepdims=True)
        values = np.log1p(values / np.where(totals > 0, totals, 1.0) * np.median(totals))
    genes = np.sort(np.argsort(-values.var(axis=0), kind="stable")[:GENES])
    adata = ad.AnnData(
        values[:, genes].astype(np.float32), obs=raw.obs[["section"]].copy(), var=raw.var[[]].iloc[genes]
    )
    adata.obsm["spatial"] = raw.obsm["spatial"]
    adata.uns["spatial_unit"] = raw.uns["spatial_unit"]
    return adata


def hold_out(adata: ad.AnnData) -> tuple[ad.AnnData, Split]:
    """Hold every second inner section out."""
    n_sections = adata.obs["section"].astype(str).nunique()
    return split(adata, range(1, n_sections - 1, 2))


def with_truth(adata: ad.AnnData, train: ad.AnnData, held: Split) -> Split:
    """Put many more cells, drawn at the same depths, in the place of a phantom's held-out cells."""
    truth = isost.datasets.phantom_truth(adata)
    representation = Representation.of(train)
    sections = []
    for number, section in enumerate(held.held_out):
        drawn = truth.sample_section(section.depth, n=TRUTH_CELLS * len(section.cells), rng=number)
        cells = representation.cloud(drawn, drawn.obsm["spatial"])
        sections.append(replace(section, coords=drawn.obsm["spatial"], cells=cells))
    return replace(held, held_out=sections)


class Truth:
    """The phantom itself: what it is worth to know the tissue, but not the cells that were measured.

    Its field is the mean over many cells drawn at the depth about each place, its cells are others of the same tissue.
    """

    def __init__(self, adata: ad.AnnData, train: ad.AnnData, held: Split) -> None:
        self._truth = isost.datasets.phantom_truth(adata)
        self._representation = Representation.of(train)
        self._width = 0.5 * held.training.width
        self._many = TRUTH_CELLS * max(len(section.cells) for section in held.held_out)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        drawn = self._truth.sample_section(depth, n=n or self._many, rng=rng)
        return self._representation.cloud(drawn, drawn.obsm["spatial"])

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        cloud = self.cells(depth, None, np.random.default_rng(1))
        return next(kernel_fields(coords[:, :2], cloud.coords, cloud.genes, (self._width,)))


def sampling_error(section: HeldOut) -> float:
    """Expected nmse of the true mean of each bin: what the sampling of the section's cells alone leaves."""
    genes = section.cells.genes.astype(np.float64)
    mean, square = bin_means(section.coords, section.side, genes, genes**2)
    count = bin_counts(section.coords, section.side)[:, None]
    within = ((square - mean**2) * count).sum(axis=0) / (len(genes) - len(count))
    varies = np.ptp(genes, axis=0) > 0
    return float((within[varies] / genes[:, varies].var(axis=0)).mean() * (1 / count).mean())
