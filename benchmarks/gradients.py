"""Planted gradients of a made spinal cord: how many are found, and how much else is called.

    python benchmarks/gradients.py --out gradients.json

Writes one JSON file and prints it as Markdown tables. For every seed a cord is reconstructed from its sections,
uninjured and injured, and its genes are asked for: of either by distance from the canal, and of the injured minus the
uninjured one by distance from the lesion. p-values are of the measured cells (`measured=`) or of the volume alone.

- planted, found, right: genes with a gradient, those that are not called flat, and those whose class is right.
- without, false, rate: genes without one, those that are not called flat, and the share of those with p <= alpha,
  before it is adjusted.
- fdp: proportion of false discoveries, false / (found + false), to be held against alpha; over seeds its mean.
- trace: what the volume has of genes that are constant, standard deviation of shell means over that of cells; median.

Genes for which anatomy decides, of the gray and the white matter, are left out where they follow it.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from spatialdata import SpatialData
from tables import show

import isost

ALPHA = 0.05
COUNTS = ["planted", "found", "right", "without", "false"]


def cord(seed: int, settings: dict[str, Any], voxel_size: float, *, lesion: bool) -> tuple[SpatialData, AnnData]:
    """Make a cord: its volume, and its measured cells, log-normalised."""
    adata = isost.datasets.spinal_cord(lesion=lesion, rng=seed, **settings)
    isost.pp.embed(adata, n_comps=15)
    sdata = isost.tl.reconstruct(adata, voxel_size=voxel_size, rng=seed, progress=False)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return sdata, adata


def judge(found: pd.DataFrame, truth: pd.Series, cells: AnnData) -> dict[str, Any]:
    """Compare what was found with the truth: a class for each gene, "" where there is none."""
    called, truth = found["class"].astype(str), truth.reindex(found.index)
    planted, without = ~truth.isin(["flat", ""]), truth == "flat"
    n, false = int((called[planted] != "flat").sum()), int((called[without] != "flat").sum())
    constant = cells.var.index[cells.var["kind"] == "flat"]
    between = (found["sd"] * np.sqrt(found["eta_squared"])).loc[constant].to_numpy()
    return {"planted": int(planted.sum()), "found": n, "right": int((called == truth)[planted].sum()),
            "without": int(without.sum()), "false": false, "rate": float((found["p"][without] <= ALPHA).mean()),
            "fdp": false / max(1, n + false),
            "trace": float(np.median(between / cells[:, constant].X.toarray().std(axis=0)))}  # fmt: skip


def run(seed: int, settings: dict[str, Any], voxel_size: float) -> list[dict[str, Any]]:
    """Ask one pair of cords for their gradients."""
    cords = {name: cord(seed, settings, voxel_size, lesion=name == "injured") for name in ("uninjured", "injured")}
    (before, healthy), (after, injured) = cords.values()
    records = []
    for measured in (True, False):
        about = {"seed": seed, "p of": "cells" if measured else "volume"}
        for name, (sdata, cells) in cords.items():
            given = {"measured": cells} if measured else {}
            isost.tl.radial_gradients(sdata, axis=cells.uns["spinal_cord"]["canal"], alpha=ALPHA, **given)
            found = isost.get.radial_gradients(sdata)
            records.append({"from": f"canal, {name}", **about, **judge(found, cells.var["canal"], cells)})
        given = {"measured": (injured, healthy)} if measured else {}
        point = injured.uns["spinal_cord"]["lesion"]
        isost.tl.radial_gradients(after, point=point, baseline=before, alpha=ALPHA, **given)
        found = isost.get.radial_gradients(after)
        records.append({"from": "lesion, minus uninjured", **about, **judge(found, injured.var["lesion"], injured)})
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gradients.json"))
    parser.add_argument("--seeds", type=int, default=5, help="cords (default: 5)")
    parser.add_argument("--sections", type=int, default=6, help="of a cord (default: 6)")
    parser.add_argument("--cells", type=int, default=400, help="of a section (default: 400)")
    parser.add_argument("--genes", type=int, default=60, help="of a cord (default: 60)")
    parser.add_argument("--voxel-size", type=float, default=75.0, help="µm (default: 75)")
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    settings = {"n_sections": asked.sections, "n_cells": asked.cells, "n_genes": asked.genes}
    records = [record for seed in range(asked.seeds) for record in run(seed, settings, asked.voxel_size)]
    asked.out.write_text(json.dumps({"alpha": ALPHA, "records": records}, indent=1))
    frame = pd.DataFrame(records)
    show(frame)
    over_seeds = frame.groupby(["from", "p of"], sort=False)
    joined = over_seeds[COUNTS].sum().join(over_seeds[["rate", "fdp", "trace"]].mean()).reset_index()
    show(joined.assign(alpha=ALPHA))


if __name__ == "__main__":
    main()
