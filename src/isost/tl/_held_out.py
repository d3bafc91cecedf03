"""Hold sections of an AnnData out, such that nothing of them is seen: and a fit as a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.baselines import Cloud, Training
from isost._core.checks import Problems
from isost._core.decoder import MEAN_KEY
from isost._core.expression import expression_of, summarise
from isost._core.held_out import HeldOut, Split
from isost._core.normalise import Normalisation, lognormalise, recorded_normalisation
from isost._core.positions import read_coords
from isost._core.random import torch_generator
from isost._core.sections import Sections, read_sections
from isost._logging import logger
from isost.metrics import bin_side
from isost.pp._embed import embed
from isost.reconstruction import Reconstruction

# Of more genes than this the most variable ones are scored.
SCORED_GENES = 500


@dataclass(frozen=True)
class Keys:
    """Where an AnnData keeps sections and positions."""

    section_key: str | None = "section"
    spatial_key: str = "spatial"
    depth_key: str | None = None


def read_geometry(adata: AnnData, keys: Keys) -> tuple[np.ndarray, Sections]:
    """Positions (n, 3) and sections sorted by depth.

    Raises
    ------
    ValueError
        If they cannot be read.
    """
    problems = Problems()
    coords = read_coords(adata, keys.spatial_key, keys.depth_key, problems)
    sections = read_sections(adata, keys.section_key, coords, problems)
    if problems or coords is None or sections is None:
        raise problems.error("The stack cannot be read")
    return coords, sections


def split(
    adata: AnnData, held_out: Sequence[int], keys: Keys | None = None, *, n_comps: int = 50, rng: int | None = 0
) -> tuple[AnnData, Split]:
    """Hold sections out; normalisation, components and widths come from the sections that remain.

    Parameters
    ----------
    adata
        The whole stack; not changed. What embedding it has is not used, but made anew in the same way.
    held_out
        Numbers of the sections in the order of depth.
    keys
        Where sections and positions are.
    n_comps
        Number of principal components.
    rng
        Of the PCA.

    Returns
    -------
    train
        AnnData of the sections that remain, embedded, for `isost.tl.fit`.
    split
        The same for baselines, without predicted sections, and the held-out sections to score.
    """
    coords, sections = read_geometry(adata, keys or Keys())
    index = sections.index
    out = np.isin(index, np.asarray(held_out))
    how = _embedding_of(adata)
    layer = how.pop("layer", None)
    train = _bare(adata, np.flatnonzero(~out), layer)
    embed(train, n_comps=min(n_comps, train.n_obs - 1, train.n_vars - 1), rng=rng, **how)
    representation = Representation.of(train)
    side = bin_side([coords[index == k] for k in range(len(sections.names))])
    feature_scale = float(np.asarray(train.obsm["X_pca"])[:, 0].std())

    kept = [np.flatnonzero(index == k) for k in sections.measured if k not in set(held_out)]
    clouds = tuple(representation.cloud(_bare(adata, rows, layer), coords[rows]) for rows in kept)
    width = bin_side([cloud.coords for cloud in clouds])
    training = Training(clouds, tuple(coords[rows, 2] for rows in kept), width, feature_scale)
    held = []
    for k in held_out:
        rows = np.flatnonzero(index == k)
        cells = representation.cloud(_bare(adata, rows, layer), coords[rows])
        depth = float(coords[rows, 2].mean())
        held.append(HeldOut(sections.names[k], depth, coords[rows], cells, side, feature_scale))
    return train, Split(training, held, representation.genes)


@dataclass(frozen=True, eq=False)
class Representation:
    """Log-normalisation, components and scored genes of an embedded AnnData, for cells that it does not hold.

    Attributes
    ----------
    normalisation
        How expression becomes log-normalised.
    loadings, mean
        (n_genes, P) and (n_genes,) of the components.
    scored
        Columns of the G genes that are scored: the most variable ones.
    genes
        Their names.
    """

    normalisation: Normalisation
    loadings: np.ndarray
    mean: np.ndarray
    scored: np.ndarray
    genes: tuple[str, ...]

    @classmethod
    def of(cls, train: AnnData) -> Representation:
        """Read what `isost.pp.embed` left."""
        how = recorded_normalisation(train)
        scored = _most_variable(lognormalise(train, how))
        loadings, mean = np.asarray(train.varm["PCs"], np.float64), train.var["pca_mean"].to_numpy(np.float64)
        return cls(how, loadings, mean, scored, tuple(map(str, train.var_names[scored])))

    def cloud(self, adata: AnnData, coords: np.ndarray) -> Cloud:
        """Represent cells of the same genes at (n, 2 or more)."""
        values = lognormalise(adata, self.normalisation)
        components = np.asarray(values @ self.loadings) - self.mean @ self.loadings
        return Cloud(coords[:, :2], components, _dense(values[:, self.scored]))


def _embedding_of(adata: AnnData) -> dict[str, Any]:
    """Arguments of `isost.pp.embed` that say what the embedding that is there was made of: none where there is none."""
    params = adata.uns.get("pca", {}).get("params", {})
    if params.get("mean") != MEAN_KEY or "embed" not in adata.uns.get("isost", {}):
        return {}
    how = recorded_normalisation(adata)
    if "before" in adata.uns["isost"]["embed"]:
        # a section that is held out cannot be corrected without having been seen
        logger.info("batches are not corrected where sections are held out: expression is taken as it was before")
        how = Normalisation.from_uns(adata.uns["isost"]["embed"]["before"])
    found: dict[str, Any] = {"layer": how.layer, "log1p": how.log1p}
    if params.get("use_highly_variable") and "highly_variable" in adata.var:
        found["n_top_genes"] = int(adata.var["highly_variable"].sum())
    if how.target_sum is not None:
        totals = summarise(expression_of(adata, how.layer)).totals
        # the median is that of all sections, and is taken anew of those that remain
        if not np.isclose(how.target_sum, np.median(totals[totals > 0])):
            found["target_sum"] = how.target_sum
    return found


def _bare(adata: AnnData, rows: np.ndarray, layer: str | None) -> AnnData:
    """Copy cells without embeddings and what was written about them, which have seen all sections."""
    view = adata[rows]
    obsm = {key: np.asarray(value) for key, value in view.obsm.items() if key not in ("X_pca",)}
    matrix = view.X if layer is None else view.layers[layer]
    bare = AnnData(matrix.copy(), obs=view.obs.copy(), var=view.var[[]].copy(), obsm=obsm)
    bare.uns.update({key: adata.uns[key] for key in ("spatial_unit",) if key in adata.uns})
    return bare


def _most_variable(values: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    """Columns, in order, of the genes with the largest variance."""
    if values.shape[1] <= SCORED_GENES:
        return np.arange(values.shape[1])
    mean = np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()
    square = values**2 if isinstance(values, np.ndarray) else values.multiply(values)
    variance = np.asarray(square.mean(axis=0, dtype=np.float64)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:SCORED_GENES])


def _dense(values: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    return np.asarray(values if isinstance(values, np.ndarray) else values.toarray(), dtype=np.float32)


class Fit:
    """A reconstruction as a predictor.

    Parameters
    ----------
    fitted
        Fitted on the training sections.
    genes
        Genes that are scored.
    """

    def __init__(self, fitted: Reconstruction, genes: Sequence[str]) -> None:
        self.fitted = fitted
        self._genes = list(genes)

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        return self.fitted.expression(self._inside(coords), genes=self._genes)

    def field_and_spread(self, coords: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the field and its standard deviation (n, G)."""
        return self.fitted.expression(self._inside(coords), genes=self._genes, return_std=True)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        generator = torch_generator(rng)
        cells = self.fitted.field.draw(depth, generator, n)
        decoder = self.fitted.stack.decoder
        genes = np.zeros((len(cells.row), 0)) if decoder is None else decoder.decode(cells.features, self._genes)
        return Cloud(cells.coords[:, :2], cells.features, genes)

    def _inside(self, coords: np.ndarray) -> np.ndarray:
        # A thick section next to the first or last may reach beyond the stack's depths.
        first, last = self.fitted.stack.depths[[0, -1]]
        return np.column_stack([coords[:, :2], np.clip(coords[:, 2], first, last)])
