"""Two sections that fill given outlines evenly, with smooth genes: the toys `letters` and `morph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anndata as ad
import numpy as np
import pandas as pd

from isost._core.requests import as_whole

Inside = Callable[[np.ndarray], np.ndarray]

_NOISE = 0.1


def two_sections(
    outlines: Mapping[str, tuple[Inside, np.ndarray]], n_cells: int, *, gap: float, rng: np.random.Generator
) -> ad.AnnData:
    """Fill two outlines, each a membership test of positions (n, 2) and a bounding box (2, 2), with `n_cells` cells."""
    n_cells = as_whole("n_cells", n_cells, 1)
    places = [_fill(inside, box, n_cells, rng) for inside, box in outlines.values()]
    expression = np.concatenate([_genes(xy, box) for xy, (_, box) in zip(places, outlines.values(), strict=True)])
    noisy = np.maximum(expression + _NOISE * rng.standard_normal(expression.shape), 0.0)
    section = np.repeat(np.arange(len(places)), n_cells)
    obs = pd.DataFrame(
        {"section": pd.Categorical.from_codes(section, list(outlines), ordered=True)},
        index=pd.RangeIndex(len(section)).astype(str),
    )
    var = pd.DataFrame(index=[f"gene_{i + 1}" for i in range(expression.shape[1])])
    adata = ad.AnnData(noisy.astype(np.float32), obs, var)
    adata.obsm["spatial"] = np.column_stack([np.concatenate(places), gap * section])
    adata.uns["X_note"] = f"smooth log-normalised expression with normal noise ({_NOISE}), cut off at 0; not counts"
    adata.uns["spatial_unit"] = "um"
    return adata


def _fill(inside: Inside, box: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` positions (n, 2) evenly from an outline."""
    found = np.empty((0, 2))
    while len(found) < n:
        drawn = rng.uniform(box[0], box[1], (2 * (n - len(found)) + 16, 2))
        found = np.concatenate([found, drawn[inside(drawn)]])
    return found[:n]


def _genes(xy: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Twelve smooth genes (n, 12), functions of the place relative to the section's bounding box."""
    u, v = ((xy - box[0]) / (box[1] - box[0])).T
    centred = np.hypot(u - 0.5, v - 0.5)
    patterns = [
        u,
        1.0 - u,
        v,
        1.0 - v,
        centred,
        1.0 - centred,
        np.sin(np.pi * u),
        np.sin(np.pi * v),
        np.sin(2.0 * np.pi * v) ** 2,
        (u + v) / 2.0,
        (1.0 + u - v) / 2.0,
        np.exp(-0.5 * ((v - 0.25) / 0.15) ** 2),
    ]
    return 1.0 + 2.0 * np.column_stack(patterns)
