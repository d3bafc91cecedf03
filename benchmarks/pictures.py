"""Draw a held-out section beside what methods predict for it, for a few genes.

    python benchmarks/pictures.py merfish_hypothalamus --genes Gad1 Slc17a6 Sln --out hypothalamus_held_out.png

Real stacks are read from the folder that ISOST_DATA_DIR names. Every second inner section is held out, as in
accuracy.py; the one in the middle of those is drawn.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from accuracy import make
from PIL import Image
from stacks import STACKS, hold_out, load

from isost._core.held_out import HeldOut, Split
from isost._core.kernel import kernel_field, own_section_field

METHODS = (
    "isost", "nearest", "union", "weighted union", "kernel", "displacement", "low rank", "mlp", "gaussian process",
    "sparsevfc",
)  # fmt: skip


def predict(adata, method: str, train, held: Split, section: HeldOut) -> np.ndarray:
    """Mean expression (n, G) at the cells of a held-out section."""
    predictor = make(method, train, held, 0, adata)
    field = predictor.field(section.coords, section.depth)
    if field is None:
        cloud = predictor.cells(section.depth, None, np.random.default_rng(0))
        field = kernel_field(section.coords[:, :2], cloud.coords, cloud.genes, held.training.width, cloud.weight)
    return field


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--genes", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    asked = parser.parse_args()
    adata = load(asked.stack)
    train, held = hold_out(adata)
    unknown = [gene for gene in asked.genes if gene not in held.genes]
    if unknown:
        parser.error(f"genes: expected some of {', '.join(held.genes[:20])}, ...; found {', '.join(unknown)}")
    section = held.held_out[len(held.held_out) // 2]
    index = [held.genes.index(gene) for gene in asked.genes]
    plane = section.coords[:, :2]
    smoothed = own_section_field(plane, section.cells.genes[:, index], section.side, np.arange(len(plane))[:, None])
    columns = {"measured cells": section.cells.genes[:, index], "measured, smoothed": smoothed}
    columns |= {method: predict(adata, method, train, held, section)[:, index] for method in METHODS}

    size = float(np.clip(4000 / len(plane), 1.0, 14.0))  # of a dot
    figure, axes = plt.subplots(
        len(index), len(columns), figsize=(1.6 * len(columns), 1.8 * len(index)), layout="constrained", squeeze=False
    )
    for row, gene in enumerate(asked.genes):
        low, high = np.quantile(smoothed[:, row], [0.02, 0.98])
        for ax, (name, values) in zip(axes[row], columns.items(), strict=True):
            drawn = ax.scatter(*plane.T, c=values[:, row], s=size, lw=0, vmin=low, vmax=high, rasterized=True)
            ax.set_aspect("equal")
            ax.set(xticks=[], yticks=[])
            for side in ax.spines.values():
                side.set_visible(False)
            if row == 0:
                ax.set_title(name, fontsize=9)
        axes[row, 0].set_ylabel(gene, fontsize=9)
        figure.colorbar(drawn, ax=axes[row, -1], shrink=0.8)
    figure.suptitle(f"{asked.stack}, section {section.name}, which no method saw", fontsize=9)
    figure.savefig(asked.out, dpi=72)
    Image.open(asked.out).convert("RGB").quantize(128).save(asked.out, optimize=True)  # thousands of dots: a third
    print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
