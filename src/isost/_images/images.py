"""Images as `isost.tl.fit` takes them: planes, what follows them, and how they are kept with a fit."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np

from isost._core.model import SDEModel
from isost._core.stack import Stack
from isost._images.guide import NOWHERE, Guide, fit_guide
from isost._images.linear import Linear, fit_linear
from isost._images.outline import filled_by, shows_tissue
from isost._images.planes import ImagePlanes

_LOOKED_AT = 8  # planes that the spread of features is taken of
_FILLED = 0.9  # of the tissue of the images, that has to have measured cells about it
_POOL = 20_000  # places that are drawn from by intensity
_DIMMEST = 0.1  # standard deviations above nothing
_PIXELS = 2**20  # that are looked at
_CHECKED = 3  # planes that a checksum is of


class Images:
    """What `isost.pp.image_features` made, for a fit.

    Parameters
    ----------
    features
        See `ImagePlanes`.
    """

    def __init__(self, features: Any) -> None:
        self.planes = ImagePlanes(features)

    def between(self, low: float, high: float) -> np.ndarray:
        return self.planes.between(low, high)

    def tissue_near(self, z: float, n: int, within: float) -> tuple[np.ndarray, np.ndarray] | None:
        planes = self.planes
        number = int(np.abs(planes.depths - z).argmin())
        if abs(planes.depths[number] - z) > within:
            return None
        places, pixel = planes.places(number)
        if len(places) < 2:
            return None
        some = np.sort(np.random.default_rng(0).permutation(len(places))[:n])
        offset, scale = self._spread
        shown = planes.plane(number)[:, pixel[some, 0], pixel[some, 1]].T
        return places[some], (shown - offset) / scale

    def sampled(self, z: float, n: int) -> tuple[np.ndarray, np.ndarray] | None:
        found = self.tissue_near(z, _POOL, np.inf)
        if found is None:
            return None
        places, shown = found
        sign = -1.0 if self.planes.features.attrs.get("dark_tissue") else 1.0
        bright = sign * shown[:, 0]
        bright = bright - bright.min() + _DIMMEST
        some = np.random.default_rng(0).choice(len(places), n, p=bright / bright.sum())
        return places[some], shown[some]

    def told(self, stack: Stack) -> Linear:
        shown = self.planes.at(stack.coords)
        known = np.isfinite(shown).all(axis=1)
        if not known.any():
            raise ValueError(NOWHERE)
        offset, scale = self._spread
        return fit_linear(stack.features[known], (shown[known] - offset) / scale, stack.section_index[known])

    def show(self, stack: Stack) -> bool:
        return shows_tissue(self.planes, stack) and filled_by(self.planes, stack) >= _FILLED

    def guide(self, model: SDEModel, stack: Stack) -> Guide | None:
        return fit_guide(model, stack, self.planes)

    def identity(self) -> str:
        planes = self.planes
        digest = hashlib.sha256("\n".join(planes.names).encode())
        chosen = np.unique(np.linspace(0, len(planes.depths) - 1, _CHECKED).round().astype(int))
        for values in (planes.depths, planes.to_image, planes.pixels, *(planes.plane(k) for k in chosen.tolist())):
            digest.update(np.ascontiguousarray(values).view(np.uint8).data)
        return digest.hexdigest()

    @cached_property
    def _spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (C,) over the tissue."""
        planes = self.planes
        chosen = np.unique(np.linspace(0, len(planes.depths) - 1, _LOOKED_AT).round().astype(int))
        step = max(1, int(np.sqrt(np.prod(planes.features.shape[2:]) * len(chosen) / _PIXELS)))
        parts = [planes.plane(k)[:, ::step, ::step].reshape(planes.n_features, -1) for k in chosen.tolist()]
        values = np.concatenate(parts, axis=1)
        values = values[:, np.isfinite(values).all(axis=0)].astype(np.float64)
        if not values.size:
            return np.zeros(planes.n_features), np.ones(planes.n_features)
        scale = values.std(axis=1)
        return values.mean(axis=1), np.where(scale > 0, scale, 1.0)
