"""The growing body of the embryo phantom: at each age, a smooth map from a disc of material to the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isost.datasets._shapes import smoothstep

#: Natural logarithm of the ratio of the lengths of the body at its last and first age.
GROWTH = float(np.log(2.5))
#: Half the thickness in half lengths; angle (radians) and shift (half lengths) of the plane at relative depth 1.
THICKNESS, TWIST, BOW = 0.4, 0.5, 0.35


@dataclass(frozen=True)
class Body:
    """A body that grows, uncurls and shifts its proportions with age; head at a = 1, back at b = 1.

    Material coordinates (a, b) stay with the tissue; in the plane at relative depth w, from -1 to 1, they fill a disc
    of radius sqrt(1 - w^2). The axis of the body is an arc, of half length `length` / 2 at the first age, that uncurls;
    along it the head gives way to the trunk, and across it the body broadens. Away from the middle plane the body is
    twisted and bowed. Relative age tau runs from 0 (`start`) to 1 (`stop`).
    """

    length: float
    start: float
    stop: float

    def relative(self, age: np.ndarray | float) -> np.ndarray:
        """Age from 0 to 1."""
        return (np.asarray(age, dtype=np.float64) - self.start) / (self.stop - self.start)

    def thickness(self, age: np.ndarray | float) -> np.ndarray:
        """Distance of the last plane (w = 1) from the middle one."""
        return THICKNESS * self._form(np.asarray(age, dtype=np.float64))[0]

    def to_physical(
        self, a: np.ndarray, b: np.ndarray, age: np.ndarray | float, w: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Positions (n, 3) x, y, age of material points."""
        a, b, age, w = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in (a, b, age, w)))
        half, arc, shift, width, taper = self._form(age)
        along = a + shift * (1.0 - a**2) / 2.0
        radius = half / arc + half * width * (1.0 + taper * a) * b
        angle = arc * along
        x, y = radius * np.sin(angle), radius * np.cos(angle) - half / arc
        cos, sin = np.cos(TWIST * w), np.sin(TWIST * w)
        return np.column_stack([cos * x - sin * y, sin * x + cos * y + BOW * half * w**2, age])

    def to_material(self, coords: np.ndarray, w: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Material coordinates (a, b) of positions (n, 3) x, y, age; NaN outside the tissue."""
        x, y, age = np.asarray(coords, dtype=np.float64).T
        half, arc, shift, width, taper = self._form(age)
        w = np.broadcast_to(np.asarray(w, dtype=np.float64), x.shape)
        y = y - BOW * half * w**2
        cos, sin = np.cos(TWIST * w), np.sin(TWIST * w)
        x, y = cos * x + sin * y, cos * y - sin * x + half / arc
        along = np.arctan2(x, y) / arc
        # a + shift (1 - a^2) / 2 = along, the root that is a = along for a shift of 0
        a = 2.0 * (along - shift / 2.0) / (1.0 + np.sqrt(np.maximum(1.0 - 2.0 * shift * (along - shift / 2.0), 0.0)))
        b = (np.hypot(x, y) - half / arc) / (half * width * np.maximum(1.0 + taper * a, 1e-6))
        tau = self.relative(age)
        outside = (np.abs(along) > 1.0 + 1e-9) | (a**2 + b**2 + w**2 > 1.0 + 1e-9) | (np.abs(tau - 0.5) > 0.5 + 1e-9)
        return np.where(outside, np.nan, a), np.where(outside, np.nan, b)

    def jacobian(self, a: np.ndarray, b: np.ndarray, age: np.ndarray | float) -> np.ndarray:
        """Physical area of a unit of material area."""
        half, arc, shift, width, taper = self._form(np.asarray(age, dtype=np.float64))
        across = width * (1.0 + taper * a)
        return half**2 * (1.0 - shift * a) * across * (1.0 + arc * across * b)

    def _form(self, age: np.ndarray) -> tuple[np.ndarray, ...]:
        """Half length, half angle of the arc, shift of the material along it, half width and taper in half lengths."""
        tau = self.relative(age)
        half = self.length / 2.0 * np.exp(GROWTH * tau)
        return half, 1.5 - 1.0 * smoothstep(tau, -0.2, 1.2), -0.4 + 0.8 * tau, 0.42 + 0.1 * tau, 0.3 - 0.25 * tau
