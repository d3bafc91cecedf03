"""Expression from H&E: how well it is told of sections that were only stained, and what helps.

    ISOST_DATA_DIR=... python benchmarks/histology.py --out histology.json

Writes one JSON file and prints it as Markdown tables. Sections C2 to C6 of `her2st_C` have H&E; their spots are 100 µm
wide. Scores are Pearson's r over the spots of a section, gene by gene (0 where a gene is constant), the mean over
genes, then over sections, of log1p of 10,000 counts. 200 highly variable genes, chosen by section, are told. Sections
lie in one frame by their centres of mass; nothing else is registered.

- sections: each section held out, told by `isost.tl.fit_histology` with default settings from the other four, the mean
  over seeds; beside it, on the same features: ridge regression of genes and kNN, at the best of several settings
  (chosen with hindsight), and, without images, Gaussian kernel means over the two neighbouring sections or over all
  others, at the best of three widths (hindsight too). Coverage: of 90 % intervals. Halves: r
  between what two random halves of the counts of a section say.
- together: prediction and neighbours w x p + (1 - w) x n, w measured on the training sections (`model.trust`); and the
  prediction of a model that is told where a spot lies (`use_positions=True`).
- known: what it would be worth to know more. Nine tenths of the spots of a section are measured as well, and the last
  tenth is told, in turn, from these, the other four sections and H&E.
- parts: of the features those of the spot itself (local), and those of its surroundings (global).
- markers: the genes that `genes="markers"` chooses.
- two: a model of C2 and C5 tells C3, C4 and C6; C3 from its measured neighbours only (C2 and C5), from its H&E only,
  from both by `use_positions=True`, and from `isost.tl.fit` on a stack of the measured and the told sections: the mean
  field at its spots, and the spots as they are in the stack.
- phantom: slides with planted links of genes to morphology (`isost.datasets.phantom_slide`); the model of one slide
  tells others, one of which is stained otherwise. By what genes follow.
- many: 60,000 points on a slide of 4 mm: minutes of features, and of prediction by a model of 200 genes, and the peak
  memory of the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from tables import show

import isost

NAMES = ("C2", "C3", "C4", "C5", "C6")
PIXEL_SIZE, RADIUS = 200 / 272.3, 50.0  # µm: spots are 200 µm apart, and 272.3 pixels
Z = {name: 16.0 * k for k, name in enumerate(NAMES)}
METHODS: dict[str, dict[str, Any]] = {
    "network": {}, "ridge": {"method": "ridge"}, "prts": {"method": "prts"},
    "prts, learning rate 1e-3": {"method": "prts", "learning_rate": 1e-3},
}  # fmt: skip
PENALTIES, NEIGHBOURS, WIDTHS = (300, 1000, 3000, 10_000), (20, 50), (150, 250, 400)
MEASURED, WANTED = ("C2", "C5"), "C3"
N_MANY, SIDE_MANY = 60_000, 8000


def spots() -> ad.AnnData:
    """Counts of the sections that have an image, in one frame by their centres of mass."""
    whole = ad.read_h5ad(Path(os.environ["ISOST_DATA_DIR"]) / "her2st_C.h5ad")
    whole = whole[whole.obs["section"].isin(NAMES)].copy()
    place = np.asarray(whole.obsm["spatial"], dtype=float)[:, :2]
    for name in NAMES:
        rows = (whole.obs["section"] == name).to_numpy()
        place[rows] -= place[rows].mean(axis=0)
    whole.obsm["spatial"] = place
    sc.pp.filter_genes(whole, min_cells=10)
    return whole


def described(whole: ad.AnnData) -> dict[str, ad.AnnData]:
    """Features of each section by the built-in encoder."""
    folder = Path(os.environ["ISOST_DATA_DIR"]) / "her2st_C_images"
    return {
        name: isost.tl.histology_features(
            folder / f"{name}.jpg", whole[whole.obs["section"] == name].copy(), pixel_size=PIXEL_SIZE,
            spatial_key="pixel", radius=RADIUS, progress=False,
        )
        for name in NAMES
    }  # fmt: skip


def logged(counts: ad.AnnData) -> pd.DataFrame:
    """log1p of 10,000 counts."""
    other = counts.copy()
    sc.pp.normalize_total(other, target_sum=1e4)
    sc.pp.log1p(other)
    return pd.DataFrame(other.X.toarray() if sparse.issparse(other.X) else other.X, other.obs_names, other.var_names)


def pearson(told: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """(G,) r of columns; 0 where one is constant."""
    a, b = told - told.mean(axis=0), measured - measured.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros(a.shape[1]), where=scale > 1e-9)


def score(told: np.ndarray, measured: np.ndarray) -> float:
    return float(pearson(told, measured).mean())


class Section:
    """One section held out: its expression, and what others say of it."""

    def __init__(self, whole: ad.AnnData, features: dict[str, ad.AnnData], name: str) -> None:
        self.name = name
        self.train = whole[whole.obs["section"] != name].copy()
        self.features = {other: part for other, part in features.items() if other != name}
        self.own, self.counts = features[name], whole[whole.obs["section"] == name].copy()
        self.place = np.asarray(self.counts.obsm["spatial"])

    def fit(self, **options: Any) -> isost.HistologyModel:
        options = {"section_key": "section", "progress": False, **options}
        return isost.tl.fit_histology(self.train, self.features, **options)

    def measured(self, genes: list[str]) -> np.ndarray:
        return logged(self.counts)[genes].to_numpy()

    def centred(self, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Expression of the training sections less the mean of each, and the section of each spot."""
        values, label = logged(self.train)[genes], self.train.obs["section"].astype(str)
        return (values - values.groupby(label).transform("mean")).to_numpy(), label.to_numpy()

    def scaled(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the training spots and of the section, standardised slide by slide."""
        parts = {name: part.to_df() for name, part in (self.features | {self.name: self.own}).items()}
        parts = {name: ((x - x.mean()) / (x.std(ddof=0) + 1e-6)).clip(-4, 4) for name, x in parts.items()}
        own = parts.pop(self.name)
        return pd.concat(parts.values()).loc[self.train.obs_names].to_numpy(), own.to_numpy()

    def neighbours(self, genes: list[str], width: float, *, only_beside: bool) -> np.ndarray:
        values, label = self.centred(genes)
        beside = [other for other in np.unique(label) if not only_beside or abs(Z[other] - Z[self.name]) == 16]
        return np.mean([mean_at(self.train.obsm["spatial"][label == other], values[label == other], self.place, width)
                        for other in beside], axis=0)  # fmt: skip


def mean_at(place: np.ndarray, values: np.ndarray, at: np.ndarray, width: float) -> np.ndarray:
    """Gaussian kernel means (m, G)."""
    away = ((at[:, None] - place) ** 2).sum(axis=2)
    weight = np.exp(-(away - away.min(axis=1, keepdims=True)) / (2 * width**2))
    return weight @ values / weight.sum(axis=1, keepdims=True)


def halves(counts: ad.AnnData, genes: list[str]) -> float:
    """r between expression as one random half of the counts of a section says, and as the other does."""
    whole = counts.to_df()
    one = pd.DataFrame(np.random.default_rng(0).binomial(whole.to_numpy().astype(int), 0.5), whole.index, whole.columns)
    both = [logged(ad.AnnData(part.astype(np.float32)))[genes].to_numpy() for part in (one, whole - one)]
    return score(*both)


def held_out(data: Data) -> list[Section]:
    return [Section(data.spots, data.features, name) for name in NAMES]


class Data:
    """Spots and the features of their slides, which are made once."""

    def __init__(self) -> None:
        self.spots = spots()
        self.features = described(self.spots)


def rows_of(found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row a method: each section, and their mean."""
    return [{"method": method, **dict(zip(NAMES, each, strict=True)), "mean": float(np.mean(each))}
            for method, each in found.items()]  # fmt: skip


def add(found: dict[str, list[float]], method: str, value: float) -> None:
    found.setdefault(method, []).append(value)


def best(found: dict[str, list[float]], start: str) -> dict[str, list[float]]:
    """Of the settings of a method the one with the best mean."""
    those = {name: each for name, each in found.items() if name.startswith(start)}
    name = max(those, key=lambda key: np.mean(those[key]))
    return {name: those[name]}


def sections(data: Data, seeds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for one in held_out(data):
        for method, options in METHODS.items():
            scores, covered = [], []
            for seed in range(seeds if method != "ridge" else 1):  # which draws nothing
                model = one.fit(rng=seed, **options)
                told, y = model.predict(one.own, interval=0.9), one.measured(model.genes)
                scores.append(score(told.X, y))
                covered.append(float(((told.layers["lower"] <= y) & (y <= told.layers["upper"])).mean()))
            add(found, f"isost, {method}", float(np.mean(scores)))
            add(found, f"isost, {method}: coverage", float(np.mean(covered)))
        genes = model.genes
        y, (values, _), (x, own) = one.measured(genes), one.centred(genes), one.scaled()
        add(found, "isost: one half of the counts and the other", halves(one.counts, genes))
        for penalty in PENALTIES:
            add(found, f"ridge of genes, {penalty}", score(Ridge(alpha=penalty).fit(x, values).predict(own), y))
        for k in NEIGHBOURS:
            add(found, f"kNN, {k}", score(KNeighborsRegressor(k).fit(x, values).predict(own), y))
        for width in WIDTHS:
            add(found, f"neighbours beside, {width} um", score(one.neighbours(genes, width, only_beside=True), y))
            add(found, f"neighbours all, {width} um", score(one.neighbours(genes, width, only_beside=False), y))
    kept = {name: each for name, each in found.items() if name.startswith("isost")}
    for start in ("ridge", "kNN", "neighbours beside", "neighbours all"):
        kept |= best(found, start)
    return rows_of(kept)


def together(data: Data, seeds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for one in held_out(data):
        each: dict[str, list[float]] = {}
        for seed in range(seeds):
            model = one.fit(rng=seed)
            y, told = one.measured(model.genes), model.predict(one.own).X
            add(each, "H&E", score(told, y))
            for width in WIDTHS:
                around = one.neighbours(model.genes, width, only_beside=False)
                add(each, f"neighbours, {width} um", score(around, y))
                both = model.trust * (told - told.mean(axis=0)) + (1 - model.trust) * around
                add(each, f"both, {width} um", score(both, y))
            add(each, "trust", model.trust)
            for method in ("network", "ridge") if seed == 0 else ("network",):  # ridge draws nothing
                placed = one.fit(rng=seed, method=method, use_positions=True)
                add(each, f"{method} with positions", score(placed.predict(one.own, positions=one.place).X, y))
        for name, values in each.items():
            add(found, name, float(np.mean(values)))
    return rows_of(found)


def known(data: Data, seeds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for one, method in itertools.product(held_out(data), ("network", "ridge")):
        genes = one.fit(method="ridge").genes
        scores = []
        for seed in range(seeds):
            part = np.random.default_rng(seed).permutation(one.counts.n_obs) % 10
            told = np.empty((one.counts.n_obs, len(genes)))
            for number in range(10):
                train = ad.concat([one.train, one.counts[part != number]])
                model = isost.tl.fit_histology(
                    train, data.features, genes=genes, method=method, section_key="section", use_positions=True,
                    rng=seed, progress=False,
                )  # fmt: skip
                rows = part == number
                own = model.predict(one.own[rows], positions=one.place[rows], like=one.name)
                told[rows] = own[:, genes].X
            scores.append(score(told, one.measured(genes)))
        add(found, f"{method} with positions, nine tenths measured", float(np.mean(scores)))
    return rows_of(found)


def parts(data: Data, seeds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for one in held_out(data):
        for which in ("local", "global"):
            taken = {name: part[:, part.var["part"] == which].copy() for name, part in one.features.items()}
            own = one.own[:, one.own.var["part"] == which].copy()
            scores = []
            for seed in range(seeds):
                model = isost.tl.fit_histology(one.train, taken, section_key="section", rng=seed, progress=False)
                scores.append(score(model.predict(own).X, one.measured(model.genes)))
            add(found, f"{which} only", float(np.mean(scores)))
    return rows_of(found)


def markers(data: Data, seeds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for one in held_out(data):
        scores: dict[str, list[float]] = {}
        for seed in range(seeds):
            model = one.fit(genes="markers", rng=seed)
            r = pearson(model.predict(one.own).X, one.measured(model.genes))
            add(scores, "200 markers", float(r.mean()))
            best_held_out = np.argsort(-model.accuracy["pcc"].to_numpy())[:50]
            add(scores, "50 of them, told best on the training sections", float(r[best_held_out].mean()))
        for name, values in scores.items():
            add(found, name, float(np.mean(values)))
    return rows_of(found)


def two(data: Data, seeds: int) -> list[dict[str, Any]]:
    """Two sections measured, the others told; one of these from both."""
    records = []
    is_measured = data.spots.obs["section"].isin(MEASURED)
    measured = data.spots[is_measured].copy()
    wanted = data.spots[data.spots.obs["section"] == WANTED].copy()
    place = np.column_stack([wanted.obsm["spatial"], np.full(wanted.n_obs, Z[WANTED])])
    for seed in range(seeds):
        taken = {name: data.features[name] for name in MEASURED}
        model = isost.tl.fit_histology(measured, taken, section_key="section", rng=seed, progress=False)
        y = logged(wanted)[model.genes].to_numpy()
        told = {name: model.predict(data.features[name]) for name in NAMES if name not in MEASURED}
        for part in told.values():
            part.obsm["spatial"] = np.asarray(data.spots[part.obs_names].obsm["spatial"])
        taken_from = {}
        for name in MEASURED:
            part = measured[measured.obs["section"] == name, model.genes].copy()
            part.X = logged(measured).loc[part.obs_names, model.genes].to_numpy()
            taken_from[name] = part
        records.append({"seed": seed, "C3 from": "H&E", "r": score(told[WANTED].X, y), "trust": model.trust})
        placed = isost.tl.fit_histology(measured, taken, section_key="section", use_positions=True, rng=seed,
                                        progress=False).predict(data.features[WANTED], positions=place)  # fmt: skip
        records.append({"seed": seed, "C3 from": "H&E with positions", "r": score(placed[:, model.genes].X, y)})
        for how, stack in (("neighbours", taken_from), ("both", taken_from | told)):
            adata = isost.pp.stack_sections(stack, z={name: Z[name] for name in stack})
            isost.pp.embed(adata, n_comps=20)
            fitted = isost.tl.fit(adata, progress=False, rng=seed)
            records.append({"seed": seed, "C3 from": how, "r": score(fitted.expression(place, genes=model.genes), y)})
            if WANTED in stack:
                cells = fitted.section(Z[WANTED], rng=seed)
                cells.obs_names = cells.obs["cell_of_origin"].astype(str)
                own = cells[wanted.obs_names, model.genes].X
                records.append({"seed": seed, "C3 from": f"{how}, as its spots are in the stack", "r": score(own, y)})
    return (
        pd.DataFrame(records)
        .groupby("C3 from", sort=False)
        .mean()
        .drop(columns="seed")
        .reset_index()
        .to_dict("records")
    )


def phantom(_data: None, seeds: int) -> list[dict[str, Any]]:
    records: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        slides = [isost.datasets.phantom_slide(rng=10 * seed), isost.datasets.phantom_slide(rng=10 * seed + 1),
                  isost.datasets.phantom_slide(rng=10 * seed + 2, stain=(1.3, 0.8), tint=0.6)]  # fmt: skip
        features = [isost.tl.histology_features(one["he_image"], one["nuclei"], pixel_size=0.5, progress=False)
                    for one in slides]  # fmt: skip
        genes = slides[0]["table"].var
        for method in ("network", "ridge", "prts"):
            model = isost.tl.fit_histology(slides[0]["table"], features[0], genes=list(genes.index), method=method,
                                           rng=seed, progress=False)  # fmt: skip
            for other, where in ((1, "another slide"), (2, "stained otherwise")):
                told = model.predict(features[other])
                r = pearson(told.X, logged(slides[other]["table"])[model.genes].to_numpy())
                by = pd.Series(r).groupby(genes["link"].to_numpy(), observed=True).mean()
                records.setdefault(f"{method}, {where}", []).append(by)
    return [{"method": name, **pd.concat(each, axis=1).mean(axis=1).to_dict()} for name, each in records.items()]


def many(_data: None, _seeds: int) -> list[dict[str, Any]]:
    small = isost.datasets.phantom_slide(n_cells=900, n_genes=200, side=600)
    tile = np.asarray(small["he_image"].data).transpose(1, 2, 0)
    times = -(-SIDE_MANY // len(tile))
    image = np.tile(tile, (times, times, 1))
    draw = np.random.default_rng(0)
    cells = draw.uniform(10, len(image) - 10, (N_MANY, 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = perf_counter()
    features = isost.tl.histology_features(image, cells, pixel_size=0.5, progress=False)
    minutes = (perf_counter() - started) / 60
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    some = isost.tl.histology_features(small["he_image"], small["table"], spatial_key="pixel", pixel_size=0.5,
                                       progress=False)  # fmt: skip
    model = isost.tl.fit_histology(small["table"], some, epochs=20, progress=False)
    started = perf_counter()
    model.predict(features)
    return [{"cells": N_MANY, "features_minutes": minutes, "features_peak_gib": peak, "image_gib": before,
             "prediction_minutes": (perf_counter() - started) / 60}]  # fmt: skip


PARTS: dict[str, Callable[[Any, int], list[dict[str, Any]]]] = {
    "phantom": phantom, "many": many, "sections": sections, "together": together, "known": known, "parts": parts,
    "markers": markers, "two": two,
}  # fmt: skip
OF_NOTHING = ("phantom", "many")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("histology.json"))
    parser.add_argument("--only", choices=tuple(PARTS), nargs="+", help="leave the others out")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # of third parties
    results: dict[str, Any] = {}
    data = None
    for name, run in PARTS.items():
        if asked.only is None or name in asked.only:
            data = data if data is not None or name in OF_NOTHING else Data()
            results[name] = run(data if name not in OF_NOTHING else None, asked.seeds)
            asked.out.write_text(json.dumps(results, indent=1))
            print(f"\n{name}")
            show(pd.DataFrame(results[name]))


if __name__ == "__main__":
    main()
