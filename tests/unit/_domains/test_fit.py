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


@pytest.mark.parametrize("other", ["data", "options", "seed"])
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
    options = {"data": {}, "options": {"temperature": 0.7}, "seed": {"rng": 5}}[other]
    with pytest.raises(ValueError, match=rf"resume: expected.*found one with other .*{other}.*Next"):
        latents_of(bands, checkpoint=tmp_path / "progress", resume=True, **options)
    assert "spatial_domain" not in bands.obs


def test_nothing_to_resume_from(bands: AnnData) -> None:
    with pytest.raises(ValueError, match=r"resume: expected .*checkpoint.*found none. Next"):
        latents_of(bands, resume=True)


def test_what_an_untrained_network_gives(bands: AnnData) -> None:
    """Where it starts from slow features, bands are found before any training; from random weights less well."""
    slow, drawn = bands.copy(), bands.copy()
    quick = QUICK | {"epochs": 0, "variant": "spatial"}
    isost.tl.spatial_domains(slow, **quick)
    isost.tl.spatial_domains(drawn, start="random", **quick)
    found = [isost.metrics.domains(one.obs["spatial_domain"], one.obs["band"])["ari"] for one in (slow, drawn)]
    assert slow.uns["spatial_domain"]["params"]["epochs"] == 0
    assert found[0] > max(0.8, found[1] + 0.1), found
