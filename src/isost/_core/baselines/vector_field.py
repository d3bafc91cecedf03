"""Sparse vector field consensus (SparseVFC): robust regression in a reproducing kernel Hilbert space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from isost._core.baselines.regression import Regressor


@dataclass(frozen=True)
class VectorFieldOptions:
    """Settings of SparseVFC for expression over space, as the published comparison used them.

    Attributes
    ----------
    n_control
        Control points, drawn from the cells.
    regularisation
        lambda.
    inliers
        Share of inliers to start from, gamma.
    volume
        a: outliers are uniform with density 1 / a.
    threshold
        Relative change of the energy at which to stop.
    max_iter
        Iterations of expectation and maximisation, at most.
    least_posterior
        Smallest posterior of an inlier.
    """

    n_control: int = 100
    regularisation: float = 0.02
    inliers: float = 0.9
    volume: float = 5.0
    threshold: float = 1e-5
    max_iter: int = 500
    least_posterior: float = 1e-5


def fit_sparse_vfc(
    places: np.ndarray,
    features: np.ndarray,
    rng: np.random.Generator,
    options: VectorFieldOptions | None = None,
) -> Regressor:
    """Fit y = f(x) + noise, with f(x) = sum_m exp(-b |x - c_m|^2) w_m, robust against uniform outliers.

    Expectation: p_n = g e_n / (g e_n + (1 - g) (2 pi s^2)^(D / 2) / a) with e_n = exp(-|y_n - f(x_n)|^2 / 2 s^2).
    Maximisation: (U^T P U + l s^2 K) W = U^T P Y, with U the kernel between places and control points and K among
    control points; s^2 = sum p_n |y_n - f(x_n)|^2 / (D sum p_n), g = mean p_n (Ma et al. 2013, Pattern Recognition
    46:3519). 1 / b is the mean squared distance of a control point to the fifth of control points that are nearest.

    Parameters
    ----------
    places
        (n, d).
    features
        (n, D).
    rng
        Draws control points.
    options
        Settings.

    Returns
    -------
    Function from (m, d) to (m, D).
    """
    options = options or VectorFieldOptions()
    dimensions = features.shape[1]
    centre = features.mean(axis=0)
    values = features - centre
    distinct = np.unique(places, axis=0)
    control = distinct[rng.choice(len(distinct), min(options.n_control, len(distinct)), replace=False)]
    steepness = _steepness(control)
    design, among = _kernel(places, control, steepness), _kernel(control, control, steepness)

    weights = np.zeros((len(control), dimensions))
    square = (values**2).sum(axis=1)
    variance, inliers = float(square.mean() / dimensions), options.inliers
    energy = np.inf
    for _ in range(options.max_iter):
        posterior, new_energy = _expect(square, variance, inliers, dimensions, options)
        new_energy += options.regularisation / 2 * float(np.einsum("md,mk,kd->", weights, among, weights))
        if abs(new_energy - energy) <= options.threshold * abs(new_energy):
            break
        energy = new_energy
        posterior = np.maximum(posterior, options.least_posterior)
        weighted = design.T * posterior
        weights = np.linalg.lstsq(
            weighted @ design + options.regularisation * variance * among, weighted @ values, rcond=None
        )[0]
        square = ((values - design @ weights) ** 2).sum(axis=1)
        variance = max(float((posterior * square).sum() / (dimensions * posterior.sum())), 1e-12)
        inliers = float(np.clip(posterior.mean(), 0.05, 0.95))
    return lambda asked: centre + _kernel(asked, control, steepness) @ weights


def _expect(
    square: np.ndarray, variance: float, inliers: float, dimensions: int, options: VectorFieldOptions
) -> tuple[np.ndarray, float]:
    """Posterior (n,) of being an inlier, and the energy without regularisation."""
    # In logarithms: with 50 dimensions (2 pi s^2)^(D / 2) is beyond floating point.
    log_in = np.log(inliers) - square / (2 * variance)
    log_out = np.log1p(-inliers) + dimensions / 2 * np.log(2 * np.pi * variance) - np.log(options.volume)
    posterior = np.exp(log_in - np.logaddexp(log_in, log_out))
    energy = float((posterior * square).sum() / (2 * variance) + posterior.sum() * np.log(variance) * dimensions / 2)
    share = np.clip(posterior.mean(), 1e-12, 1 - 1e-12)
    return posterior, energy - float(
        posterior.sum() * np.log(share) + (len(square) - posterior.sum()) * np.log(1 - share)
    )


def _steepness(control: np.ndarray) -> float:
    k = max(2, round(0.2 * len(control)))
    distance = cKDTree(control).query(control, k=min(k, len(control)))[0]
    return float(1 / np.maximum((distance**2).mean(), 1e-12))


def _kernel(x: np.ndarray, y: np.ndarray, steepness: float) -> np.ndarray:
    square = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return np.exp(-steepness * np.maximum(square, 0.0))
