"""What several networks, each with domains of its own, agree on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score


def agreement(codes: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N) adjusted Rand index of labels (n,) of N networks, 1 on the diagonal."""
    found = np.eye(len(codes))
    for one, other in combinations(range(len(codes)), 2):
        found[one, other] = found[other, one] = adjusted_rand_score(codes[one], codes[other])
    return found


def match(codes: Sequence[np.ndarray], n_domains: int) -> np.ndarray:
    """(N, K) which common domain each domain of a network is.

    Common are those of the network that agrees best with the others; the others are matched with it so that most cells
    keep their domain (linear assignment).
    """
    chief = codes[int(agreement(codes).sum(axis=0).argmax())]
    found = np.empty((len(codes), n_domains), dtype=np.int64)
    for number, other in enumerate(codes):
        both = np.bincount(other * n_domains + chief, minlength=n_domains**2).reshape(n_domains, n_domains)
        found[number] = linear_sum_assignment(-both)[1]
    return found


def joint_shares(shares: Sequence[np.ndarray], matched: np.ndarray) -> np.ndarray:
    """(n, K) mean of the shares (n, K) that networks give each cell in the common domains."""
    total = np.zeros_like(shares[0])
    for share, to in zip(shares, matched, strict=True):
        total[:, to] += share
    return total / len(shares)
