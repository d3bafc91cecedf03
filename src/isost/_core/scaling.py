"""Physical and internal coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Scaling:
    """Invertible map between physical and internal coordinates; x and y share one scale, so shapes are kept.

    Attributes
    ----------
    origin
        (3,) float64, physical position of the internal origin.
    xy
        Physical length of one internal unit in the plane.
    z
        Physical length of one internal unit along depth.

    Examples
    --------
    >>> import numpy as np
    >>> scaling = Scaling(np.array([100.0, 0.0, 50.0]), xy=2000.0, z=1000.0)
    >>> scaling.to_internal([[1100.0, 500.0, 250.0]])
    array([[0.5 , 0.25, 0.2 ]])
    >>> scaling.to_physical([[0.5, 0.25, 0.2]])
    array([[1100.,  500.,  250.]])
    """

    origin: np.ndarray
    xy: float
    z: float

    def to_internal(self, coords: np.ndarray) -> np.ndarray:
        """Convert physical (n, 3) to internal (n, 3) float64: (coords - origin) / (xy, xy, z)."""
        return (np.asarray(coords, dtype=np.float64) - self.origin) / (self.xy, self.xy, self.z)

    def to_physical(self, coords: np.ndarray) -> np.ndarray:
        """Invert `to_internal`, (n, 3) float64: coords * (xy, xy, z) + origin."""
        return np.asarray(coords, dtype=np.float64) * (self.xy, self.xy, self.z) + self.origin
