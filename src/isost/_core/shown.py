"""Priors of ``objective="trajectory"`` by images between the sections (eqs 11 and 12)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from isost._core.graph import neighbours
from isost._core.imaged import Imaged, plane_to_internal
from isost._core.losses import chamfer
from isost._core.model import SDEModel
from isost._core.stack import Stack
from isost._logging import logger

_POINTS = 2048  # of the tissue of a plane, of which a step takes as many as it has cells


@dataclass(frozen=True)
class Plane:
    """Places of the tissue ``(m, 2)``, drawn by intensity, and what is shown there ``(m, C)``; internal units."""

    depth: float
    places: Tensor
    shown: Tensor


class ShownPlanes:
    """Planes of images in every gap, and the loss of cells that pass by them.

    beta times the Chamfer distance between the cells and the tissue, and gamma times the squared difference between
    what is shown where a cell is and what its expression leads to expect, by a linear map from the sections. Neither of
    images that show another tissue, nor of features that expression does not tell in sections left out.
    """

    def __init__(self, model: SDEModel, stack: Stack, images: Imaged, settings: dict) -> None:
        self.beta, self.gamma = float(settings["beta"]), float(settings["gamma"])
        if not images.show(stack):
            logger.warning("fit: the images show another tissue than the sections: their outline is not used (beta)")
            self.beta = 0.0
        self.max_cells = int(settings["max_cells"])
        self._planes: list[list[Plane]] = []
        for low, high in zip(stack.depths[:-1], stack.depths[1:], strict=True):
            found = [(z, images.sampled(float(z), _POINTS)) for z in images.between(float(low), float(high))]
            self._planes.append([_plane(model, float(z), *known) for z, known in found if known is not None])
        self._weight = self._offset = None
        if stack.n_features:
            told = images.told(stack)
            known = torch.as_tensor(told.r2 > 0, dtype=torch.float32)
            self._known = known / known.sum().clamp(min=1)
            scale, offset = (part.double().cpu().numpy() for part in (model.feature_scale, model.feature_offset))
            self._weight = torch.as_tensor(told.weight * scale, dtype=torch.float32)
            self._offset = torch.as_tensor(told.offset + told.weight @ offset, dtype=torch.float32)

    def move(self, device: torch.device) -> None:
        self._planes = [
            [replace(one, places=one.places.to(device), shown=one.shown.to(device)) for one in planes]
            for planes in self._planes
        ]
        if self._weight is not None and self._offset is not None:
            self._weight, self._offset = self._weight.to(device), self._offset.to(device)
            self._known = self._known.to(device)

    def draw(self, gap: int, generator: torch.Generator) -> Plane | None:
        """Draw one of the planes of a gap, and as many of its places as a step has cells; None where there is none."""
        planes = self._planes[gap]
        if not planes:
            return None
        plane = planes[int(torch.randint(len(planes), (), generator=generator))]
        some = torch.randperm(len(plane.places), generator=generator)[: self.max_cells].to(plane.places.device)
        return replace(plane, places=plane.places[some], shown=plane.shown[some])

    def loss(self, plane: Plane, position: Tensor, features: Tensor, phase: str) -> Tensor:
        """Loss of cells, ``(n, 2)`` and ``(n, P)``, at the depth of a plane; of the part that the phase learns."""
        loss = torch.zeros((), device=position.device)
        if phase != "expression":
            loss = loss + self.beta * chamfer(position, plane.places)
        if phase != "shape" and self._weight is not None and self._offset is not None:
            shown = plane.shown[neighbours(plane.places, 1, query=position.detach())[:, 0]]
            told = features @ self._weight.T + self._offset
            loss = loss + self.gamma * ((told - shown).square().mean(dim=0) @ self._known)
        return loss


def _plane(model: SDEModel, z: float, places: np.ndarray, shown: np.ndarray) -> Plane:
    inside, values = (torch.as_tensor(one, dtype=torch.float32) for one in (plane_to_internal(model, places), shown))
    return Plane(model.internal_depth(z), inside, values)
