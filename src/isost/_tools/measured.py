"""Measured cells in the representation of a reconstruction, with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import check_adata, show
from isost._core.decoder import MEAN_KEY, loadings_key
from isost._core.expression import row_blocks
from isost._core.normalise import lognormalise
from isost._tools.targets import positions_of, representation_of


@dataclass(frozen=True, eq=False)
class Measured:
    """Labelled cells.

    Attributes
    ----------
    values
        (n, P) float32, in the representation of the reconstruction.
    coords
        (n, 3) float64.
    codes
        (n,) position of the label among `names`.
    section
        (n,) int, number of the cell's section among those that have labels.
    names
        Of the labels, in the order of the input's categories.
    """

    values: np.ndarray
    coords: np.ndarray
    codes: np.ndarray
    section: np.ndarray
    names: tuple[str, ...]


def read_measured(
    adata: AnnData, key: str, table: AnnData, *, use_rep: str, spatial_key: str, section_key: str | None
) -> Measured:
    """Read the cells that have a label.

    Parameters
    ----------
    table
        A table of the reconstruction, whose loadings and mean say what its representation is.

    Raises
    ------
    KeyError
        If the column, positions or the representation are missing.
    TypeError
        If `adata` is no AnnData.
    ValueError
        If there are fewer than two labels, or the representation is another.
    """
    check_adata(adata)
    if key not in adata.obs:
        raise KeyError(
            f"key: expected a column of adata.obs ({show(adata.obs.columns)}), found {key!r}. "
            "Next: name the column that holds labels."
        )
    column = adata.obs[key].astype("category").cat
    codes = column.codes.to_numpy().astype(np.int64)
    labelled = codes >= 0
    if len(np.unique(codes[labelled])) < 2:
        raise ValueError(
            f"adata.obs[{key!r}]: expected two labels or more, found {show(adata.obs[key].dropna().unique())} in "
            f"{labelled.sum()} labelled cells of {adata.n_obs}. Next: name the column that tells cells apart."
        )
    coords = positions_of(adata, spatial_key)
    values = measured_values(adata, table, use_rep)
    by = adata.obs[section_key] if section_key in adata.obs else coords[:, 2]
    # numbered without those that have no labels: whoever takes every second one gets some of them, and leaves some
    section = pd.factorize(np.asarray(by)[labelled], use_na_sentinel=False)[0]
    names = tuple(map(str, column.categories))
    return Measured(values[labelled], coords[labelled], codes[labelled], section, names)


def measured_values(adata: AnnData, table: AnnData, use_rep: str) -> np.ndarray:
    """(n, P) float32, expression of measured cells in the representation of a table.

    Its own `obsm[use_rep]` where that has the same loadings; otherwise log-normalised expression is projected:
    (x - mean) @ L (L^T L)^-1, which for principal components is (x - mean) @ L.

    Raises
    ------
    KeyError
        If neither is there.
    ValueError
        If genes are missing, or the numbers of features differ.
    """
    loadings = loadings_key(use_rep)
    wanted = np.asarray(table.obsm[use_rep]).shape[1]
    if loadings not in table.varm or MEAN_KEY not in table.var:
        return _own(adata, use_rep, wanted)
    if use_rep in adata.obsm and _same_loadings(adata, table, loadings):
        return representation_of(adata, use_rep)
    missing = table.var_names.difference(adata.var_names)
    axes = np.asarray(table.varm[loadings], dtype=np.float64)
    if len(missing) or len(axes) < wanted:
        raise ValueError(
            f"adata: expected the {table.n_vars} genes of the reconstruction, {wanted} or more, found "
            f"{table.n_vars - len(missing)} of them (missing: {show(missing)}). Next: pass the cells that were fitted."
        )
    columns = adata.var_names.get_indexer(table.var_names)
    encode = axes @ np.linalg.inv(axes.T @ axes)
    offset = table.var[MEAN_KEY].to_numpy(dtype=np.float64) @ encode
    matrix, values = lognormalise(adata), np.empty((adata.n_obs, wanted), dtype=np.float32)
    for rows, block in row_blocks(matrix):
        values[rows] = block[:, columns] @ encode - offset
    return values


def _own(adata: AnnData, use_rep: str, wanted: int) -> np.ndarray:
    values = representation_of(adata, use_rep)
    if values.shape[1] != wanted:
        raise ValueError(
            f"adata.obsm[{use_rep!r}]: expected {wanted} features, as the reconstruction has, found "
            f"{values.shape[1]}. Next: pass the cells that were fitted."
        )
    return values


def _same_loadings(adata: AnnData, table: AnnData, key: str) -> bool:
    if key not in adata.varm or not adata.var_names.equals(table.var_names):
        return False
    own, other = np.asarray(adata.varm[key]), np.asarray(table.varm[key])
    inside = np.any(own != 0, axis=1)  # after plain scanpy, genes outside the mask of the PCA have no loadings
    return own.shape == other.shape and bool(np.allclose(own[inside], other[inside], rtol=1e-4, atol=1e-5))
