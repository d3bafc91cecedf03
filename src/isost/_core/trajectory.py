"""``objective="trajectory"``: the paper's, simulating each section to the next (eqs 5-8)."""

from __future__ import annotations

import torch
from torch import Tensor

from isost._core.carry import simulate
from isost._core.imaged import Imaged
from isost._core.losses import nearest_cell_mse, sinkhorn_w2
from isost._core.model import SDEModel
from isost._core.shown import ShownPlanes
from isost._core.stack import Stack

DEFAULTS = {
    "epochs": 100, "learning_rate": 3e-3, "dz": 0.2, "sigma_xy": 0.004, "sigma_z": 0.04, "sigma_g": 0.04, "alpha": 0.1,
    "max_cells": 512, "beta": 100.0, "gamma": 5e-3,
}  # fmt: skip

# Cells times Euler steps whose activations, some 20 kB each, are kept for the backward pass and not computed again.
STORED = 2**14


class TrajectoryObjective:
    """Carries a random subset of each section to the next and compares it with what was measured there (eq 7).

    Three phases: the shape drifts by debiased Sinkhorn, the expression drifts by nearest-cell squared error with the
    shape drifts held, and both together. The backward pair learns the same from each section to the one before (eq 8).
    Cells pass by a plane of images, where there are any, and are compared with it on their way (eqs 11 and 12).
    """

    phases: tuple[str, ...] = ("shape", "expression", "both")
    least_steps = 1  # one for every gap and direction, as published

    def __init__(
        self, model: SDEModel, stack: Stack, settings: dict, generator: torch.Generator, images: Imaged | None = None
    ) -> None:
        self.model = model
        self.alpha = float(settings["alpha"])
        self.max_cells = int(settings["max_cells"])
        self.generators = dict.fromkeys(("forward", "backward"), generator)
        position, depth, features = model.to_internal(stack.coords, stack.features)
        self._sections = [tuple(part[stack.slice_of(k)] for part in (position, depth, features))
                          for k in range(stack.n_sections)]  # fmt: skip
        self._depths = [model.internal_depth(z) for z in stack.depths]
        self._shown = None if images is None else ShownPlanes(model, stack, images, settings)
        if not model.n_features:
            self.phases = ("shape",)

    def parameters(self, phase: str) -> list[torch.nn.Parameter]:
        """Parameters that the phase learns; the others are held, and no gradient is spent on them."""
        pairs = (self.model.forward_pair, self.model.backward_pair)
        parts: list[torch.nn.Module] = list(pairs)
        if phase == "shape":
            parts = [pair.shape for pair in pairs]
        elif phase == "expression":
            parts = [pair.expression for pair in pairs if pair.expression is not None]
        self.model.requires_grad_(False)
        for part in parts:
            part.requires_grad_()
        return [parameter for part in parts for parameter in part.parameters()]

    def move(self, device: torch.device) -> None:
        """Move what losses are of to a device."""
        self._sections = [tuple(part.to(device) for part in section) for section in self._sections]
        if self._shown is not None:
            self._shown.move(device)

    def loss(self, gap: int, direction: str, phase: str) -> Tensor:
        source, target = (gap, gap + 1) if direction == "forward" else (gap + 1, gap)
        generator = self.generators[direction]
        position, depth, features = self._some(source, generator)
        steps = self.model.n_steps(self._depths[target] - self._depths[source])
        seed = int(torch.randint(2**62, (), generator=generator))
        plane = None if self._shown is None else self._shown.draw(gap, generator)
        on_the_way = [] if plane is None else [plane.depth]
        carried = simulate(
            self.model, direction, position, depth, features, [*on_the_way, self._depths[target]],
            seed=seed, parts="shape" if phase == "shape" else "both", save_memory=steps * len(position) > STORED,
            steps=None if on_the_way else steps,
        )  # fmt: skip
        prior: Tensor | float = 0.0
        if plane is not None and self._shown is not None:
            prior = self._shown.loss(plane, *next(carried), phase)
        position, features = next(carried)
        measured_position, _, measured_features = self._some(target, generator)
        expression = torch.zeros((), device=position.device)
        if phase != "shape":
            expression = nearest_cell_mse(position, features, measured_position, measured_features)
        if phase == "expression":
            return expression + prior
        return prior + sinkhorn_w2(position, measured_position) + self.alpha * expression

    def _some(self, section: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        position, depth, features = self._sections[section]
        if len(position) <= self.max_cells:
            return position, depth, features
        chosen = torch.randperm(len(position), generator=generator)[: self.max_cells].to(position.device)
        return position[chosen], depth[chosen], features[chosen]
