"""Votes of the nearest cells."""

from __future__ import annotations

import numpy as np
import pytest

from isost._core.normalise import Normalisation
from isost._domains.model import refined
from isost._domains.tissue import Tissue


def tissue_of(coords: np.ndarray, sample: np.ndarray) -> Tissue:
    n = len(coords)
    how = Normalisation("nothing", None, False, None)
    return Tissue(np.zeros((n, 1), np.float32), how, ["g"], coords, sample, np.zeros(n, int))


@pytest.mark.parametrize("n_votes", [0, 4, 9])
def test_by_the_formula(n_votes: int) -> None:
    """Weighed sum of the shares of the cell and its nearest, its own counting for a quarter beside; samples apart."""
    draw = np.random.default_rng(0)
    coords, sample = draw.uniform(0, 1, (60, 2)), np.repeat([0, 1], [25, 35])
    shares = draw.dirichlet([0.5] * 4, 60)
    found = refined(shares, tissue_of(coords, sample), n_votes)
    away = np.linalg.norm(coords[:, None] - coords, axis=2) + np.where(sample[:, None] == sample, 0, np.inf)
    for cell in range(60):
        near = np.argsort(away[cell])[: n_votes + 1]
        weight = np.full(len(near), 1 / len(near))
        if n_votes:
            step = coords[near] - coords[cell]
            spread = np.cov(step.T, bias=True)
            less = (step - step.mean(axis=0)) @ np.linalg.solve(
                spread + 0.01 * np.trace(spread) / 2 * np.eye(2), step.mean(axis=0)
            )
            weight = (1 - less / max(1, less.max())) / len(near)
        own = n_votes / (4 * (n_votes + 1))
        assert found[cell] == (weight @ shares[near] + own * shares[cell]).argmax()


def test_a_sure_cell_stays_where_a_doubtful_one_yields() -> None:
    """On the border of two domains, neighbours outvote it only where it hardly prefers its own."""
    coords = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1.1], [0, -1.1]])
    others = np.tile([0.3, 0.7], (4, 1))
    alone = np.zeros(5, int)
    assert refined(np.vstack([[0.95, 0.05], others]), tissue_of(coords, alone), 4)[0] == 0
    assert refined(np.vstack([[0.55, 0.45], others]), tissue_of(coords, alone), 4)[0] == 1


def test_more_votes_than_cells() -> None:
    shares = np.array([[0.6, 0.4], [0.1, 0.9], [0.1, 0.9]])
    found = refined(shares, tissue_of(np.eye(3)[:, :2], np.zeros(3, int)), 50)
    np.testing.assert_array_equal(found, [0, 1, 1])
