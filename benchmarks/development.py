"""Stages of development between those that were profiled: `isost` beside methods that need no model.

    python benchmarks/development.py --seeds 3 --out development.json

Writes one JSON file and prints it as Markdown tables. Of an embryo phantom (`isost.datasets.embryo`: growth, a
migrating heart, a kidney that appears and splits, genes that peak and genes that are cyclic) 5 of 61 stages are given,
each turned and shifted in its own way.

- stages: others of the 61 are drawn from the truth and scored in the frame that `isost.pp.align_stages` laid the given
  ones into: by `isost.metrics.score_field` and `score_cells`, and *true nmse*, the squared error of the field at the
  cells against what is true of them, in units of the variance, both about their means over the stage.
- organs: proportions of organs from labels carried to all 61 ages, against the truth at the 56 that were not given.
- genes: of those that are planted as dynamic, and whose mean over an organ is highest between the first and the last
  stage that has the organ, how many are found, and how far their peak lies from the true one.

Methods, all in the same frame: *nearest*, the stage nearest in age; *blend*, linear blending, of cells drawn from both
stages with weights 1 - t and t, and of kernel regressions of both; *displacement*, cells of both stages coupled by
exact optimal transport, at (1 - t) x + t y; *isost* with default settings. A method without a field has that of a
Gaussian kernel over its cells, for each score the best of four widths with hindsight.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from displacement import Displacement
from tables import show

import isost
from isost._core.baselines import Kernel, Nearest, Predictor, WeightedUnion
from isost._core.held_out import WIDTHS, Split
from isost._core.kernel import kernel_fields
from isost._core.stages import align
from isost.tl._held_out import Fit, Keys, read_geometry, split

KEYS = Keys("stage", "spatial_stage", "age")
SCORES = ["pcc", "nmse", "true nmse", "dice", "dens", "energy"]
N_COMPS, N_CELLS, HELD_OUT_CELLS = 30, 800, 1600


class Blend:
    """Linear blending of both stages: the field of kernels, the cells of a weighted union."""

    def __init__(self, training: Any) -> None:
        self._kernel, self._union = Kernel(training), WeightedUnion(training)

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        return self._kernel.field(coords, depth)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Any:
        return self._union.cells(depth, n, rng)


def given_stages(seed: int) -> ad.AnnData:
    """Make the five stages, in one frame."""
    given = isost.datasets.embryo(n_cells=N_CELLS, rng=seed)
    isost.pp.embed(given, n_comps=N_COMPS)
    isost.pp.align_stages(given)
    return given


def stage_in_frame(given: ad.AnnData, age: float, rng: int) -> ad.AnnData:
    """Draw a stage of the truth, and lay it as the given ones about it lie in their frame."""
    made, frame = given.uns["embryo"], given.uns["spatial_stage"]
    turn = np.asarray(frame["turn"])
    angle = np.unwrap(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]) + np.asarray(made["angle"]))
    own = np.interp(age, frame["ages"], angle)
    stage = isost.datasets.embryo_truth(given).sample_stage(age, n=HELD_OUT_CELLS, rng=rng)
    stage.obsm["true"] = np.column_stack([stage.obsm["spatial"], stage.obs["age"]])
    (pose,) = align([(stage.obsm["spatial"], np.zeros((stage.n_obs, 0)))], mirror=False, turned=False)
    cos, sin = np.cos(own), np.sin(own)
    placed = pose.applied(stage.obsm["spatial"], float(frame["size_common"]))
    stage.obsm["spatial_stage"] = placed @ np.array([[cos, sin], [-sin, cos]])
    return stage


def score_stages(given: ad.AnnData, ages: list[float], seed: int) -> list[dict[str, Any]]:
    """Score every method at held-out ages."""
    between = [stage_in_frame(given, age, 1000 * seed + k) for k, age in enumerate(ages)]
    given.obsm["true"] = np.zeros((given.n_obs, 3))
    both = ad.concat([given, *between])
    both.obs_names_make_unique()
    both.uns["spatial_unit"] = "um"
    names, known = read_geometry(both, KEYS)[1].names, set(given.obs["stage"])
    train, held = split(both, [k for k, name in enumerate(names) if name not in known], KEYS, n_comps=N_COMPS)
    fitted = isost.tl.fit(
        train, section_key="stage", spatial_key="spatial_stage", depth_key="age", rng=0, progress=False
    )
    training = held.training
    methods: dict[str, Predictor] = {
        "nearest": Nearest(training), "blend": Blend(training), "displacement": Displacement(training),
        "isost": Fit(fitted, held.genes),
    }  # fmt: skip
    records = held.score(methods)
    truth = isost.datasets.embryo_truth(given)
    true = {held_out.name: truth.expression(stage.obsm["true"], genes=list(held.genes))
            for held_out, stage in zip(held.held_out, between, strict=True)}  # fmt: skip
    for method, predictor in methods.items():
        errors = true_errors(predictor, held, true)
        for record in records:
            if record["method"] == method:
                record |= {"true nmse": errors[record["section"]], "seed": seed}
    return [record for record in records if record["method"] in methods]


def true_errors(predictor: Predictor, held: Split, true: dict[str, np.ndarray]) -> dict[str, float]:
    """Error against the truth at each held-out stage; of methods without a field, of the width that is best in all."""
    tried: list[dict[str, float]] = []
    for width in WIDTHS:
        errors = {}
        for one in held.held_out:
            field = predictor.field(one.coords, one.depth)
            if field is None:
                cloud = predictor.cells(one.depth, None, np.random.default_rng(0))
                field = next(iter(kernel_fields(
                    one.coords[:, :2], cloud.coords, cloud.genes, [width * one.side], cloud.weight)))  # fmt: skip
            off, known = field - true[one.name], true[one.name]
            varies = known.var(axis=0) > 1e-3
            errors[one.name] = float(off.var(axis=0)[varies].sum() / known.var(axis=0)[varies].sum())
        tried.append(errors)
    return min(tried, key=lambda errors: np.mean(list(errors.values())))


def score_organs(given: ad.AnnData, fitted: isost.Reconstruction, seed: int) -> list[dict[str, Any]]:
    """Correlate proportions with the truth at the ages that were not given."""
    organs = isost.tl.propagate_labels(fitted, given, key="cell_type", mapping=given.uns["organ_of_type"])
    ages = organs.age.values
    inner = ages[~np.isin(ages, fitted.stack.depths)]
    truth = isost.datasets.embryo_truth(given).proportions(inner)
    shares = isost.tl.organ_proportions(organs, reference=truth)
    nearest = shares.iloc[[int(np.abs(ages - fitted.stack.depths[np.abs(fitted.stack.depths - age).argmin()]).argmin())
                           for age in inner]].set_axis(inner)  # fmt: skip
    found = shares.attrs["pearson"]["columns"] | {"all": shares.attrs["pearson"]["overall"]}
    return [
        {
            "organ": name, "seed": seed, "isost": r,
            "nearest": float(np.corrcoef(truth.to_numpy().ravel(), nearest[truth.columns].to_numpy().ravel())[0, 1])
            if name == "all" else float(np.corrcoef(truth[name], nearest[name])[0, 1]),
            "least share": np.nan if name == "all" else truth[name].min(),
            "largest share": np.nan if name == "all" else truth[name].max(),
        }
        for name, r in found.items()
    ]  # fmt: skip


def score_genes(given: ad.AnnData, seed: int) -> list[dict[str, Any]]:
    """Find the planted genes and their peaks."""
    truth, genes = isost.datasets.embryo_truth(given), isost.tl.dynamic_genes(given, key="organ")
    ages = np.round(np.arange(9.5, 15.5 + 1e-9, 0.05), 2)
    records = []
    for organ, rows in genes.dropna(subset="peak").groupby("label"):
        curves = truth.curves(str(organ), ages)
        cells = given.obs.loc[given.obs["organ"] == organ, "age"].value_counts()
        first, last = cells[cells >= 10].index.min(), cells[cells >= 10].index.max()
        for row in rows.itertuples():
            kind, curve = str(given.var.loc[row.gene, "kind"]), curves.loc[first:last, row.gene].dropna()
            own = kind == "cyclic" or (kind == "peak" and given.var.loc[row.gene, "target"] == organ)
            peak = float(curve.idxmax())
            if own and curve.index[0] < peak < curve.index[-1]:
                records.append({"kind": kind, "organ": organ, "gene": row.gene, "found": bool(row.dynamic),
                                "error": abs(row.peak - peak), "seed": seed})  # fmt: skip
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("development.json"))
    parser.add_argument("--only", choices=("stages", "organs", "genes"), help="leave the others out")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--step", type=float, default=0.5, help="distance of the ages that are scored (default: 0.5)")
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    records: dict[str, list[dict[str, Any]]] = {"stages": [], "organs": [], "genes": []}
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        given = given_stages(seed)
        known = given.obs["age"].unique()
        ages = [age for age in np.round(np.arange(9.5, 15.5, asked.step), 3).tolist() if age not in known]
        if asked.only in (None, "stages"):
            records["stages"] += score_stages(given, ages, seed)
        if asked.only in (None, "organs"):
            fitted = isost.tl.fit(
                given, section_key="stage", spatial_key="spatial_stage", depth_key="age", rng=0, progress=False
            )
            records["organs"] += score_organs(given, fitted, seed)
        if asked.only in (None, "genes"):
            records["genes"] += score_genes(given, seed)
        print(f"seed {seed} done", flush=True)
    asked.out.write_text(json.dumps(records, indent=1))
    if records["stages"]:
        frame = pd.DataFrame(records["stages"])
        show(frame.groupby(["seed", "method"], sort=False)[SCORES].mean().reset_index())
        show(frame.groupby("method", sort=False)[SCORES].mean().reset_index())
    if records["organs"]:
        show(pd.DataFrame(records["organs"]).groupby("organ", sort=False).mean().drop(columns="seed").reset_index())
    if records["genes"]:
        frame = pd.DataFrame(records["genes"]).assign(near=lambda one: one["error"] <= 0.2)
        about = {"found": ("found", "mean"), "within 0.2 day": ("near", "mean"), "mean error": ("error", "mean"),
                 "largest error": ("error", "max"), "pairs": ("gene", "size")}  # fmt: skip
        show(frame.groupby("kind").agg(**about).reset_index())
        show(frame.groupby(["kind", "organ"]).agg(**about).reset_index())


if __name__ == "__main__":
    main()
