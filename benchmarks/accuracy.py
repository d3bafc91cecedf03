"""Hold sections out and compare isost with methods that need no model, and with other interpolators.

    python benchmarks/accuracy.py --out accuracy.json

Real stacks are read from the folder that ISOST_DATA_DIR names. Every second inner section is held out; everything is
fitted on the rest. Scores are those of `isost.metrics.score_field` and `score_cells`; means and spreads are over seeds,
of which the trajectory objective, whose fits take minutes, has one by default. Every seed has a phantom of its own.
Seconds of a fit are of one processor, so that they hold beside other work too.
On phantoms the truth is known: `truth_pcc` and `truth_nmse` compare the field with it, without the noise of cells.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import platform
import resource
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from bar import judge
from stacks import PHANTOMS, REAL, STACKS, Truth, hold_out, load, sampling_error, with_truth

import isost
from isost._core.baselines import (
    WIDTHS,
    Kernel,
    LowRank,
    Nearest,
    Predictor,
    Regression,
    Union,
    WeightedUnion,
    fit_mlp,
    fit_sparse_vfc,
)
from isost._core.held_out import Split, score_ceiling, score_draws, score_fields, score_predictor
from isost.tl._held_out import Fit

SCORES = ("pcc", "nmse", "dice", "dens", "energy", "coverage", "width", "truth_pcc", "truth_nmse", "truth_coverage")
KERNELS = {f"kernel {width:g}h": width for width in WIDTHS}
METHODS = (
    "isost", "trajectory", "nearest", "union", "weighted union", *KERNELS, "kernel", "displacement",
    "low rank", "mlp", "gaussian process", "sparsevfc", "ceiling", "truth",
)  # fmt: skip
# Seeds of phantoms: those of seeds 1 to 3 are what choices were made on.
TISSUES = (0, *range(10, 30))
# Deterministic but for the draws of cells: fitted once to each tissue.
FITTED_ONCE = {"nearest", "union", "weighted union", *KERNELS, "kernel", "displacement", "low rank", "ceiling", "truth"}


def make(method: str, train: Any, held: Split, seed: int, adata: Any) -> Predictor:
    """Fit a method on the training sections; the truth of a phantom needs none."""
    training, rng = held.training, np.random.default_rng(seed)
    if method in ("isost", "trajectory"):
        objective = {} if method == "isost" else {"objective": "trajectory"}
        return Fit(isost.tl.fit(train, rng=seed, progress=False, **objective), held.genes)
    if method == "truth":
        return Truth(adata, train, held)
    if method in KERNELS:
        return Kernel(training, KERNELS[method] * training.width)
    if method == "displacement":
        from displacement import Displacement

        displacement = Displacement(training)
        for section in held.held_out:
            displacement.couple(section.depth)  # here, so that it counts as its fit
        return displacement
    if method == "gaussian process":
        from gaussian_process import fit_gaussian_process

        return Regression(training, fit_gaussian_process, rng)
    if method in ("mlp", "sparsevfc"):
        return Regression(training, fit_mlp if method == "mlp" else fit_sparse_vfc, rng)
    simple = {
        "nearest": Nearest,
        "union": Union,
        "weighted union": WeightedUnion,
        "kernel": Kernel,
        "low rank": LowRank,
    }
    return simple[method](training)


def run(stack: str, method: str, seeds: list[int]) -> list[dict[str, Any]]:
    """Score one method on one stack: a record for each seed."""
    logging.getLogger("isost").setLevel(logging.WARNING)
    records: list[dict[str, Any]] = []
    predictor: Predictor | None = None
    known, fields = None, None
    for seed in seeds:
        adata, train, held, truth = prepare(stack, seed if stack in PHANTOMS else 0)
        started = process_time()
        if method == "ceiling":
            scores, fit_seconds = score_ceiling(held.held_out), 0.0
        else:
            if predictor is None or known is not train or method not in FITTED_ONCE:
                predictor, known, fields = make(method, train, held, seed, adata), train, None
            fit_seconds = process_time() - started
            if method in FITTED_ONCE:  # and so is its field
                fields = fields or list(score_fields(predictor, held.held_out, seed=seed))
                scores = [
                    field | score_draws(predictor, section, n_draws=1, seed=seed)
                    for section, field in zip(held.held_out, fields, strict=True)
                ]
            else:
                scores = score_predictor(predictor, held.held_out, n_draws=1, seed=seed)
        record = {"stack": stack, "method": method, "seed": seed, "seconds": fit_seconds}
        record |= {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
        if truth is not None and predictor is not None:
            # The last section first: what a fit has solved for it is at hand.
            truths = list(score_fields(predictor, truth.held_out[::-1], seed=seed))
            noise = float(np.mean([sampling_error(section) for section in truth.held_out]))
            record["truth_pcc"] = float(np.mean([score["pcc"] for score in truths]))
            record["truth_nmse"] = float(np.mean([score["nmse"] for score in truths])) - noise
            record["truth_coverage"] = float(np.mean([score["coverage"] for score in truths]))
        records.append(record)
    return records


@lru_cache(maxsize=16)
def prepare(stack: str, seed: int) -> tuple[Any, Any, Split, Split | None]:
    adata = load(stack, TISSUES[seed])
    train, held = hold_out(adata)
    return adata, train, held, with_truth(adata, train, held) if stack in PHANTOMS else None


def summarise(records: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Mean and standard deviation over seeds: stack -> method -> score."""
    table: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for stack in STACKS:
        for method in METHODS:
            own = [record for record in records if (record["stack"], record["method"]) == (stack, method)]
            if own:
                table.setdefault(stack, {})[method] = {
                    name: {"mean": float(np.mean(values)), "sd": float(np.std(values))}
                    for name in (*SCORES, "seconds")
                    if (values := [record[name] for record in own if np.isfinite(record.get(name, np.nan))])
                }
    return table


def show(table: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """Write a Markdown table of each stack."""
    lines = []
    for stack, methods in table.items():
        names = [name for name in (*SCORES, "seconds") if any(name in scores for scores in methods.values())]
        lines += [f"\n### {stack}\n", "| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for method, scores in methods.items():
            lines.append(f"| {method} | " + " | ".join(_cell(scores.get(name), name) for name in names) + " |")
    return "\n".join(lines)


def _cell(score: dict[str, float] | None, name: str) -> str:
    if score is None:
        return ""
    digits = 0 if name == "seconds" else 4 if name == "energy" else 3
    spread = f" ± {score['sd']:.{digits}f}" if score["sd"] >= 0.5 * 10**-digits else ""
    return f"{score['mean']:.{digits}f}{spread}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("accuracy.json"), help="JSON to write")
    parser.add_argument("--stacks", nargs="+", default=STACKS, choices=STACKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--trajectory-seeds", type=int, default=1, help="number of seeds of the slow trajectory fits")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    asked = parser.parse_args()
    missing = [name for name in asked.stacks if name in REAL and not is_there(name)]
    if missing:
        print(f"left out, not in the folder ISOST_DATA_DIR: {', '.join(missing)}", file=sys.stderr)

    started = perf_counter()
    seeds = list(range(asked.seeds))
    tasks = [
        (stack, method, part)
        for stack in asked.stacks
        if stack not in missing
        for method in asked.methods
        if method != "truth" or stack in PHANTOMS
        for part in _parts(method, seeds, asked.trajectory_seeds)
    ]
    tasks.sort(key=lambda task: ("trajectory", "isost").index(task[1]) if task[1] in ("trajectory", "isost") else 2)
    records: list[dict[str, Any]] = []
    with ProcessPoolExecutor(asked.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run, *task): task for task in tasks}
        for number, future in enumerate(as_completed(waiting), start=1):
            records += future.result()
            asked.out.write_text(json.dumps({"records": records}, indent=1))  # of a run that is cut short
            stack, method, _ = waiting[future]
            print(f"{number}/{len(tasks)} {stack} {method} ({perf_counter() - started:.0f} s)", file=sys.stderr)
    table = summarise(records)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "isost": isost.__version__,
        "python": platform.python_version(),
        "seconds": perf_counter() - started,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "table": table,
        "bar": judge(table),
        "records": records,
    }
    asked.out.write_text(json.dumps(result, indent=1))
    print(show(table))
    print(
        "\n"
        + "\n".join(f"{'met  ' if row['met'] else 'MISSED'} {row['what']}: {row['found']}" for row in result["bar"])
    )
    took = f"{result['seconds']:.0f} s, {result['processor_seconds']:.0f} s of processor time in {asked.jobs} processes"
    print(f"\n{took}; wrote {asked.out}")


def _parts(method: str, seeds: list[int], n_trajectory: int) -> list[list[int]]:
    """Seeds that one process takes, one after the other."""
    if method in FITTED_ONCE:
        return [seeds]
    return [[seed] for seed in (seeds[:n_trajectory] if method == "trajectory" else seeds)]


def is_there(name: str) -> bool:
    folder = os.environ.get("ISOST_DATA_DIR", "")
    return bool(folder) and (Path(folder) / f"{name}.h5ad").is_file()


if __name__ == "__main__":
    main()
