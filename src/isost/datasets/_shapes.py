"""Smooth maps between material coordinates of a tissue and physical coordinates of its sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Shape = Literal["still", "bending", "branching"]

#: Roundness of the outline in which cells are spread evenly: 0 is a square, 1 is a disc.
ROUNDNESS = 0.8
#: Height of the trunk over its width.
ASPECT = 0.8


def smoothstep(t: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Rise from 0 at `start` to 1 at `stop` with two continuous derivatives."""
    x = np.clip((np.asarray(t, dtype=np.float64) - start) / (stop - start), 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def round_square(u: np.ndarray, v: np.ndarray, s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Round the corners of the square [-1, 1]^2: x = u sqrt(1 - s v^2 / 2), y = v sqrt(1 - s u^2 / 2)."""
    return u * np.sqrt(1.0 - s * v**2 / 2.0), v * np.sqrt(1.0 - s * u**2 / 2.0)


def square_round(x: np.ndarray, y: np.ndarray, s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Invert `round_square`; NaN where no point of the plane is mapped to (x, y).

    x^2 - y^2 = u^2 - v^2 leaves one quadratic equation for v^2, whose smaller root is the one continuous in s = 0.
    """
    difference = x**2 - y**2
    linear = 1.0 - s * difference / 2.0
    with np.errstate(invalid="ignore"):
        root = np.sqrt(linear**2 - 2.0 * s * y**2)
        v2 = 2.0 * y**2 / (linear + root)
        # Rounding of u^2 = v^2 + difference may fall below zero on the axis u = 0, never by more.
        u2 = np.where(v2 + difference < -1e-12, np.nan, np.maximum(v2 + difference, 0.0))
        return np.copysign(np.sqrt(u2), x), np.copysign(np.sqrt(v2), y)


def round_jacobian(u: np.ndarray, v: np.ndarray, s: np.ndarray | float) -> np.ndarray:
    """Area that `round_square` gives to a unit of area at (u, v); at most 1."""
    area = 1.0 - s * (u**2 + v**2) / 2.0
    return area / np.sqrt((1.0 - s * v**2 / 2.0) * (1.0 - s * u**2 / 2.0))


def round_area(s: float) -> float:
    """Area of the rounded square: from 4 (s = 0) to pi (s = 1)."""
    if s == 0.0:
        return 4.0
    return float(4.0 * np.sqrt(1.0 - s / 2.0) * np.arcsin(np.sqrt(s / 2.0)) / np.sqrt(s / 2.0))


@dataclass(frozen=True)
class Geometry:
    """The body of a phantom: at each depth, a smooth one-to-one map from the square [-1, 1]^2 to the section.

    Material coordinates (a, b) stay with the tissue: a point keeps them when the tissue moves along depth. `extent` is
    the width of the tissue at its first section, and relative depth `t` runs from 0 (first section) to 1 (last).

    - ``"still"``: the map does not depend on depth.
    - ``"bending"``: the body axis is curved, so that the section shifts and turns, and it is stretched and bowed.
    - ``"branching"``: the halves a < 0 and a > 0 round off into two branches that move apart.
    """

    shape: Shape
    extent: float
    depth: float

    def _relative(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(z, dtype=np.float64) / self.depth

    def to_physical(self, a: np.ndarray, b: np.ndarray, z: np.ndarray | float) -> np.ndarray:
        """Positions (n, 3) of material points (a, b) at depth z."""
        a, b, z = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float), np.asarray(z, float))
        t = self._relative(z)
        half = self.extent / 2.0
        if self.shape == "branching":
            side = np.where(a >= 0.0, 1.0, -1.0)
            u, v = round_square(2.0 * np.abs(a) - 1.0, b, _branch_roundness(t))
            x, y = round_square(side * (u + 1.0) / 2.0, v, _trunk_roundness(t))
            apart, aside = _branch_offset(t)
            x, y = half * (x + side * apart), half * (ASPECT * y + side * aside)
        else:
            x, y = round_square(a, b, ROUNDNESS)
            y = ASPECT * y
            if self.shape == "bending":
                x, y = _bend(x, y, t)
            x, y = half * x, half * y
        return np.column_stack([x, y, z])

    def to_material(self, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Material coordinates (a, b) of positions (n, 3); NaN outside the tissue."""
        x, y, z = np.asarray(coords, dtype=np.float64).T
        t = self._relative(z)
        half = self.extent / 2.0
        x, y = x / half, y / half
        if self.shape == "branching":
            side = np.where(x >= 0.0, 1.0, -1.0)
            apart, aside = _branch_offset(t)
            x, y = square_round(x - side * apart, (y - side * aside) / ASPECT, _trunk_roundness(t))
            u, v = square_round(2.0 * side * x - 1.0, y, _branch_roundness(t))
            a, b = side * (u + 1.0) / 2.0, v
            outside = np.abs(u) > 1.0 + 1e-9
        else:
            if self.shape == "bending":
                x, y = _unbend(x, y, t)
            a, b = square_round(x, y / ASPECT, ROUNDNESS)
            outside = np.abs(a) > 1.0 + 1e-9
        outside |= ~(np.abs(b) <= 1.0 + 1e-9) | ~(np.abs(t - 0.5) <= 0.5 + 1e-9)
        return np.where(outside, np.nan, a), np.where(outside, np.nan, b)

    def jacobian(self, a: np.ndarray, b: np.ndarray, z: np.ndarray | float) -> np.ndarray:
        """Physical area per unit of material area, |d(x, y) / d(a, b)|, at depth z."""
        scale = ASPECT * (self.extent / 2.0) ** 2
        if self.shape != "branching":
            # Turning, shifting, bowing and the opposite stretches of x and y all keep areas.
            return scale * round_jacobian(a, b, ROUNDNESS)
        t = self._relative(np.asarray(z))
        branch = _branch_roundness(t)
        u, v = round_square(2.0 * np.abs(a) - 1.0, b, branch)
        trunk = round_jacobian((u + 1.0) / 2.0, v, _trunk_roundness(t))
        return scale * trunk * round_jacobian(2.0 * np.abs(a) - 1.0, b, branch)


def _bend(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stretch, bow, turn and shift a section, in units of the half width; every step keeps areas."""
    angle, stretch, bow, shift_x, shift_y = _bending(t)
    x, y = x * stretch, y / stretch
    y = y + bow * (x**2 - 1.0 / 3.0)
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y + shift_x, sin * x + cos * y + shift_y


def _unbend(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angle, stretch, bow, shift_x, shift_y = _bending(t)
    x, y = x - shift_x, y - shift_y
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = cos * x + sin * y, cos * y - sin * x
    y = y - bow * (x**2 - 1.0 / 3.0)
    return x / stretch, y * stretch


def _bending(t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Angle, stretch, bow and shift of a bending body: the axis is an arc in x with a slight wave in y."""
    angle = np.deg2rad(40.0) * (t - 0.5)
    stretch = np.exp(0.15 * np.sin(np.pi * t))
    bow = 0.45 * (t - 0.3)
    return angle, stretch, bow, 0.6 * t**2, 0.15 * np.sin(2.0 * np.pi * t)


def _trunk_roundness(t: np.ndarray) -> np.ndarray:
    return ROUNDNESS * (1.0 - smoothstep(t, 0.15, 0.95))


def _branch_roundness(t: np.ndarray) -> np.ndarray:
    return ROUNDNESS * smoothstep(t, 0.15, 0.85)


def _branch_offset(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the opening between the branches and their slide along y, in units of the half width."""
    return 0.4 * smoothstep(t, 0.35, 1.15), 0.15 * smoothstep(t, 0.4, 1.1)
