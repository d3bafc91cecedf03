"""Keep every 2nd, 3rd and 4th section of a stack, score those between, and see how errors grow with the spacing.

    python benchmarks/titration.py heart_asp2019 bdtnp_embryo --picture titration.png

Scores are means over the sections that all steps score (`isost.tl.section_titration`), one seed. Real stacks are read
from the folder that ISOST_DATA_DIR names.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl

mpl.use("Agg")

from stacks import STACKS, load

import isost

SHOWN = ("isost", "nearest", "union", "kernel", "ceiling")
SCORES = ("pcc", "nmse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="+", choices=STACKS)
    parser.add_argument("--steps", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--picture", type=Path, help="of the first stack")
    asked = parser.parse_args()
    columns = ["stack", "spacing", "sections", *(f"{name} {score}" for score in SCORES for name in SHOWN)]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for number, stack in enumerate(asked.stacks):
        scores = isost.tl.section_titration(load(stack), steps=asked.steps, progress=False, rng=0)
        if number == 0 and asked.picture:
            isost.pl.section_titration(scores, save=asked.picture)
        common = scores[scores["common"]]
        for spacing, rows in common.groupby("spacing"):
            means = rows.groupby("method")[list(SCORES)].mean()
            entries = [f"{means.loc[name, score]:.3f}" for score in SCORES for name in SHOWN]
            print(f"| {stack} | {spacing:g} | {rows['section'].nunique()} | " + " | ".join(entries) + " |")


if __name__ == "__main__":
    main()
