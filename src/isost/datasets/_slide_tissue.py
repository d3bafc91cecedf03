"""Tissue of a made slide: its outline, what varies in it, and nuclei that do not overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.spatial import cKDTree

#: Length over which each property is alike, µm.
LENGTHS = {"density": 70.0, "area": 90.0, "elongation": 90.0, "darkness": 90.0, "eosin": 90.0, "fibres": 70.0}
#: What each property is from its standardised value: ``centre * exp(spread * value)``; of `elongation` what it is above
#: 1, of `fibres` the odds.
CENTRE = {"area": 38.0, "elongation": 0.45, "darkness": 1.3, "eosin": 0.6, "fibres": 0.8}
SPREAD = {"area": 0.33, "elongation": 0.55, "darkness": 0.28, "eosin": 0.32, "fibres": 1.5}
#: Of its variance, the share that neighbouring nuclei have in common.
SHARED = {"area": 0.4, "elongation": 0.4, "darkness": 0.4}
#: Standard deviation of the Gaussian kernel that counts nuclei near a place, µm.
NEARBY = 25.0
#: Largest share of the square that nuclei may take.
FULLEST = 0.1

_MOST = 2.5  # of a standardised value
_WAVES = 64
_TURNING = 180.0  # µm, over which fibres keep their direction
_NESTS = 0.9  # spread of the log of the density that nuclei are drawn from
_NESTED, _DENSITY = 2.2, 0.45  # density near a nucleus, over that of the square, and the spread of its log
_RADIUS = 0.41  # of the side
_RIM = 8.0  # µm of tissue without nuclei, so that the longest of them lie in the square
_GAP = 0.4  # µm between nuclei, at least
_ROUNDS = 1000
_CORNERS = 24


@dataclass(frozen=True, eq=False)
class SmoothField:
    """Waves that add up to a field of mean 0 and variance 1.

    Attributes
    ----------
    frequency
        (k, 2) of x and y, radians per µm.
    phase
        (k,) radians.
    """

    frequency: np.ndarray
    phase: np.ndarray

    @classmethod
    def draw(cls, length: float, rng: np.random.Generator) -> SmoothField:
        """Draw a field whose values are alike over `length` µm."""
        return cls(rng.normal(0.0, 2.0 / length, (_WAVES, 2)), rng.uniform(0.0, 2.0 * np.pi, _WAVES))

    def at(self, xy: np.ndarray) -> np.ndarray:
        """(n,) values at places (n, 2) in µm, between -2.5 and 2.5."""
        waves = np.cos(xy @ self.frequency.T + self.phase)
        return np.clip(np.sqrt(2.0 / _WAVES) * waves.sum(axis=1), -_MOST, _MOST)

    def over(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(len(y), len(x)) float32 values on a grid in µm, between -2.5 and 2.5."""
        along = np.outer(x, self.frequency[:, 0]) + self.phase
        down = np.outer(y, self.frequency[:, 1])
        parts = [one(down).astype(np.float32) @ one(along).T.astype(np.float32) for one in (np.cos, np.sin)]
        return np.clip(np.sqrt(2.0 / _WAVES) * (parts[0] - parts[1]), -_MOST, _MOST)


@dataclass(frozen=True, eq=False)
class Tissue:
    """A round piece of tissue in the middle of a square, in µm.

    Attributes
    ----------
    side
        Of the square, µm.
    waves
        (k, 2) height and phase of the waves of its outline.
    fields
        What varies in it, by name.
    """

    side: float
    waves: np.ndarray
    fields: dict[str, SmoothField]

    @classmethod
    def draw(cls, side: float, rng: np.random.Generator) -> Tissue:
        """Draw an outline and fields."""
        waves = np.column_stack([rng.uniform(0.4, 1.0, 4) * (0.07, 0.05, 0.03, 0.02), rng.uniform(0, 2 * np.pi, 4)])
        lengths = LENGTHS | {"direction": _TURNING}
        return cls(side, waves, {name: SmoothField.draw(length, rng) for name, length in lengths.items()})

    def margin(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance from the outline along the line to the middle, µm; below 0 outside."""
        x, y = x - self.side / 2, y - self.side / 2
        angle = np.arctan2(y, x)
        reach = 1.0 + sum(height * np.cos(k * angle + phase) for k, (height, phase) in enumerate(self.waves, start=2))
        return np.asarray(_RADIUS * self.side * reach - np.hypot(x, y))


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Ellipses.

    Attributes
    ----------
    centre
        (n, 2) x, y in µm.
    axes
        (n, 2) half the long and the short one, µm.
    angle
        (n,) of the long one, radians from x to y.
    values
        Standardised properties (n,), by name.
    """

    centre: np.ndarray
    axes: np.ndarray
    angle: np.ndarray
    values: dict[str, np.ndarray]

    def outlines(self) -> np.ndarray:
        """(n,) polygons in µm, of the area of the ellipses."""
        return _ellipses(self.centre, self.axes, self.angle)


def physical(name: str, value: np.ndarray) -> np.ndarray:
    """Give a property in its own unit from standardised values."""
    found = CENTRE[name] * np.exp(SPREAD[name] * value)
    return found + 1.0 if name == "elongation" else found / (1.0 + found) if name == "fibres" else found


def density(centre: np.ndarray) -> np.ndarray:
    """(n,) nuclei per mm^2 near each, itself included, by a Gaussian kernel."""
    pairs = cKDTree(centre).sparse_distance_matrix(cKDTree(centre), 4 * NEARBY, output_type="coo_matrix")
    weight = np.exp(-0.5 * (pairs.data / NEARBY) ** 2)
    return np.bincount(pairs.row, weight, len(centre)) / (2 * np.pi * NEARBY**2) * 1e6


def draw_nuclei(tissue: Tissue, n: int, rng: np.random.Generator) -> Nuclei:
    """Draw nuclei that do not overlap, more of them in nests; long ones lie along the fibres.

    Raises
    ------
    ValueError
        If there is no room for them.
    """
    own = {name: rng.standard_normal(n) for name in SHARED}
    turned = rng.standard_normal(n)
    centre, axes, angle = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros(n)
    values = {name: np.zeros(n) for name in SHARED}
    placed = np.zeros(n, dtype=bool)
    for _ in range(_ROUNDS):
        new = np.flatnonzero(~placed)
        if not len(new):
            break
        centre[new] = _draw_places(tissue, len(new), rng)
        for name, share in SHARED.items():
            common = tissue.fields[name].at(centre[new])
            values[name][new] = np.clip(np.sqrt(share) * common + np.sqrt(1 - share) * own[name][new], -_MOST, _MOST)
        ratio = physical("elongation", values["elongation"][new])
        short = np.sqrt(physical("area", values["area"][new]) / (np.pi * ratio))
        axes[new] = np.column_stack([short * ratio, short])
        order = physical("fibres", tissue.fields["fibres"].at(centre[new]))
        angle[new] = direction(tissue.fields["direction"].at(centre[new])) + 1.2 * (1 - order) * turned[new]
        placed[new] = _fits(_ellipses(centre, axes + _GAP / 2, angle), placed, new)
    if not placed.all():
        raise ValueError(f"n_cells: expected nuclei that fit into the tissue, found no room for {int((~placed).sum())} "
                         f"of {n}. Next: fewer, or a larger side.")  # fmt: skip
    relative = density(centre) / (n / tissue.side**2 * 1e6)
    values["density"] = np.clip(np.log(relative / _NESTED) / _DENSITY, -_MOST, _MOST)
    values |= {name: tissue.fields[name].at(centre) for name in ("eosin", "fibres")}
    return Nuclei(centre, axes, angle, values)


def direction(value: np.ndarray) -> np.ndarray:
    """Radians, from a standardised value."""
    return 0.9 * value


def _draw_places(tissue: Tissue, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) in µm, from a density that varies."""
    pool = rng.uniform(0.0, tissue.side, (64 * n + 1000, 2))
    pool = pool[tissue.margin(*pool.T) > _RIM]
    weight = np.exp(_NESTS * tissue.fields["density"].at(pool))
    return pool[rng.choice(len(pool), n, replace=False, p=weight / weight.sum())]


def _fits(outline: np.ndarray, placed: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(len(new),) bool: touches none that is placed, and none of the new that is kept before it."""
    fits = placed.copy()
    fits[new] = True
    there = np.flatnonzero(fits)
    found = shapely.STRtree(outline[there]).query(outline[new], predicate="intersects")
    one, other = new[found[0]], there[found[1]]
    for k in np.argsort(one, kind="stable"):
        if fits[other[k]] and (placed[other[k]] or other[k] < one[k]):
            fits[one[k]] = False
    return fits[new]


def _ellipses(centre: np.ndarray, axes: np.ndarray, angle: np.ndarray) -> np.ndarray:
    turn = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    larger = np.sqrt(2 * np.pi / (_CORNERS * np.sin(2 * np.pi / _CORNERS)))  # so that the area is that of the ellipse
    u, v = larger * axes[:, :1] * np.cos(turn), larger * axes[:, 1:] * np.sin(turn)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return shapely.polygons(np.stack([u * cos - v * sin, u * sin + v * cos], axis=-1) + centre[:, None])
