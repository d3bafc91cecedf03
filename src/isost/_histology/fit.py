"""Fit expression to the features of slides, and measure it on tissue that is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from isost._core.checkpoint import Checkpoint, clear
from isost._core.random import numpy_generator
from isost._histology.accuracy import accuracy_of, trust_in
from isost._histology.genes import Components, find_components
from isost._histology.model import Histology, inputs, told
from isost._histology.network import NETWORKS, DualOutput, NetworkOptions, network_found, train_network
from isost._histology.noise import find_calls, find_noise
from isost._histology.positions import Positions
from isost._histology.ridge import PENALTIES, Ridge, kernel, ridge_path
from isost._histology.scale import FeatureScale, find_known
from isost._histology.split import folds_of, in_blocks, seen


@dataclass(frozen=True, eq=False)
class Measured:
    """Cells with features and expression.

    Attributes
    ----------
    scale, x
        Of the features, and these scaled, (n, d) float32.
    coords
        (n, 2) µm on the slide of each.
    slide
        (n,) numbers.
    place, depth
        (n, 2) in the frame that slides share, and (S,) how deep they lie in it, or None.
    positions
        Whose features of `place` are inputs beside `x`; None: they are not.
    whole
        (n, all genes) log1p.
    genes, expression
        G names, (n, G) float32 log1p.
    """

    scale: FeatureScale
    x: np.ndarray
    coords: np.ndarray
    slide: np.ndarray
    place: np.ndarray
    depth: np.ndarray | None
    whole: Any
    genes: list[str]
    expression: np.ndarray
    positions: Positions | None = None


@dataclass(frozen=True)
class FitOptions:
    """How expression is told.

    Attributes
    ----------
    method
        ``"network"``, ``"prts"`` or ``"ridge"``.
    network
        Of the first two.
    n_components, n_networks
        Of expression, and for each part of the tissue that is held out.
    """

    method: str = "network"
    network: NetworkOptions = NETWORKS["network"]
    n_components: int = 20
    n_networks: int = 1


def fit_histology(
    data: Measured, options: FitOptions, *, generator: torch.Generator, device: torch.device, progress: bool,
    checkpoint: Path | None = None, resume: bool = False,
) -> Histology:  # fmt: skip
    """Fit, and measure on held-out tissue how well it tells."""
    rng = numpy_generator(generator)
    seed = int(rng.integers(2**31))
    x = inputs(data.x, data.place, data.positions)
    section = data.slide if data.scale.slides else None
    placed = data.positions is not None
    fold, blocks = folds_of(data.slide, data.coords, placed=placed), in_blocks(data.slide, placed=placed)
    trained = [seen(fold, number, data.slide, data.coords) for number in range(int(fold.max()) + 1)]
    components = None
    if options.method != "prts":
        components = find_components(data.whole, data.expression, section, options.n_components, rng)
    on = data.expression > 0
    networks: list[DualOutput] = []
    history: list[dict[str, list[float]]] = []
    ridge, calls, gate = None, None, None
    if options.method == "ridge":
        assert components is not None
        ridge, level = _ridges(x, components.scores, fold, trained, seed, progress=progress)
    else:
        networks, history, gate, level = _networks(
            x, on, data.expression if components is None else components.scores, fold, trained, data, options,
            generator=generator, device=device, progress=progress, checkpoint=checkpoint, resume=resume,
        )  # fmt: skip
    expected, expressed = _held_out(gate, level, components, fold, trained, data, section)
    if gate is None:
        calls = find_calls(_levelled(expected, data.expression, fold, trained), on)
    if blocks:
        expected = _levelled(expected, data.expression, fold, trained)
    known = find_known(data.x, fold, seed)
    trust = None if placed else trust_in(expected, data.expression, data.place, data.slide, data.depth, fold)
    info = {
        "n_cells": len(x), "n_slides": int(data.slide.max()) + 1, "n_folds": int(fold.max()) + 1, "blocks": blocks,
        "trust": trust,
    }  # fmt: skip
    return Histology(
        data.genes, data.scale, known, None if components is None else components.without_cells(), networks, ridge,
        _slope(level, components, np.ones(len(x), dtype=bool)), calls,
        find_noise(expected, data.expression),
        accuracy_of(expected, _levelled(expressed, on, fold, trained), data.expression, data.slide),
        data.positions, history, info,
    )  # fmt: skip


def _held_out(
    gate: np.ndarray | None, level: np.ndarray, components: Components | None, fold: np.ndarray,
    trained: list[np.ndarray], data: Measured, section: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Tell each fold by what the others taught: expected expression, and the probability that there is some."""
    expected, expressed = np.empty_like(data.expression), np.empty_like(data.expression)
    for number in np.unique(fold):
        held, rows = fold == number, trained[number]
        one = None if components is None else components.learned_on(rows, data.expression, section)
        own = _slope(level, components, ~held)
        expected[held], expressed[held], _ = told(None if gate is None else gate[held], level[held], one, own, None)
    if gate is None:
        levelled, on = _levelled(expected, data.expression, fold, trained), data.expression > 0
        for number in np.unique(fold):
            held = fold == number
            expressed[held] = find_calls(levelled[~held], on[~held]).probability(levelled[held])
    return expected, expressed


def _slope(level: np.ndarray, components: Components | None, rows: np.ndarray) -> np.ndarray:
    """(L,) how much of what is told of a component is there, between 0 and 1, by rows that were held out."""
    if components is None:
        return np.ones(level.shape[1])
    found = level[rows].astype(np.float64)
    along = (found * components.scores[rows]).sum(axis=0)
    return np.clip(along / np.maximum((found**2).sum(axis=0), 1e-12), 0, 1)


def _levelled(expected: np.ndarray, measured: np.ndarray, fold: np.ndarray, trained: list[np.ndarray]) -> np.ndarray:
    """Move what was told of each fold from the mean of what was trained on to that of all cells.

    The mean of the rest is low where that of the fold is high: of blocks of one slide, that reads as a negative
    correlation where nothing was told.
    """
    levelled, whole = expected.copy(), measured.mean(axis=0)
    for number in np.unique(fold):
        held, rows = fold == number, trained[number]
        levelled[held] = np.maximum(expected[held] + (whole - measured[rows].mean(axis=0)), 0)
    return levelled


def _ridges(
    x: np.ndarray, scores: np.ndarray, fold: np.ndarray, trained: list[np.ndarray], seed: int, *, progress: bool
) -> tuple[Ridge, np.ndarray]:
    """Fit with the penalty that is best for each component on held-out tissue, and what is told of that."""
    held = np.empty((len(PENALTIES), *scores.shape))
    for number in tqdm(np.unique(fold), desc="fit_histology", unit="fold", disable=not progress):
        rows = trained[number]
        path = ridge_path(x[rows], scores[rows], PENALTIES, seed)
        near = kernel(x[fold == number], path[0].landmarks)  # the same for all penalties
        for place, one in enumerate(path):
            held[place][fold == number] = near @ one.weights
    best = ((held - scores) ** 2).mean(axis=1).argmin(axis=0)
    path = ridge_path(x, scores, PENALTIES, seed)
    columns = np.arange(scores.shape[1])
    weights = np.stack([path[best[k]].weights[:, k] for k in columns], axis=1)
    return Ridge(path[0].landmarks, weights), np.stack([held[best[k], :, k] for k in columns], axis=1)


def _networks(
    x: np.ndarray, on: np.ndarray, level: np.ndarray, fold: np.ndarray, trained: list[np.ndarray], data: Measured,
    options: FitOptions, *, generator: torch.Generator, device: torch.device, progress: bool,
    checkpoint: Path | None, resume: bool,
) -> tuple[list[DualOutput], list[dict[str, list[float]]], np.ndarray, np.ndarray]:  # fmt: skip
    """Train a network, or several, with each fold held out; what they tell of that, on average."""
    tensors = torch.from_numpy(x), torch.from_numpy(on), torch.from_numpy(level.astype(np.float32))
    n_folds, n_networks = int(fold.max()) + 1, options.n_networks
    seeds = torch.randint(2**62, (n_folds * n_networks,), generator=generator).tolist()
    identity = _identity((x, on, level, data.slide, data.coords), options)
    gate, found = np.zeros(on.shape, dtype=np.float32), np.zeros(level.shape, dtype=np.float32)
    networks, history = [], []
    with tqdm(total=len(seeds) * options.network.epochs, desc="fit_histology", unit="epoch",
              disable=not progress) as bar:  # fmt: skip
        for number, seed in enumerate(seeds):
            held = number // n_networks
            folder = None if checkpoint is None else checkpoint / f"network_{number}"
            kept = Checkpoint(folder, identity | {"seed": seed}, resume=resume)
            one, losses = _trained(kept, tensors, trained[held],
                                   np.flatnonzero(fold == held), options, seed, device, bar.update)  # fmt: skip
            bar.update(options.network.epochs - len(losses["trained"]))
            rows = fold == held
            told_gate, told_level = network_found(one, x[rows], device)
            gate[rows] += told_gate / n_networks
            found[rows] += told_level / n_networks
            networks.append(one)
            history.append(losses)
    if checkpoint is not None:
        for number in range(len(seeds)):
            clear(checkpoint / f"network_{number}")
        with suppress(OSError):  # where something else is in it
            checkpoint.rmdir()
    return networks, history, gate, found


def _trained(
    kept: Checkpoint, tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor], rows: np.ndarray, held: np.ndarray,
    options: FitOptions, seed: int, device: torch.device, told_: Callable[[], Any],
) -> tuple[DualOutput, dict[str, list[float]]]:  # fmt: skip
    state = kept.state()
    if state is not None:
        with torch.random.fork_rng(devices=[]):  # weights are drawn, and read over
            network = DualOutput(tensors[0].shape[1], tensors[1].shape[1], tensors[2].shape[1], options.network.hidden,
                                 options.network.dropout)  # fmt: skip
        network.load_state_dict(state["network"])
        return network.eval(), state["history"]
    network, history = train_network(*tensors, rows, held, options.network, seed=seed, device=device, told=told_)
    kept.keep(lambda: {"network": network.state_dict(), "history": history}, now=True)
    return network, history


def _identity(data: tuple[np.ndarray, ...], options: FitOptions) -> dict[str, Any]:
    digest = hashlib.sha256()
    for values in data:
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return json.loads(json.dumps({"data": digest.hexdigest(), "options": asdict(options)}))
