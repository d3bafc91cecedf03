"""What each branch of the network sees, and what it does not."""

from __future__ import annotations

import pytest
import torch

from isost._domains.network import DualBranch, GeneBranch
from isost._domains.train import new_network

N, P = 12, 7
RING = torch.stack([torch.arange(N), (torch.arange(N) + 1) % N])
EDGES = torch.cat([RING, RING.flip(0)], dim=1)
PLACE = torch.tensor([8, 0, 4, 2, 6, 1, 3])


@pytest.fixture(params=["dual", "spatial"])
def network(request: pytest.FixtureRequest) -> DualBranch:
    own = torch.Generator().manual_seed(0)
    dual = request.param == "dual"
    made = new_network(own, P, place=PLACE if dual else None, side=3 if dual else 0, n_latent=5)
    with torch.no_grad():
        made.masked_gene.normal_(generator=own)
        made.masked_latent.normal_(generator=own)
    return made.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(N, P, generator=torch.Generator().manual_seed(1))


def test_hidden_cells_are_not_seen(network: DualBranch, x: torch.Tensor) -> None:
    hidden = torch.zeros(N, dtype=torch.bool)
    hidden[[2, 3, 8]] = True
    other = torch.where(hidden[:, None], 100 * x - 7, x)
    with torch.no_grad():
        (z, found), (z_other, found_other) = (network.masked(values, EDGES, hidden) for values in (x, other))
        torch.testing.assert_close(found, found_other, rtol=0, atol=0)
        torch.testing.assert_close(z, z_other, rtol=0, atol=0)
        seen = x.clone()
        seen[4] += 1  # next to 3, which is hidden
        assert not torch.allclose(network.masked(seen, EDGES, hidden)[1][3], found[3])


def test_what_is_decoded_of_a_hidden_cell_comes_from_its_neighbours(network: DualBranch, x: torch.Tensor) -> None:
    """Where all its neighbours are hidden from the decoder as well, it is the same for any two cells."""
    with torch.no_grad():
        found = network.masked(x, EDGES, torch.ones(N, dtype=torch.bool))[1]
        torch.testing.assert_close(found, found[:1].expand(N, P))


def test_shapes(network: DualBranch, x: torch.Tensor) -> None:
    spatial, intrinsic, z = network(x, EDGES)
    assert spatial.shape == z.shape == (N, 5)
    if network.genes is None:
        assert intrinsic is None
        torch.testing.assert_close(z, spatial @ network.join.weight.T)
    else:
        torch.testing.assert_close(z, torch.cat([spatial, intrinsic], dim=1) @ network.join.weight.T)


def test_the_gene_branch_sees_a_cell_alone(network: DualBranch, x: torch.Tensor) -> None:
    other = x.clone()
    other[5] += 1
    before, after = network(x, EDGES), network(other, EDGES)
    moved = (before[0] != after[0]).any(dim=1)
    assert moved.nonzero().ravel().tolist() == [3, 4, 5, 6, 7], "two hops around"
    if network.genes is not None:
        moved = ~torch.isclose(before[1], after[1]).all(dim=1)
        assert moved.nonzero().ravel().tolist() == [5]


def test_genes_are_laid_on_their_map() -> None:
    branch = GeneBranch(PLACE, 3, 2, 4)
    images: list[torch.Tensor] = []
    branch.convolutions.register_forward_pre_hook(lambda _, given: images.append(given[0]))
    x = torch.arange(1.0, 15.0).view(2, 7)
    branch.eval()(x)
    assert images[0].shape == (2, 1, 3, 3)
    torch.testing.assert_close(images[0].view(2, 9)[:, PLACE], x)
    assert not images[0].view(2, 9)[:, [5, 7]].any()


@pytest.mark.parametrize("p", [1, 2])
def test_hardly_any_genes(p: int) -> None:
    network = DualBranch(p, place=torch.arange(p), side=p, n_latent=3)
    z, found = network.masked(torch.randn(N, p), EDGES, torch.arange(N) < 4)
    assert z.shape == (N, 3) and found.shape == (N, p)
    network.reconstruction_loss(found, torch.ones(N, p), torch.arange(N) < 4).backward()


def test_the_loss_counts_what_it_is_told_to(network: DualBranch, x: torch.Tensor) -> None:
    counted = torch.arange(N) < 3
    found = torch.where(counted[:, None], x * 2, -x)
    assert float(network.reconstruction_loss(found, x, counted)) == pytest.approx(0.0, abs=1e-6)
    assert float(network.reconstruction_loss(found, x, ~counted)) == pytest.approx(8.0, rel=1e-5)


def test_numbers_of_cells_that_are_convolved_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number that is new costs memory that is not given back; latents are those of the cells asked."""
    own = torch.Generator().manual_seed(0)
    network = new_network(own, 9, place=torch.arange(9), side=3, n_latent=4).eval()
    x, edges = torch.randn(1200, 9, generator=own), torch.arange(1200).repeat(2, 1)
    seen, genes = [], network.genes.convolutions.forward
    monkeypatch.setattr(network.genes.convolutions, "forward", lambda image: seen.append(len(image)) or genes(image))
    with torch.no_grad():
        whole = network(x, edges)
        for n_asked in (513, 700, 1000, 1100):
            for part, all_cells in zip(network(x, edges, n_asked), whole, strict=True):
                torch.testing.assert_close(part, all_cells[:n_asked], atol=1e-5, rtol=1e-5)
    assert seen == [1200, 1024, 1024, 1024, 1200]
