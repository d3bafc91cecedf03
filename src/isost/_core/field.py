"""The mean-expression field: a Gaussian process over the cells carried to each gap, and their density."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from isost._core.blend import Blend
from isost._core.calibrate import Calibration, calibrate
from isost._core.carry import Cells, as_measured, carry, thin
from isost._core.covariance import Hyperparameters, estimate, spacing_of
from isost._core.gap import GapField, aligned_views, hat_weights
from isost._core.model import SDEModel
from isost._core.paths import Paths, gap_shares
from isost._core.settle import Settling, settle
from isost._core.smooth import KernelPlane
from isost._core.stack import Stack
from isost._core.trust import measured_part

_WIDTH = 2.5  # of the kernel of the density, in spacings
_FLOOR_SHARE = 0.25
_KEPT = 2


@dataclass(frozen=True)
class FieldValue:
    """Best estimate at places of the mean scores: of the features, then of the remainder of the genes.

    Attributes
    ----------
    mean, var
        ``(n, P + Q)`` float32: estimate and its variance, NaN where it was not asked for.
    density
        ``(n,)`` float32: cells per unit area of the plane.
    """

    mean: np.ndarray
    var: np.ndarray
    density: np.ndarray


class Guidance(Protocol):
    """What is known of the tissue besides the cells: of the scores at any place, (n, 3) to (n, P + Q), and where it is.

    `left` is the stack without what is known of its scores.
    """

    def at(self, coords: np.ndarray) -> np.ndarray: ...

    def inside(self, coords: np.ndarray) -> np.ndarray: ...

    def left(self, stack: Stack) -> Stack: ...

    def report(self) -> dict[str, Any]: ...

    def save(self, path: Path) -> None: ...


class Field:
    """Posterior mean of a Gaussian process over the carried cells, and the density of cells.

    Parameters
    ----------
    model, stack
        What carries the cells, and the cells.
    hyper
        Covariance of every score.
    width
        Standard deviation of the kernel of the density, input unit.
    density_floor
        Below this density a place counts as outside the tissue.
    calibration
        Factors of the standard deviations; 1 where there is none.
    blend
        Simple predictor that the field is drawn towards.
    settling
        How far the expression of carried cells follows the field.
    guide
        What is known of the scores besides: the process is that of what it leaves of them.
    """

    def __init__(
        self,
        model: SDEModel,
        stack: Stack,
        hyper: Hyperparameters,
        width: float,
        density_floor: float = 0.0,
        calibration: Calibration | None = None,
        blend: Blend | None = None,
        settling: Settling | None = None,
        guide: Guidance | None = None,
    ) -> None:
        self.model = model
        self.stack = stack
        self.guide = guide
        self._left = guide.left(stack) if guide else stack
        self.hyper = hyper
        self.width = float(width)
        self.density_floor = float(density_floor)
        self.calibration = calibration or Calibration.none(stack)
        self.blend = blend
        self.settling = settling or Settling(0.0, np.zeros(stack.n_features))
        self._bounds = stack.coords[:, :2].min(axis=0), stack.coords[:, :2].max(axis=0)
        self._centre = self._left.scores.mean(axis=0, dtype=np.float64)
        self.paths = Paths(model, self._left)
        self._gaps: dict[int, GapField] = {}
        self._densities: dict[float, KernelPlane] = {}

    @classmethod
    def fit(cls, model: SDEModel, stack: Stack, *, settle: bool = True, guide: Guidance | None = None) -> Field:
        """Estimate the covariances, how far their intervals hold, and the density below which there is no tissue."""
        left = guide.left(stack) if guide else stack
        # predicted cells scatter less than measured ones
        hyper = estimate(measured_part(left), views=[measured_part(view) for view in aligned_views(model, left)])
        field = cls(model, stack, hyper, _WIDTH * spacing_of(stack), guide=guide)
        field.calibration, field.blend, settling = calibrate(model, left, hyper, field._centre, settle=settle)
        field.settling = settling or field.settling
        density = []
        for section in range(stack.n_sections):
            cells = as_measured(stack, section)
            plane = KernelPlane(cells.coords[:, :2], cells.features[:, :0], cells.weight, field.width, field._bounds)
            density.append(plane.at(cells.coords[:, :2])[0])
        field.density_floor = float(_FLOOR_SHARE * np.quantile(np.concatenate(density), 0.1))
        return field

    def predict(self, coords: np.ndarray, *, with_variance: bool = True) -> FieldValue:
        """Evaluate the field at ``(n, 3)`` places in the input's unit, at depths inside the stack."""
        coords = np.asarray(coords, dtype=np.float64)
        mean = np.zeros((len(coords), self.stack.n_scores), np.float32)
        var = np.full_like(mean, 0.0 if with_variance else np.nan)
        shares = gap_shares(self.stack.depths, coords[:, 2])
        for number in np.flatnonzero((shares > 0).any(axis=0)):
            gap, rows = self._gap(int(number)), np.flatnonzero(shares[:, number])
            share, place, z = shares[rows, number, None], gap.to_frame(coords[rows]), coords[rows, 2]
            mean[rows] += share * gap.mean_at(place, z)
            if with_variance:
                var[rows] += share * gap.variance_at(place, z)
        if self.guide:
            mean += self.guide.at(coords)
        return FieldValue(mean, var, self.density(coords))

    def draw(self, z: float, generator: torch.Generator, n: float | None = None) -> Cells:
        """Cells of a section at any depth inside the stack; n of them, or as many as the sections about it have."""
        cells = self.within(carry(self.model, self.stack, z, generator=generator))
        return self.settle(thin(cells, generator, n))

    def within(self, cells: Cells) -> Cells:
        """Give cells outside the known tissue no weight, and the others theirs."""
        if not self.guide or not len(cells.row) or cells.coords[0, 2] in self.stack.depths:
            return cells
        weight = cells.weight * self.guide.inside(cells.coords)
        total = float(weight.sum())
        return replace(cells, weight=weight * (float(cells.weight.sum()) / total)) if total > 0 else cells

    def settle(self, cells: Cells) -> Cells:
        """Let the expression of cells carried to one depth follow the guide, and beside it the field."""
        z, depths = cells.coords[:1, 2], self.stack.depths
        if not len(z) or z in depths:
            return cells
        if self.guide:
            change = self.guide.at(cells.coords) - self.guide.at(self.stack.coords[cells.row])
            cells = replace(cells, features=cells.features + change[:, : self.stack.n_features])
        if not self.settling.share:
            return cells
        gap = int(np.clip(np.searchsorted(depths, z[0]) - 1, 0, len(depths) - 2))
        return settle(cells, self._gap(gap), self._left, self.settling.share)

    def std(self, value: FieldValue) -> np.ndarray:
        """Return the standard deviation ``(n, P)`` of the features."""
        n_features = self.stack.n_features
        return np.sqrt(value.var[:, :n_features]) * self.calibration.scores[:n_features].astype(np.float32)

    def genes(self, value: FieldValue, index: np.ndarray) -> np.ndarray:
        """Mean ``(n, len(index))`` of genes of the decoder."""
        return self.stack.decode(value.mean, index)

    def gene_std(self, value: FieldValue, index: np.ndarray) -> np.ndarray:
        """Return the standard deviation ``(n, len(index))`` of decoded genes, taking scores as uncorrelated."""
        return np.sqrt(value.var @ (self.stack.loadings_of(index) ** 2).T) * self.calibration.genes[index]

    def __copy__(self) -> Field:
        """Copy without the gaps that were solved: another thread solves those that it is asked for."""
        other = Field.__new__(Field)
        other.__dict__ |= self.__dict__ | {"_gaps": {}, "_densities": {}, "paths": Paths(self.model, self._left)}
        return other

    def __getstate__(self) -> dict[str, object]:
        """Leave out what was solved, and bring the model to the CPU: another process may have no GPU."""
        left = {name: value for name, value in self.__dict__.items() if name not in ("_gaps", "_densities", "paths")}
        return left | {"model": deepcopy(self.model).cpu(), "_device": str(self.model.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        there = torch.device(state.pop("_device"))
        self.__dict__ |= state | {"_gaps": {}, "_densities": {}}
        self.model.to("cuda" if there.type == "cuda" and torch.cuda.is_available() else "cpu")
        self.paths = Paths(self.model, self._left)

    def state(self) -> dict[str, np.ndarray]:
        blend = self.blend or Blend(0.0, 0.0, np.zeros(self.stack.n_scores))
        return {
            "width": np.array(self.width), "density_floor": np.array(self.density_floor),
            "length": self.hyper.length, "depth_length": self.hyper.depth_length,
            "ratio": self.hyper.ratio, "noise": self.hyper.noise,
            "score_factor": self.calibration.scores, "gene_factor": self.calibration.genes,
            "blend": np.array([blend.width, blend.sharpness, blend.gain]), "blend_weight": blend.weight,
            "settled": np.array(self.settling.share), "diffusion": self.settling.diffusion,
        }  # fmt: skip

    @classmethod
    def from_state(
        cls, model: SDEModel, stack: Stack, state: dict[str, np.ndarray], guide: Guidance | None = None
    ) -> Field:
        hyper = Hyperparameters(state["length"], state["depth_length"], state["ratio"], state["noise"])
        calibration = Calibration(state["score_factor"], state["gene_factor"])
        width, sharpness, gain = (float(value) for value in state["blend"])
        blend = Blend(width, sharpness, state["blend_weight"], gain) if width else None
        settling = Settling(float(state["settled"]), state["diffusion"])
        floor = float(state["density_floor"])
        return cls(model, stack, hyper, float(state["width"]), floor, calibration, blend, settling, guide)

    def _gap(self, gap: int) -> GapField:
        if gap not in self._gaps:
            while len(self._gaps) >= _KEPT:
                self._gaps.pop(next(iter(self._gaps)))
            self._gaps[gap] = GapField(self.paths, gap, self.hyper, self._centre, self.blend)
        return self._gaps[gap]

    def carried(self, z: float) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Noise-free places ``(n, 2)`` at a depth of the cells of each section about it, their rows, and its weight."""
        place, rows, weight = self.paths.clouds(z)
        section = np.searchsorted(self.stack.starts, rows, side="right")
        return [(place[section == one], rows[section == one], float(weight[section == one][0]))
                for one in np.unique(section)]  # fmt: skip

    def density(self, coords: np.ndarray) -> np.ndarray:
        """Density ``(n,)`` of the carried cells, float32, linear between the depths of Euler steps."""
        density = np.zeros(len(coords), np.float32)
        depths = self.stack.depths
        gap_of = np.clip(np.searchsorted(depths, coords[:, 2], side="right") - 1, 0, len(depths) - 2)
        for gap in np.unique(gap_of).tolist():
            rows = np.flatnonzero(gap_of == gap)
            levels = self.paths.levels(gap)
            self._densities = {z: plane for z, plane in self._densities.items() if z in levels}
            weight = hat_weights(coords[rows, 2], levels)
            for level in np.flatnonzero((weight > 0).any(axis=0)):
                near = np.flatnonzero(weight[:, level])
                plane = self._density(float(levels[level]))
                density[rows[near]] += weight[near, level] * plane.at(coords[rows[near], :2])[0]
        if self.guide:
            density[~self.guide.inside(coords)] = 0.0
        return np.maximum(density, 0.0)

    def _density(self, z: float) -> KernelPlane:
        if z not in self._densities:
            place, _, weight = self.paths.clouds(z)
            self._densities[z] = KernelPlane(place, np.zeros((len(place), 0)), weight, self.width, self._bounds)
        return self._densities[z]
