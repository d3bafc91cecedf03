"""How much evenly spread cells tell of a field at planes and between them: frequency by frequency.

About cells that go on alike for ever, with density rho_k in plane k and the variance 1 / ratio of a cell's noise, the
posterior of a stationary field of variance one falls apart by frequency q, and

    var(z) = 1 - int k(q)' (S(q) + diag(1 / (ratio rho)))^-1 k(q) q dq / 2 pi,

where S (K, K) and k (K,) are the spectral densities of the planes with each other and with the depth z. Of a component
of length l they are in proportion to exp(-(l q)^2 / 2); the integral is over that of the shortest, w, from 0 to 1.
"""

from __future__ import annotations

import numpy as np

from isost._core.lags import lags

# w = u^3, whose nodes gather where w is small
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_NODES, _WEIGHTS = ((_NODES + 1) / 2) ** 3, _WEIGHTS * 3 * ((_NODES + 1) / 2) ** 2 / 2
_MAX_ENTRIES = 100_000  # of matrices that are solved at once: what a processor keeps at hand


def known_share(
    components: list[tuple[float, float]], depths: np.ndarray, density: np.ndarray, ratio: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """Share of the variance of a field that cells tell.

    Parameters
    ----------
    components
        Lengths in the plane, the shortest first, and along depth; of equal variance.
    depths
        ``(K,)`` of the planes, or ``(K, D)`` along several directions.
    density
        ``(m, K)`` cells per unit area about each place in each plane.
    ratio
        ``(R,)`` variances of the field over that of a cell's noise.
    z
        ``(m,)`` depths of the places, or ``(m, D)``.

    Returns
    -------
    ``(m, R)``, between 0 and 1.
    """
    known = np.empty((len(z), len(ratio)))
    step = max(1, _MAX_ENTRIES // (len(depths) ** 2 * len(_NODES)))
    for first in range(0, len(z), step):
        block = slice(first, first + step)
        inside, across = _spectra(components, depths, z[block])
        for column, one in enumerate(ratio):
            known[block, column] = _share(inside, across, np.sqrt(one * density[block]))
    return known * (1 / (2 * np.pi * components[0][0] ** 2))


def _spectra(components: list[tuple[float, float]], depths: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spectral densities ``(K, K, 1, Q)`` of the planes and ``(K, m, Q)`` of planes and places."""
    lag, away = lags(depths, depths), lags(depths, z)
    inside, across = np.zeros((*lag.shape, len(_NODES))), np.zeros((*away.shape, len(_NODES)))
    for length, depth_length in components:
        spectrum = 2 * np.pi * length**2 * _NODES ** ((length / components[0][0]) ** 2) / len(components)
        inside += np.exp(-lag / depth_length)[..., None] * spectrum
        across += np.exp(-away / depth_length)[..., None] * spectrum
    return inside[:, :, None], across


def _share(inside: np.ndarray, across: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Integrate b' (I + A)^-1 b / w, of all places and frequencies at once by elimination: ``(m,)``."""
    left = root.T[..., None]
    rest = left * across
    matrix = left[:, None] * left * inside
    matrix[np.diag_indices(len(left))] += 1.0
    total = np.zeros_like(rest[0])
    for i in range(len(left)):
        total += rest[i] ** 2 / matrix[i, i]
        share = matrix[i + 1 :, i] / matrix[i, i]
        rest[i + 1 :] -= share * rest[i]
        matrix[i + 1 :, i + 1 :] -= share[:, None] * matrix[i, i + 1 :]
    return total @ (_WEIGHTS / _NODES)
