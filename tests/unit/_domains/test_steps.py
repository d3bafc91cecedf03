"""A step of the training by hand: what is hidden, what counts, how two losses share it; and latents by blocks."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from isost._core.checkpoint import Checkpoint
from isost._core.normalise import Normalisation
from isost._domains.features import Features
from isost._domains.graph import spatial_graph
from isost._domains.losses import contrastive_loss, project_conflicts, scaled_cosine_error
from isost._domains.model import tissue_patches
from isost._domains.network import HOPS, DualBranch
from isost._domains.patches import Block, Patches
from isost._domains.tissue import Tissue
from isost._domains.train import Training, TrainOptions, latents, new_network, settle_norms

N, P, D = 210, 9, 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    """Cells whose expression is a trend in space and noise."""
    draw = np.random.default_rng(0)
    place = draw.uniform(0, 10, (N, 2))
    x = np.sin(place @ draw.normal(size=(2, P))) + 0.5 * draw.normal(size=(N, P))
    none = np.zeros(N, dtype=np.int64)
    how = Normalisation("nothing", None, False, None)
    return Tissue(x.astype(np.float32), how, [f"g{k}" for k in range(P)], place, none, none)


@pytest.fixture(scope="module")
def graph(tissue: Tissue) -> sparse.csr_matrix:
    return spatial_graph(tissue.coords, tissue.sample)


@pytest.fixture(scope="module")
def features(tissue: Tissue) -> Features:
    return Features(tissue.matrix, tissue.matrix.mean(axis=0), 1 / tissue.matrix.std(axis=0))


@pytest.fixture
def patches(tissue: Tissue, graph: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch) -> Patches:
    """Five blocks."""
    monkeypatch.setattr("isost._domains.model._CELLS", 50)
    return tissue_patches(graph, tissue)


def made(seed: int = 0, *, dual: bool = True) -> DualBranch:
    own = torch.Generator().manual_seed(seed)
    network = new_network(own, P, place=torch.arange(P) if dual else None, side=3 if dual else 0, n_latent=D)
    with torch.no_grad():
        network.masked_gene.normal_(generator=own)
        network.masked_latent.normal_(generator=own)
    return network


def training(network: DualBranch, features: Features, patches: Patches, **options: float) -> Training:
    own = torch.Generator().manual_seed(3)
    return Training(network, features, patches, TrainOptions(**options), own, CPU)


def run(one: Training) -> None:
    assert one.run(Checkpoint(None, {}, resume=False), SimpleNamespace(update=len_of, set_postfix_str=len_of))


def len_of(value: object) -> None:
    """In place of a bar."""


def whole_edges(graph: sparse.csr_matrix) -> torch.Tensor:
    return Patches(graph, np.arange(N), n_cells=N).in_order(0)[0].edges


def hidden_in(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Note which cells each step hides."""
    noted, masked = [], DualBranch.masked

    def spied(self: DualBranch, x: torch.Tensor, edges: torch.Tensor, hidden: torch.Tensor, *rest: int):
        noted.append(hidden.clone())
        return masked(self, x, edges, hidden, *rest)

    monkeypatch.setattr(DualBranch, "masked", spied)
    return noted


def losses(network: DualBranch, features: Features, block: Block, hidden: torch.Tensor, temperature: float):
    """Reconstruction of the hidden cells of the core, and contrast of the core, of a step."""
    x, core = torch.from_numpy(features.rows(block.rows)), torch.arange(len(block.rows)) < block.n_core
    z, found = network.masked(x, block.edges, hidden, block.n_near)
    inside = block.edges[:, core[block.edges].all(dim=0)]
    asked = (core & hidden).nonzero().ravel()
    return scaled_cosine_error(found[asked], x[asked]), contrastive_loss(z[: block.n_core], inside, temperature)


@pytest.mark.parametrize("asked", [None, 150])
def test_the_decoder_does_not_see_latents_of_hidden_cells(graph: sparse.csr_matrix, asked: int | None) -> None:
    network, edges = made().eval(), whole_edges(graph)
    hidden = torch.rand(N, generator=torch.Generator().manual_seed(1)) < 0.5
    one = torch.randn(N, D, generator=torch.Generator().manual_seed(2))[:asked]
    other = torch.where(hidden[:asked, None], 3 * one + 1, one)
    pairs = graph[:150, :150].tocoo()
    cell, beside = next((i, j) for i, j in zip(pairs.row, pairs.col, strict=True) if hidden[i] and not hidden[j])
    moved = one.clone()
    moved[beside] += 1
    decoded = []
    with torch.no_grad():
        for z in (one, other, moved):
            network.forward = lambda *_, z=z: (z, None, z)
            seen, found = network.masked(torch.zeros(N, P), edges, hidden, asked)
            assert seen is z
            decoded.append(found)
    torch.testing.assert_close(decoded[0], decoded[1], rtol=0, atol=0)
    reached = np.zeros(N, dtype=bool)
    reached[[beside, *graph[beside].indices]] = True
    changed = (decoded[0] != decoded[2]).any(dim=1).numpy()
    assert changed[cell] and not changed[~reached[:asked]].any()


def test_the_hidden_cells_of_the_core_count(
    features: Features, patches: Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted, counted, loss = hidden_in(monkeypatch), [], DualBranch.reconstruction_loss

    def spied(self: DualBranch, found: torch.Tensor, x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        counted.append((x.clone(), which.clone()))
        return loss(self, found, x, which)

    monkeypatch.setattr(DualBranch, "reconstruction_loss", spied)
    one = training(made(), features, patches, mask_rate=0.3)
    optimiser = torch.optim.SGD(one.network.parameters(), 0.1)
    for number, block in enumerate(one._blocks()):
        one._step(block, optimiser)
        x, which = counted[number]
        assert 0 < block.n_core < len(block.rows) == len(noted[number])
        assert torch.equal(which, noted[number][: block.n_core])
        np.testing.assert_array_equal(x, features.rows(block.rows[: block.n_core]))
    share = torch.cat(noted).float().mean()
    assert len(counted) == 5 and 0.24 < share < 0.36


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_cell_of_the_core_is_hidden_at_least(
    features: Features, patches: Patches, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    noted = hidden_in(monkeypatch)
    one = training(made(), features, patches, mask_rate=rate)
    blocks = one._blocks()
    for block in blocks:
        one._step(block, torch.optim.SGD(one.network.parameters(), 0.1))
    for hidden, block in zip(noted, blocks, strict=True):
        assert hidden[: block.n_core].sum() == (1 if rate == 0 else block.n_core)
        assert hidden.sum() == (1 if rate == 0 else len(block.rows))


def gradient(loss: torch.Tensor, network: DualBranch) -> list[torch.Tensor]:
    parameters = list(network.parameters())
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("contrast", [0.0, 0.4, 2.5])
@pytest.mark.parametrize("dual", [False, True])
def test_a_step_by_hand(
    features: Features, patches: Patches, monkeypatch: pytest.MonkeyPatch, project: bool, contrast: float, dual: bool
) -> None:
    """Weights go down the gradient of both losses, the second weighed; without what conflicts, if that is asked."""
    start = made(dual=dual)
    run(training(start, features, patches, epochs=3, learning_rate=0.01, contrast=0.0))
    start.train()
    noted, against = hidden_in(monkeypatch), []
    for block in [block for seed in range(3) for block in patches.draw(torch.Generator().manual_seed(seed), HOPS)]:
        one = training(deepcopy(start), features, patches, project=project, contrast=contrast, temperature=0.3)
        noted.clear()
        said = one._step(block, torch.optim.SGD(one.network.parameters(), 0.5))
        by_hand = deepcopy(start)
        both = [loss.double() for loss in losses(by_hand, features, block, noted[0], 0.3)]
        assert said == pytest.approx((both[0].item(), both[1].item() if contrast else 0.0), rel=1e-5)
        first, second = gradient(both[0], by_hand), gradient(contrast * both[1], by_hand)
        added, projected = [g + h for g, h in zip(first, second, strict=True)], project_conflicts(first, second)
        for now, before, grad in zip(
            one.network.parameters(), start.parameters(), projected if project else added, strict=True
        ):
            torch.testing.assert_close((before - now).detach() / 0.5, grad, rtol=1e-3, atol=1e-5)
        apart = [torch.cat([g.ravel() for g in way]) for way in (added, projected)]
        against.append(float((apart[0] - apart[1]).norm() / apart[0].norm()))
    assert min(against) < 1e-6 and (max(against) > 0.02) == (contrast > 0), "some conflict, and some do not"


def test_a_training_by_hand(features: Features, graph: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam with the asked weight decay, at half the rate after each quarter."""
    noted = hidden_in(monkeypatch)
    whole = Patches(graph, np.arange(N), n_cells=N)
    options = {"epochs": 4, "learning_rate": 0.02, "weight_decay": 0.3, "project": False, "contrast": 0.7}
    one = training(made(), features, whole, **options)
    by_hand = deepcopy(one.network).train()
    run(one)
    monkeypatch.undo()
    (block,) = whole.in_order(0)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in by_hand.parameters()]
    history: dict[str, list[float]] = {"reconstruction": [], "contrast": []}
    for step, hidden in enumerate(noted, start=1):
        both = losses(by_hand, features, block, hidden, 0.5)
        for name, loss in zip(history, both, strict=True):
            history[name].append(loss.item())
        grads = torch.autograd.grad(both[0] + 0.7 * both[1], list(by_hand.parameters()), allow_unused=True)
        with torch.no_grad():
            for p, g, (mean, square) in zip(by_hand.parameters(), grads, moments, strict=True):
                g = 0.3 * p if g is None else g + 0.3 * p
                mean.mul_(0.9).add_(0.1 * g)
                square.mul_(0.999).add_(0.001 * g**2)
                rate = 0.02 * 0.5 ** (step - 1)
                p -= rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    assert len(noted) == 4
    for name, values in history.items():
        np.testing.assert_allclose(one.history[name], values, rtol=1e-4)
    for (name, now), truth in zip(one.network.named_parameters(), by_hand.parameters(), strict=True):
        if name != "genes.convolutions.0.bias" and name != "genes.convolutions.3.bias":  # batch norm: no gradient
            torch.testing.assert_close(now, truth, rtol=1e-3, atol=1e-4, msg=lambda said, name=name: f"{name}: {said}")


def test_the_rate_is_halved_at_quarters_of_the_steps(
    features: Features, patches: Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which an epoch has five, one for each block."""
    rates, step = [], Training._step

    def noted(self: Training, block: Block, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        assert isinstance(optimiser, torch.optim.Adam)
        rates.append(optimiser.param_groups[0]["lr"])
        return step(self, block, optimiser)

    monkeypatch.setattr(Training, "_step", noted)
    run(training(made(), features, patches, epochs=4, learning_rate=0.016))
    np.testing.assert_allclose(rates, np.repeat([0.016, 0.008, 0.004, 0.002], 5))


def weights(network: DualBranch) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in network.parameters()])


@pytest.mark.parametrize(
    "options", [{"contrast": 0.0}, {"contrast": 0.3}, {"temperature": 0.2}, {"project": False}, {"weight_decay": 0.1},
                {"mask_rate": 0.2}, {"learning_rate": 2e-3}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_every_option_of_the_training_has_an_effect(
    features: Features, patches: Patches, options: dict[str, float]
) -> None:
    found = []
    for given in ({}, {}, options):
        one = training(made(), features, patches, **{"epochs": 2} | given)
        run(one)
        found.append(weights(one.network))
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-4


def test_contrast_draws_neighbours_together(features: Features, patches: Patches, graph: sparse.csr_matrix) -> None:
    loss = {}
    for contrast in (0.0, 1.0):
        one = training(made(), features, patches, epochs=8, learning_rate=5e-3, contrast=contrast)
        run(one)
        z = torch.from_numpy(latents(one.network, features, patches, CPU)[2])
        loss[contrast] = float(contrastive_loss(z, whole_edges(graph), 0.5))
        assert (max(one.history["contrast"]) > 0) == (contrast > 0)
    assert loss[1.0] < loss[0.0] - 0.1, loss


def test_blocks_have_all_that_a_step_depends_on(features: Features, patches: Patches, graph: sparse.csr_matrix) -> None:
    """Three edges around: two layers of the encoder, one of the decoder."""
    one = training(made(), features, patches)
    cores = []
    for _ in range(2):
        blocks = one._blocks()
        assert len(blocks) == 5
        for block in blocks:
            reached = np.zeros(N)
            reached[block.rows[: block.n_core]] = 1
            for _ in range(3):
                reached += graph @ reached
            assert set(block.rows.tolist()) == set(np.flatnonzero(reached).tolist())
        core = [block.rows[: block.n_core] for block in blocks]
        np.testing.assert_array_equal(np.sort(np.concatenate(core)), np.arange(N))
        cores.append({frozenset(rows.tolist()) for rows in core})
    assert HOPS == 3 and cores[0] != cores[1], "drawn anew in each epoch"


@pytest.mark.parametrize("dual", [False, True])
def test_latents_by_blocks_are_those_of_the_whole(
    tissue: Tissue, features: Features, patches: Patches, graph: sparse.csr_matrix, dual: bool
) -> None:
    network = made(dual=dual)
    run(training(network, features, patches, epochs=1, learning_rate=0.01))
    found = latents(network.train(), features, patches, CPU)
    once = latents(network, features, Patches(graph, np.arange(N), n_cells=N), CPU)
    with torch.no_grad():
        direct = network.eval()(torch.from_numpy(features.rows(np.arange(N))), whole_edges(graph))
    assert patches.n_blocks == 5 and (found[1] is None) == (not dual)
    for values, other, truth in zip(found, once, direct, strict=True):
        if truth is not None:
            assert values.dtype == np.float32 and values.shape == (N, D)
            np.testing.assert_allclose(other, truth, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(values, other, rtol=1e-4, atol=1e-5)


def test_batch_norm_knows_how_much_whole_cells_vary_whatever_the_blocks(
    tissue: Tissue, patches: Patches, graph: sparse.csr_matrix
) -> None:
    network = made()
    trend = (tissue.coords[:, :1] + 0.1 * tissue.matrix).astype(np.float32)  # from one end of the tissue to the other
    features = Features(trend, trend.mean(axis=0), 1 / trend.std(axis=0))
    image = torch.from_numpy(features.rows(np.arange(N)))
    settle_norms(network, features, Patches(graph, np.arange(N), N), CPU)
    first, second = (network.genes.convolutions[k] for k in (1, 4))
    values = network.genes.convolutions[0](image.view(-1, 1, 3, 3)).detach().transpose(0, 1).flatten(1)
    np.testing.assert_allclose(first.running_mean, values.mean(dim=1), atol=1e-6)
    np.testing.assert_allclose(first.running_var, values.var(dim=1), rtol=1e-5)
    whole = second.running_var.clone()
    settle_norms(network, features, patches, CPU)
    np.testing.assert_allclose(first.running_var, values.var(dim=1), rtol=0.05)  # patches by themselves vary less
    np.testing.assert_allclose(second.running_var, whole, rtol=0.1)
    assert network.training is False
