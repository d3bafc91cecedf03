"""Take one part of isost away at a time, and score what is left on held-out sections.

    python benchmarks/ablation.py --out ablation.json

Real stacks are read from the folder that ISOST_DATA_DIR names. Every second inner section is held out, as in
accuracy.py; one seed. "varied" is the variance of single cells about their neighbours, drawn over measured: 1 is right.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from accuracy import is_there, prepare
from stacks import REAL, STACKS, sampling_error

import isost
from isost._core import bridge, calibrate, field, fit, gap, settle, stack
from isost._core.clouds import variance_about
from isost._core.covariance import Hyperparameters
from isost._core.guard import Belief, believe
from isost._core.held_out import Split, score_fields, score_predictor
from isost.metrics._cells import FEATURES
from isost.tl._held_out import Fit

SCORES = ("pcc", "nmse", "dice", "dens", "energy", "varied", "coverage", "truth_nmse")


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    with patch.object(module, name, value):
        yield


def _one_covariance(*arguments: Any, estimate: Callable[..., Hyperparameters] = field.estimate, **options: Any) -> Any:
    """All scores share the lengths and the ratio that are in the middle of theirs."""
    found = estimate(*arguments, **options)
    middle = {
        name: np.full_like(values := getattr(found, name), np.median(values))
        for name in ("length", "depth_length", "ratio")
    }
    return replace(found, **middle)


def _belief(**shares: Any) -> Callable[..., Belief]:
    return lambda *arguments, **options: replace(believe(*arguments, **options), **shares)


PARTS: dict[str, Callable[[], Any]] = {
    "isost": nullcontext,
    "components alone, without what they leave of the genes": lambda: _replaced(
        stack, "read_remainder", lambda *_, **__: None
    ),
    "one covariance for all scores": lambda: _replaced(field, "estimate", _one_covariance),
    "the two neighbouring sections alone": lambda: _replaced(gap, "_REACH", 1),
    "nothing moves or changes": lambda: _replaced(bridge, "believe", _belief(motion=0.0, change=0.0)),
    "all of the coupled motion and change": lambda: _replaced(bridge, "believe", _belief(motion=1.0, change=1.0)),
    "tissue is carried over, whatever is left out": lambda: _replaced(bridge, "believe", _belief(masses="area")),
    "cells are carried over, whatever is left out": lambda: _replaced(bridge, "believe", _belief(masses="cells")),
    "bad sections are not looked for": lambda: _replaced(fit, "correct_sections", lambda stack: (stack, {})),
    "single cells keep the mean of their section": lambda: _replaced(settle, "SHARES", (0.0,)),
    "no diffusion of expression": lambda: _replaced(settle, "lower_bound", lambda lacking: np.zeros(lacking.shape[1])),
    "no blend with simple predictors": lambda: _replaced(calibrate, "choose_blend", lambda *_: None),
    "intervals as the process has them": lambda: _replaced(
        calibrate, "_factors", lambda parts, loadings: np.ones(len(loadings))
    ),
}  # fmt: skip


def run(name: str, part: str) -> dict[str, Any]:
    """Fit and score one stack without one part."""
    logging.getLogger("isost").setLevel(logging.WARNING)
    _, train, held, truth = prepare(name, 0)
    with PARTS[part]():
        fitted = Fit(isost.tl.fit(train, rng=0, progress=False), held.genes)
        scores = score_predictor(fitted, held.held_out, n_draws=3, seed=0)
        record = {"stack": name, "part": part, "varied": varied(fitted, held)}
        record |= {score: float(np.mean([one[score] for one in scores])) for score in scores[0]}
        if truth is not None:
            truths = list(score_fields(fitted, truth.held_out[::-1]))
            noise = np.mean([sampling_error(section) for section in truth.held_out])
            record["truth_nmse"] = float(np.mean([one["nmse"] for one in truths]) - noise)
    return record


def varied(fitted: Fit, held: Split) -> float:
    """Variance of single cells about their neighbours, drawn over measured, in the mean of the first components."""
    ratios = []
    for number, section in enumerate(held.held_out):
        drawn = fitted.cells(section.depth, len(section.cells), np.random.default_rng(number))
        of = [
            variance_about(
                cloud.coords, cloud.features[:, :FEATURES].astype(float), np.full(len(cloud), 1 / len(cloud))
            )
            for cloud in (drawn, section.cells)
        ]
        ratios.append(float(np.mean(of[0] / of[1])))
    return float(np.mean(ratios))


def show(records: list[dict[str, Any]]) -> str:
    """Write a Markdown table of each stack."""
    lines = []
    for name in STACKS:
        own = {record["part"]: record for record in records if record["stack"] == name}
        if not own:
            continue
        columns = [score for score in SCORES if any(score in record for record in own.values())]
        lines += [f"\n### {name}\n", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for part in PARTS:
            if part in own:
                lines.append(f"| {part} | " + " | ".join(f"{own[part][score]:.3f}" for score in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the ablation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ablation.json"), help="JSON to write")
    parser.add_argument("--stacks", nargs="+", default=STACKS, choices=STACKS)
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    asked = parser.parse_args()
    stacks = [name for name in asked.stacks if name not in REAL or is_there(name)]
    tasks = [(name, part) for name in stacks for part in PARTS]
    started, records = perf_counter(), []
    with ProcessPoolExecutor(asked.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(run, *task) for task in tasks]
        for number, future in enumerate(as_completed(waiting), start=1):
            records.append(future.result())
            asked.out.write_text(json.dumps(records, indent=1))  # of a run that is cut short
            print(f"{number}/{len(tasks)} ({perf_counter() - started:.0f} s)", file=sys.stderr)
    print(show(records))


if __name__ == "__main__":
    main()
