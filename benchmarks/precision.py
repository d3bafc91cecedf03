"""What half precision and torch.compile would save of the drift networks, and what they would change.

    python benchmarks/precision.py

A bending phantom. Cells are carried noise-free over a gap by the same fitted drifts in float32, under bfloat16 autocast
and compiled; and the drifts are trained again under bfloat16 (on a CPU that of the shape alone, as SciPy, which pools
graphs there, knows no bfloat16). Differences are of places where cells arrive, in spacings of cells (root mean square),
beside those between two seeds of the training. Seconds are of the clock.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import isost
from isost._core.bridge import BridgeObjective
from isost._core.drift import ShapeDrift
from isost._core.follow import carried_to
from isost._core.train import Training


def half(function: Callable[..., torch.Tensor], device: str) -> Callable[..., torch.Tensor]:
    """Run a function under bfloat16 autocast; what it returns is float32."""

    def halved(*args: Any, **how: Any) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return function(*args, **how).float()

    return halved


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = perf_counter()
    found = work()
    return found, perf_counter() - started


def train(adata: Any, seed: int, device: str) -> tuple[isost.Reconstruction, float]:
    """Fit, and tell how long the training took of it."""
    took = []
    run = Training.run

    def measured(self: Training, **how: Any) -> None:
        took.append(timed(lambda: run(self, **how))[1])

    with patch.object(Training, "run", measured):
        fitted = isost.tl.fit(adata, device=device, progress=False, rng=seed)
    return fitted, took[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=5000, help="of a section")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    adata = isost.datasets.phantom("bending", n_sections=4, n_cells=asked.cells, n_genes=100, rng=0)
    isost.pp.embed(adata, n_comps=30)
    device = asked.device

    fitted, took = train(adata, 0, device)
    stack = fitted.stack
    start = stack.coords[stack.slice_of(1), :2]
    spacing = float(np.sqrt(np.prod(np.ptp(start, axis=0)) / len(start)))

    def arrive(model: Any) -> np.ndarray:
        return carried_to(model, stack, 1, float(stack.depths[2]))

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(((one - other) ** 2).sum(axis=1).mean())) / spacing

    arrive(fitted.model)
    places, carrying = timed(lambda: arrive(fitted.model))
    moved = apart(places, start)
    rows = [("float32", took, carrying, 0.0)]
    with patch.object(ShapeDrift, "forward", half(ShapeDrift.forward, device)):
        arrive(fitted.model)
        lower, seconds = timed(lambda: arrive(fitted.model))
    learned: tuple[type, str] = (ShapeDrift, "forward") if device == "cpu" else (BridgeObjective, "loss")
    with patch.object(*learned, half(getattr(*learned), device)):
        halved, halved_took = train(adata, 0, device)
    rows.append(("bfloat16, carried", float("nan"), seconds, apart(lower, places)))
    rows.append(("bfloat16, trained", halved_took, float("nan"), apart(arrive(halved.model), places)))

    compiled = torch.compile(ShapeDrift.forward, dynamic=True)
    with patch.object(ShapeDrift, "forward", compiled):
        _, first = timed(lambda: arrive(fitted.model))
        same, seconds = timed(lambda: arrive(fitted.model))
    rows.append((f"compiled ({first:.0f} s at first), carried", float("nan"), seconds, apart(same, places)))
    other, other_took = train(adata, 1, device)
    rows.append(("float32, another seed", other_took, float("nan"), apart(arrive(other.model), places)))

    print(f"{asked.cells} cells a section on {device}; they move {moved:.1f} spacings\n")
    print("| | training, s | carrying a section, s | arrives apart, spacings |\n|---|---|---|---|")
    for name, training, carried, distance in rows:
        print(f"| {name} | {_or_blank(training, '.1f')} | {_or_blank(carried, '.2f')} | {distance:.4f} |")


def _or_blank(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


if __name__ == "__main__":
    main()
