"""A badly stained section among those that a stack is fitted on: held-out scores with `correct_sections` and without.

    python benchmarks/stained.py [STACK ...] [--seed 1]

One training section of each stack, the middle one, has every log-normalised gene scaled by 0.5 to 1.5 and shifted by a
normal draw times half the gene's spread. Sections 3, 5, 7, ... are held out, of which nothing is stained.
"""

from __future__ import annotations

import argparse
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from stacks import STACKS, load

import isost
from isost._core.held_out import Split
from isost._core.sections import Sections
from isost.tl._held_out import Fit, Keys, read_geometry, split

FEWEST = 5  # sections that are left to fit on, where the stack has as many
SCORES = ["pcc", "nmse", "energy"]


def lognormal(adata: ad.AnnData) -> ad.AnnData:
    """Copy with log-normalised expression; counts are of phantoms."""
    values = np.asarray(adata.X.toarray() if sparse.issparse(adata.X) else adata.X, dtype=np.float64)
    if sparse.issparse(adata.X):
        totals = values.sum(axis=1, keepdims=True)
        values = np.log1p(values / np.where(totals > 0, totals, 1.0) * np.median(totals))
    made = ad.AnnData(values.astype(np.float32), obs=adata.obs[["section"]].copy(), var=adata.var[[]].copy())
    made.obsm["spatial"] = adata.obsm["spatial"]
    made.uns["spatial_unit"] = adata.uns["spatial_unit"]
    return made


def held_out(sections: Sections) -> list[int]:
    """Number every second inner section from the third on, or as few as leave enough to fit on."""
    n = len(sections.names)
    chosen = list(range(2, n - 1, 2))
    return chosen[: max(1, n - FEWEST)]


def stain(adata: ad.AnnData, rows: np.ndarray, rng: np.random.Generator) -> ad.AnnData:
    """Copy with the gain and the offset of every gene changed in some cells."""
    stained = adata.copy()
    gain = rng.uniform(0.5, 1.5, adata.n_vars)
    offset = 0.5 * adata.X.std(axis=0) * rng.standard_normal(adata.n_vars)
    stained.X[rows] = adata.X[rows] * gain + offset
    return stained


def run(name: str, seed: int) -> list[dict[str, object]]:
    """Score the four fits of a stack."""
    clean = lognormal(load(name, seed=seed))
    sections = read_geometry(clean, Keys())[1]
    out = held_out(sections)
    known = [k for k in range(len(sections.names)) if k not in out]
    bad = known[len(known) // 2]
    stained = stain(clean, sections.index == bad, np.random.default_rng(seed))
    records = []
    for what, adata in (("clean", clean), (f"{sections.names[bad]} stained", stained)):
        train, held = split(adata, out)
        records += score(train, held, {"stack": name, "sections": what})
    return records


def score(train: ad.AnnData, held: Split, about: dict[str, object]) -> list[dict[str, object]]:
    """Score the fit with and without; where nothing is corrected they are one, and it is not made twice."""
    records: list[dict[str, object]] = []
    for on in (True, False):
        if not on and records[0]["corrected"] == "none":
            records.append(records[0] | {"correct_sections": False})
            continue
        fitted = isost.tl.fit(train, rng=0, progress=False, correct_sections=on)
        scores = pd.DataFrame(held.score({"isost": Fit(fitted, held.genes)}))
        mean = scores[scores["method"] == "isost"][SCORES].mean().to_dict()
        found = ", ".join(fitted.params["corrected_sections"]) or "none"
        records.append(about | {"correct_sections": on, "corrected": found} | mean)
        print(records[-1], flush=True)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="*", default=STACKS, metavar="STACK", help=f"of {', '.join(STACKS)}")
    parser.add_argument("--seed", type=int, default=1, help="of the phantoms and the stain (default: 1)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    table = pd.DataFrame([record for name in args.stacks for record in run(name, args.seed)])
    columns = [*table.columns[:4], *SCORES]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in table[columns].itertuples(index=False):
        print("| " + " | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row) + " |")


if __name__ == "__main__":
    main()
