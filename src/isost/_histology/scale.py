"""Features of slides on one scale, and how far cells are from those that were fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA

_CLIP = 4.0  # standard deviations
_FLOOR = 1e-6
FEWEST = 30  # cells, that tell a slide's own mean and deviation
_AXES, _NEAREST = 20, 5  # of the distance from what was fitted on
_USUAL = 0.95


@dataclass(frozen=True, eq=False)
class FeatureScale:
    """Mean and standard deviation of features: of each slide, or of all.

    Attributes
    ----------
    names
        (d,) of the features.
    slides
        S names; none where all are scaled alike.
    mean, deviation
        (S, d), or (1, d) of all.
    """

    names: list[str]
    slides: list[str]
    mean: np.ndarray
    deviation: np.ndarray

    def scaled(self, values: np.ndarray, slide: np.ndarray) -> np.ndarray:
        """Put features (n, d) of slides (n,) on one scale: float32 within 4 standard deviations."""
        at = slide if self.slides else np.zeros(len(values), dtype=np.int64)
        out = np.empty(values.shape, dtype=np.float32)
        for number in np.unique(at):
            rows = at == number
            out[rows] = np.clip((values[rows] - self.mean[number]) / self.deviation[number], -_CLIP, _CLIP)
        return out

    def only(self, name: str) -> FeatureScale:
        """Keep one slide."""
        number = self.slides.index(name)
        return FeatureScale(self.names, [name], self.mean[[number]], self.deviation[[number]])


def find_scale(values: np.ndarray, slide: np.ndarray, names: list[str], slides: list[str] | None) -> FeatureScale:
    """Mean and deviation of features (n, d), slide by slide, or of all where `slides` is None."""
    parts = [values] if slides is None else [values[slide == number] for number in range(len(slides))]
    moments = [_moments_of(part) for part in parts]
    mean, deviation = (np.stack(each) for each in zip(*moments, strict=True))
    return FeatureScale(names, slides or [], mean, deviation)


def _moments_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > _FLOOR * (1 + np.abs(mean)), deviation, 1.0)


@dataclass(frozen=True, eq=False)
class Known:
    """What was fitted on, to tell how far other cells are from it.

    Attributes
    ----------
    mean, axes
        (d,), (d, k): principal components of scaled features, of variance one.
    places
        (n, k) float32 of the cells of the fit.
    usual
        Distance to the fifth nearest cell of other folds that 95 % of the cells of the fit do not exceed.
    """

    mean: np.ndarray
    axes: np.ndarray
    places: np.ndarray
    usual: float

    def strangeness(self, x: np.ndarray) -> np.ndarray:
        """(n,) float32 distance to the fifth nearest of the fit, in units of what is usual: above 1 is out of it."""
        near = cKDTree(self.places).query(self._placed(x), k=[min(_NEAREST, len(self.places))])[0][:, 0]
        return np.asarray(near / self.usual, dtype=np.float32)

    def _placed(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.mean) @ self.axes).astype(np.float32)


def find_known(x: np.ndarray, fold: np.ndarray, seed: int) -> Known:
    """Remember scaled features (n, d) of cells in folds."""
    k = min(_AXES, len(x) - 1, x.shape[1])
    pca = PCA(k, svd_solver="randomized", random_state=seed).fit(x)
    axes = pca.components_.T / np.sqrt(np.maximum(pca.explained_variance_, _FLOOR))
    known = Known(pca.mean_, axes, ((x - pca.mean_) @ axes).astype(np.float32), 1.0)
    away = np.empty(len(x))
    for number in np.unique(fold):
        others, own = known.places[fold != number], known.places[fold == number]
        away[fold == number] = cKDTree(others).query(own, k=[min(_NEAREST, len(others))])[0][:, 0]
    return Known(known.mean, known.axes, known.places, max(float(np.quantile(away, _USUAL)), _FLOOR))
