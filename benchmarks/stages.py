"""Profile every stage of one stack: which functions take the time.

    python benchmarks/stages.py --cells 6000 --sections 8

A bending phantom of 1,122 genes and 50 components, counts on disk, voxels of 50 µm, as in scale.py, all motion that
couplings show believed. In one thread, as a profile sees no other; times are a few per cent too long, as every call is
counted. Shares are of a function itself, without what it calls.
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import pstats
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from scale import COMPONENTS, VOXEL, make

import isost
from isost._core import bridge, field, fit, stream
from isost.tl import _fit, _stream

STAGES = {
    "embed": (isost.pp, "embed"),
    "stack": (_fit, "read_stack"),
    "couple": (bridge.BridgeObjective, "__init__"),
    "fit": (fit.Training, "run"),
    "field": (field.Field, "fit"),
    "section": (isost.Reconstruction, "section"),
    "volume": (_stream, "stream_volume"),
    "write": (stream, "move_zarr"),
}


class Profiles:
    """A profile of each stage; that of a stage rests while another inside it runs."""

    def __init__(self) -> None:
        self.of = {name: cProfile.Profile() for name in STAGES}
        self._open: list[cProfile.Profile] = []

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        if self._open:
            self._open[-1].disable()
        self._open.append(self.of[name])
        self.of[name].enable()
        try:
            yield
        finally:
            self._open.pop().disable()
            if self._open:
                self._open[-1].enable()

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def profiled(*args: Any, **how: Any) -> Any:
            with self._stage(name):
                return function(*args, **how)

        return profiled


def profiles(path: Path, output: Path) -> Profiles:
    """Run all stages."""
    import anndata as ad

    logging.getLogger("isost").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    found, believed = Profiles(), bridge._believed
    patches = [patch.object(owner, name, found.around(stage, getattr(owner, name)))
               for stage, (owner, name) in STAGES.items()]  # fmt: skip
    patches.append(patch.object(bridge, "_believed", lambda *how: replace(believed(*how), motion=1.0, change=1.0)))
    for one in patches:
        one.start()
    try:
        adata = ad.read_h5ad(path, backed="r")
        isost.pp.embed(adata, n_comps=COMPONENTS)
        fitted = isost.tl.fit(adata, progress=False, rng=0)
        fitted.section(float(fitted.stack.depths[:2].mean()), rng=0)
        isost.tl.reconstruct(None, fitted=fitted, voxel_size=VOXEL, output=output, rng=0)
    finally:
        for one in patches:
            one.stop()
    return found


def show(found: Profiles, n_functions: int) -> str:
    """Write a Markdown table: seconds of a stage, and the functions that take most of them."""
    lines = ["| stage | seconds | most of it in |", "|---|---|---|"]
    for name, profile in found.of.items():
        stats = pstats.Stats(profile)
        own = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:n_functions]  # type: ignore[attr-defined]
        total = max(stats.total_tt, 1e-9)  # type: ignore[attr-defined]
        named = [f"{_name(*function)} {took[2] / total:.0%}" for function, took in own]
        lines.append(f"| {name} | {total:.1f} | {', '.join(named)} |")
    return "\n".join(lines)


def _name(file: str, line: int, function: str) -> str:
    if file == "~":
        return function.strip("<>").replace("built-in method ", "").replace("method ", "")
    return f"{Path(file).stem}.{function}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=6000, help="of a section")
    parser.add_argument("--sections", type=int, default=8)
    parser.add_argument("--functions", type=int, default=5, help="functions of each stage to name")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.h5ad"
        make(path, asked.cells, asked.sections)
        print(show(profiles(path, Path(folder) / "out.zarr"), asked.functions))


if __name__ == "__main__":
    main()
