"""Reconstructed cells and voxels as AnnData that scanpy and squidpy take as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.carry import Cells
from isost._core.decoder import MEAN_KEY, loadings_key
from isost._core.stack import Stack
from isost._logging import logger

REMAINDER = "remainder"  # key of `varm`
LARGEST_X = 2**25  # decoded values of a table: 128 MiB of float32
LARGEST_TABLE = 2**29  # values of a table of voxels: 2 GiB of float32, which opening the store reads


def feature_names(use_rep: str, n: int) -> list[str]:
    """PC1, PC2, ... for `"X_pca"`; scVI1, scVI2, ... for `"X_scVI"`."""
    prefix = "PC" if use_rep == "X_pca" else use_rep.removeprefix("X_")
    return [f"{prefix}{i + 1}" for i in range(n)]


def make_table(
    stack: Stack, coords: np.ndarray, scores: Any, obs: pd.DataFrame, genes: Sequence[str] | None
) -> AnnData:
    """Make an AnnData with `obsm["spatial"]`, features in `obsm[use_rep]` and decoded genes in `X`.

    Parameters
    ----------
    coords, scores
        (m, 3) and (m, P) features, or (m, P + Q) with the remainder, which `X` then contains; dask stays dask.
    obs
        m rows.
    genes
        Genes to decode. None: all. Where the table would hold more than `LARGEST_X` values, and was not asked for in
        memory, `X` is None.
    """
    decoder = stack.decoder
    if decoder is None:
        table = AnnData(obs=obs, var=pd.DataFrame(index=pd.Index([], dtype=str)))
    else:
        index = np.arange(len(decoder.genes)) if genes is None else decoder.index(genes)
        var = pd.DataFrame(
            {MEAN_KEY: decoder.mean[index]}, index=pd.Index([decoder.genes[i] for i in index], dtype=str)
        )
        table = AnnData(X=_decoded(stack, scores, index, everything=genes is None), obs=obs, var=var)
        table.varm[loadings_key(stack.use_rep)] = decoder.loadings[index]
        if stack.remainder is not None:
            table.varm[REMAINDER] = stack.remainder.loadings[index]
        # says that var[MEAN_KEY] is the mean of these loadings, so that the table can itself be fitted
        table.uns["pca" if stack.use_rep == "X_pca" else stack.use_rep] = {"params": {"mean": MEAN_KEY}}
    table.obsm["spatial"] = np.asarray(coords, dtype=np.float64)
    table.obsm[stack.use_rep] = scores[:, : stack.n_features].astype(np.float32)
    return table


def cells_obs(stack: Stack, cells: Cells) -> pd.DataFrame:
    """Section and name of the measured cell that each reconstructed cell was carried from."""
    origin = pd.Categorical.from_codes(cells.section, categories=list(stack.names), ordered=True)
    index = pd.RangeIndex(len(cells.row)).astype(str)
    return pd.DataFrame({"section_of_origin": origin, "cell_of_origin": stack.obs_names[cells.row]}, index=index)


def _decoded(stack: Stack, scores: Any, index: np.ndarray, *, everything: bool) -> Any:
    n = len(scores) * len(index)
    if (everything or isinstance(scores, da.Array)) and n > LARGEST_X:
        logger.info(
            "X of a table is left out: %d rows x %d genes would take %.1f GiB. Ask for fewer genes to have them there.",
            len(scores), len(index), 4 * n / 2**30,
        )  # fmt: skip
        return None
    if isinstance(scores, da.Array):
        rows = scores.rechunk({1: -1})
        return rows.map_blocks(
            lambda block: stack.decode(block, index), chunks=(rows.chunks[0], len(index)), dtype=np.float32
        )
    return stack.decode(scores, index)
