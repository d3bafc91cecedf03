"""Stages of development between those that were profiled: `isost` beside methods that need no model.

    python benchmarks/development.py --seeds 3 --out development.json

Writes one JSON file and prints it as Markdown tables. Of an embryo phantom (`isost.datasets.embryo`: growth, a
migrating heart, a kidney that appears and splits, genes that peak and genes that are cyclic) 5 of 61 stages are given,
each turned and shifted in its own way.

- stages: others of the 61 are drawn from the truth and scored in the frame that `isost.pp.align_stages` laid the given
  ones into, as many cells as the body has then: by `isost.metrics.score_field` and `score_cells`, and *true nmse*, the
  squared error of the field at the cells of all these stages against what is true of them, in units of the variance.
- organs: proportions of organs from labels carried to all 61 ages, against the truth at the 56 that were not given.
- genes: of those that are planted as dynamic, and whose mean over an organ is highest between the first and the last
  stage that has the organ, how many are found, and how far their peak lies from the true one. Of the others, which
  change only as all genes are shares of one total, how many are called dynamic.

- depth: stages of several sections each, at sections of other depths and ages. *one model*:
  `isost.tl.fit(adata, depth_key=["z_stage", "age"])`; *apart, blended*: a fit along depth at each stage, and the two
  about the age blended (1 - t, t); *apart, fitted*: sections drawn at the depth from the fits along depth, and a fit
  of these along age; *nearest*: the section nearest in depth of the stage nearest in age.

Methods of the first, all in the same frame: *nearest*, the stage nearest in age; *blend*, linear blending, of cells
drawn from both stages with weights 1 - t and t, and of kernel regressions of both; *displacement*, cells of both stages
coupled by exact optimal transport, at (1 - t) x + t y; *isost* with default settings. A method without a field has that
of a Gaussian kernel over its cells, for each score the best of four widths with hindsight (*nearest* of *depth*: h).
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
from isost._core.normalise import lognormalise, recorded_normalisation
from isost._core.stages import align
from isost.tl._held_out import Fit, Keys, read_geometry, split

KEYS = Keys("stage", "spatial_stage", "age")
SCORES = ["pcc", "nmse", "true nmse", "dice", "dens", "energy"]
N_COMPS, N_CELLS, CELLS_OF_OUTLINE = 30, 800, 1600
STAGES, DEPTHS = (9.5, 11.5, 13.5, 15.5), (-0.7, -0.35, 0.0, 0.35, 0.7)
HELD_OUT = ((10.5, 0.0), (10.5, 0.2), (11.5, 0.2), (12.5, -0.5), (12.5, 0.0), (12.5, 0.2), (14.5, -0.2), (14.5, 0.5))
Prediction = tuple[Any, ad.AnnData]  # a field of (n, 2), and cells


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
    isost.pp.embed(given, n_comps=N_COMPS, target_sum=1e4)  # as the truth has it
    isost.pp.align_stages(given)
    return given


def stage_in_frame(given: ad.AnnData, age: float, rng: int, depth: float = 0.0) -> ad.AnnData:
    """Draw a section of the truth, and lay it as the given ones about it lie in their frame."""
    made, frame = given.uns["embryo"], given.uns["spatial_stage"]
    turn = np.asarray(frame["turn"])
    angle = np.unwrap(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]) + np.asarray(made["angle"]))
    own = np.interp(age, frame["ages"], angle)
    truth = isost.datasets.embryo_truth(given)
    stage = truth.sample_stage(age, depth=depth, rng=rng)
    stage.obsm["true"] = np.column_stack([stage.obsm["spatial"], stage.obs["z"], stage.obs["age"]])
    # the middle and the size of the whole stage, as of the given ones
    whole = [truth.sample_stage(age, depth=w, n=CELLS_OF_OUTLINE, rng=rng).obsm["spatial"] for w in made["depths"]]
    places = stage.obsm["spatial"] if len(whole) == 1 else np.concatenate(whole)
    (pose,) = align([(places, np.zeros((len(places), 0)))], mirror=False, turned=False)
    stage.obs["z_stage"] = stage.obs["z"] * float(frame["size_common"]) / pose.size
    cos, sin = np.cos(own), np.sin(own)
    placed = pose.applied(stage.obsm["spatial"], float(frame["size_common"]))
    stage.obsm["spatial_stage"] = placed @ np.array([[cos, sin], [-sin, cos]])
    return stage


def score_stages(given: ad.AnnData, ages: list[float], seed: int) -> list[dict[str, Any]]:
    """Score every method at held-out ages."""
    between = [stage_in_frame(given, age, 1000 * seed + k) for k, age in enumerate(ages)]
    given.obsm["true"] = np.zeros((given.n_obs, 4))
    both = ad.concat([given, *between])
    both.obs_names_make_unique()
    both.uns |= {"spatial_unit": "um", "pca": given.uns["pca"], "isost": given.uns["isost"]}
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
        error = true_error(predictor, held, true)
        for record in records:
            if record["method"] == method:
                record |= {"true nmse": error, "seed": seed}
    return [record for record in records if record["method"] in methods]


def true_error(predictor: Predictor, held: Split, true: dict[str, np.ndarray]) -> float:
    """Error against the truth of all held-out stages; of methods without a field, of the best width."""
    tried: list[float] = []
    for width in WIDTHS:
        pairs = []
        for one in held.held_out:
            field = predictor.field(one.coords, one.depth)
            if field is None:
                cloud = predictor.cells(one.depth, None, np.random.default_rng(0))
                width_of = [width * one.side]
                field = next(iter(kernel_fields(one.coords[:, :2], cloud.coords, cloud.genes, width_of, cloud.weight)))
            pairs.append((field, true[one.name]))
        tried.append(error_of(pairs))
    return min(tried)


def error_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Squared error over the variance of all stages together, summed over genes, but for one constant of each gene.

    The logarithm of few counts has another mean than that of their expectation; what changes with age counts.
    """
    off = np.concatenate([field - true for field, true in pairs])
    true = np.concatenate([true for _, true in pairs])
    varies = true.var(axis=0) > 1e-3
    return float(off.var(axis=0)[varies].sum() / true.var(axis=0)[varies].sum())


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
            if not own:
                kind = "static" if not len(curve) or np.ptp(curve) < 0.1 else "static, but changing by more than 0.1"
                records.append({"kind": kind, "organ": organ, "gene": row.gene, "found": bool(row.dynamic),
                                "error": np.nan, "seed": seed})  # fmt: skip
            elif curve.index[0] < peak < curve.index[-1]:
                records.append({"kind": kind, "organ": organ, "gene": row.gene, "found": bool(row.dynamic),
                                "error": abs(row.peak - peak), "seed": seed})  # fmt: skip
    return records


def score_depth(seed: int) -> list[dict[str, Any]]:
    """Score one model over depth and age beside fits along depth and age apart."""
    given = isost.datasets.embryo(STAGES, depths=DEPTHS, n_cells=N_CELLS // 2, rng=seed)
    isost.pp.embed(given, n_comps=N_COMPS, target_sum=1e4)
    isost.pp.align_stages(given, z_key="z")
    one = isost.tl.fit(given, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
    along: dict[float, isost.Reconstruction] = {}
    for age in STAGES:
        stage = given[given.obs["age"] == age].copy()
        stage.uns.pop("spatial_stage")
        along[age] = isost.tl.fit(
            stage, depth_key="z_stage", spatial_key="spatial_stage", section_key=None, rng=0, progress=False
        )
    records: list[dict[str, Any]] = []
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, (age, depth) in enumerate(HELD_OUT):
        measured = stage_in_frame(given, age, 1000 * seed + number, depth)
        z = float(measured.obs["z_stage"].iloc[0])
        methods = {"one model": joint(one, z, age), "apart, blended": blended(along, z, age),
                   "apart, fitted": refitted(along, z, age), "nearest": nearest(given, z, age)}  # fmt: skip
        for name, (field, cells) in methods.items():
            about = {"seed": seed, "method": name, "age": age, "depth": depth}
            predicted = field(measured.obsm["spatial_stage"])
            truth = isost.datasets.embryo_truth(given).expression(measured.obsm["true"])
            pairs.setdefault(name, []).append((predicted, truth))
            records.append(about | score_section(given, measured, predicted, cells))
    return [record | {"true nmse": error_of(pairs[record["method"]])} for record in records]


def joint(one: isost.Reconstruction4D, z: float, age: float) -> Prediction:
    """One model over depth and age."""

    def field(xy: np.ndarray) -> np.ndarray:
        return one.expression(np.column_stack([xy, np.full(len(xy), z), np.full(len(xy), age)]))

    return field, one.section(z, age, rng=0)


def blended(along: dict[float, isost.Reconstruction], z: float, age: float) -> Prediction:
    """Blend the fits along depth of the two stages about an age."""
    low = STAGES[max(int(np.searchsorted(STAGES, age, side="right")) - 1, 0)]
    high = STAGES[min(int(np.searchsorted(STAGES, age, side="right")), len(STAGES) - 1)]
    t = (age - low) / (high - low) if high > low else 0.0

    def field(xy: np.ndarray) -> np.ndarray:
        return (1 - t) * at_depth(along[low], xy, z) + t * at_depth(along[high], xy, z)

    cells = []
    for stage, weight in ((low, 1 - t), (high, t)):
        drawn = along[stage].section(inside(along[stage], z), rng=0)
        cells.append(drawn[np.random.default_rng(0).random(drawn.n_obs) < weight].copy())
    return field, ad.concat(cells, index_unique="-")


def refitted(along: dict[float, isost.Reconstruction], z: float, age: float) -> Prediction:
    """Fit along age what the fits along depth draw at a depth."""
    drawn = {}
    for stage, fitted in along.items():
        drawn[f"{stage:g}"] = fitted.section(inside(fitted, z), rng=0)
        drawn[f"{stage:g}"].obs["age"] = stage
    sections = ad.concat(drawn, label="stage", index_unique="-", merge="same", uns_merge="same")
    sections.uns["spatial_unit"] = "um"
    again = isost.tl.fit(sections, depth_key="age", section_key="stage", rng=0, progress=False)
    return lambda xy: again.expression(np.column_stack([xy, np.full(len(xy), age)])), again.section(age, rng=0)


def nearest(given: ad.AnnData, z: float, age: float) -> Prediction:
    """Take the nearest section; its field is a Gaussian kernel over its cells, of width h."""
    stage = STAGES[int(np.abs(np.array(STAGES) - age).argmin())]
    away = (given.obs["z_stage"].where(given.obs["age"] == stage) - z).abs()
    cells = given[away == away.min()].copy()
    values = lognormalise(cells, recorded_normalisation(given)).toarray()
    cells.obsm["spatial"] = places = cells.obsm["spatial_stage"]
    side = isost.metrics.bin_side([places])
    return lambda xy: next(iter(kernel_fields(xy, places, values, [side], np.ones(len(places))))), cells


def inside(fitted: isost.Reconstruction, z: float) -> float:
    """Depth within a fit, which at another age may reach less far."""
    return float(np.clip(z, *fitted.stack.depths[[0, -1]]))


def at_depth(fitted: isost.Reconstruction, xy: np.ndarray, z: float) -> np.ndarray:
    """Field of a fit along depth."""
    return fitted.expression(np.column_stack([xy, np.full(len(xy), inside(fitted, z))]))


def score_section(
    given: ad.AnnData, measured: ad.AnnData, predicted: np.ndarray, cells: ad.AnnData
) -> dict[str, float]:
    """Score a field and cells against a section of the truth as it is measured."""
    how, loadings = recorded_normalisation(given), np.asarray(given.varm["PCs"])
    values = lognormalise(measured, how)
    features = values @ loadings - given.var["pca_mean"].to_numpy() @ loadings
    place = measured.obsm["spatial_stage"]
    side, n = isost.metrics.bin_side([place]), len(place)
    drawn = cells[np.random.default_rng(0).choice(cells.n_obs, n, replace=cells.n_obs < n)]
    return {
        **isost.metrics.score_field(predicted, values.toarray(), place, side=side),
        **isost.metrics.score_cells(
            np.asarray(drawn.obsm["spatial"])[:, :2], np.asarray(drawn.obsm["X_pca"]), measured_coords=place,
            measured_features=np.asarray(features), side=side,
            feature_scale=float(np.asarray(given.obsm["X_pca"])[:, 0].std()),
        ),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("development.json"))
    parser.add_argument("--only", choices=("stages", "organs", "genes", "depth"), help="leave the others out")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--step", type=float, default=0.5, help="distance of the ages that are scored (default: 0.5)")
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    records: dict[str, list[dict[str, Any]]] = {"stages": [], "organs": [], "genes": [], "depth": []}
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
        if asked.only in (None, "depth"):
            records["depth"] += score_depth(seed)
        print(f"seed {seed} done", flush=True)
    asked.out.write_text(json.dumps(records, indent=1))
    if records["stages"]:
        frame = pd.DataFrame(records["stages"])
        show(frame.groupby(["seed", "method"], sort=False)[SCORES].mean().reset_index())
        show(frame.groupby("method", sort=False)[SCORES].mean().reset_index())
    if records["depth"]:
        show(pd.DataFrame(records["depth"]).groupby("method", sort=False)[SCORES].mean().reset_index())
    if records["organs"]:
        show(pd.DataFrame(records["organs"]).groupby("organ", sort=False).mean().drop(columns="seed").reset_index())
    if records["genes"]:
        frame = pd.DataFrame(records["genes"]).assign(
            near=lambda one: (one["error"] <= 0.2).where(one["error"].notna()).astype(float)
        )
        about = {"found": ("found", "mean"), "within 0.2 day": ("near", "mean"), "mean error": ("error", "mean"),
                 "largest error": ("error", "max"), "pairs": ("gene", "size")}  # fmt: skip
        show(frame.groupby("kind").agg(**about).reset_index())
        show(frame.groupby(["kind", "organ"]).agg(**about).reset_index())


if __name__ == "__main__":
    main()
