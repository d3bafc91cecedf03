"""Does a gene depend on distance? A regression whose residual is a random field with a range of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import pdist, squareform
from scipy.stats import f as f_distribution

DEGREE = 3
_RANGES = 7
_STRETCHES = (0.5, 1.0, 2.0)  # how many times farther the field reaches along z than across
_NUGGETS = (1e-3, 1e-2, 0.05, 0.2, 0.6, 2.0, 10.0, 1e3)  # variance of the noise of a block over that of the field


@dataclass(frozen=True, eq=False)
class Sites:
    """What is regressed on where: block means.

    Attributes
    ----------
    places
        (m, 3) centres.
    basis
        (m, q) functions of distance.
    weights
        (m,) places that each is the mean of, over their mean: the noise of a block is the smaller the more it holds.
    """

    places: np.ndarray
    basis: np.ndarray
    weights: np.ndarray


def polynomials(distance: np.ndarray, degree: int) -> np.ndarray:
    """Make orthonormal polynomials (m, degree) of distances (m,), without the constant; fewer where they coincide."""
    scaled = (distance - distance.mean()) / (distance.std() or 1.0)
    q, r = np.linalg.qr(scaled[:, None] ** np.arange(degree + 1))
    independent = np.abs(np.diag(r)) > 1e-6 * np.sqrt(len(distance))
    return q[:, 1:][:, independent[1:]] * np.sqrt(len(distance))


def p_values(sites: Sites, scores: np.ndarray, loadings: np.ndarray) -> np.ndarray:
    r"""Test that the mean of each gene does not depend on distance.

    The block means of a gene are taken to be :math:`y = X\beta + u`, X a constant and the basis, u a Gaussian random
    field with a Matérn covariance (smoothness 1/2, 3/2 or 5/2, some range, longer or shorter along z) and noise. For
    each of a grid of such covariances the regression is solved by generalised least squares. Their likelihoods,
    restricted to what X leaves (REML; Harville 1977), say how likely each is; means over them give the coefficients and
    their covariance V, which so contains what is not known of the field. :math:`\beta' V^{-1} \beta / q` is compared
    with F(q, m - q - 1). The trend is in X, so that it does not itself pass for a long range, as it does in
    tests that estimate autocorrelation from the gene as it is.

    Parameters
    ----------
    sites
        m blocks, q basis functions.
    scores, loadings
        (m, P) mean scores of the blocks, and (G, P): genes are their products.

    Returns
    -------
    (G,) float64; 1 for genes that are constant.
    """
    if sites.basis.shape[1] == 0 or len(scores) < sites.basis.shape[1] + 3:
        return np.ones(len(loadings))
    scores = scores - np.average(scores, axis=0, weights=sites.weights)
    norm = np.sqrt(((loadings @ (scores.T @ scores / len(scores))) * loadings).sum(axis=1))
    varies = norm > 1e-9 * (np.abs(loadings) @ np.abs(scores).max(axis=0) + 1e-300)
    unit = loadings[varies] / norm[varies, None]  # so that likelihoods are of one scale
    mean = _Mean.of(len(unit), sites.basis.shape[1])
    for solved in _solutions(sites, scores):
        mean.add(*solved.fit(unit))
    found = np.ones(len(loadings))
    found[varies] = mean.p_values(len(scores))
    return found


def covariances(places: np.ndarray) -> Iterator[np.ndarray]:
    """Correlation matrices (m, m) between places (m, 3), of every smoothness, range and stretch that is tried."""
    for stretch in _STRETCHES:
        apart = squareform(pdist(places / np.array([1.0, 1.0, stretch])))
        near = float(np.median(np.sort(apart, axis=1)[:, 1]))
        for reach in np.geomspace(0.4 * near, 1.5 * apart.max(), _RANGES):
            for smoothness in (0.5, 1.5, 2.5):
                yield matern(apart / reach, smoothness)


def matern(apart: np.ndarray, smoothness: float) -> np.ndarray:
    """Matérn correlation at distances in units of the range."""
    r = np.sqrt(2.0 * smoothness) * apart
    return np.exp(-r) * {0.5: 1.0, 1.5: 1.0 + r, 2.5: 1.0 + r + r**2 / 3.0}[smoothness]


@dataclass(frozen=True, eq=False)
class _Solution:
    """Generalised least squares for one covariance: matrices from which every gene's regression follows."""

    inverse: np.ndarray  # (q, q) of the coefficients' covariance, over the variance of the residual
    to_coefficients: np.ndarray  # (q, P)
    residual: np.ndarray  # (P, P)
    log_determinant: float
    freedom: int

    def fit(self, loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-likelihoods (G,), coefficients (G, q) and their covariances (G, q, q)."""
        square = np.maximum(((loadings @ self.residual) * loadings).sum(axis=1), 1e-12)
        likelihood = -0.5 * (self.log_determinant + self.freedom * np.log(square))
        variance = square / self.freedom
        return likelihood, loadings @ self.to_coefficients.T, variance[:, None, None] * self.inverse


def _solutions(sites: Sites, scores: np.ndarray) -> Iterator[_Solution]:
    root = np.sqrt(sites.weights)[:, None]
    design = np.column_stack([np.ones(len(scores)), sites.basis])
    freedom = len(scores) - design.shape[1]
    for correlation in covariances(sites.places):
        # noise of variance 1 / weight in every block becomes noise of variance 1
        values, vectors = eigh(correlation * root * root.T, check_finite=False, driver="evd")
        values = np.maximum(values, 0.0)
        x, s = vectors.T @ (root * design), vectors.T @ (root * scores)
        for nugget in _NUGGETS:
            variances = values + nugget
            weighted = x / variances[:, None]
            information, cross = x.T @ weighted, weighted.T @ s
            inverse = np.linalg.inv(information)
            coefficients = inverse @ cross
            residual = (s / variances[:, None]).T @ s - cross.T @ coefficients
            log_determinant = float(np.log(variances).sum() + np.linalg.slogdet(information)[1])
            yield _Solution(inverse[1:, 1:], coefficients[1:], residual, log_determinant, freedom)


@dataclass(eq=False)
class _Mean:
    """Mean of coefficients and their covariance over solutions, weighted by likelihood, one after another."""

    largest: np.ndarray  # (G,) log-likelihood
    weight: np.ndarray  # (G,) likelihoods over the largest
    first: np.ndarray  # (G, q)
    second: np.ndarray  # (G, q, q)

    @classmethod
    def of(cls, n: int, q: int) -> _Mean:
        return cls(np.full(n, -np.inf), np.zeros(n), np.zeros((n, q)), np.zeros((n, q, q)))

    def add(self, likelihood: np.ndarray, coefficients: np.ndarray, covariance: np.ndarray) -> None:
        largest = np.maximum(self.largest, likelihood)
        before, now = np.exp(self.largest - largest), np.exp(likelihood - largest)
        square = covariance + coefficients[:, :, None] * coefficients[:, None, :]
        self.weight = before * self.weight + now
        self.first = before[:, None] * self.first + now[:, None] * coefficients
        self.second = before[:, None, None] * self.second + now[:, None, None] * square
        self.largest = largest

    def p_values(self, m: int) -> np.ndarray:
        """Of the F-test that all coefficients are 0; m blocks."""
        mean = self.first / self.weight[:, None]
        covariance = self.second / self.weight[:, None, None] - mean[:, :, None] * mean[:, None, :]
        q = mean.shape[1]
        statistic = (mean * np.linalg.solve(covariance, mean[:, :, None])[:, :, 0]).sum(axis=1) / q
        return f_distribution.sf(statistic, q, m - q - 1)
