"""The mean-expression field: kernel regression over the cells carried to each depth, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isost._core.carry import Cells, as_measured, from_neighbours, sweep
from isost._core.graph import median_spacing
from isost._core.model import SDEModel
from isost._core.smooth import KernelPlane
from isost._core.stack import Stack

_WIDTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
_FLOOR_SHARE = 0.25


@dataclass(frozen=True)
class FieldValue:
    """Best estimate of the mean features at places.

    Attributes
    ----------
    mean, var
        ``(n, P)`` float32: estimate and its variance.
    density
        ``(n,)`` float32: cells per unit area of the plane.
    """

    mean: np.ndarray
    var: np.ndarray
    density: np.ndarray


class Field:
    """Gaussian kernel regression over forward and backward cells, blended (1 - t, t).

    The variance adds what the cells about a place leave open (their spread over their effective number) and what
    the two clouds disagree by, t (1 - t) (forward - backward)^2.

    Parameters
    ----------
    model, stack
        What carries the cells, and the cells.
    bandwidth
        Standard deviation of the kernel, input unit.
    density_floor
        Below this density a place counts as outside the tissue.
    """

    def __init__(self, model: SDEModel, stack: Stack, bandwidth: float, density_floor: float = 0.0) -> None:
        self.model = model
        self.stack = stack
        self.bandwidth = float(bandwidth)
        self.density_floor = float(density_floor)
        low, high = stack.coords[:, :2].min(axis=0), stack.coords[:, :2].max(axis=0)
        self._bounds = (low, high)
        self._centre = stack.features.mean(axis=0, dtype=np.float64)
        self._planes: dict[float, _Plane] = {}

    @classmethod
    def fit(cls, model: SDEModel, stack: Stack) -> Field:
        """Choose the bandwidth by leaving sections out, and the density below which there is no tissue."""
        bandwidth = _choose_bandwidth(model, stack)
        field = cls(model, stack, bandwidth)
        inside = [
            _Plane(as_measured(stack, k), bandwidth, field._bounds, field._centre).value(
                stack.coords[stack.slice_of(k), :2]
            )
            for k in range(stack.n_sections)
        ]
        density = np.concatenate([value.density for value in inside])
        field.density_floor = float(_FLOOR_SHARE * np.quantile(density, 0.1))
        return field

    def predict(self, coords: np.ndarray) -> FieldValue:
        """Evaluate the field at ``(n, 3)`` places in the input's unit, at depths inside the stack.

        Where the places have more distinct depths than there are Euler steps in a gap, the field is computed at the
        steps and interpolated linearly between.
        """
        coords = np.asarray(coords, dtype=np.float64)
        p = self.stack.n_features
        mean, var = np.zeros((len(coords), p), np.float32), np.zeros((len(coords), p), np.float32)
        density = np.zeros(len(coords), np.float32)
        for rows, levels, share in self._levels(coords[:, 2]):
            for plane, weight in zip(self._at_depths(levels), (1 - share, share), strict=False):
                value = plane.value(coords[rows, :2])
                mean[rows] += weight[:, None] * value.mean
                var[rows] += weight[:, None] * value.var
                density[rows] += weight * value.density
        return FieldValue(mean, var, density)

    def gene_std(self, value: FieldValue, index: np.ndarray) -> np.ndarray:
        """Return the standard deviation ``(n, len(index))`` of decoded genes, taking the components as uncorrelated."""
        if self.stack.decoder is None:
            raise ValueError("Expected a representation with loadings; found none. Fit on obsm['X_pca'].")
        return np.sqrt(value.var @ (self.stack.decoder.loadings[index] ** 2).T)

    def state(self) -> dict[str, np.ndarray]:
        return {"bandwidth": np.array(self.bandwidth), "density_floor": np.array(self.density_floor)}

    @classmethod
    def from_state(cls, model: SDEModel, stack: Stack, state: dict[str, np.ndarray]) -> Field:
        return cls(model, stack, float(state["bandwidth"]), float(state["density_floor"]))

    def _levels(self, z: np.ndarray) -> list[tuple[np.ndarray, tuple[float, ...], np.ndarray]]:
        """Group places with the one or two depths at which to compute, and the share of the second."""
        depths = self.stack.depths
        gap_of = np.clip(np.searchsorted(depths, z, side="right") - 1, 0, len(depths) - 2)
        groups: list[tuple[np.ndarray, tuple[float, ...], np.ndarray]] = []
        for gap in np.unique(gap_of):
            rows = np.flatnonzero(gap_of == gap)
            distinct = np.unique(z[rows])
            length = depths[gap + 1] - depths[gap]
            steps = self.model.n_steps(length / self.model.config["depth_unit"])
            if len(distinct) <= steps + 1:
                groups += [(rows[z[rows] == depth], (float(depth),), np.zeros(1)) for depth in distinct]
                continue
            place = np.clip((z[rows] - depths[gap]) / length * steps, 0, steps)
            lower = np.minimum(place.astype(int), steps - 1)
            for level in np.unique(lower):
                at = lower == level
                ends = tuple(float(depths[gap] + length * (level + i) / steps) for i in (0, 1))
                groups.append((rows[at], ends, place[at] - level))
        return groups

    def _at_depths(self, depths: tuple[float, ...]) -> list[_Plane]:
        missing = [depth for depth in depths if depth not in self._planes]
        if missing:
            self._planes = {depth: plane for depth, plane in self._planes.items() if depth in depths}
            for depth, cells in zip(missing, sweep(self.model, self.stack, np.array(missing)), strict=True):
                self._planes[depth] = _Plane(cells, self.bandwidth, self._bounds, self._centre)
        return [self._planes[depth] for depth in depths]


class _Plane:
    """The field at one depth: a kernel plane for each of the (one or two) clouds."""

    def __init__(
        self, cells: Cells, bandwidth: float, bounds: tuple[np.ndarray, np.ndarray], centre: np.ndarray
    ) -> None:
        self._bandwidth = bandwidth
        self._centre = centre
        self._clouds = []
        for section in np.unique(cells.section):
            own = cells.section == section
            values = cells.features[own] - centre
            moments = np.concatenate([values, values**2], axis=1)
            plane = KernelPlane(cells.coords[own, :2], moments, cells.weight[own], bandwidth, bounds)
            self._clouds.append((plane, float(cells.weight[own].max(initial=0.0))))

    def value(self, coords: np.ndarray) -> FieldValue:
        p = len(self._centre)
        density, sums = np.zeros(len(coords)), np.zeros((len(coords), 2 * p))
        means, shares = [], []
        for plane, weight in self._clouds:
            own_density, own_sums = plane.at(coords)
            density += own_density
            sums += own_sums
            means.append(own_sums[:, :p] / np.maximum(own_density, 1e-300)[:, None])
            shares.append((own_density > 1e-300) * weight)
        # a trace of the overall mean keeps places far from every cell finite
        trace = 1e-9 / self._bandwidth**2
        mean = sums[:, :p] / (density + trace)[:, None]
        spread = np.maximum(sums[:, p:] / (density + trace)[:, None] - mean**2, 0.0)
        effective = np.maximum(density * 4 * np.pi * self._bandwidth**2, 1.0)
        var = spread / effective[:, None]
        if len(means) == 2:
            var += (shares[0] * shares[1])[:, None] * (means[0] - means[1]) ** 2
        return FieldValue(
            (mean + self._centre).astype(np.float32), var.astype(np.float32), np.maximum(density, 0).astype(np.float32)
        )


def _choose_bandwidth(model: SDEModel, stack: Stack) -> float:
    """Find the width with the smallest squared error at cells of sections predicted from their two neighbours.

    A stack of two sections has none to leave out: there each cell is predicted from the others of its section.
    """
    spacing = np.median([median_spacing(stack.coords[stack.slice_of(k)]) for k in range(stack.n_sections)])
    widths = 2.5 * float(spacing) * np.array(_WIDTHS)
    bounds = (stack.coords[:, :2].min(axis=0), stack.coords[:, :2].max(axis=0))
    centre = stack.features.mean(axis=0, dtype=np.float64)
    errors = np.zeros(len(widths))
    left_out = range(1, stack.n_sections - 1) if stack.n_sections > 2 else range(stack.n_sections)
    for section in left_out:
        rows = stack.slice_of(section)
        cells = from_neighbours(model, stack, section) if stack.n_sections > 2 else as_measured(stack, section)
        own = 0.0 if stack.n_sections > 2 else 1.0
        for index, width in enumerate(widths):
            plane = KernelPlane(cells.coords[:, :2], cells.features - centre, cells.weight, width, bounds)
            density, sums = plane.at(stack.coords[rows, :2])
            peak = own / (2 * np.pi * width**2)
            values = stack.features[rows] - centre
            others = np.maximum(density - peak, 1e-9 / width**2)[:, None]
            errors[index] += float((((sums - peak * values) / others - values) ** 2).sum())
    return float(widths[int(errors.argmin())])
