"""Expression from the features of slides: what a fit learned; arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from isost._histology.genes import Components
from isost._histology.network import DualOutput, network_found
from isost._histology.noise import Calls, Noise
from isost._histology.positions import Positions
from isost._histology.ridge import Ridge
from isost._histology.scale import FeatureScale, Known

_LEAST = 0.01  # probability that a level is divided by


@dataclass(frozen=True, eq=False)
class Predicted:
    """Expected log1p expression, probability that there is some, its level: (n, G) float32; how strange, (n,)."""

    expected: np.ndarray
    expressed: np.ndarray
    level: np.ndarray
    strangeness: np.ndarray


@dataclass(frozen=True, eq=False)
class Histology:
    """Everything that a fit learned.

    Attributes
    ----------
    genes
        G names.
    components
        What genes have in common; None where networks learn genes.
    networks, ridge
        One of them.
    slope
        (r,) of what is measured of components over what is told of them on held-out tissue, between 0 and 1.
    calls
        Of ridge regression; networks say themselves what is expressed.
    accuracy
        Columns (G,) of `isost.HistologyModel.accuracy`.
    positions
        Of the cells of the fit, where these are inputs, too.
    info
        JSON-able.
    """

    genes: list[str]
    scale: FeatureScale
    known: Known
    components: Components | None
    networks: list[DualOutput]
    ridge: Ridge | None
    slope: np.ndarray
    calls: Calls | None
    noise: Noise
    accuracy: dict[str, np.ndarray]
    positions: Positions | None = None
    history: list[dict[str, list[float]]] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def predict(self, x: np.ndarray, place: np.ndarray | None, device: torch.device) -> Predicted:
        """Tell expression by scaled features (n, d), and positions (n, 2) where these are inputs."""
        seen, strangeness = inputs(x, place, self.positions), self.known.strangeness(x)
        if self.positions is not None:
            assert place is not None
            strangeness = np.maximum(strangeness, self.positions.away(place))
        if self.ridge is not None:
            gate, level = None, self.ridge.predict(seen)
        else:
            found = [network_found(network, seen, device) for network in self.networks]
            gate, level = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
        return Predicted(*told(gate, level, self.components, self.slope, self.calls), strangeness)


def inputs(x: np.ndarray, place: np.ndarray | None, positions: Positions | None) -> np.ndarray:
    """Features, and beside them those of positions where these count: (n, d + b) float32."""
    if positions is None:
        return x
    assert place is not None
    return np.hstack([x, positions.features(place)])


def told(
    gate: np.ndarray | None, level: np.ndarray, components: Components | None, slope: np.ndarray, calls: Calls | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell expected expression, the probability that there is some, and the level where there is: the first over it."""
    if components is None:
        assert gate is not None
        level = np.maximum(level, 0)
        return (gate * level).astype(np.float32), gate.astype(np.float32), level.astype(np.float32)
    expected = components.decode(level * slope)
    if gate is None:
        gate = np.ones_like(expected) if calls is None else calls.probability(expected)
    expressed = np.maximum(gate, _LEAST).astype(np.float32)
    return expected, expressed, expected / expressed
