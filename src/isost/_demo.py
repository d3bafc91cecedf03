"""What `python -m isost demo` does: the main job on a tissue that is known, beside methods that need no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

import isost
from isost._core.folder import written_beside

_TISSUE: dict[str, Any] = {"n_sections": 7, "n_cells": 1000, "n_genes": 40, "spacing": 60.0, "extent": 600.0}
_GENES = ("layered_1", "gradient_x_1", "travelling_1")

_WRITTEN = {
    "volume.zarr": "the volume, for spatialdata.read_zarr",
    "orthoviews_*.png": f"three planes through {', '.join(_GENES)}",
    "held_out.csv, .png": "the scores of each held-out section",
    "stack.h5ad": "the sections, all of them",
    "sections.png": "a picture of them",
    "model": "the fit, for isost.Reconstruction.load",
    "training.png": "its losses",
}


def demo(out: Path, *, seed: int = 0) -> pd.DataFrame:
    """Hold out every second inner section of a phantom, score, reconstruct from the rest, and write what came out.

    Parameters
    ----------
    out
        Folder to make; it appears when all is written.
    seed
        Of the phantom, the fits and the draws.

    Returns
    -------
    pandas.DataFrame
        Mean score of each method on the sections that were held out.
    """
    adata = isost.datasets.phantom("bending", **_TISSUE, rng=seed)
    held_out = list(adata.obs["section"].cat.categories[1:-1:2])
    kept = adata[~adata.obs["section"].isin(held_out)].copy()

    scores = isost.tl.cross_validate(adata, hold_out=held_out, rng=seed)
    isost.pp.embed(kept, n_comps=20, rng=seed)
    fitted = isost.tl.fit(kept, rng=seed)
    with written_beside(out) as folder:
        folder.mkdir()
        adata.write_h5ad(folder / "stack.h5ad")
        fitted.save(folder / "model")
        sdata = isost.tl.reconstruct(kept, fitted=fitted, output=folder / "volume.zarr", progress=False, rng=seed)
        scores.to_csv(folder / "held_out.csv", index=False)
        isost.pl.sections(adata, color="domain", save=folder / "sections.png")
        for gene in _GENES:
            isost.pl.orthoviews(sdata, gene, save=folder / f"orthoviews_{gene}.png")
        isost.pl.cross_validation(scores, save=folder / "held_out.png")
        isost.pl.training(fitted, save=folder / "training.png")
        plt.close("all")
    table = scores.drop(columns="depth").groupby("method", sort=False).mean(numeric_only=True)
    _say(out, held_out, table)
    return table


def _say(out: Path, held_out: list[str], table: pd.DataFrame) -> None:
    print(f"\nScores on the held-out sections {', '.join(held_out)}, mean over sections")
    print("pcc, dice, dens: higher is better; nmse, energy: lower; ceiling: from the section's own other cells\n")
    print(table.to_string(float_format=lambda value: f"{value:.4f}"))
    print(f"\nwrote {out}:")
    for name, what in _WRITTEN.items():
        print(f"  {name:<18} {what}")
