"""Reconstructed cells and voxels as AnnData that scanpy and squidpy take as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.carry import Cells
from isost._core.decoder import MEAN_KEY
from isost._core.stack import Decoder, Stack
from isost._logging import logger

LARGEST_X = 2**25  # decoded values of a table: 128 MiB of float32


def loadings_key(use_rep: str) -> str:
    """Where scanpy keeps the loadings of a representation: a key of `varm`."""
    return "PCs" if use_rep == "X_pca" else use_rep


def feature_names(use_rep: str, n: int) -> list[str]:
    """PC1, PC2, ... for `"X_pca"`; scVI1, scVI2, ... for `"X_scVI"`."""
    prefix = "PC" if use_rep == "X_pca" else use_rep.removeprefix("X_")
    return [f"{prefix}{i + 1}" for i in range(n)]


def make_table(
    stack: Stack, coords: np.ndarray, features: np.ndarray, obs: pd.DataFrame, genes: Sequence[str] | None
) -> AnnData:
    """Make an AnnData with `obsm["spatial"]`, features in `obsm[use_rep]` and decoded genes in `X`.

    Parameters
    ----------
    coords, features
        (m, 3) and (m, P).
    obs
        m rows.
    genes
        Genes to decode. None: all, or none (`X` is None) where the table would hold more than `LARGEST_X` values.
    """
    decoder = stack.decoder
    if decoder is None:
        table = AnnData(obs=obs, var=pd.DataFrame(index=pd.Index([], dtype=str)))
    else:
        decoder = decoder if genes is None else _of_genes(decoder, genes)
        table = AnnData(X=_decoded(decoder, features, genes), obs=obs, var=_var(decoder))
        table.varm[loadings_key(stack.use_rep)] = decoder.loadings
        # says that var[MEAN_KEY] is the mean of these loadings, so that the table can itself be fitted
        table.uns["pca" if stack.use_rep == "X_pca" else stack.use_rep] = {"params": {"mean": MEAN_KEY}}
    table.obsm["spatial"] = np.asarray(coords, dtype=np.float64)
    table.obsm[stack.use_rep] = np.asarray(features, dtype=np.float32)
    return table


def cells_obs(stack: Stack, cells: Cells) -> pd.DataFrame:
    """Section and name of the measured cell that each reconstructed cell was carried from."""
    origin = pd.Categorical.from_codes(cells.section, categories=list(stack.names), ordered=True)
    index = pd.RangeIndex(len(cells.row)).astype(str)
    return pd.DataFrame({"section_of_origin": origin, "cell_of_origin": stack.obs_names[cells.row]}, index=index)


def _of_genes(decoder: Decoder, genes: Sequence[str]) -> Decoder:
    index = decoder.index(genes)
    return Decoder(tuple(decoder.genes[i] for i in index), decoder.loadings[index], decoder.mean[index])


def _var(decoder: Decoder) -> pd.DataFrame:
    return pd.DataFrame({MEAN_KEY: decoder.mean}, index=pd.Index(decoder.genes, dtype=str))


def _decoded(decoder: Decoder, features: np.ndarray, genes: Sequence[str] | None) -> np.ndarray | None:
    n = len(features) * len(decoder.genes)
    if genes is None and n > LARGEST_X:
        logger.info(
            "X of a table is left out: %d rows x %d genes would take %.1f GiB. Ask for genes=[...] to have them there.",
            len(features), len(decoder.genes), 4 * n / 2**30,
        )  # fmt: skip
        return None
    return decoder.decode(features)
