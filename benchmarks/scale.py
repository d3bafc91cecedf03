"""Time and memory of every stage as the number of cells grows, and how far each is from what must be done.

    python benchmarks/scale.py --out scale.json --picture scale.png

Phantoms of 1,122 genes, 50 components, voxels of 50 µm: 54 sections of 2,000 to 20,000 cells, and 100 of 40,000. Every
size runs in a process of its own, its counts on disk. Peak memory is of the whole process, and a stage's own is what
its peak lies above the process before it. The floor of a stage is the larger of bytes over bandwidth and operations
over the speed of a matrix product, both the fastest that were measured after any size, on the same threads; rounds of
solvers and evaluations of drifts are counted in the run. In brackets the ratio to the floor and what SciPy's k-d tree
takes at least for the neighbours that were looked up, which no floor knows of but no implementation does without.

Sizes that are in the JSON file already, of this version and as many threads, are not measured again. `--genes` writes
all genes instead of the components, a volume much larger than the memory it is made in.

All of the motion and change that couplings show is believed, so that every stage has its full work, however little
moves between sections so close.

Exponents are slopes of log seconds, and of the log of what the peak lies above the process that has only imported
isost, over the log of all cells: over all sizes, and in brackets over the last two, where constants count for least;
none where a stage takes less than 0.1 GiB.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np

SIZES = ("54x2000", "54x6000", "54x20000", "100x40000")  # sections x cells of each
SPACING, GENES, COMPONENTS, VOXEL = 100.0, 1122, 50, 50.0
EXTENT = 5_000.0
WIDTH = 64  # of the drift network
STAGES = ("stack", "embed", "couple", "fit", "field", "section", "volume", "write", "all")


class Meter:
    """Seconds and peak memory of stages; the time of a stage inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, float] = {}
        self.counts: dict[str, dict[str, float]] = {}
        self.highest = 0.0
        self._open: list[tuple[str, float]] = []
        self._inner = [0.0]
        self._lock = Lock()

    def count(self, what: str, number: float) -> None:
        """Add to what is done in the stage that is open."""
        with self._lock:
            counts = self.counts.setdefault(self._open[-1][0], {})
            counts[what] = counts.get(what, 0.0) + number

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._note()
        self._open.append((name, _memory("VmRSS")))
        self._inner.append(0.0)
        started = perf_counter()
        try:
            yield
        finally:
            took, inner = perf_counter() - started, self._inner.pop()
            self._inner[-1] += took
            self._note()
            self._open.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + took - inner

    def around(self, name: str, function: Any) -> Any:
        def measured(*args: Any, **how: Any) -> Any:
            with self.stage(name):
                return function(*args, **how)

        return measured

    def _note(self) -> None:
        """Note the peak since the last note for all open stages, and begin a new one."""
        peak = _memory("VmHWM")
        self.highest = max(self.highest, peak)
        for name, before in self._open:
            self.peak[name] = max(self.peak.get(name, 0.0), peak - before)
        Path("/proc/self/clear_refs").write_text("5")


def _memory(key: str) -> float:
    """Bytes that the kernel says the process takes, or took at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * float(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def make(path: Path, n_cells: int, n_sections: int, seed: int = 0) -> None:
    """Write the counts of a bending phantom, section by section, in as many processes as there are cores."""
    from anndata.experimental import concat_on_disk

    import isost

    few = isost.datasets.phantom(
        "bending", n_sections=n_sections, n_cells=50, n_genes=GENES, spacing=SPACING, extent=EXTENT, rng=seed
    )
    truth = isost.datasets.phantom_truth(few)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        parts = [Path(folder) / f"{k:03d}.h5ad" for k in range(n_sections)]
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            list(pool.map(_write_section, repeat(truth), range(n_sections), repeat(n_cells), parts))
        concat_on_disk(parts, path)


def _write_section(truth: Any, k: int, n_cells: int, path: Path) -> None:
    import anndata as ad

    cells = truth.sample_section(k * SPACING, n=n_cells, rng=k)
    cells.obs_names = [f"{k}_{i}" for i in range(cells.n_obs)]
    ad.AnnData(
        cells.X, obs=cells.obs[["section"]], var=cells.var[[]], obsm={"spatial": cells.obsm["spatial"]}
    ).write_h5ad(path)


@contextmanager
def counted(meter: Meter) -> Iterator[None]:
    """Count neighbours found, drifts evaluated, entries of plans that are scaled, and of grids that are multiplied."""
    from scipy.spatial import cKDTree

    from isost._core import plan
    from isost._core.gaussian import Planes
    from isost._core.model import SDEModel

    class CountedTree(cKDTree):  # type: ignore[misc]
        def query(self, x: np.ndarray, k: Any = 1, **how: Any) -> Any:
            meter.count("neighbours", np.size(x) // np.shape(x)[-1] * float(np.max(k)))
            return super().query(x, k, **how)

    drift, scale, factor = SDEModel.drift, plan._scale, Planes._factor

    def counted_drift(model: Any, pair: Any, depth: Any, state: Any, **how: Any) -> Any:
        meter.count("drift", len(state))
        return drift(model, pair, depth, state, **how)

    def counted_scale(cost: Any, *args: Any, **how: Any) -> Any:
        found = scale(cost, *args, **how)
        meter.count("scaled", cost.nnz * found.rounds)
        meter.count("plan", cost.nnz)
        return found

    def counted_factor(planes: Any, white: np.ndarray, **how: Any) -> np.ndarray:
        meter.count("grid", white.size)
        return factor(planes, white, **how)

    with ExitStack() as patches:
        patches.enter_context(patch.object(SDEModel, "drift", counted_drift))
        patches.enter_context(patch.object(plan, "_scale", counted_scale))
        patches.enter_context(patch.object(Planes, "_factor", counted_factor))
        for name, module in list(sys.modules.items()):
            if name.startswith("isost.") and getattr(module, "cKDTree", None) is cKDTree:
                patches.enter_context(patch.object(module, "cKDTree", CountedTree))
        yield


def measure(path: Path, folder: Path, *, all_genes: bool = False) -> dict[str, Any]:
    """Every stage of one size, in this process."""
    import anndata as ad
    import torch

    import isost
    from isost._core import bridge, field, fit, stream

    logging.getLogger("isost").setLevel(logging.WARNING)
    isost.tl.reconstruct  # noqa: B018  # imports what it needs
    imported, meter = _memory("VmRSS"), Meter()
    with meter.stage("all"), counted(meter):
        adata = ad.read_h5ad(path, backed="r")
        with meter.stage("embed"):
            isost.pp.embed(adata, n_comps=COMPONENTS)
        nnz = int(adata.X._indptr[-1])
        believed = bridge._believed
        with (
            # so that drifts are learned and followed, however little moves from one section to the next
            patch.object(bridge, "_believed", lambda *args: replace(believed(*args), motion=1.0, change=1.0)),
            patch.object(bridge.BridgeObjective, "__init__", meter.around("couple", bridge.BridgeObjective.__init__)),
            patch.object(fit.Training, "run", meter.around("fit", fit.Training.run)),
            patch.object(field.Field, "fit", meter.around("field", field.Field.fit)),
            meter.stage("stack"),
        ):
            fitted = isost.tl.fit(adata, progress=False, rng=0)
        with meter.stage("section"):
            fitted.section(float(fitted.stack.depths[:2].mean()), rng=0)
        with (
            patch.object(stream, "move_zarr", meter.around("write", stream.move_zarr)),
            meter.stage("volume"),
        ):
            genes = list(adata.var_names) if all_genes else None
            output = folder / "out.zarr"
            sdata = isost.tl.reconstruct(None, fitted=fitted, voxel_size=VOXEL, genes=genes, output=output, rng=0)
    stack = fitted.stack
    return {
        "cells": stack.n_cells, "sections": stack.n_sections, "scores": stack.n_scores, "nnz": nnz,
        "device": fitted.params["device"], "threads": torch.get_num_threads(), "version": isost.__version__,
        "volume_gib": sum(image.nbytes for image in map(_largest, sdata.images.values())) / 2**30,
        "voxels": int(np.prod(sdata.attrs["isost"]["shape"])),
        "inside": sdata.tables["isost_voxels"].n_obs if "isost_voxels" in sdata.tables else None,
        "drawn": sdata.tables["isost_cells"].n_obs,
        "seconds": meter.seconds, "counts": meter.counts,
        "peak_gib": {name: peak / 2**30 for name, peak in meter.peak.items()},
        "process_gib": meter.highest / 2**30, "imported_gib": imported / 2**30,
    }  # fmt: skip


def _largest(image: Any) -> Any:
    from spatialdata import get_pyramid_levels

    return next(iter(get_pyramid_levels(image))) if hasattr(image, "children") else image


def speeds() -> dict[str, float]:
    """Bytes a second that are copied in memory, and written to the disk here; operations and neighbours a second."""
    import torch
    from scipy.spatial import cKDTree

    from isost._core.graph import along_curve

    points = np.random.default_rng(0).uniform(size=(20_000, 2))
    points = points[along_curve(points)]
    tree, threads = cKDTree(points), torch.get_num_threads()
    block = np.ones(2**26, dtype=np.float32)
    matrix = np.ones((2000, 2000), dtype=np.float32)
    with tempfile.NamedTemporaryFile() as file:

        def write() -> None:
            file.seek(0)
            file.write(block.data)
            os.fsync(file.fileno())

        return {
            "memory": 2 * block.nbytes / _best(lambda: block.copy()),
            "disk": block.nbytes / _best(write),
            "operations": 2 * 2000**3 / _best(lambda: matrix @ matrix),
            "neighbours": 20 * len(points) / _best(lambda: tree.query(points, k=20, workers=threads)),
        }


def _best(work: Any, n: int = 5) -> float:
    took = []
    for _ in range(n):
        started = perf_counter()
        work()
        took.append(perf_counter() - started)
    return min(took)


def floors(run: dict[str, Any], speed: dict[str, float]) -> dict[str, float]:
    """Seconds that the bytes and operations of a stage take at least at the speeds of this machine.

    Counted is the arithmetic that the method prescribes: layers of the drift network at every evaluation, the entries
    of a coupling at every scaling, the grids of the field at every iteration; and each array read and written once.
    Neighbour searches, sorts, eigenvectors, activations and the variances of the field count nothing.
    """
    n, nnz, scores, voxels = run["cells"], run["nnz"], run["scores"], run["voxels"]
    inside, drawn = run["inside"] or voxels, run["drawn"]
    row = nnz / n
    channels = 2 * COMPONENTS + (scores - COMPONENTS) + 2  # mean, deviation, remainder, density, mask and ids
    slabs = 4 * (voxels * channels + drawn * COMPONENTS)
    drift = 2 * (3 * 4 * WIDTH + 2 * 4 * WIDTH**2 + 2 * WIDTH)  # multiply and add, in three layers and the last

    def least(stage: str, moved: float = 0.0, operations: float = 0.0, written: float = 0.0, times: float = 1) -> float:
        """Operations are two a product, of which an entry of a grid has 17 along each of two axes."""
        counts = run["counts"].get(stage, {})
        plans = 4 * counts.get("scaled", 0) + 3 * COMPONENTS * counts.get("plan", 0)
        operations += times * drift * counts.get("drift", 0) + plans + 2 * 2 * 17 * counts.get("grid", 0)
        return max(moved / speed["memory"], operations / speed["operations"], written / speed["disk"])

    return {
        # counts read and normalised once; their covariance; the scores
        "embed": least("embed", 16 * nnz, 2 * n * row**2 + 2 * nnz * COMPONENTS),
        # counts read twice (checked; remainder), sorted rows of components
        "stack": least("stack", 2 * 12 * nnz + 8 * n * COMPONENTS, 2 * nnz * (scores - COMPONENTS)),
        "couple": least("couple"),
        "fit": least("fit", times=3),  # forwards and, twice as much, backwards
        "field": least("field"),
        "section": least("section"),
        # of four planes at four corners, for every score inside and both lengths
        "volume": least("volume", 4 * inside * scores * 2 * 4 * 4, inside * scores * 64, slabs),
        # read, and written with half as much again for pyramid and tables
        "write": least("write", slabs, written=1.5 * slabs),
    }


def with_floors(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add floors, and what the searches for neighbours take beside them, at the fastest speeds of all runs."""
    speed = {name: max(run["speed"][name] for run in runs) for name in runs[0]["speed"]}
    return [
        run | {"floor": floors(run, speed),
               "searches": {stage: counts.get("neighbours", 0) / speed["neighbours"]
                            for stage, counts in run["counts"].items()}}
        for run in runs
    ]  # fmt: skip


def exponents(runs: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Slopes over log cells of log seconds, and of log memory beyond the imports: of all sizes, and of the last two."""
    cells = np.array([run["cells"] for run in runs], dtype=float)

    def slopes(values: list[float], least: float) -> list[float]:
        """None where there is but one size, or next to nothing of it."""
        if len(set(cells)) < 2 or max(values) < least:
            return []
        y = np.log(np.maximum(values, 1e-4))
        return [float(np.polyfit(np.log(cells)[part], y[part], 1)[0]) for part in (slice(None), slice(-2, None))]

    found = {}
    for name in STAGES:
        seconds = [run["seconds"][name] if name != "all" else total(run) for run in runs]
        peak = [run["peak_gib"][name] if name != "all" else run["process_gib"] - run["imported_gib"] for run in runs]
        found[name] = {"seconds": slopes(seconds, 0.0), "peak": slopes(peak, 0.1)}
    return found


def total(run: dict[str, Any]) -> float:
    return sum(run["seconds"].values())


def show(runs: list[dict[str, Any]], growth: dict[str, dict[str, list[float]]]) -> str:
    """Write a Markdown table: seconds, own peak in GiB and ratio to the floor of each stage at each size."""
    head = [f"{run['cells']:,} cells" for run in runs]
    lines = ["| | " + " | ".join(head) + " | exponent of time | of memory |", "|---" * (len(head) + 3) + "|"]
    for name in STAGES:
        entries = []
        for run in runs:
            if name == "all":
                entries.append(f"{total(run):.0f} s, {run['process_gib']:.1f} GiB")
                continue
            took, floor = run["seconds"][name], run["floor"][name]
            searched = took / (floor + run["searches"].get(name, 0.0))
            entries.append(f"{took:.1f} s, {run['peak_gib'][name]:.2f} GiB, {took / floor:.0f} x ({searched:.1f} x)")
        slopes = [f"{both[0]:.2f} ({both[1]:.2f})" if both else "" for both in growth[name].values()]
        lines.append(f"| {name} | " + " | ".join([*entries, *slopes]) + " |")
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Plot time and peak memory of the stages over the number of cells."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    cells = [run["cells"] for run in runs]
    for name in STAGES:
        thick = 2.5 if name == "all" else 1.2
        axes[0].plot(cells, [run["seconds"].get(name, total(run)) if name != "all" else total(run) for run in runs],
                     marker="o", lw=thick, label=name)  # fmt: skip
        axes[1].plot(cells, [run["process_gib"] if name == "all" else run["peak_gib"][name] for run in runs],
                     marker="o", lw=thick)  # fmt: skip
    for ax, label in zip(axes, ("seconds", "peak memory, GiB"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel="cells", ylabel=label)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(bottom=0.02)  # a stage that takes less shows nothing
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="sections x cells of each, such as 54x2000")
    parser.add_argument("--genes", action="store_true", help="write all genes, not the components")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # a stack to measure in this process
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.one.parent, all_genes=args.genes)))
        return
    kept = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    runs = [run for run in kept if (run["version"], run["threads"]) == _here()]
    for n_sections, n_cells in (map(int, size.split("x")) for size in args.sizes):
        if any((run["sections"], run["cells"]) == (n_sections, n_sections * n_cells) for run in runs):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stack.h5ad"
            make(path, n_cells, n_sections)
            command = [sys.executable, __file__, "--one", str(path), *(["--genes"] if args.genes else [])]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        run = json.loads(done.stdout.splitlines()[-1]) | {"speed": speeds()}
        print(f"{run['cells']:,} cells: {total(run):.0f} s, {run['process_gib']:.1f} GiB", file=sys.stderr)
        runs = sorted([*runs, run], key=lambda run: run["cells"])
        args.out.write_text(json.dumps({"runs": with_floors(runs), "exponents": exponents(runs)}, indent=1))
    runs = with_floors(runs)
    largest = runs[-1]
    print(f"On {largest['device']}, {largest['threads']} threads; {largest['imported_gib']:.2f} GiB when imported; "
          f"images of {largest['volume_gib']:.1f} GiB with {largest['cells']:,} cells.\n")  # fmt: skip
    print(show(runs, exponents(runs)))
    if args.picture:
        draw(runs, args.picture)


def _here() -> tuple[str, int]:
    import torch

    import isost

    return isost.__version__, torch.get_num_threads()


if __name__ == "__main__":
    main()
