"""Fits repeat, leave global random numbers alone, and can be interrupted and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData

import isost
from isost._core import checkpoint as checkpoints
from isost._domains import features
from isost._domains.tissue import read_tissue
from isost._domains.train import Training

QUICK = {"n_domains": 3, "n_networks": 2, "epochs": 6, "n_init": 4, "progress": False, "device": "cpu"}


def latents_of(adata: AnnData, **options: object) -> np.ndarray:
    isost.tl.spatial_domains(adata, **QUICK | options)
    return adata.obsm["X_domains"]


def weights(fitted: isost.SpatialDomains) -> np.ndarray:
    return fitted.domains.members[0].network.first.lin.weight.detach().numpy()


def test_a_seed_repeats_the_fit(bands: AnnData, fit_quickly, fitted: isost.SpatialDomains) -> None:
    again, other = fit_quickly(bands), fit_quickly(bands, rng=1)
    np.testing.assert_array_equal(weights(again), weights(fitted))
    assert not np.allclose(weights(other), weights(fitted))
    one, two = bands.copy(), bands.copy()
    np.testing.assert_array_equal(latents_of(one), latents_of(two))
    assert one.obs["spatial_domain"].equals(two.obs["spatial_domain"])


def test_global_random_numbers_stay(bands: AnnData, fit_quickly) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    fit_quickly(bands)
    assert torch.equal(torch.get_rng_state(), before)
    now = np.random.get_state()  # noqa: NPY002
    assert now[2] == numpy_before[2] and np.array_equal(now[1], numpy_before[1])


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: type[BaseException]) -> None:
    step, done = Training._step, []

    def stopped(self: Training, *args: object) -> tuple[float, float]:
        done.append(1)
        if len(done) > calls:
            raise error
        return step(self, *args)

    monkeypatch.setattr(Training, "_step", stopped)


@pytest.mark.parametrize("calls", [0, 3, 8])
def test_ctrl_c_keeps_what_was_learned(
    bands: AnnData, fit_quickly: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, calls: int
) -> None:
    """Before the first epoch, in the first network, or in the second."""
    stop_after(monkeypatch, calls, KeyboardInterrupt)
    isost.tl.spatial_domains(bands, **QUICK)
    assert f"interrupted after {calls} of 12 epochs" in caplog.text
    assert bands.obs["spatial_domain"].notna().all() and np.isfinite(bands.obsm["X_domains"]).all()


@pytest.mark.parametrize("calls", [4, 9])
def test_a_crash_and_a_resumed_fit(bands: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """In the first network, or in the second."""
    whole = bands.copy()
    latents_of(whole)
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)
    folder = tmp_path / "progress"
    with monkeypatch.context() as during:
        stop_after(during, calls, RuntimeError)
        with pytest.raises(RuntimeError):
            latents_of(bands, checkpoint=folder)
    assert "spatial_domain" not in bands.obs and folder.is_dir()
    with pytest.raises(FileExistsError, match="resume=True"):
        latents_of(bands, checkpoint=folder)
    with monkeypatch.context() as during:
        stop_after(during, 12 - calls, AssertionError)  # what was done is not done again
        latents_of(bands, checkpoint=folder, resume=True)
    for key in ("X_domains", "X_domains_spatial", "X_domains_intrinsic"):
        np.testing.assert_array_equal(bands.obsm[key], whole.obsm[key])
    assert bands.obs["spatial_domain"].equals(whole.obs["spatial_domain"])
    assert not folder.exists()


@pytest.mark.parametrize("other", ["data", "options", "seed", "components"])
def test_a_checkpoint_of_another_fit(
    bands: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)
    with monkeypatch.context() as during:
        stop_after(during, 3, RuntimeError)
        with pytest.raises(RuntimeError):
            latents_of(bands, checkpoint=tmp_path / "progress")
    if other == "data":
        bands.X[0, 0] += 3
    if other == "components":
        monkeypatch.setattr(features, "_CELLS", 30)
    options = {"options": {"temperature": 0.7}, "seed": {"rng": 5}}.get(other, {})
    with pytest.raises(ValueError, match=rf"resume: expected.*found one with other .*{other}.*Next"):
        latents_of(bands, checkpoint=tmp_path / "progress", resume=True, **options)
    assert "spatial_domain" not in bands.obs


def test_nothing_to_resume_from(bands: AnnData) -> None:
    with pytest.raises(ValueError, match=r"resume: expected .*checkpoint.*found none. Next"):
        latents_of(bands, resume=True)


def test_slow_features_are_a_better_start_than_chance(bands: AnnData) -> None:
    """Of networks that are not trained: genes of noise beside, which no band has."""
    noise = np.random.default_rng(1).poisson(2.0, (bands.n_obs, 150)).astype(np.float32)
    wide = AnnData(np.concatenate([bands.X, noise], axis=1), obs=bands.obs, obsm={"spatial": bands.obsm["spatial"]})
    found = {}
    for start in ("slow", "random"):
        isost.tl.spatial_domains(wide, start=start, **QUICK | {"epochs": 0, "variant": "spatial", "n_latent": 4})
        found[start] = isost.metrics.domains(wide.obs["spatial_domain"], wide.obs["band"])["ari"]
        assert wide.uns["spatial_domain"]["params"]["epochs"] == 0
    assert found["slow"] > found["random"] + 0.1, found


def test_batch_norm_has_the_statistics_of_whole_cells(bands: AnnData) -> None:
    """Whatever share of them was hidden in the training."""
    fitted = isost.SpatialDomains.fit(bands, **QUICK | {"mask_rate": 0.8})
    network, genes = fitted.domains.members[0].network, fitted.domains.genes
    x = genes.features(read_tissue(bands, layer=None, spatial_key="spatial", batch_key=None, sample_key=None))
    branch = network.genes
    image = torch.zeros(len(x), branch.side**2)
    image[:, branch.place] = torch.from_numpy(x.rows(np.arange(len(x))))
    with torch.no_grad():
        seen = branch.convolutions[0](image.view(-1, 1, branch.side, branch.side))
    torch.testing.assert_close(branch.convolutions[1].running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(branch.convolutions[1].running_var, seen.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epochs", [1, 3, 5, 7, 8])
def test_the_rate_is_halved_three_times(bands: AnnData, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """At most, however many epochs there are, and at quarters of them."""
    rates, step = [], Training._step

    def noted(self: Training, block: object, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        rates.append(optimiser.param_groups[0]["lr"])
        return step(self, block, optimiser)

    monkeypatch.setattr(Training, "_step", noted)
    isost.SpatialDomains.fit(bands, **QUICK | {"epochs": epochs, "n_networks": 1})
    expected = [1e-3 * 0.5 ** sum(k >= np.ceil(epochs * quarter / 4) for quarter in (1, 2, 3)) for k in range(epochs)]
    np.testing.assert_allclose(rates, expected)
