"""Slow features, what lies around cells, and a network that starts from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from isost._domains.features import Features
from isost._domains.graph import spatial_graph
from isost._domains.slow import slow_axes, surroundings
from isost._domains.train import new_network


@pytest.fixture(scope="module")
def place() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 10, (900, 2))


@pytest.fixture(scope="module")
def graph(place: np.ndarray) -> sparse.csr_matrix:
    return spatial_graph(place, np.zeros(len(place), dtype=np.int64))


@pytest.fixture(scope="module")
def trend(place: np.ndarray) -> np.ndarray:
    """(n,) smooth in space, mean 0, deviation 1."""
    wave = np.sin(place[:, 0]) + 0.5 * np.cos(0.7 * place[:, 1])
    return (wave - wave.mean()) / wave.std()


@pytest.fixture(scope="module")
def features(trend: np.ndarray) -> Features:
    """20 genes: a weak trend in three of them, under noise that genes share and that is four times as wide."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=(900, 4)) @ (4 * draw.normal(size=(4, 20))) + draw.normal(size=(900, 20))
    x[:, :3] += 2 * trend[:, None]
    x -= x.mean(axis=0)
    return Features(x.astype(np.float32), np.zeros(20), 1 / x.std(axis=0))


def neighbours_mean(graph: sparse.csr_matrix, values: np.ndarray, *, own: bool) -> np.ndarray:
    w = graph.toarray().astype(float) + own * np.eye(len(values))
    return (w / w.sum(axis=1, keepdims=True)) @ values


def test_slow_axes_have_the_largest_autocorrelation(features: Features, graph: sparse.csr_matrix) -> None:
    """The first is the maximum over all directions, by a dense generalised eigenproblem."""
    from scipy.linalg import eigh

    x = features.rows(np.arange(900)).astype(np.float64)
    axes = slow_axes(features, graph, 6, np.random.default_rng(0))
    slow = x @ axes
    np.testing.assert_allclose(np.cov(slow.T, bias=True), np.eye(6), atol=1e-6)
    alike = (slow * neighbours_mean(graph, slow, own=False)).mean(axis=0)
    assert (np.diff(alike) <= 1e-9).all()
    centred = x - x.mean(axis=0)
    cross = centred.T @ neighbours_mean(graph, centred, own=False) / 900
    best = eigh((cross + cross.T) / 2, centred.T @ centred / 900, eigvals_only=True)[::-1]
    np.testing.assert_allclose(alike, best[:6], atol=1e-6)


def test_a_weak_trend_is_found_under_noise_that_genes_share(
    features: Features, graph: sparse.csr_matrix, trend: np.ndarray
) -> None:
    x = features.rows(np.arange(900)).astype(np.float64)
    slow = (x @ slow_axes(features, graph, 1, np.random.default_rng(0)))[:, 0]
    leading = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[0][:, 0]
    assert abs(np.corrcoef(slow, trend)[0, 1]) > 0.85 > 0.5 > abs(np.corrcoef(leading, trend)[0, 1])


def test_surroundings_are_means_of_means_of_means(features: Features, graph: sparse.csr_matrix) -> None:
    """20 genes have 20 components: a rotation of the averaged genes."""
    x = features.rows(np.arange(900)).astype(np.float64)
    mean = x
    for _ in range(3):
        mean = neighbours_mean(graph, mean, own=True)
    found = surroundings(features, graph, np.random.default_rng(0))
    mean, found = mean - mean.mean(axis=0), found - found.mean(axis=0)
    np.testing.assert_allclose(found @ found.T, mean @ mean.T, atol=1e-4)


@pytest.mark.parametrize("variant", ["dual", "spatial"])
def test_a_network_starts_from_the_mean_over_two_steps(
    features: Features, graph: sparse.csr_matrix, variant: str
) -> None:
    x = features.rows(np.arange(900))
    axes = slow_axes(features, graph, 5, np.random.default_rng(0))
    place = torch.arange(20) if variant == "dual" else None
    network = new_network(torch.Generator().manual_seed(0), 20, place=place, side=5 if variant == "dual" else 0)
    network.start_from(torch.from_numpy(axes).float())
    pairs = graph.tocoo()
    with torch.no_grad():
        for layer in (network.first, network.second):
            layer.att_src.zero_()
            layer.att_dst.zero_()
        edges = torch.from_numpy(np.stack([pairs.col, pairs.row]).astype(np.int64))
        spatial, intrinsic, z = network.eval()(torch.from_numpy(x), edges)
    mean = x @ axes
    for _ in range(2):
        mean = neighbours_mean(graph, mean, own=True)
    np.testing.assert_allclose(spatial[:, :5], mean, atol=1e-4)
    np.testing.assert_array_equal(spatial[:, 5:], 0)
    rest = 0 if intrinsic is None else (intrinsic @ network.join.weight[:, 32:].T).detach().numpy()
    np.testing.assert_allclose(z, spatial.numpy() + rest, atol=1e-5)
