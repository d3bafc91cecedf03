"""Spatial domains against labels: the networks, their parts, and simpler methods with hindsight.

    ISOST_DATA_DIR=... python benchmarks/domains.py --out domains.json

Writes one JSON file and prints it as Markdown tables. The number of domains is that of the labels, but for communities,
which take a resolution; and expression is normalised and log-transformed alike.

- sections: `starmap_mpfc`, each animal by itself. `isost.tl.spatial_domains` with default settings, the mean of five
  seeds.
- simpler: other methods on the same sections, each at the best of all its settings (neighbours, scaling, covariance,
  votes), chosen by the labels, for each section or for all alike, the mean of as many seeds: what a user could reach
  who knew the answer. Of squidpy's niches SpatialLeiden takes part where it is installed (pip install spatialleiden).
- joint: the three animals together, `batch_key="section"`, scored section by section, with domains moved to each batch
  and without.
- batches: phantoms of nine sections, in each of which genes are measured by efficiencies of their own,
  `batch_key="section"`, two networks, with domains moved to each batch and without.
- stack: `merfish_hypothalamus` in three dimensions, and section by section, scored section by section.
- spots: the stack of `heart_asp2019`, and the labelled section of `her2st_C`, by `variant="spatial"` and by the simpler
  methods on the same 1,000 variable genes, each at the best of its settings, chosen by the labels.
- phantom: the measured cells of phantoms of nine sections, default settings, and, for comparison, what is told with
  labels: the planted domains themselves, each cell given that of most of its 13 nearest, the border of a method that
  looks at so many; and a section told by logistic regression from the planted domains of the eight others (20 principal
  components of a cell and the mean of its 12 nearest).
- ablation: parts left out, on the same sections; "start, not trained" is a linear method, slow features averaged twice.
- many: a phantom of 300,000 cells and 200 genes, one network: its time, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import squidpy as sq
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import show

import isost
from isost._domains import adapt
from isost._domains.mixture import fit_mixtures

SECTIONS = ("BZ9", "BZ5", "BZ14")
VOTES = (0, 12, 20)
COVARIANCES = ("tied", "full")
NEIGHBOURS = (5, 10, 20, 40, 80)
SHARES = (0.2, 0.5, 0.8)
HOPS = (1, 2, 3)
RESOLUTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
SPOTS: dict[str, dict[str, Any]] = {
    "isost, spatial": {},
    "isost, spatial, no contrastive loss": {"contrast": 0.0},
    "isost, spatial, not trained": {"epochs": 0},
}
UNLABELLED = ("none", "undetermined", "whole heart")  # "whole heart": spots given to no part of it
RATIOS = (0.5, 1.0, 1.8, 3.0, 6.0)
PARTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no gene branch": {"variant": "spatial"},
    "random gene map": {"gene_map": "random"},
    "random start": {"start": "random"},
    "start, not trained": {"epochs": 0, "variant": "spatial"},
    "no contrastive loss": {"contrast": 0.0},
    "no gradient projection": {"project_conflicts": False},
    "one network": {"n_networks": 1},
    "no votes": {"n_votes": 0},
}


def read(name: str) -> ad.AnnData:
    """Read real data."""
    return ad.read_h5ad(Path(os.environ["ISOST_DATA_DIR"]) / f"{name}.h5ad")


def truth_of(adata: ad.AnnData) -> np.ndarray:
    return adata.obs["domain"].astype(str).to_numpy()


def scores(found: np.ndarray, adata: ad.AnnData) -> dict[str, float]:
    return isost.metrics.domains(found, truth_of(adata), coords=adata.obsm["spatial"])


def normalised(adata: ad.AnnData) -> ad.AnnData:
    """Copy, log-normalised as `isost.pp.embed` would."""
    other = adata.copy()
    values = other.X.data if sparse.issparse(other.X) else np.asarray(other.X)
    if not (values % 1).any():
        sc.pp.normalize_total(other)
    sc.pp.log1p(other)
    return other


def ours(adata: ad.AnnData, seed: int, **options: Any) -> np.ndarray:
    """Domains of a copy."""
    other = adata.copy()
    number = int(pd.unique(truth_of(adata)).size)
    isost.tl.spatial_domains(other, n_domains=number, rng=seed, progress=False, **options)
    return other.obs["spatial_domain"].astype(str).to_numpy()


def mixture(x: np.ndarray, k: int, covariance: str, seed: int) -> np.ndarray:
    """Label rows by the likeliest of 32 mixtures."""
    rng = np.random.default_rng(seed)
    return fit_mixtures(x, k, covariance=covariance, n_init=32, rng=rng)[0].predict(x)


def voted(codes: np.ndarray, coords: np.ndarray, votes: int) -> np.ndarray:
    """Give each cell the label of most of its nearest."""
    if not votes:
        return codes
    near = cKDTree(coords).query(coords, k=votes + 1)[1]
    return np.eye(codes.max() + 1)[codes][near].sum(axis=1).argmax(axis=1)


def principal(x: np.ndarray, n_comps: int = 20) -> np.ndarray:
    centred = x - x.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :n_comps] * size[:n_comps]


def expressions(adata: ad.AnnData) -> Iterator[tuple[str, np.ndarray]]:
    """Log-normalised expression, as it is and scaled gene by gene."""
    x = np.asarray(adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X, dtype=np.float64)
    yield "as it is", x
    yield "scaled", np.clip((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-8), -10, 10)


def embeddings(adata: ad.AnnData) -> Iterator[tuple[str, str, np.ndarray]]:
    """Representations of simpler methods: method, setting, values."""
    coords = adata.obsm["spatial"]
    for how, x in expressions(adata):
        scores_ = principal(x)
        yield "PCA + mixture", how, scores_
        for k in NEIGHBOURS:
            near = cKDTree(coords).query(coords, k=k + 1)[1]
            yield "neighbourhood mean + mixture", f"{how}, {k}", scores_[near].mean(axis=1)
        for share, k in itertools.product(SHARES, (15, 30)):
            yield "BANKSY-like + mixture", f"{how}, {share}, {k}", principal(banksy(x, coords, share, k))


def banksy(x: np.ndarray, coords: np.ndarray, share: float, k: int) -> np.ndarray:
    """Own expression, mean of neighbours and size of the gradient, side by side (after Singhal et al. 2024)."""
    away, near = cKDTree(coords).query(coords, k=k + 1)
    away, near = away[:, 1:], near[:, 1:]
    weight = np.exp(-((away / np.maximum(np.median(away, axis=1)[:, None], 1e-12)) ** 2))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkg->ng", weight, x[near])
    step = coords[near] - coords[:, None]
    turn = np.exp(1j * np.arctan2(step[..., 1], step[..., 0]))
    gradient = np.abs(np.einsum("nk,nkg->ng", weight * turn, x[near] - mean[:, None]))
    parts = [np.sqrt(1 - share) * x, np.sqrt(share * 2 / 3) * mean, np.sqrt(share / 3) * gradient]
    return np.concatenate([part - part.mean(axis=0) for part in parts], axis=1)


def niches(adata: ad.AnnData, k: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """squidpy's niches: CellCharter's mixture, communities of neighbourhood profiles, UTAG's, and SpatialLeiden's."""
    for how, x in expressions(adata):
        other = ad.AnnData(sparse.csr_matrix(x), adata.obs[[]].copy(), adata.var[[]].copy())
        other.obsm["spatial"] = adata.obsm["spatial"][:, :2]  # a plane, for the triangulation
        sc.pp.pca(other, n_comps=30)
        sq.gr.spatial_neighbors(other, coord_type="generic", delaunay=True)
        for hops in HOPS:
            with suppress(ValueError):  # its mixture may collapse: no niches then
                sq.gr.calculate_niche(other, flavor="cellcharter", distance=hops, aggregation="mean", n_components=k,
                                      random_state=seed)  # fmt: skip
                yield f"cellcharter, {how}, {hops}", pd.factorize(other.obs["cellcharter_niche"])[0]
        sc.pp.neighbors(other, random_state=seed)
        sc.tl.leiden(other, flavor="igraph", n_iterations=2, random_state=seed)
        for flavor, more in (("neighborhood", {"groups": "leiden"}), ("utag", {})):
            for resolution in RESOLUTIONS:
                before = set(other.obs.columns)
                sq.gr.calculate_niche(other, flavor=flavor, n_neighbors=15, resolutions=resolution, **more)
                column = next(name for name in other.obs.columns if name not in before)
                yield f"{flavor}, {how}, {resolution:g}", pd.factorize(other.obs[column])[0]
                del other.obs[column]
        if find_spec("spatialleiden") is None:
            print("SpatialLeiden is left out: pip install spatialleiden")
            continue
        for ratio, resolution in itertools.product(RATIOS, RESOLUTIONS):
            sq.gr.calculate_niche(other, flavor="spatialleiden", layer_ratio=ratio, resolutions=resolution,
                                  random_state=seed)  # fmt: skip
            column = f"spatialleiden_res={resolution}"
            yield f"spatialleiden, {how}, {ratio:g}, {resolution:g}", pd.factorize(other.obs.pop(column))[0]


def of_embeddings(logged: ad.AnnData, seeds: int) -> list[dict[str, Any]]:
    """Every setting of a mixture on every embedding: its scores, the mean over seeds."""
    k, records = int(pd.unique(truth_of(logged)).size), []
    for method, setting, values in embeddings(logged):
        for covariance in COVARIANCES:
            labels = [mixture(values, k, covariance, seed) for seed in range(seeds)]
            for votes in VOTES:
                found = [scores(voted(codes, logged.obsm["spatial"], votes), logged) for codes in labels]
                records.append({"method": method, "setting": f"{setting}, {covariance}, {votes}", **mean_of(found)})
    return records


def others(adata: ad.AnnData, seeds: int) -> list[dict[str, Any]]:
    """Every setting of every simpler method: its scores, the mean over seeds."""
    logged, k = normalised(adata), int(pd.unique(truth_of(adata)).size)
    records = of_embeddings(logged, seeds)
    by_setting: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for (setting, codes), votes in itertools.product(niches(logged, k, seed), VOTES):
            found = scores(voted(codes, adata.obsm["spatial"], votes), adata)
            by_setting.setdefault(f"{setting}, {votes}", []).append(found)
    records += [{"method": "squidpy niches", "setting": setting, **mean_of(found)}
                for setting, found in by_setting.items()]  # fmt: skip
    return records


def mean_of(found: list[dict[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return means | {"n": len(found), "nmi_sd": float(np.std([one["nmi"] for one in found]))}


def best_of(table: pd.DataFrame) -> pd.DataFrame:
    """Of each method, the setting with the highest NMI for each section, and the one with the highest mean."""
    best = table.loc[table.groupby(["section", "method"], sort=False)["nmi"].idxmax()].assign(chosen="each section")
    mean = table.groupby(["method", "setting"], sort=False)["nmi"].mean()
    one = mean.groupby("method", sort=False).idxmax()
    same = table[pd.MultiIndex.from_frame(table[["method", "setting"]]).isin(one)].assign(chosen="all sections")
    return pd.concat([best, same])


def animals() -> Iterator[tuple[str, ad.AnnData]]:
    whole = read("starmap_mpfc")
    for name in SECTIONS:
        yield name, whole[whole.obs["section"] == name].copy()


def sections(seeds: int) -> list[dict[str, Any]]:
    records = []
    for name, part in animals():
        found = [scores(ours(part, seed), part) for seed in range(seeds)]
        records.append({"section": name, "method": "isost", **mean_of(found)})
    return records


def simpler(seeds: int) -> list[dict[str, Any]]:
    table = pd.DataFrame([{"section": name, **one} for name, part in animals() for one in others(part, seeds)])
    return best_of(table).to_dict("records")


def joint(seeds: int) -> list[dict[str, Any]]:
    whole, records = read("starmap_mpfc"), []
    for moved in (True, False):
        labels = [by_batches(whole, seed, moved=moved) for seed in range(seeds)]
        for name in SECTIONS:
            rows = (whole.obs["section"] == name).to_numpy()
            part = whole[rows].copy()
            found = [scores(codes[rows], part) for codes in labels]
            records.append({"section": name, "moved": moved, **mean_of(found)})
    return records


def by_batches(adata: ad.AnnData, seed: int, *, moved: bool, **options: Any) -> np.ndarray:
    """Domains of sections as batches, with mixtures moved to each or one for all."""
    with patch.object(adapt, "_STEPS", adapt._STEPS if moved else 0):
        return ours(adata, seed, batch_key="section", **options)


def thinned(seed: int, shape: str) -> ad.AnnData:
    """Phantom of which each section keeps a share of a gene's counts, drawn for each gene: two thirds on average."""
    adata, rng = isost.datasets.phantom(shape, rng=seed), np.random.default_rng(seed)
    counts = adata.X.toarray().astype(int)
    section = pd.factorize(adata.obs["section"])[0]
    for number in range(section.max() + 1):
        rows = section == number
        counts[rows] = rng.binomial(counts[rows], rng.beta(6, 3, size=adata.n_vars))
    adata.X = sparse.csr_matrix(counts.astype(np.float32))
    return adata


def batches(seeds: int) -> list[dict[str, Any]]:
    records = []
    for shape, moved in itertools.product(("still", "bending", "branching"), (True, False)):
        found = []
        for adata in (thinned(seed, shape) for seed in range(10, 10 + seeds)):
            codes = by_batches(adata, 0, moved=moved, n_networks=2)
            names = adata.obs["section"].astype(str).to_numpy()
            found += [scores(codes[names == name], adata[names == name]) for name in np.unique(names)]
        records.append({"shape": shape, "moved": moved, **mean_of(found)})
    return records


def stack(seeds: int) -> list[dict[str, Any]]:
    whole, records = read("merfish_hypothalamus"), []
    names = whole.obs["section"].cat.categories
    for seed in range(seeds):
        together = ours(whole, seed)
        for name in names:
            rows = (whole.obs["section"] == name).to_numpy()
            part = whole[rows].copy()
            for method, codes in (("3D", together[rows]), ("section by section", ours(part, seed))):
                records.append({"section": name, "seed": seed, "method": method, **scores(codes, part)})
    return records


def labelled_spots() -> Iterator[tuple[str, ad.AnnData]]:
    """Spots with a domain, log-normalised, 1,000 variable genes."""
    heart, tumour = read("heart_asp2019"), read("her2st_C")
    heart.obs["domain"] = heart.obs["domain_name"]
    for name, whole in (("heart", heart), ("tumour", tumour[tumour.obs["section"] == "C1"])):
        adata = normalised(whole[~whole.obs["domain"].isin(UNLABELLED)])
        sc.pp.filter_genes(adata, min_cells=5)
        sc.pp.highly_variable_genes(adata, n_top_genes=1000)
        yield name, adata[:, adata.var["highly_variable"]].copy()


def spots(seeds: int) -> list[dict[str, Any]]:
    records = []
    for name, adata in labelled_spots():
        for method, options in SPOTS.items():
            found = [scores(ours(adata, seed, variant="spatial", **options), adata) for seed in range(seeds)]
            records.append({"tissue": name, "method": method, **mean_of(found)})
        table = pd.DataFrame(of_embeddings(adata, seeds))
        best = table.loc[table.groupby("method", sort=False)["nmi"].idxmax()].to_dict("records")
        records += [{"tissue": name, **one} for one in best]
    return records


def supervised(adata: ad.AnnData) -> np.ndarray:
    """Tell each section from the labels of the others."""
    own = principal(dict(expressions(normalised(adata)))["as it is"])
    near = cKDTree(adata.obsm["spatial"]).query(adata.obsm["spatial"], k=13)[1][:, 1:]
    features = np.hstack([own, own[near].mean(axis=1)])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    section = pd.factorize(adata.obs["section"])[0]
    return cross_val_predict(model, features, truth_of(adata), groups=section, cv=LeaveOneGroupOut())


def phantom(seeds: int) -> list[dict[str, Any]]:
    records = []
    for shape, n_cells in itertools.product(("still", "bending", "branching"), (300, 2000, 4000)):
        about = {"shape": shape, "cells": n_cells}
        found: dict[str, list[dict[str, float]]] = {"isost": [], "planted, 12 votes": [], "supervised": []}
        for seed in range(10, 10 + seeds):
            adata = isost.datasets.phantom(shape, n_cells=n_cells, rng=seed)
            planted = voted(pd.factorize(truth_of(adata))[0], adata.obsm["spatial"], 12)
            found["isost"].append(scores(ours(adata, seed), adata))
            found["planted, 12 votes"].append(scores(planted, adata))
            found["supervised"].append(scores(supervised(adata), adata))
        records += [about | {"method": method, **mean_of(each)} for method, each in found.items()]
    return records


def ablation(seeds: int) -> list[dict[str, Any]]:
    records = []
    for (name, part), (part_name, options) in itertools.product(animals(), PARTS.items()):
        started = perf_counter()
        found = [scores(ours(part, seed, **options), part) for seed in range(seeds)]
        seconds = (perf_counter() - started) / seeds
        records.append({"section": name, "part": part_name, **mean_of(found), "seconds": seconds})
    return records


def many(_seeds: int) -> list[dict[str, Any]]:
    adata = isost.datasets.phantom(n_cells=33_334, n_genes=200, rng=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = perf_counter()
    found = scores(ours(adata, 0, n_networks=1), adata)
    minutes = (perf_counter() - started) / 60
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [{"cells": adata.n_obs, "minutes": minutes, "peak_gib": peak, "data_gib": before, **found}]


PARTS_OF: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "many": many, "sections": sections, "simpler": simpler, "joint": joint, "batches": batches,
    "stack": stack, "spots": spots, "phantom": phantom, "ablation": ablation,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("domains.json"))
    parser.add_argument("--only", choices=tuple(PARTS_OF), help="leave the others out")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # of third parties
    results = {}
    for name, run in PARTS_OF.items():
        if asked.only in (None, name):
            results[name] = run(asked.seeds)
            asked.out.write_text(json.dumps(results, indent=1))
            print(f"\n{name}")
            show(pd.DataFrame(results[name]))


if __name__ == "__main__":
    main()
