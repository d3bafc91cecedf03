"""``objective="bridge"``: regress the drifts on bridges between coupled cells; nothing is simulated in the loop."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from isost._core.checkpoint import Checkpoint
from isost._core.covariance import spacing_of
from isost._core.gpu import has_room, sent
from isost._core.guard import Belief, believe
from isost._core.imaged import Imaged, Way, find_ways, knots
from isost._core.model import SDEModel
from isost._core.sde import cubic
from isost._core.stack import Stack
from isost._core.tasks import run, threads_for
from isost._core.transport import Coupling, couple

DEFAULTS = {
    "epochs": 60, "learning_rate": 3e-3, "dz": 0.2, "sigma_xy": None, "sigma_z": 0.0, "sigma_g": None, "alpha": 1.0,
    "max_cells": 1024, "beta": 0.0, "gamma": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Bridge:
    """Bridges of the cells of one section across one gap, in internal units.

    A cell's mean path runs from where it is measured to where it is coupled, by the planes of images between where
    there are such: cubic Hermite pieces with tangents from the points before and after, in other sections too
    (non-uniform finite differences), so that paths are smooth across planes, and across sections but for what a
    plane near one of them shows of the bend there.
    """

    places: Tensor  # (n, K, 2) at the start, on planes between, and at the end
    leave: Tensor  # (n, K - 1, 2) tangent at the start of each piece, per piece
    arrive: Tensor  # (n, K - 1, 2) tangent at the end of each piece, per piece
    shares: tuple[float, ...]  # K of the gap, from 0 to 1
    features: Tensor  # (n, P)
    change: Tensor  # (n, P) over the gap
    mass: Tensor  # (n,)
    depth: float
    gap: float  # signed: negative for backward bridges

    def to(self, device: torch.device) -> Bridge:
        tensors: dict[str, Any] = {k: sent(v, device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    @property
    def start(self) -> Tensor:
        """(n, 2)."""
        return self.places[:, 0]

    @property
    def end(self) -> Tensor:
        """(n, 2)."""
        return self.places[:, -1]

    @property
    def speed(self) -> float:
        """Mean square of the velocity of straight pieces."""
        lengths = torch.tensor(self.shares).diff()
        square = self.places.diff(dim=1).square().mean(dim=(0, 2)) / lengths
        return float(square.sum()) / self.gap**2

    @property
    def n_bytes(self) -> int:
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def take(self, cells: Tensor) -> Bridge:
        """Bridges of some of the cells."""
        tensors: dict[str, Any] = {k: v[cells] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    def at(self, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """Mean position, its velocity and the mean features at the share t of the gap."""
        piece = min(bisect_right(self.shares, t), len(self.shares) - 1) - 1
        length = self.shares[piece + 1] - self.shares[piece]
        u = (t - self.shares[piece]) / length
        p0, p1, m0, m1 = self.places[:, piece], self.places[:, piece + 1], self.leave[:, piece], self.arrive[:, piece]
        velocity = (6 * u**2 - 6 * u) * (p0 - p1) + (3 * u**2 - 4 * u + 1) * m0 + (3 * u**2 - 2 * u) * m1
        return cubic(u, p0, p1, m0, m1), velocity / (length * abs(self.gap)), self.features + t * self.change


class BridgeObjective:
    """Couples every adjacent pair of sections once, in both directions, and offers the regression loss.

    The drift of a Brownian bridge from its mean path, averaged over the paths through a point, is the path velocity
    plus a pull along the gradient of the log density. The pull vanishes inside tissue of even density, and sigma_xy
    is below the spacing of the cells, so the drifts are regressed on the velocity of the mean path.
    """

    phases: tuple[str, ...] = ("both",)
    least_steps = 8  # of an epoch, so that few gaps are learned as well as many

    def __init__(
        self,
        model: SDEModel,
        stack: Stack,
        settings: dict,
        generator: torch.Generator,
        checkpoint: Checkpoint | None = None,
        images: Imaged | None = None,
    ) -> None:
        checkpoint = checkpoint or Checkpoint(None, {}, resume=True)
        self.model = model
        self.alpha = float(settings["alpha"])
        self.max_cells = int(settings["max_cells"])
        self.generators = dict.fromkeys(("forward", "backward"), generator)
        self._sections = []
        for k in range(stack.n_sections):  # one by one, as not all of them need to fit on a GPU
            rows = stack.slice_of(k)
            position, _, features = model.to_internal(stack.coords[rows], stack.features[rows])
            self._sections.append((position.cpu().numpy(), features.cpu().numpy()))
        self._depths = [model.internal_depth(z) for z in stack.depths]
        coupling = {"n_candidates": int(settings["n_candidates"]), "feature_weight": settings["feature_weight"]}
        last = stack.n_sections - 1
        # sections left out say how much of what couplings and images show is motion, and how much is noise
        asked = stack.measured  # predicted sections are no truth
        known, depths = [self._sections[k] for k in asked], [self._depths[k] for k in asked]
        self.belief = _believed(known, depths, coupling, checkpoint, _ways(model, stack, images))
        coupling["masses"] = self.belief.masses
        self.model.config.update(moving=self._moving, changing=float(self.belief.change > 0))
        gaps = zip(stack.depths[:-1].tolist(), stack.depths[1:].tolist(), strict=True)
        self._way: list[Way | None] = [None] * last
        if images is not None and self.belief.imaged:
            self._way = find_ways(model, images, [(low, knots(images, low, high), high) for low, high in gaps])
        pairs = [(k, k + 1) for k in range(last)] + [(k + 1, k) for k in range(last)]
        coupled = self._couple(pairs, coupling, checkpoint)
        self.ahead, self.behind = coupled[:last], coupled[last:]
        forward = [self._bridge(k, k + 1) for k in range(last)]
        backward = [self._bridge(k + 1, k) for k in range(last)]
        self.bridges = {"forward": forward, "backward": backward}
        self._scale = {name: _scales(bridges) for name, bridges in self.bridges.items()}
        self.move(model.device)

    @property
    def dropped(self) -> list[float]:
        """Share of mass that found no place, by gap, the larger of the two directions."""
        return [max(a.dropped, b.dropped) for a, b in zip(self.ahead, self.behind, strict=True)]

    @property
    def still(self) -> bool:
        """Whether there is nothing to learn."""
        return not (self._moving or self.belief.change)

    @property
    def _moving(self) -> bool:
        return self.belief.motion > 0 or self.belief.imaged

    def parameters(self, phase: str) -> list[torch.nn.Parameter]:
        return list(self.model.parameters())

    def move(self, device: torch.device) -> None:
        """Move what losses are of to a device, or to the CPU where they would fill it."""
        size = sum(bridge.n_bytes for bridges in self.bridges.values() for bridge in bridges)
        place = device if has_room(device, size) else torch.device("cpu")
        for bridges in self.bridges.values():
            bridges[:] = [bridge.to(place) for bridge in bridges]

    def loss(self, gap: int, direction: str, phase: str) -> Tensor:
        """Squared error of the drifts at a random share of a gap, on a random patch of neighbouring cells."""
        model, bridge = self.model, self.bridges[direction][gap]
        pair = model.forward_pair if direction == "forward" else model.backward_pair
        generator = self.generators[direction]
        bridge = bridge.take(self._patch(bridge.start, generator)).to(model.device)
        t = float(torch.rand((), generator=generator))
        position, velocity, features = bridge.at(t)
        noise = sent(torch.randn(position.shape, generator=generator), model.device)
        spread = model.config["sigma_xy"] * (t * (1 - t) * abs(bridge.gap)) ** 0.5
        jitter = sent(torch.randn(len(position), 1, generator=generator), model.device)
        jitter = model.config["sigma_z"] * (t * abs(bridge.gap)) ** 0.5 * jitter
        state = torch.cat([position + spread * noise, jitter, features], dim=1)
        depth = torch.full((len(position),), bridge.depth + t * bridge.gap, device=position.device)
        drift = model.drift(pair, depth, state)
        weight = bridge.mass[:, None]
        shape_scale, change_scale = self._scale[direction]
        loss = (weight * (drift[:, :2] - velocity) ** 2).mean() / shape_scale
        if model.n_features:
            change = bridge.change / abs(bridge.gap)
            loss = loss + self.alpha * (weight * (drift[:, 3:] - change) ** 2).mean() / change_scale
        return loss

    def _patch(self, position: Tensor, generator: torch.Generator) -> Tensor:
        """At most ``max_cells`` cells nearest to a random one: neighbours stay together, as the graph needs them."""
        if len(position) <= self.max_cells:
            return torch.arange(len(position), device=position.device)
        centre = position[int(torch.randint(len(position), (), generator=generator))]
        return (position - centre).square().sum(dim=1).topk(self.max_cells, largest=False).indices

    def _couple(self, pairs: list[tuple[int, int]], options: dict, checkpoint: Checkpoint) -> list[Coupling]:
        """Couplings from the first to the second section of each pair, as far as they are believed."""
        names = [f"coupling_{source}_{target}" for source, target in pairs]
        found = [checkpoint.get(name) for name in names]
        missing = [number for number, kept in enumerate(found) if kept is None]
        calls = [(*self._sections[pairs[number][0]], *self._sections[pairs[number][1]], options) for number in missing]
        n_threads = threads_for(max(len(place) for place, _ in self._sections))
        for done, coupling in run(_coupled, calls, n_threads=n_threads):
            number = missing[done]
            found[number] = coupling
            checkpoint.put(names[number], coupling)
        couplings = []
        for (source, target), arrays in zip(pairs, found, strict=True):
            assert arrays is not None
            one = Coupling(arrays["target"], arrays["change"], arrays["mass"], float(arrays["dropped"]))
            start, way = self._sections[source][0], self._way[min(source, target)]
            end = start + self.belief.motion * (one.target - start)
            if way is not None and not self.belief.motion:
                end = way.end(start, ahead=target > source)
            couplings.append(replace(one, target=end, change=self.belief.change * one.change))
        return couplings

    def _target(self, source: int, target: int, position: np.ndarray) -> np.ndarray:
        """Where the coupling from one section to the next carries any place of the first."""
        coupling = (self.ahead if target > source else self.behind)[min(source, target)]
        coords = self._sections[source][0]
        nearest = cKDTree(coords).query(position)[1]
        return position + coupling.target[nearest] - coords[nearest]

    def _bridge(self, source: int, target: int) -> Bridge:
        coupling = (self.ahead if target > source else self.behind)[min(source, target)]
        start, features = self._sections[source]
        step, n, way = target - source, len(self._sections), self._way[min(source, target)]
        gap = self._depths[target] - self._depths[source]
        places, shares = [start, coupling.target], np.array([0.0, 1.0])
        if way is not None:
            places[1:1] = way.via(start, coupling.target, ahead=step > 0)
            shares = np.concatenate([[0.0], way.shares if step > 0 else 1 - way.shares[::-1], [1.0]])
        before = beyond = None
        if 0 <= source - step < n:
            away = (self._depths[source] - self._depths[source - step]) / gap
            before = self._target(source, source - step, start), away
        if 0 <= target + step < n:
            away = (self._depths[target + step] - self._depths[target]) / gap
            beyond = self._target(target, target + step, coupling.target), away
        leave, arrive = _tangents(places, np.diff(shares), before, beyond)
        # what is carried over counts alike: tissue by its area, or each cell
        mass = coupling.mass if self.belief.masses == "area" else np.ones(len(start))

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32)

        return Bridge(
            tensor(np.stack(places, axis=1)), tensor(leave), tensor(arrive), tuple(shares.tolist()), tensor(features),
            tensor(coupling.change), tensor(mass), self._depths[source], gap,
        )  # fmt: skip


def _coupled(
    coords: np.ndarray, features: np.ndarray, next_coords: np.ndarray, next_features: np.ndarray, options: dict
) -> dict[str, np.ndarray]:
    """Couple two sections: the arrays of a `Coupling`."""
    found = couple(coords, features, next_coords, next_features, **options)
    return {name: np.asarray(value) for name, value in vars(found).items()}


def _ways(model: SDEModel, stack: Stack, images: Imaged | None) -> Callable[[list[int]], list[Way | None]] | None:
    """Ways between the neighbours of sections, by a plane at the depth of each.

    None where the images are of another tissue: straight ways over twice the distance are no hard test for them.
    """
    if images is None or not images.show(stack):
        return None
    depths = stack.depths[stack.measured].tolist()

    def of(numbers: list[int]) -> list[Way | None]:
        asked = []
        for k in numbers:
            low, own, high = depths[k - 1 : k + 2]
            between = np.concatenate([knots(images, low, own), [own], knots(images, own, high)])
            asked.append((low, between, high))
        return find_ways(model, images, asked)

    return of


def _believed(sections: list, depths: list[float], coupling: dict, checkpoint: Checkpoint, ways: Any = None) -> Belief:
    kept = checkpoint.get("belief")
    if kept is not None:
        return Belief(**json.loads(str(kept["belief"])))
    belief = believe(sections, depths, ways=ways, **coupling)
    checkpoint.put("belief", {"belief": np.array(json.dumps(vars(belief)))})
    return belief


def _tangents(
    places: list[np.ndarray], lengths: np.ndarray,
    before: tuple[np.ndarray, float] | None, beyond: tuple[np.ndarray, float] | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Tangents (n, K - 1, 2) at both ends of each piece, given the points before and beyond and how far they are."""
    leave = [after - here for here, after in zip(places[:-1], places[1:], strict=True)]
    arrive = list(leave)
    points = [*([before[0]] if before else []), *places, *([beyond[0]] if beyond else [])]
    steps = [*([before[1]] if before else []), *lengths, *([beyond[1]] if beyond else [])]
    first = 1 if before else 0
    for number in range(1, len(points) - 1):
        around = *points[number - 1 : number + 2], *steps[number - 1 : number + 1]
        piece = number - first
        if piece < len(leave):
            leave[piece] = _tangent(*around)
        if piece > 0:
            arrive[piece - 1] = _tangent(*around, across="first")
    return np.stack(leave, axis=1), np.stack(arrive, axis=1)


def _tangent(
    p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, first: float, second: float, *, across: str = "second"
) -> np.ndarray:
    """Return the second-order derivative at the middle of three uneven points, times one of the two spacings.

    It differs from the straight way across that spacing by no more than the way is long: across a gap that is much
    narrower than its neighbour the slope is mostly noise, which the wider one would overshoot by.
    """
    first, second = abs(first), abs(second)
    slope = ((p1 - p0) / first * second + (p2 - p1) / second * first) / (first + second)
    way = p2 - p1 if across == "second" else p1 - p0
    bend = slope * (second if across == "second" else first) - way
    longest = np.linalg.norm(way, axis=1, keepdims=True)
    return way + bend * np.minimum(1.0, longest / np.maximum(np.linalg.norm(bend, axis=1, keepdims=True), 1e-300))


def _scales(bridges: list[Bridge]) -> tuple[float, float]:
    """Mean square of velocities and of changes over all bridges: puts both losses on the scale of one."""
    speed = sum(b.speed for b in bridges) / len(bridges)
    change = 0.0
    if bridges[0].features.shape[1]:
        change = sum(float((b.change / b.gap).square().mean()) for b in bridges) / len(bridges)
    return max(speed, 1e-12), max(change, 1e-12)


def default_sigma_xy(stack: Stack, plane_scale: float) -> float:
    """Half the spacing of the cells per square root of a gap: between sections a cell's place is no better known."""
    return 0.5 * spacing_of(stack) / plane_scale
