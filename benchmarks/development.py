"""Stages of development between those that were profiled: `isost` beside methods that need no model.

    python benchmarks/development.py --out development.json

Of an embryo phantom (`isost.datasets.embryo`: growth, a migrating heart, a kidney that appears and splits, genes that
peak and genes that are cyclic) 5 of 61 stages are given, each turned and shifted in its own way; others are drawn from
the truth and scored, in the frame that `isost.pp.align_stages` laid the given ones into. Methods, all in that frame:

- nearest: the stage nearest in age.
- blend: linear blending, of cells drawn from both stages with weights 1 - t and t, and of kernel regressions of both.
- displacement: cells of both stages coupled by exact optimal transport, at (1 - t) x + t y.
- isost: `isost.tl.fit(adata, depth_key="age", spatial_key="spatial_stage")`, default settings.

Scores are those of `isost.metrics.score_field` and `score_cells`, means over the stages. A method without a field has
that of a Gaussian kernel over its cells, of four widths the best with hindsight.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from displacement import Displacement
from tables import show

import isost
from isost._core.baselines import Kernel, Nearest, WeightedUnion
from isost._core.stages import align
from isost.tl._held_out import Fit, Keys, read_geometry, split

KEYS = Keys("stage", "spatial_stage", "age")
SCORES = ["pcc", "nmse", "dice", "dens", "energy"]


class Blend:
    """Linear blending of both stages: the field of kernels, the cells of a weighted union."""

    def __init__(self, training: Any) -> None:
        self._kernel, self._union = Kernel(training), WeightedUnion(training)

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        return self._kernel.field(coords, depth)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Any:
        return self._union.cells(depth, n, rng)


def stage_in_frame(given: ad.AnnData, age: float, n_cells: int, rng: int) -> ad.AnnData:
    """Draw a stage of the truth, and lay it where the given ones about it lie in their frame."""
    made, frame = given.uns["embryo"], given.uns["spatial_stage"]
    turn = np.asarray(frame["turn"])
    angle = np.unwrap(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]) + np.asarray(made["angle"]))
    own = np.interp(age, frame["ages"], angle)
    stage = isost.datasets.embryo_truth(given).sample_stage(age, n=n_cells, rng=rng)
    (pose,) = align([(stage.obsm["spatial"], np.zeros((stage.n_obs, 0)))], mirror=False, turned=False)
    cos, sin = np.cos(own), np.sin(own)
    placed = pose.applied(stage.obsm["spatial"], float(frame["size_common"]))
    stage.obsm["spatial_stage"] = placed @ np.array([[cos, sin], [-sin, cos]])
    return stage


def run(seed: int, n_cells: int, ages: list[float]) -> pd.DataFrame:
    given = isost.datasets.embryo(n_cells=n_cells, rng=seed)
    isost.pp.embed(given, n_comps=30)
    isost.pp.align_stages(given)
    between = [stage_in_frame(given, age, 2 * n_cells, 1000 * seed + k) for k, age in enumerate(ages)]
    both = ad.concat([given, *between])
    both.obs_names_make_unique()
    both.uns["spatial_unit"] = "um"
    names = read_geometry(both, KEYS)[1].names
    train, held = split(
        both, [k for k, name in enumerate(names) if name not in set(given.obs["stage"])], KEYS, n_comps=30
    )
    started = perf_counter()
    fitted = isost.tl.fit(
        train, section_key="stage", spatial_key="spatial_stage", depth_key="age", rng=0, progress=False
    )
    print(
        f"fit: {perf_counter() - started:.0f} s",
        {k: fitted.params[k] for k in ("motion", "change", "masses", "settled")},
    )
    print(fitted.params["left_out"])
    training = held.training
    methods = {
        "nearest": Nearest(training),
        "blend": Blend(training),
        "displacement": Displacement(training),
        "isost": Fit(fitted, held.genes),
    }
    return pd.DataFrame(held.score(methods))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("development.json"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cells", type=int, default=800)
    parser.add_argument("--step", type=float, default=0.5)
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    ages = [a for a in np.arange(9.5, 15.5, asked.step).round(3).tolist() if a not in (9.5, 11.0, 12.5, 14.0, 15.5)]
    frames = [run(seed, asked.cells, ages).assign(seed=seed) for seed in range(asked.seeds)]
    table = pd.concat(frames)
    show(table.groupby("method", sort=False)[SCORES].mean().reset_index())
    print(table.pivot_table(index="depth", columns="method", values="nmse"))
    print(table.pivot_table(index="depth", columns="method", values="dice"))


if __name__ == "__main__":
    main()
