"""A step on a part of the tissue is exact for its cells: what lies around them comes along."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from isost._core.graph import along_curve
from isost._domains.graph import spatial_graph
from isost._domains.network import HOPS, DualBranch
from isost._domains.patches import Patches

N, P = 2000, 9


@pytest.fixture(scope="module")
def place() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (N, 2))


@pytest.fixture(scope="module")
def graph(place: np.ndarray) -> sparse.csr_matrix:
    return spatial_graph(place, np.zeros(N, dtype=np.int64))


@pytest.fixture(scope="module")
def patches(graph: sparse.csr_matrix, place: np.ndarray) -> Patches:
    return Patches(graph, along_curve(place), n_cells=300)


@pytest.fixture(scope="module")
def network() -> DualBranch:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DualBranch(P, place=torch.arange(P), side=3, n_latent=6).eval()


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(N, P, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_each_cell_counts_once_in_an_epoch(patches: Patches, hops: int) -> None:
    for blocks in (patches.draw(generator(), hops), patches.in_order(hops)):
        core = np.concatenate([block.rows[: block.n_core] for block in blocks])
        np.testing.assert_array_equal(np.sort(core), np.arange(N))
        assert len(blocks) == patches.n_blocks == 7
        assert all(len(set(block.rows.tolist())) == len(block.rows) for block in blocks)


def test_epochs_differ_and_a_seed_repeats_them(patches: Patches) -> None:
    def first(seed: int) -> set[int]:
        block = patches.draw(generator(seed), HOPS)[0]
        return set(block.rows[: block.n_core].tolist())

    assert first(0) == first(0)
    assert len({frozenset(first(seed)) for seed in range(6)}) > 1


def test_blocks_hold_what_is_around(patches: Patches, graph: sparse.csr_matrix) -> None:
    for block in patches.draw(generator(), 2):
        core = np.zeros(N, dtype=bool)
        core[block.rows[: block.n_core]] = True
        reached = core | (graph @ core) | (graph @ (graph @ core))
        assert set(block.rows.tolist()) == set(np.flatnonzero(reached).tolist())
        source, target = block.rows[block.edges.numpy()]
        inside = graph[block.rows][:, block.rows]
        assert len(source) == inside.nnz and np.asarray(graph[source, target]).all()
        assert set(block.rows[: block.n_near].tolist()) == set(np.flatnonzero(core | (graph @ core)).tolist())


def test_a_small_tissue_is_one_block(graph: sparse.csr_matrix) -> None:
    whole = Patches(graph, np.arange(N), n_cells=N)
    (block,), (other,) = whole.draw(generator(), HOPS), whole.in_order(HOPS)
    assert whole.n_blocks == 1 and block.n_core == other.n_core == N
    np.testing.assert_array_equal(block.rows, np.arange(N))
    assert block.edges.shape == (2, graph.nnz)


def whole_edges(graph: sparse.csr_matrix) -> torch.Tensor:
    return Patches(graph, np.arange(N), n_cells=N).in_order(0)[0].edges


def test_a_block_gives_what_the_whole_tissue_gives(
    patches: Patches, graph: sparse.csr_matrix, network: DualBranch, x: torch.Tensor
) -> None:
    """With HOPS around, what is decoded of its cells; with one less, all their latents."""
    hidden = torch.rand(N, generator=generator(2)) < 0.5
    with torch.no_grad():
        truth, decoded = network(x, whole_edges(graph)), network.masked(x, whole_edges(graph), hidden)[1]
        for block in patches.draw(generator(), HOPS):
            rows = torch.from_numpy(block.rows)
            found = network.masked(x[rows], block.edges, hidden[rows], block.n_near)[1]
            torch.testing.assert_close(found[: block.n_core], decoded[rows[: block.n_core]], rtol=1e-4, atol=1e-5)
        for block in patches.in_order(HOPS - 1):
            rows = torch.from_numpy(block.rows)
            for found, whole in zip(network(x[rows], block.edges, block.n_core), truth, strict=True):
                torch.testing.assert_close(found, whole[rows[: block.n_core]], rtol=1e-4, atol=1e-5)


def test_fewer_hops_would_not_do(
    patches: Patches, graph: sparse.csr_matrix, network: DualBranch, x: torch.Tensor
) -> None:
    hidden = torch.rand(N, generator=generator(2)) < 0.5
    with torch.no_grad():
        decoded = network.masked(x, whole_edges(graph), hidden)[1]
        block = patches.draw(generator(), HOPS - 1)[0]
        rows = torch.from_numpy(block.rows)
        found = network.masked(x[rows], block.edges, hidden[rows])[1]
    assert (found[: block.n_core] - decoded[rows[: block.n_core]]).abs().max() > 1e-3
