"""Features of images at any place: between pixels, and between planes, where there is tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
from xarray import DataArray

_KEPT = 4  # planes in memory
_EVEN = 1e-3  # share of a pixel
_KNOWN = 0.5  # share of tissue among the pixels about a place


class ImagePlanes:
    """What `isost.pp.image_features` made, to be asked at places among the sections.

    Parameters
    ----------
    features
        (c, z, y, x), NaN outside the tissue, with positions.

    Attributes
    ----------
    features, names
        What came in, and the names in it.
    depths
        (D,) of the planes, rising.
    to_image
        (2, 3): takes x, y, 1 of the sections to x, y of the images.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If positions are missing or uneven.
    """

    def __init__(self, features: Any) -> None:
        if not isinstance(features, DataArray) or features.dims != ("c", "z", "y", "x"):
            raise TypeError(
                f"images: expected what isost.pp.image_features returns, found {type(features).__name__}. "
                "Next: isost.pp.image_features(image, spacing=(z, y, x))."
            )
        if any(name not in features.coords for name in features.dims) or "affine" not in features.attrs:
            raise ValueError("images: expected positions of planes and pixels, found none. Next: pp.image_features.")
        self.features = features
        self._values = features.data
        self.names = tuple(map(str, features.coords["c"].values))
        self.depths = np.asarray(features.coords["z"].values, dtype=np.float64)
        self._first, self._step = zip(*(_even(name, features.coords[name].values) for name in ("y", "x")), strict=True)
        affine = np.vstack([np.asarray(features.attrs["affine"], dtype=np.float64), [0.0, 0.0, 1.0]])
        self.to_image = np.linalg.inv(affine)[:2]
        self._planes: dict[int, np.ndarray] = {}

    @property
    def n_features(self) -> int:
        return len(self.names)

    def between(self, low: float, high: float) -> np.ndarray:
        """Depths of the planes between two depths, both excluded."""
        return self.depths[(self.depths > low) & (self.depths < high)]

    def covers(self, z: np.ndarray) -> np.ndarray:
        """Tell which depths (n,) lie between two planes, or no farther beyond the last than planes lie apart."""
        apart = float(np.median(np.diff(self.depths))) if len(self.depths) > 1 else 0.0
        return (z >= self.depths[0] - apart) & (z <= self.depths[-1] + apart)

    def at(self, coords: np.ndarray) -> np.ndarray:
        """Features (n, C) float32 at places (n, 3) of the sections; NaN where there is no tissue or no plane."""
        coords = np.asarray(coords, dtype=np.float64)
        total, known = np.zeros((len(coords), self.n_features)), np.zeros(len(coords))
        asked = np.flatnonzero(self.covers(coords[:, 2]))
        z = np.clip(coords[asked, 2], self.depths[0], self.depths[-1])
        after = np.clip(np.searchsorted(self.depths, z), 1, max(len(self.depths) - 1, 1))
        if len(self.depths) == 1:
            shares = [(np.zeros(len(asked), dtype=np.int64), np.ones(len(asked)))]
        else:
            t = (z - self.depths[after - 1]) / (self.depths[after] - self.depths[after - 1])
            shares = [(after - 1, 1 - t), (after, t)]
        for plane, share in shares:
            for number in np.unique(plane[share > 0]).tolist():
                some = (plane == number) & (share > 0)
                rows = asked[some]
                values, inside = self._read(number, coords[rows, :2])
                total[rows] += (share[some] * inside)[:, None] * values
                known[rows] += share[some] * inside
        with np.errstate(invalid="ignore", divide="ignore"):
            found = total / known[:, None]
        found[known <= 0] = np.nan
        return found.astype(np.float32)

    def tissue(self, coords: np.ndarray) -> np.ndarray:
        """Say at which places (n, 3) the images show tissue: (n,) bool."""
        return np.isfinite(self.at(coords)).all(axis=1)

    def plane(self, number: int) -> np.ndarray:
        """Features (C, y, x) of a plane."""
        found = self._planes.pop(number, None)
        if found is None:
            found = np.asarray(self._values[:, number], dtype=np.float32)
        self._planes[number] = found  # the last that is forgotten
        for oldest in list(self._planes)[:-_KEPT]:
            self._planes.pop(oldest, None)  # of another thread, perhaps
        return found

    @property
    def pixels(self) -> np.ndarray:
        """First positions and steps y, x of the pixels, and how many there are, (6,)."""
        return np.array([*self._first, *self._step, *self._values.shape[2:]], dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the planes that are in memory."""
        return self.__dict__ | {"_planes": {}}

    def places(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the pixels of the tissue of a plane lie among the sections, (n, 2), and their pixels (n, 2) y, x."""
        pixel = np.argwhere(np.isfinite(self.plane(number)).all(axis=0))
        own = (np.array(self._first) + pixel * np.array(self._step))[:, ::-1]
        matrix = np.linalg.inv(np.vstack([self.to_image, [0.0, 0.0, 1.0]]))[:2]
        return own @ matrix[:, :2].T + matrix[:, 2], pixel

    def _read(self, number: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, C) between the pixels of a plane, and whether there is tissue (n,)."""
        values = self.plane(number)
        own = places @ self.to_image[:, :2].T + self.to_image[:, 2]
        at = (own[:, ::-1] - np.array(self._first)) / np.array(self._step)
        corner = np.floor(at).astype(np.int64)
        part = at - corner
        shape = np.array(values.shape[1:])
        total, known = np.zeros((len(places), len(values))), np.zeros(len(places))
        for dy in (0, 1):
            for dx in (0, 1):
                y, x = (corner + (dy, dx)).T
                weight = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
                inside = (y >= 0) & (x >= 0) & (y < shape[0]) & (x < shape[1])
                found = values[:, np.where(inside, y, 0), np.where(inside, x, 0)].T
                valid = inside & np.isfinite(found).all(axis=1)
                total[valid] += weight[valid, None] * found[valid]
                known[valid] += weight[valid]
        enough = known >= _KNOWN
        total[enough] /= known[enough, None]
        total[~enough] = 0.0
        return total, enough.astype(np.float64)


def _even(name: str, positions: np.ndarray) -> tuple[float, float]:
    """First position and step of even positions."""
    positions = np.asarray(positions, dtype=np.float64)
    step = float(positions[-1] - positions[0]) / max(len(positions) - 1, 1) or 1.0
    if not np.allclose(positions, positions[0] + step * np.arange(len(positions)), atol=_EVEN * abs(step), rtol=0):
        raise ValueError(f"images: expected pixels evenly apart along {name}, found them uneven. Next: resample.")
    return float(positions[0]), step
