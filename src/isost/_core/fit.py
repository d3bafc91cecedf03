"""Fit the two stochastic differential equations to a stack."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isost._core import bridge, trajectory
from isost._core.bridge import BridgeObjective
from isost._core.checkpoint import Checkpoint, identity_of
from isost._core.correct import correct_sections
from isost._core.devices import launch
from isost._core.field import Field
from isost._core.imaged import Imaged
from isost._core.model import SDEModel
from isost._core.options import OBJECTIVES, PRESETS, FitOptions, resolve
from isost._core.requests import as_whole
from isost._core.stack import Stack
from isost._core.train import Objective, Training
from isost._core.trajectory import TrajectoryObjective
from isost._core.trust import describe
from isost._logging import logger


@dataclass(frozen=True)
class Fitted:
    """A fitted model with its field.

    Attributes
    ----------
    stack
        What was fitted: the stack that came in, with badly stained sections corrected.
    model, field
        The equations, and the mean-expression field over the cells they carry.
    history
        Mean loss of each epoch, by phase.
    info
        JSON-able: objective, settings, device, seconds, whether it was interrupted, sections that were corrected, mass
        without a place.
    """

    stack: Stack
    model: SDEModel
    field: Field
    history: dict[str, list[float]]
    info: dict[str, Any]


def choose_device(device: str | torch.device | None) -> torch.device:
    """Take the GPU where there is one and none was named; refuse one that was named and is not there."""
    if device is None or str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda', found {device!r}. Next: leave it out.") from error
    if chosen.type == "cuda" and not (torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count()):
        raise ValueError(
            f"device: expected a device of this machine, found {str(device)!r}, but torch sees "
            f"{torch.cuda.device_count()} GPU(s). Next: pass device='cpu', or install a CUDA build of torch."
        )
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda', found {device!r}. Next: leave it out.")
    return chosen


def fit_stack(
    stack: Stack,
    *,
    objective: str = "bridge",
    preset: str | None = None,
    device: str | torch.device | None = None,
    devices: int = 1,
    generator: torch.Generator | None = None,
    progress: bool = True,
    options: FitOptions | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    images: Imaged | None = None,
) -> Fitted:
    """Fit drifts by the objective, then the field over the cells they carry.

    Parameters
    ----------
    stack
        Sections with features.
    objective
        ``"bridge"`` (simulation-free) or ``"trajectory"`` (the paper's).
    preset
        A name in ``options.PRESETS``, or None for defaults in the stack's own scale.
    device
        None or ``"auto"``: the GPU if there is one.
    devices
        Processes, each with a GPU of its own if there are any, that share the steps of the training.
    generator
        Of initial weights, noise and subsets; the same seed gives the same fit on one machine.
    progress
        Show the bar.
    options
        What differs from the defaults.
    checkpoint
        Folder to keep the progress in, for `clear` when the result is safe.
    resume
        Go on from what is there.
    images
        Among the sections.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: expected one of {OBJECTIVES}, found {objective!r}. Next: leave it out.")
    options = options or FitOptions()
    options.check()
    if (options.beta, options.gamma) != (None, None) and (images is None or objective == "bridge"):
        raise ValueError(
            "beta, gamma: expected images and objective='trajectory', which they weigh the losses of, found "
            f"objective={objective!r} {'without' if images is None else 'with'} images. Next: leave them out."
        )
    devices = as_whole("devices", devices, 1)
    if devices > 1 and options.gaps_at_once == 1:
        options = replace(options, gaps_at_once=devices)
    chosen_device = choose_device(device)
    generator = generator or torch.Generator().manual_seed(0)
    settings = resolve(options, preset, bridge.DEFAULTS if objective == "bridge" else trajectory.DEFAULTS)
    started = time.perf_counter()
    logger.info(
        "fit: %s on %s, %d sections, %d cells, %d features",
        objective, chosen_device, stack.n_sections, stack.n_cells, stack.n_features,
    )  # fmt: skip
    if said := describe(stack):
        logger.info("fit: %s", said)
    how = {"objective": objective, "preset": preset, "settings": settings}
    if images is not None:
        how["images"] = images.identity()
    kept = Checkpoint(checkpoint, identity_of(stack, generator, **how), resume=resume)
    # before cells are coupled, because couplings compare expression
    stack, corrected = correct_sections(stack) if settings["correct_sections"] else (stack, {})
    model = _build(stack, objective, preset, settings, generator).to(chosen_device)
    problem: Objective
    if objective == "bridge":
        problem = BridgeObjective(model, stack, settings, generator, kept, images)
    else:
        problem = TrajectoryObjective(model, stack, settings, generator, images)
    training = Training(model, problem, stack.n_sections - 1, settings, generator, kept)
    if isinstance(problem, BridgeObjective) and problem.still:
        logger.info("fit: left-out sections are predicted best by standing still; no drift is learned")
    else:
        launch(training, devices, show=progress) if devices > 1 else training.run(show=progress)
    guide = None if images is None else images.guide(model, stack)
    field = Field.fit(model, stack, settle=objective == "bridge", guide=guide)
    if objective == "bridge":
        model.config["changing"] *= 1 - field.settling.share
        if settings["sigma_g"] is None:
            model.config["sigma_g"] = np.sqrt(field.settling.diffusion).round(6).tolist()
    seconds = time.perf_counter() - started
    info: dict[str, Any] = {
        "objective": objective, "preset": preset, "settings": settings, "device": str(chosen_device),
        "seconds": round(seconds, 3), "interrupted": training.interrupted,
        "corrected_sections": corrected,
    }  # fmt: skip
    if stack.weights is not None:
        info["predicted_sections"] = {stack.names[k]: round(float(stack.weights[k]), 4)
                                      for k in np.flatnonzero(stack.weights < 1)}  # fmt: skip
    if images is not None:
        info["images"] = {"followed": isinstance(problem, BridgeObjective) and problem.belief.imaged}
        info["images"] |= {"outline": False} if guide is None else guide.report()
        info["images"]["r2"] = images.told(stack).r2.round(4).tolist() if stack.n_features else []
    if isinstance(problem, BridgeObjective):
        info |= {
            "motion": problem.belief.motion, "change": problem.belief.change, "masses": problem.belief.masses,
            "left_out": problem.belief.tried, "settled": field.settling.share, "left_out_cells": field.settling.tried,
        }  # fmt: skip
        info["dropped_mass"] = [round(share, 4) for share in problem.dropped]
    logger.info("fit: done in %.1f s", seconds)
    return Fitted(stack, model, field, training.history, info)


def _build(
    stack: Stack, objective: str, preset: str | None, settings: dict[str, Any], generator: torch.Generator
) -> SDEModel:
    """Make a model in the stack's scale, with weights drawn from the generator and nothing global touched."""
    scaling = stack.scaling
    x, y, z = (float(value) for value in scaling.origin)
    unit = float(np.median(np.diff(stack.depths)))
    if preset is not None:
        unit = 1.0 if PRESETS[preset].time else scaling.z
    if settings["sigma_xy"] is None:
        settings["sigma_xy"] = bridge.default_sigma_xy(stack, scaling.xy)
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would seed every GPU too
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        model = SDEModel(
            stack.n_features,
            origin=(x, y, z),
            plane_scale=scaling.xy,
            depth_unit=unit,
            depth_range=float(stack.depths[-1] - stack.depths[0]) / unit,
            sigma_xy=settings["sigma_xy"], sigma_z=settings["sigma_z"], sigma_g=settings["sigma_g"] or 0.0,
            step=settings["dz"], width=settings["width"], unet_depth=settings["unet_depth"],
            n_neighbours=settings["n_neighbours"],
        )  # fmt: skip
    if stack.n_features:
        _set_feature_scale(model, stack.features, objective)
    return model


def _set_feature_scale(model: SDEModel, features: np.ndarray, objective: str) -> None:
    """Min-max of each feature as in the paper, or one scale for all, which keeps their relative sizes (``bridge``)."""
    if objective == "trajectory":
        low, high = features.min(axis=0), features.max(axis=0)
        offset, scale = low, np.where(high > low, high - low, 1.0)
    else:
        offset = features.mean(axis=0, dtype=np.float64)
        largest = float(features.std(axis=0, dtype=np.float64).max())
        scale = np.full(features.shape[1], largest if largest > 0 else 1.0)
    model.feature_offset.copy_(torch.as_tensor(offset, dtype=torch.float32))
    model.feature_scale.copy_(torch.as_tensor(scale, dtype=torch.float32))
