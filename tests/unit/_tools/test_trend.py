from __future__ import annotations

import numpy as np
import pytest

from isost._tools.blocks import compact, cover
from isost._tools.trend import Sites, covariances, matern, p_values, polynomials


@pytest.fixture(scope="module")
def sites() -> Sites:
    places = np.random.default_rng(0).uniform(-1, 1, (80, 3))
    return Sites(places, polynomials(np.linalg.norm(places, axis=1), 3), np.ones(80))


@pytest.fixture(scope="module")
def genes(sites: Sites) -> np.ndarray:
    """(80, 3): noise, a gradient in noise, and a constant."""
    noise = np.random.default_rng(1).normal(size=(80, 3))
    noise[:, 1] += 2.0 * sites.basis[:, 0]
    noise[:, 2] = 4.0
    return noise


def test_a_gradient_is_found_and_a_constant_is_none(sites: Sites, genes: np.ndarray) -> None:
    p = p_values(sites, genes, np.eye(3))
    assert p[1] < 1e-6 < 0.01 < p[0] < 1
    assert p[2] == 1.0


def test_unit_and_offset_of_a_gene_do_not_matter(sites: Sites, genes: np.ndarray) -> None:
    p = p_values(sites, genes, np.eye(3))
    np.testing.assert_allclose(p_values(sites, 1e4 * genes - 70.0, np.eye(3)), p, rtol=1e-6)


def test_unit_of_length_and_turning_across_depth_do_not_matter(sites: Sites, genes: np.ndarray) -> None:
    p = p_values(sites, genes, np.eye(3))
    turned = 1e3 * sites.places[:, [1, 0, 2]] * [-1, 1, 1] + 5.0
    np.testing.assert_allclose(p_values(Sites(turned, sites.basis, sites.weights), genes, np.eye(3)), p, rtol=1e-6)


def test_genes_that_are_mixtures_of_scores_are_tested_as_their_values(sites: Sites) -> None:
    rng = np.random.default_rng(3)
    scores, loadings = rng.normal(size=(80, 4)), rng.normal(size=(6, 4))
    values = scores @ loadings.T
    np.testing.assert_allclose(p_values(sites, scores, loadings), p_values(sites, values, np.eye(6)), rtol=1e-6)


def test_too_few_blocks_and_no_distances_say_nothing(sites: Sites, genes: np.ndarray) -> None:
    few = Sites(sites.places[:5], sites.basis[:5], np.ones(5))
    assert (p_values(few, genes[:5], np.eye(3)) == 1.0).all()
    alike = Sites(sites.places, polynomials(np.full(80, 2.0), 3), np.ones(80))
    assert alike.basis.shape == (80, 0)
    assert (p_values(alike, genes, np.eye(3)) == 1.0).all()


def test_polynomials_are_orthonormal_and_span_the_powers() -> None:
    distance = np.random.default_rng(0).uniform(0, 900, 60)
    basis = polynomials(distance, 3)
    np.testing.assert_allclose(basis.T @ basis / 60, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(basis.mean(axis=0), 0.0, atol=1e-9)
    fitted = np.column_stack([np.ones(60), basis])
    residual = distance**3 - fitted @ np.linalg.lstsq(fitted, distance**3, rcond=None)[0]
    assert np.abs(residual).max() < 1e-6 * 900**3


def test_correlations_are_correlations() -> None:
    assert matern(np.zeros(1), 1.5)[0] == 1.0
    assert matern(np.array([1.0]), 0.5)[0] == pytest.approx(np.exp(-1.0))
    for matrix in covariances(np.random.default_rng(0).uniform(0, 1, (20, 3))):
        np.testing.assert_array_equal(np.diag(matrix), 1.0)
        assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_blocks_are_as_many_as_asked_for_and_cubes() -> None:
    places = np.random.default_rng(0).uniform(0, [100, 300, 20], (5000, 3))
    grid = cover(places, 150)
    numbers = grid.of(places)
    assert 75 < len(np.unique(numbers)) <= 150
    assert (numbers >= 0).all()
    assert (grid.of(places + 1e6) == -1).all()
    same = places[numbers == numbers[0]]
    assert (np.ptp(same, axis=0) <= grid.edge).all()


def test_compact_numbers() -> None:
    used, position = compact(np.array([7, -1, 3, 7]))
    assert used.tolist() == [3, 7]
    assert position.tolist() == [1, -1, 0, 1]
