"""Regression of principal components on x, y, z."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from isost._core.baselines.low_rank import LinearDecoder
from isost._core.baselines.training import Training

# Maps standardised places (n, 3) to components (n, P) in units of the first one's spread.
Regressor = Callable[[np.ndarray], np.ndarray]


class Regression:
    """Any regression of components on standardised positions, decoded to genes.

    Parameters
    ----------
    training
        Sections.
    fit
        Takes places (n, 3), components (n, P) and a generator, and returns the regressor.
    rng
        For the fit.
    """

    def __init__(
        self,
        training: Training,
        fit: Callable[[np.ndarray, np.ndarray, np.random.Generator], Regressor],
        rng: np.random.Generator,
    ) -> None:
        places = np.concatenate(
            [np.column_stack([cloud.coords, z]) for cloud, z in zip(training.clouds, training.z, strict=True)]
        )
        features = np.concatenate([cloud.features for cloud in training.clouds]).astype(np.float64)
        self._decoder = LinearDecoder.fit(training)
        self._scaler = StandardScaler().fit(places)
        self._scale = training.feature_scale
        self._predict = fit(self._scaler.transform(places), features / self._scale, rng)

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray:
        """Mean expression (n, G) at (n, 3)."""
        return self._decoder.decode(self._predict(self._scaler.transform(coords)) * self._scale)

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> None:
        """Give none."""


def fit_mlp(places: np.ndarray, features: np.ndarray, rng: np.random.Generator) -> Regressor:
    """Fit a perceptron of two hidden layers of 128, stopped early on a tenth of the cells."""
    network = MLPRegressor(
        hidden_layer_sizes=(128, 128),
        batch_size=min(256, len(places)),
        learning_rate_init=3e-3,
        max_iter=200,
        early_stopping=True,
        n_iter_no_change=5,
        random_state=int(rng.integers(2**31)),
    )
    network.fit(places, features)
    return lambda asked: np.asarray(network.predict(asked)).reshape(len(asked), -1)
