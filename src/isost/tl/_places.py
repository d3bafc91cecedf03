"""What a tool on a volume works on: the voxels of a SpatialData, or the cells of an AnnData, and their genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree
from spatialdata import SpatialData

from isost._core.checks import show, to_numbers
from isost._core.decoder import gene_names
from isost._core.expression import expression_of
from isost._core.units import read_unit
from isost._core.voxels import Voxels, chunk_numbers, read_voxels
from isost._tools.linear import Linear

_GENES = 64  # of an AnnData, dense at once


@dataclass(frozen=True, eq=False)
class Places:
    """Places of a tissue and what is known there.

    Attributes
    ----------
    coords
        (n, 3) float64, x, y, z.
    size
        (3,) edges of a voxel, or three times the median distance between neighbouring cells.
    unit
        Of lengths.
    genes
        Names of all genes there are.
    table
        Where results are written.
    rows
        (n,) rows of the table that the places are; None where the table has other rows.
    voxels, index
        The volume, and (n, 3) z, y, x of its voxels; None for cells.
    """

    coords: np.ndarray
    size: np.ndarray
    unit: str
    genes: tuple[str, ...]
    table: AnnData
    rows: np.ndarray | None
    voxels: Voxels | None = None
    index: np.ndarray | None = None

    def linear(self, genes: Sequence[str]) -> Iterator[Linear]:
        """Give genes, some at a time in their order, as linear functions of few scores."""
        if self.voxels is not None and self.index is not None:
            yield _of_voxels(self.voxels, self.index, genes)
            return
        matrix = expression_of(self.table)
        matrix = matrix.tocsc() if sparse.issparse(matrix) else matrix
        at = pd.Index(self.genes).get_indexer(list(genes))
        for start in range(0, len(genes), _GENES):
            block = matrix[:, at[start : start + _GENES]]
            values = np.asarray(block.toarray() if sparse.issparse(block) else block)
            if not np.isfinite(values).all():
                raise ValueError(
                    "sdata.X: expected finite expression, found NaN or infinity. Next: leave those cells out."
                )
            yield _of_values(values)

    def holds(self, coords: np.ndarray) -> np.ndarray:
        """Tell which places (n, 3) lie in the tissue: (n,) bool. Cells do not say where it ends."""
        return np.ones(len(coords), dtype=bool) if self.voxels is None else self.voxels.holds(coords)


def read_places(data: SpatialData | AnnData, table_key: str | None, *, name: str = "sdata") -> Places:
    """Find the places of a reconstruction, or of an AnnData with 3D coordinates.

    Raises
    ------
    TypeError
        If it is neither.
    KeyError
        If there is no volume, no table, or there are no coordinates.
    ValueError
        If coordinates are not (n, 3), or there is no tissue.
    """
    if isinstance(data, SpatialData):
        voxels = read_voxels(data)
        index = np.argwhere(voxels.mask)
        # a volume of cells knows nothing where there are none
        filled = np.isfinite(voxels.at(voxels.values[:1], index)[:, 0])
        if not filled.any():
            raise ValueError(
                f"{name}: expected voxels inside the tissue, found none. Next: isost.tl.reconstruct(adata)."
            )
        table = table_of(data, table_key)
        # chunk after chunk, so that blocks of places read each chunk of a volume on disk about once
        order = np.flatnonzero(filled)
        order = order[np.argsort(chunk_numbers(voxels.values, index[order]), kind="stable")]
        rows = order if table.n_obs == len(index) and {"z", "y", "x"} <= set(table.obs) else None
        index = index[order]
        return Places(voxels.centres(index), voxels.size, voxels.unit, voxels.genes, table, rows, voxels, index)
    if isinstance(data, AnnData):
        coords = _coords(data, name)
        step = cKDTree(coords).query(coords[:: max(1, len(coords) // 5000)], k=2)[0][:, 1]
        size = np.full(3, 3.0 * float(np.median(step)))
        return Places(coords, size, read_unit(data), tuple(map(str, data.var_names)), data, np.arange(len(coords)))
    raise TypeError(
        f"{name}: expected a SpatialData or an AnnData, found {type(data).__name__}. "
        "Next: isost.tl.reconstruct(adata) makes a SpatialData."
    )


def table_of(sdata: SpatialData, table_key: str | None) -> AnnData:
    """Look a table up; None is that of the voxels, or of the cells where a large volume has no table of voxels."""
    wanted = [table_key] if table_key is not None else ["isost_voxels", "isost_cells"]
    for key in wanted:
        if key in sdata.tables:
            return sdata.tables[key]
    raise KeyError(
        f"table_key: expected a table among {', '.join(map(repr, sdata.tables)) or 'none'}, found {wanted[0]!r}. "
        "Next: leave table_key out, or reconstruct."
    )


def checked_names(places: Places, genes: str | Sequence[str] | None) -> list[str]:
    """Distinct names of the genes asked for, or of all that there are.

    Raises
    ------
    TypeError
        If they are no names.
    KeyError
        If a gene is unknown.
    """
    if genes is None:
        return list(places.genes)
    asked = list(dict.fromkeys(gene_names(genes)))
    unknown = [gene for gene in asked if gene not in set(places.genes)]
    if unknown or not asked:
        raise KeyError(
            f"genes: expected names among {len(places.genes)} genes, found {show(unknown) if unknown else 'none'}. "
            "Next: leave genes out to test all."
        )
    return asked


def _coords(adata: AnnData, name: str) -> np.ndarray:
    if "spatial" not in adata.obsm:
        raise KeyError(f"{name}: expected obsm['spatial'] (n, 3), found none. Next: isost.pp.stack_sections(...).")
    coords = to_numbers(adata.obsm["spatial"])
    if isinstance(coords, list) or coords.ndim != 2 or coords.shape[1] != 3 or len(coords) < 2:
        found = f"no numbers ({show(coords)})" if isinstance(coords, list) else f"shape {coords.shape}"
        raise ValueError(
            f"{name}: expected obsm['spatial'] of shape (n, 3), found {found}. Next: isost.pp.stack_sections(...)."
        )
    if not np.isfinite(coords).all():
        raise ValueError(f"{name}: expected finite positions, found NaN or infinity. Next: leave those cells out.")
    return coords


def _of_voxels(voxels: Voxels, index: np.ndarray, genes: Sequence[str]) -> Linear:
    if voxels.decoder is None:
        at = [voxels.channels.index(gene) for gene in genes]
        return Linear(
            len(index), np.eye(len(at)), np.zeros(len(at)), lambda rows: voxels.at(voxels.values, index[rows])[:, at]
        )
    at = voxels.decoder.index(list(genes)).tolist()
    loadings = voxels.decoder.loadings[at].astype(np.float64)
    beside = voxels.beside is not None and voxels.remainder is not None
    if beside:
        loadings = np.hstack([loadings, voxels.beside[at]])  # type: ignore[index]

    def read(rows: slice | np.ndarray) -> np.ndarray:
        parts = [voxels.values, voxels.remainder] if beside else [voxels.values]
        return np.hstack([voxels.at(part, index[rows]) for part in parts])  # type: ignore[arg-type]

    return Linear(len(index), loadings, voxels.decoder.mean[at].astype(np.float64), read)


def _of_values(values: np.ndarray) -> Linear:
    n_genes = values.shape[1]
    return Linear(len(values), np.eye(n_genes), np.zeros(n_genes), lambda rows: values[rows])
