"""Hold sections of an AnnData out, such that nothing of them is seen: and a fit as a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.baselines import Cloud, Training
from isost._core.carry import carry, thin
from isost._core.checks import Problems
from isost._core.held_out import HeldOut, Split
from isost._core.positions import read_coords
from isost._core.random import torch_generator
from isost._core.sections import Sections, read_sections
from isost.metrics import bin_side
from isost.pp._embed import embed
from isost.pp._normalise import lognormalise, recorded_normalisation
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
        The whole stack; not changed. What embedding it has is not used.
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
        The same for baselines, and the held-out sections to score.
    """
    coords, sections = read_geometry(adata, keys or Keys())
    out = np.isin(sections.index, np.asarray(held_out))
    train = _bare(adata, ~out)
    embed(train, n_comps=min(n_comps, train.n_obs - 1, train.n_vars - 1), rng=rng)
    how = recorded_normalisation(train)
    genes = _most_variable(lognormalise(train, how))
    decoder = np.asarray(train.varm["PCs"], np.float64), train.var["pca_mean"].to_numpy(np.float64)
    side = bin_side([coords[sections.index == k] for k in range(len(sections.names))])

    scores = np.asarray(train.obsm["X_pca"])
    feature_scale = float(scores[:, 0].std())
    known_genes = _dense(lognormalise(train, how)[:, genes])
    known_coords, known_index = coords[~out], sections.index[~out]
    kept = [k for k in range(len(sections.names)) if k not in set(held_out)]
    clouds, depths = [], []
    for k in kept:
        rows = known_index == k
        clouds.append(Cloud(known_coords[rows, :2], scores[rows], known_genes[rows]))
        depths.append(known_coords[rows, 2])
    width = bin_side([cloud.coords for cloud in clouds])
    held = [
        _held_section(adata, how, decoder, genes, coords, np.flatnonzero(sections.index == k), sections.names[k],
                      side, feature_scale)
        for k in held_out
    ]  # fmt: skip
    names = tuple(map(str, train.var_names[genes]))
    return train, Split(Training(tuple(clouds), tuple(depths), width, feature_scale), held, names)


def _held_section(
    adata: AnnData, how: Any, decoder: tuple[np.ndarray, np.ndarray], genes: np.ndarray, coords: np.ndarray,
    rows: np.ndarray, name: str, side: float, feature_scale: float,
) -> HeldOut:  # fmt: skip
    loadings, mean = decoder
    values = lognormalise(_bare(adata, rows), how)
    components = np.asarray(values @ loadings) - mean @ loadings
    cells = Cloud(coords[rows, :2], components, _dense(values[:, genes]))
    return HeldOut(name, float(coords[rows, 2].mean()), coords[rows], cells, side, feature_scale)


def _bare(adata: AnnData, rows: np.ndarray) -> AnnData:
    """Copy cells without embeddings and what was written about them, which have seen all sections."""
    view = adata[rows]
    obsm = {key: np.asarray(value) for key, value in view.obsm.items() if key not in ("X_pca",)}
    bare = AnnData(view.X.copy(), obs=view.obs.copy(), var=view.var[[]].copy(), obsm=obsm)
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
        # A thick section next to the first or last may reach beyond the stack's depths.
        first, last = self.fitted.stack.depths[[0, -1]]
        places = np.column_stack([coords[:, :2], np.clip(coords[:, 2], first, last)])
        return self.fitted.expression(places, genes=self._genes)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        generator = torch_generator(rng)
        cells = thin(carry(self.fitted.model, self.fitted.stack, depth, generator=generator), generator, n)
        decoder = self.fitted.stack.decoder
        genes = np.zeros((len(cells.row), 0)) if decoder is None else decoder.decode(cells.features, self._genes)
        return Cloud(cells.coords[:, :2], cells.features, genes)
