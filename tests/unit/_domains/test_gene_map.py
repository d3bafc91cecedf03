"""Each gene has a place of its own on the map, and genes that go together lie together."""

from __future__ import annotations

import numpy as np
import pytest

from isost._domains.gene_map import neighbour_correlation, place_genes


def blocks(sizes: list[int], seed: int, within: float = 0.8) -> np.ndarray:
    """Correlations of genes, shuffled, that go together in blocks."""
    draw = np.random.default_rng(seed)
    which = draw.permutation(np.repeat(np.arange(len(sizes)), sizes))
    signal = draw.normal(size=(400, len(sizes)))[:, which]
    values = np.sqrt(within) * signal + np.sqrt(1 - within) * draw.normal(size=(400, len(which)))
    return np.corrcoef(values.T)


@pytest.mark.parametrize("p", [*range(1, 6), 16, 23])
@pytest.mark.parametrize("at_random", [False, True])
def test_every_gene_has_a_place_of_its_own(p: int, at_random: bool) -> None:
    values = np.random.default_rng(p).normal(size=(50, p))
    correlation = np.corrcoef(values.T).reshape(p, p)
    place, side = place_genes(correlation, np.random.default_rng(0) if at_random else None)
    assert side**2 >= p > (side - 1) ** 2
    assert place.shape == (p,) and np.issubdtype(place.dtype, np.integer)
    assert len(set(place.tolist())) == p and place.min() >= 0 and place.max() < side**2


@pytest.mark.parametrize("seed", range(4))
def test_genes_that_go_together_lie_together(seed: int) -> None:
    """Far better than any of twenty maps at random; and blocks fill connected regions, within half of what they can."""
    correlation = blocks([9, 9, 9, 9], seed)
    found = neighbour_correlation(correlation, *place_genes(correlation))
    draw = np.random.default_rng(seed + 100)
    at_random = [neighbour_correlation(correlation, *place_genes(correlation, draw)) for _ in range(20)]
    assert found > max(at_random) + 0.2, (found, max(at_random))
    assert found > 0.45


def test_the_map_is_the_same_each_time() -> None:
    correlation = blocks([5, 7, 8], 0)
    np.testing.assert_array_equal(place_genes(correlation)[0], place_genes(correlation)[0])


@pytest.mark.parametrize("correlation", [np.eye(7), np.ones((7, 7)), 2 * np.eye(7) - 1], ids=["none", "all", "against"])
def test_genes_that_are_all_alike(correlation: np.ndarray) -> None:
    """Genes that do not vary have correlations of 0 with all others."""
    place, side = place_genes(correlation)
    assert side == 3 and len(set(place.tolist())) == 7


def test_neighbour_correlation_by_hand() -> None:
    """Genes 0, 1, 2 at the corners (0, 0), (0, 1), (1, 1) of a map: 0 and 1, 1 and 2 share a side, 0 and 2 do not."""
    correlation = np.array([[1.0, 0.5, -0.9], [0.5, 1.0, 0.1], [-0.9, 0.1, 1.0]])
    assert neighbour_correlation(correlation, np.array([0, 1, 3]), 2) == pytest.approx((0.5 + 0.1) / 2)
    assert neighbour_correlation(correlation[:1, :1], np.array([0]), 1) == 0.0
