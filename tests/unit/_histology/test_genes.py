"""Genes that are told, and the components that they have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from isost._histology.genes import choose_genes, find_components

NAMES = pd.Index([f"g{k}" for k in range(60)])


def expression(n: int = 240, seed: int = 0) -> np.ndarray:
    """Three factors, of twenty genes each; the first ten genes of each vary most."""
    draw = np.random.default_rng(seed)
    factor = np.repeat(draw.normal(size=(n, 3)), 20, axis=1)
    strength = np.tile(np.repeat([1.0, 0.1], 10), 3)
    return np.log1p(draw.poisson(np.exp(1 + strength * factor))).astype(np.float32)


def test_components_tell_what_genes_have_in_common() -> None:
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(400, 2))
    whole = np.maximum(3 + scores @ draw.normal(size=(2, 50)) * 0.3 + 0.01 * draw.normal(size=(400, 50)), 0)
    found = find_components(whole.astype(np.float32), whole[:, :7].astype(np.float32), None, 2, draw)
    assert found.scores.shape == (400, 2) and found.loadings.shape == (7, 2) and found.scores.dtype == np.float32
    decoded = found.decode(found.scores)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, whole[:, :7], atol=0.08)


def test_components_do_not_tell_sections_apart() -> None:
    values, section = expression(), np.repeat([0, 1], 120)
    values[:120] += 2
    found = find_components(values, values[:, :4], section, 3, np.random.default_rng(0))
    for number in (0, 1):
        np.testing.assert_allclose(found.scores[section == number].mean(axis=0), 0, atol=1e-3)
    together = find_components(values, values[:, :4], None, 3, np.random.default_rng(0))
    assert abs(together.scores[:120].mean(axis=0)).max() > 1


def test_components_of_csr_are_those_of_dense() -> None:
    values = expression()
    one, two = (find_components(each, values[:, :4], None, 3, np.random.default_rng(0))
                for each in (values, sparse.csr_matrix(values)))  # fmt: skip
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)
    np.testing.assert_allclose(one.loadings, two.loadings, atol=1e-5)


def test_loadings_are_learned_on_some_cells_only() -> None:
    values, rows = expression(), np.arange(100)
    found = find_components(values, values[:, :4], None, 3, np.random.default_rng(0))
    one = found.learned_on(rows, values[:, :4], None)
    other = values[:, :4].copy()
    other[100:] = 99
    two = found.learned_on(rows, other, None)
    np.testing.assert_array_equal(one.loadings, two.loadings)
    np.testing.assert_array_equal(one.mean, values[rows, :4].mean(axis=0))
    scores = found.scores[rows] - found.scores[rows].mean(axis=0)
    centred = values[rows, :4] - values[rows, :4].mean(axis=0)
    wanted = np.linalg.solve(scores.T @ scores + 10 * np.eye(3), scores.T @ centred).T
    np.testing.assert_allclose(one.loadings, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(50, 1), (6, 30), (45, 60)])
def test_no_more_components_than_there_can_be(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)
    found = find_components(values, values[:, :1], None, 20, np.random.default_rng(0))
    assert 1 <= found.scores.shape[1] <= 20 and np.isfinite(found.scores).all() and np.isfinite(found.loadings).all()


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_highly_variable_genes(make: Any) -> None:
    """Of 600 genes, every tenth varies."""
    draw = np.random.default_rng(0)
    rate = np.exp(draw.uniform(-0.5, 1.5, 600) + draw.normal(size=(240, 600)) * np.where(np.arange(600) % 10, 0, 1.2))
    names = pd.Index([f"g{k}" for k in range(600)])
    values = np.log1p(draw.poisson(rate)).astype(np.float32)
    chosen = choose_genes(make(values), names, "hvg", 40, np.repeat([0, 1], 120), 0)
    assert len(chosen) == len(set(chosen)) == 40
    assert sum(int(gene[1:]) % 10 == 0 for gene in chosen) > 30, chosen


def test_markers_of_clusters() -> None:
    draw = np.random.default_rng(0)
    kind = np.repeat(np.arange(4), 60)
    rate = np.ones((240, 60))
    for number in range(4):
        rate[kind == number, 5 * number : 5 * number + 5] = 12
    values = np.log1p(draw.poisson(rate)).astype(np.float32)
    chosen = choose_genes(sparse.csr_matrix(values), NAMES, "markers", 12, np.zeros(240, dtype=int), 0)
    assert len(chosen) == len(set(chosen)) == 12
    assert sum(int(gene[1:]) < 20 for gene in chosen) >= 10, chosen


def test_listed_genes_keep_their_order() -> None:
    assert choose_genes(expression(), NAMES, ["g5", "g2", "g5"], 1, np.zeros(240, dtype=int), 0) == ["g5", "g2"]
    assert choose_genes(expression(), NAMES, NAMES[:3], 1, np.zeros(240, dtype=int), 0) == ["g0", "g1", "g2"]


@pytest.mark.parametrize(("genes", "error"), [
    ("all", ValueError), (["g1", "nothing"], ValueError), ([], ValueError), (5, TypeError), (None, TypeError),
])  # fmt: skip
def test_genes_that_there_are_not(genes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"genes: expected .*, found .*Next: "):
        choose_genes(expression(), NAMES, genes, 10, np.zeros(240, dtype=int), 0)


def test_no_gene_is_expressed() -> None:
    with pytest.raises(
        ValueError, match=r"expected genes that several cells express and that vary, found none\. Next: "
    ):
        choose_genes(np.zeros((50, 60), dtype=np.float32), NAMES, "hvg", 10, np.zeros(50, dtype=int), 0)
