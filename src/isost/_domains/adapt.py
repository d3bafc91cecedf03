"""The mixture of all batches as it is in one of them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.mixture import GaussianMixture

_SHARE = 0.25  # of the cells of a batch that the mixture of all counts for
_FEWEST = 10  # cells that it counts for at the least, for each dimension of each covariance
_STEPS = 100
_STILL = 2e-4  # of a cell, on average, that changes domain in a step: nothing changes any more


def adapted(mixture: GaussianMixture, x: np.ndarray) -> GaussianMixture:
    """Climb from a mixture to one of the rows of a batch, held back by what it was.

    What differs between batches moves their domains, and how cells scatter about them, also where each gene has the
    same mean and variance in all. Expectation maximisation from the mixture, with its conjugate prior (Gauvain & Lee
    1994): as if a quarter as many cells more, ten for each dimension of each covariance at the least, had been drawn
    from the mixture, and their domains were known. They hold a domain that is missing in the batch about where it was,
    the more of them it has.

    Parameters
    ----------
    mixture
        Fitted, tied or full covariance. It is left as it is.
    x
        (n, q) scores of the cells of the batch.
    """
    n_covariances = 1 if mixture.covariance_type == "tied" else len(mixture.weights_)
    drawn = max(_SHARE * len(x), _FEWEST * x.shape[1] * n_covariances) * mixture.weights_
    start, about = mixture.means_, mixture.covariances_
    model, before = mixture, mixture.predict_proba(x)
    for _ in range(_STEPS):
        size = drawn + before.sum(axis=0)
        means = (drawn[:, None] * start + before.T @ x) / size[:, None]
        square = np.stack([(x - mean).T @ ((x - mean) * share[:, None])
                           for mean, share in zip(means, before.T, strict=True)])  # fmt: skip
        moved = means - start
        square += drawn[:, None, None] * (about + moved[:, :, None] * moved[:, None])
        if mixture.covariance_type == "tied":
            model = _mixture(size, means, square.sum(axis=0) / size.sum())
        else:
            model = _mixture(size, means, square / size[:, None, None])
        shares = model.predict_proba(x)
        if np.abs(shares - before).sum(axis=1).mean() / 2 < _STILL:
            break
        before = shares
    return model


def _mixture(size: np.ndarray, means: np.ndarray, covariance: np.ndarray) -> GaussianMixture:
    """With the Cholesky factors of the precisions, upper triangular, that its densities are worked out from."""
    model = GaussianMixture(len(size), covariance_type="tied" if covariance.ndim == 2 else "full")
    lower = np.linalg.cholesky(covariance)
    one = np.eye(means.shape[1])
    upper = [solve_triangular(part, one, lower=True).T for part in lower.reshape(-1, *one.shape)]
    model.weights_, model.means_, model.covariances_ = size / size.sum(), means, covariance
    model.precisions_cholesky_ = np.stack(upper).reshape(covariance.shape)
    return model
