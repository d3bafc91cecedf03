"""Spatial features and clusters: time and memory of a large volume, and how well known domains are found.

    python benchmarks/tools.py --out tools.json

Writes one JSON file and prints it as Markdown tables.

- scale: features and clusters of 220 x 160 x 100 voxels (x, y, z) of 50 components, an ellipsoid of tissue; seconds,
  and the most memory of the process so far, its libraries and the volume included.
- landmarks: adjusted Rand index of the clusters found among 2,000 to 20,000 landmarks, and among all voxels, with those
  found among all voxels with another seed (of which the mixture's starts see 5,000), on a volume of half its edges;
  n_clusters are of both.
- domains: adjusted Rand index with the planted domains of phantoms, at the voxels inside the true tissue: spatial
  clusters with default settings, the same with the number of domains given, and the non-spatial clusters of all
  components and of as many as there are spatial ones, of voxels and of single cells. Phantoms of seeds from 10 on:
  the defaults were chosen on those of 0 to 5 (`--first-seed 0 --seeds 6`).
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
from pathlib import Path
from time import perf_counter
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image3DModel, Labels3DModel, TableModel

import isost

GIB = 2**30
LARGE, COMPONENTS = (100, 160, 220), 50
HALF = (50, 80, 110)
SHAPES = ("still", "bending", "branching")
CLUSTERED = {"spatial": "X_spatial", "non-spatial": "X_pca", "non-spatial, first 15": "X_pca_15"}
N_DOMAINS, FIRST_SEED = 5, 10


def ellipsoid(shape: tuple[int, int, int], n_comps: int, rng: np.random.Generator) -> SpatialData:
    """Smooth components in an ellipsoid, with steps between five slabs of it."""
    grid = np.meshgrid(*(np.linspace(-1, 1, length, dtype=np.float32) for length in shape), indexing="ij")
    mask = sum(axis**2 for axis in grid) <= 1
    domain = np.digitize(grid[1] + 0.3 * grid[2] ** 2, [-0.4, -0.1, 0.2, 0.5])
    values = np.empty((n_comps, *shape), dtype=np.float32)
    for k in range(n_comps):
        size, turn = 5 / (1 + k), rng.normal(size=(4,))
        values[k] = size * (rng.normal(size=5)[domain] + np.sin(sum(t * a for t, a in zip(turn, grid, strict=False))))
        values[k] += rng.normal(0, 0.3 * size, shape).astype(np.float32)
    values[:, ~mask] = np.nan
    index = np.argwhere(mask).astype(np.int32)
    obs = pd.DataFrame(index, columns=["z", "y", "x"], index=pd.RangeIndex(len(index)).astype(str))
    table = AnnData(obs=obs)
    table.obsm["spatial"] = index[:, ::-1] + 0.5
    dims, names = ("z", "y", "x"), [f"PC{k + 1}" for k in range(n_comps)]
    lazy = da.from_array(values, chunks=(n_comps, 20, *shape[1:]))
    return SpatialData(
        images={"isost_volume": Image3DModel.parse(lazy, dims=("c", *dims), c_coords=names)},
        labels={"isost_mask": Labels3DModel.parse(mask.astype(np.uint8), dims=dims)},
        tables={"isost_voxels": TableModel.parse(table)},
        attrs={"isost": {"unit": "um", "use_rep": "X_pca", "channels": "features"}},
    )  # fmt: skip


def scale() -> list[dict[str, Any]]:
    """Run both tools on the large volume."""
    sdata = ellipsoid(LARGE, COMPONENTS, np.random.default_rng(0))
    before = peak()
    records = []
    for name, tool in (("features", isost.tl.spatial_features), ("clusters", isost.tl.spatial_clusters)):
        started = perf_counter()
        tool(sdata)
        seconds, n = perf_counter() - started, int(sdata.tables["isost_voxels"].n_obs)
        records.append({"tool": name, "voxels": n, "seconds": seconds, "peak_gib": peak(), "peak_before_gib": before})
    return records


def peak() -> float:
    """GiB that this process took at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def domains(shape: str, seed: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Reconstruct a phantom, cluster it, and compare with its domains."""
    adata = isost.datasets.phantom(shape, rng=seed, **settings)
    isost.pp.embed(adata)
    sdata = isost.tl.reconstruct(adata, rng=seed, progress=False)
    truth = isost.datasets.phantom_truth(adata)
    records = []
    for table_key in ("isost_voxels", "isost_cells"):
        table = sdata.tables[table_key]
        domain = truth.domain(table.obsm["spatial"])
        table.obsm["X_pca_15"] = table.obsm["X_pca"][:, :15]
        for number in (None, N_DOMAINS):
            for what, use_rep in CLUSTERED.items():
                key = f"{use_rep}_{number}"
                isost.tl.spatial_clusters(sdata, table_key=table_key, use_rep=use_rep, n_clusters=number, key_added=key)
                found = table.obs[key].astype(str).to_numpy()
                inside = domain != ""
                record = {"shape": shape, "seed": seed, "table": table_key, "clusters": what,
                          "given": number is not None, "n_clusters": int(table.obs[key].nunique()),
                          **isost.metrics.label_agreement(found[inside], domain[inside])}  # fmt: skip
                if table_key == "isost_voxels":
                    record |= isost.metrics.plane_consistency(sdata[f"isost_{key}"].values)
                records.append(record)
    return records


def landmarks() -> list[dict[str, Any]]:
    """Compare clusters from some landmarks with those from all voxels."""
    sdata = ellipsoid(HALF, COMPONENTS, np.random.default_rng(0))
    isost.tl.spatial_features(sdata)
    table, records = sdata.tables["isost_voxels"], []
    methods: dict[str, dict[str, Any]] = {
        "mixture": {}, f"mixture of {N_DOMAINS}": {"n_clusters": N_DOMAINS}, "leiden": {"method": "leiden"}
    }  # fmt: skip
    for method, options in methods.items():
        isost.tl.spatial_clusters(sdata, n_landmarks=table.n_obs, key_added="all", rng=0, **options)
        for n in (2_000, 5_000, 20_000, table.n_obs):
            isost.tl.spatial_clusters(sdata, n_landmarks=n, key_added="some", rng=1, **options)
            agreed = isost.metrics.label_agreement(table.obs["some"].astype(str), table.obs["all"].astype(str))
            numbers = [int(table.obs[key].nunique()) for key in ("some", "all")]
            records.append({"method": method, "voxels": table.n_obs, "landmarks": n, "n_clusters": numbers, **agreed})
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tools.json"))
    parser.add_argument("--only", choices=("scale", "domains", "landmarks"), help="leave the others out")
    parser.add_argument("--seeds", type=int, default=1, help="phantoms of each shape")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--cells", type=int, default=2000, help="of a section of a phantom")
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    results: dict[str, list[dict[str, Any]]] = {}
    if asked.only in (None, "scale"):
        results["scale"] = scale()
    if asked.only in (None, "landmarks"):
        results["landmarks"] = landmarks()
    if asked.only in (None, "domains"):
        pairs = [(shape, asked.first_seed + seed) for seed in range(asked.seeds) for shape in SHAPES]
        results["domains"] = [row for pair in pairs for row in domains(*pair, {"n_cells": asked.cells})]
    asked.out.write_text(json.dumps(results, indent=1))
    for name, records in results.items():
        show(name, pd.DataFrame(records))
    if "domains" in results:
        frame = pd.DataFrame(results["domains"])
        show("domains, over seeds", over_seeds(frame, ["table", "clusters", "given", "shape"]))
        show("domains, over seeds and shapes", over_seeds(frame, ["table", "clusters", "given"]))


def over_seeds(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and range of the adjusted Rand index, and the numbers of clusters."""
    groups = frame.groupby(by, sort=False)
    ari, numbers = groups["ari"].agg(["mean", "min", "max"]), groups["n_clusters"].agg(sorted)
    return ari.join(numbers).reset_index()


def show(name: str, frame: pd.DataFrame) -> None:
    """Print a Markdown table."""
    print(f"\n{name}\n\n| " + " | ".join(frame) + " |\n|" + "---|" * frame.shape[1])
    for row in frame.itertuples(index=False):
        print("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row) + " |")


if __name__ == "__main__":
    main()
