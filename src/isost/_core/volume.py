"""The mean-expression field on a voxel grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isost._core.field import Field, FieldValue
from isost._core.grid import Grid

_BLOCK_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Volume:
    """Arrays on a grid.

    Attributes
    ----------
    mean, std
        (C, z, y, x) float32: features, or genes; NaN outside the tissue.
    density
        (z, y, x) float32, cells per unit area of a plane.
    mask
        (z, y, x) bool, inside the tissue.
    remainder
        (Q, z, y, x) float32, scores of the remainder beside features; no channel beside genes, which contain it.
    scores
        (m, P + Q) float32, scores at the m voxels inside, x running fastest.
    """

    mean: np.ndarray
    std: np.ndarray
    density: np.ndarray
    mask: np.ndarray
    remainder: np.ndarray
    scores: np.ndarray


def compute_volume(field: Field, grid: Grid, genes: np.ndarray | None) -> Volume:
    """Ask the field at every voxel centre, a few planes at a time.

    Parameters
    ----------
    genes
        Positions of genes in the decoder, to have them as channels; None for the features.
    """
    n_features = field.stack.n_features
    n_channels = n_features if genes is None else len(genes)
    n_beside = field.stack.n_scores - n_features if genes is None else 0
    mean = np.full((n_channels, *grid.shape), np.nan, dtype=np.float32)
    std = mean.copy()
    remainder = np.full((n_beside, *grid.shape), np.nan, dtype=np.float32)
    density = np.zeros(grid.shape, dtype=np.float32)
    mask = np.zeros(grid.shape, dtype=bool)
    scores = []
    per_plane = grid.shape[1] * grid.shape[2] * 4 * (4 * field.stack.n_scores + n_channels + 6)
    step = max(1, int(_BLOCK_BYTES // per_plane))
    for start in range(0, grid.shape[0], step):
        planes = slice(start, min(start + step, grid.shape[0]))
        value = field.predict(grid.centres(planes))
        density[planes] = value.density.reshape(-1, *grid.shape[1:])
        inside = (density[planes] >= field.density_floor) & (density[planes] > 0)
        mask[planes] = inside
        at = inside.ravel()
        value = FieldValue(value.mean[at], value.var[at], value.density[at])
        scores.append(value.mean)
        if genes is None:
            mean[:, planes][:, inside] = value.mean[:, :n_features].T
            std[:, planes][:, inside] = field.std(value).T
            remainder[:, planes][:, inside] = value.mean[:, n_features:].T
        else:
            mean[:, planes][:, inside] = field.genes(value, genes).T
            std[:, planes][:, inside] = field.gene_std(value, genes).T
    return Volume(mean, std, density, mask, remainder, np.concatenate(scores))
