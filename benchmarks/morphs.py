"""Turn one section into another: isost beside vector fields learned by SparseVFC, a perceptron and a Gaussian process.

    python benchmarks/morphs.py --out morphs.json --picture morphs.png

The toys of Fig 1D of Li, Bao et al. 2025 (letters; caterpillar to butterfly), and an ellipse that turns and shears,
whose truth is known at every depth. Every method sees the two ends only. Vector fields are regressed, one for each
direction, on the displacements of exact optimal-transport pairs, and cells follow them in many small steps.
Predictions are scored beside an independent draw of the same shape; means and spreads are over seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import anndata as ad
import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import ot
import pandas as pd
from PIL import Image
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import isost
from isost._core.baselines import fit_mlp, fit_sparse_vfc
from isost._core.baselines.regression import Regressor
from isost._core.follow import carried_to
from isost.metrics import bin_side, chamfer_distance, dice, energy_distance, sinkhorn_divergence

CELLS, GAP, STEPS, FEATURE_WEIGHT = 500, 100.0, 100, 0.1
SINKHORN_CELLS, BLUR = 250, 50.0
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SCORES = ("chamfer", "sinkhorn", "energy", "dice")
ARROWS = {"forward": "→", "backward": "←", "middle": ""}
Frames = dict[str, list[tuple[np.ndarray, np.ndarray]]]  # method -> places (n, 2) and a gene (n,) at every share


def fit_exact_process(places: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> Regressor:
    """Fit an exact Gaussian process: so few cells need no sparse one."""
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    return GaussianProcessRegressor(kernel, random_state=int(rng.integers(2**31))).fit(places, values).predict


FIELDS: dict[str, Callable] = {"sparsevfc": fit_sparse_vfc, "mlp": fit_mlp, "gaussian process": fit_exact_process}


def ellipse(share: float, rng: np.random.Generator) -> ad.AnnData:
    """Draw an ellipse that has sheared by 0.4, turned by 45 degrees and moved by 200 µm at share 1."""
    radius, angle = np.sqrt(rng.random(CELLS)), 2 * np.pi * rng.random(CELLS)
    a, b = radius * np.cos(angle), radius * np.sin(angle)
    cos, sin = np.cos(np.pi / 4 * share), np.sin(np.pi / 4 * share)
    x, y = 500 * a + 0.4 * share * 250 * b, 250 * b
    patterns = np.column_stack([a, b, radius, a * b, *(wave(np.pi * u) for wave in (np.sin, np.cos) for u in (a, b))])
    genes = np.maximum(2 + patterns + 0.1 * rng.standard_normal(patterns.shape), 0).astype(np.float32)
    obs = pd.DataFrame({"section": f"{share:g}"}, index=[f"{share:g} {i}" for i in range(CELLS)])
    place = np.column_stack([cos * x - sin * y + 200 * share, sin * x + cos * y, np.full(CELLS, GAP * share)])
    return ad.AnnData(genes, obs, obsm={"spatial": place}, uns={"spatial_unit": "um"})


def draw(toy: str, seed: int) -> list[ad.AnnData]:
    """Draw the sections that are known: both ends, and those between where there is a truth."""
    if toy == "ellipse":
        rng = np.random.default_rng(seed)
        return [ellipse(share, rng) for share in SHARES]
    adata = getattr(isost.datasets, toy)(CELLS, rng=seed)
    return [adata[:CELLS], adata[CELLS:]]


def pair_up(x: np.ndarray, y: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Cell of the second section (n,) of each of the first: exact transport in place and expression."""
    side = 2 * bin_side([x, y])
    cost = ot.dist(x / side, y / side) + FEATURE_WEIGHT * ot.dist(features[:CELLS], features[CELLS:])
    return ot.emd(ot.unif(CELLS), ot.unif(CELLS), cost, numItermax=10_000_000).argmax(axis=1)


def follow(fit: Callable, start: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Places, at every step, of cells that follow a field v(x) regressed on the displacements of pairs."""
    centre, spread, speed = start.mean(axis=0), start.std(), (end - start).std()
    velocity = fit((start - centre) / spread, (end - start) / speed, rng)
    path = [start]
    for _ in range(STEPS):
        path.append(path[-1] + velocity((path[-1] - centre) / spread) * speed / STEPS)
    return path


def reconstruct(toy: str, seed: int) -> tuple[Frames, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Frames of every method, and where the cells of each end arrive at the other: (forward, backward)."""
    ends = draw(toy, seed)
    adata = ad.concat([ends[0], ends[-1]], uns_merge="first")
    isost.pp.embed(adata)
    (x, y), (gx, gy) = np.split(adata.obsm["spatial"][:, :2], 2), np.split(np.asarray(adata.X)[:, 0], 2)
    features = adata.obsm["X_pca"][:, :20].astype(np.float64)
    pair = pair_up(x, y, features / features[:, 0].std())
    fitted = isost.tl.fit(adata, progress=False, rng=seed)
    sections = [fitted.section(GAP * share, rng=seed) for share in SHARES]
    carried = [carried_to(fitted.model, fitted.stack, 0, GAP * share) for share in SHARES[1:]]
    frames = {
        "isost": [(cells.obsm["spatial"][:, :2], cells.X[:, 0]) for cells in sections],
        "isost, one way": [(x, gx), *((place, gx[fitted.stack.rows[:CELLS]]) for place in carried)],
    }
    arrive = {"isost": (carried[-1], carried_to(fitted.model, fitted.stack, 1, 0.0))}
    for name, fit in FIELDS.items():
        ahead = follow(fit, x, y[pair], np.random.default_rng(seed))
        behind = follow(fit, y, x[np.argsort(pair)], np.random.default_rng(seed))
        frames[name] = [(ahead[round(share * STEPS)], gx) for share in SHARES]
        arrive[name] = ahead[-1], behind[-1]
    frames["displacement"] = [((1 - t) * x + t * y[pair], (1 - t) * gx + t * gy[pair]) for t in SHARES]
    arrive["displacement"] = y, x
    half = np.random.default_rng(seed).permutation(2 * CELLS)[:CELLS]
    frames["stack"] = [(x, gx), *[(np.concatenate([x, y])[half], np.concatenate([gx, gy])[half])] * 3, (y, gy)]
    arrive["stack"] = x, y
    return frames, arrive


def score(place: np.ndarray, truth: np.ndarray, side: float) -> list[float]:
    """Compare two clouds: chamfer and sinkhorn (as the distance sqrt(2 S)) in µm, energy (in bins) and dice."""
    few = [np.random.default_rng(0).permutation(cloud)[:SINKHORN_CELLS] for cloud in (place, truth)]
    transport = float(np.sqrt(2 * sinkhorn_divergence(*few, blur=BLUR)))
    energy = energy_distance(place / side, truth / side)
    return [chamfer_distance(place, truth), transport, energy, dice(place, truth, side=side)]


def run(toy: str, seed: int) -> tuple[list[dict], Frames]:
    """Score every method on one draw of a toy; and the frames."""
    frames, arrive = reconstruct(toy, seed)
    truth, again = ([cells.obsm["spatial"][:, :2] for cells in draw(toy, k + seed)] for k in (1000, 2000))
    side = 2 * bin_side([truth[0], truth[-1]])
    middles = {method: frames[method][2][0] for method in frames}
    arrive["another draw"], middles["another draw"] = (again[-1], again[0]), again[len(again) // 2]
    known = len(truth) > 2
    records = []
    for method in (*arrive, "isost, one way") if known else arrive:
        parts = {"middle": (middles[method], truth[2])} if known else {}
        if method in arrive:
            ahead, behind = arrive[method]
            parts = {"forward": (ahead, truth[-1]), "backward": (behind, truth[0])} | parts
        record = {"toy": toy, "method": method, "seed": seed}
        for part, clouds in parts.items():
            record |= dict(zip((f"{part} {name}" for name in SCORES), score(*clouds, side), strict=True))
        records.append(record)
    return records, frames


def show(table: pd.DataFrame) -> str:
    """Write Markdown tables: mean ± standard deviation over seeds."""
    lines = []
    digits = dict(zip(SCORES, (1, 0, 3, 3), strict=True))
    for parts in (("forward", "backward"), ("middle",)):
        names = [(part, name) for part in parts for name in SCORES]
        for toy, rows in table.dropna(subset=f"{parts[0]} dice").groupby("toy", sort=False):
            headers = [f"{ARROWS[part]} {name}".strip() for part, name in names]
            lines += [f"\n{toy}, {' and '.join(parts)}:\n", "| method | " + " | ".join(headers) + " |"]
            lines.append("|---" * (len(names) + 1) + "|")
            for method, values in rows.groupby("method", sort=False):
                found = [(values[f"{part} {name}"], digits[name]) for part, name in names]
                cells = [f"{value.mean():.{n}f} ± {value.std(ddof=0):.{n}f}" for value, n in found]
                lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(toys: dict[str, Frames], out: Path) -> None:
    """Draw a row for each method and, for each toy, a column for each share of the gap, coloured by a gene."""
    ends = {toy: np.concatenate([place for place, _ in frames["stack"]]) for toy, frames in toys.items()}
    low, high = ({toy: pick(cloud, axis=0) for toy, cloud in ends.items()} for pick in (np.min, np.max))
    ratios = [np.divide(*(high[toy] - low[toy] + 120)) for toy in toys for _ in SHARES]
    methods = list(next(iter(toys.values())))
    size = (sum(ratios) + 0.8, len(methods) + 0.3)
    figure, axes = plt.subplots(len(methods), len(ratios), figsize=size, width_ratios=ratios, layout="constrained")
    for row, method in zip(axes, methods, strict=True):
        row[0].set_ylabel(method.replace(" process", "\nprocess").replace(", ", ",\n"), fontsize=9)
        shown = [(toy, share, *frame) for toy in toys for share, frame in zip(SHARES, toys[toy][method], strict=True)]
        for ax, (toy, share, place, gene) in zip(row, shown, strict=True):
            ax.scatter(*place.T, c=gene, s=2.5, lw=0, vmin=1, vmax=3, clip_on=False)
            (left, bottom), (right, top) = low[toy] - 60, high[toy] + 60
            ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
            ax.spines[:].set_visible(False)
            if method == methods[0]:
                ax.set_title(f"{share * GAP:g} µm", fontsize=9)
    figure.savefig(out, dpi=110)
    Image.open(out).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("morphs.json"), help="JSON to write")
    parser.add_argument("--picture", type=Path, default=Path("morphs.png"), help="picture to draw, of the first seed")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    started = perf_counter()
    records, first = [], {}
    for toy in ("letters", "morph", "ellipse"):
        for seed in range(asked.seeds):
            scores, frames = run(toy, seed)
            records += scores
            if toy != "ellipse":
                first.setdefault(toy, frames)
    seconds = perf_counter() - started
    asked.out.write_text(json.dumps({"isost": isost.__version__, "seconds": seconds, "records": records}, indent=1))
    picture(first, asked.picture)
    print(f"{show(pd.DataFrame(records))}\n\n{seconds:.0f} s; wrote {asked.out} and {asked.picture}")


if __name__ == "__main__":
    main()
