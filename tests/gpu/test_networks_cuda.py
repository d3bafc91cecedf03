"""Networks of domains and of histology do on a GPU what they do on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import isost
from isost._histology.network import NetworkOptions, network_found, train_network

pytestmark = pytest.mark.gpu
QUICK = {"n_networks": 1, "epochs": 20, "n_init": 8, "progress": False}


def trained(device: str) -> tuple[torch.nn.Module, float]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 12)).astype(np.float32)
    level = (x @ draw.normal(size=(12, 3)) + 0.3 * draw.normal(size=(400, 3))).astype(np.float32)
    options = NetworkOptions((32,), 0.3, 1e-2, epochs=60)
    tensors = torch.from_numpy(x), torch.from_numpy(level > 0), torch.from_numpy(level)
    network, _ = train_network(*tensors, np.arange(300), np.arange(300, 400), options, seed=1,
                               device=torch.device(device), told=lambda: None)  # fmt: skip
    return network, np.corrcoef(network_found(network, x[300:], torch.device(device))[1][:, 0], level[300:, 0])[0, 1]


def test_histology_learns_alike_and_again() -> None:
    """Dropout draws from another generator there, which the seed sets too."""
    (one, r), (again, _), (_, r_cpu) = trained("cuda"), trained("cuda"), trained("cpu")
    assert r > 0.85 and r == pytest.approx(r_cpu, abs=0.05)
    for name, value in one.state_dict().items():
        np.testing.assert_allclose(value.numpy(), again.state_dict()[name].numpy(), rtol=1e-3, atol=1e-4)


def test_histology_predicts_alike() -> None:
    network, _ = trained("cpu")
    x = np.random.default_rng(1).normal(size=(50, 12)).astype(np.float32)
    here, there = (network_found(network, x, torch.device(device)) for device in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_training_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    trained("cuda")
    assert torch.equal(before[0], torch.get_rng_state()) and torch.equal(before[1], torch.cuda.get_rng_state())


def test_domains_are_found_alike() -> None:
    adata = isost.datasets.phantom(n_sections=2, n_cells=300, n_genes=30, rng=0)
    found = {}
    for device in ("cpu", "cuda"):
        other = adata.copy()
        isost.tl.spatial_domains(other, n_domains=3, device=device, rng=0, **QUICK)
        found[device] = isost.metrics.domains(other.obs["spatial_domain"], other.obs["domain"])["ari"]
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.15)
