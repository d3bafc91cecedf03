"""Batches from a fit to a new section: each has domains of its own, numbered alike."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._domains import adapt, model

Fit = Callable[..., isost.SpatialDomains]


@pytest.fixture
def both(bands: AnnData) -> AnnData:
    """Two batches of 120 and 80 cells, mixed, of which one is measured by other factors."""
    batch = np.random.default_rng(1).permutation(np.repeat(["a", "b"], [120, 80]))
    bands.obs["batch"] = batch
    bands.X[batch == "b"] = np.round(bands.X[batch == "b"] * np.linspace(0.5, 2, bands.n_vars))
    return bands


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of cells that mixtures are moved to."""
    sizes: list[int] = []

    def noted(mixture: object, x: np.ndarray) -> object:
        sizes.append(len(x))
        return adapt.adapted(mixture, x)

    monkeypatch.setattr(model, "adapted", noted)
    return sizes


def test_mixtures_are_moved_to_each_batch(both: AnnData, fit_quickly: Fit, moved: list[int]) -> None:
    fitted = fit_quickly(both, batch_key="batch", n_networks=3)
    assert moved == [120, 80] * 2  # the better half of three networks
    moved.clear()
    fitted.annotate(both[both.obs["batch"] == "b"].copy(), device="cpu")
    assert moved == [80, 80]
    moved.clear()
    fitted.annotate(both, batch_key="batch", device="cpu")
    assert moved == [120, 80] * 2


def test_without_batches_mixtures_stay(both: AnnData, fit_quickly: Fit, moved: list[int]) -> None:
    """Also where samples lie apart, or what is told holds batches."""
    fitted = fit_quickly(both, sample_key="batch")
    fitted.annotate(both, batch_key="batch", device="cpu")
    assert moved == []


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_what_is_saved_numbers_domains_as_what_was_fitted(
    both: AnnData, tmp_path_factory: pytest.TempPathFactory, batch_key: str | None
) -> None:
    quick = {"n_domains": 5, "n_networks": 2, "epochs": 4, "n_init": 4, "progress": False, "device": "cpu"}
    isost.tl.spatial_domains(both, batch_key=batch_key, **quick)
    fitted = isost.SpatialDomains.fit(both, batch_key=batch_key, **quick)
    folder = tmp_path_factory.mktemp("batches") / "fit"
    fitted.save(folder)
    again = both.copy()
    for one, key in ((fitted, "fitted"), (isost.SpatialDomains.load(folder), "loaded")):
        one.annotate(again, batch_key=batch_key, key_added=key, device="cpu")
    assert np.array_equal(again.obs["loaded"], again.obs["fitted"])
    assert (np.diff(both.obs["spatial_domain"].value_counts(sort=False)) <= 0).all()  # the largest first
    alike = np.mean(again.obs["fitted"].astype(str) == both.obs["spatial_domain"].astype(str))
    assert alike == 1 if batch_key is None else alike > 0.7  # moments are taken from other values with batches


def test_batches_apart_are_told_as_they_are_in_one_object(both: AnnData, fit_quickly: Fit) -> None:
    """A batch that is annotated by itself has the domains that it has beside the other, as no edge joins them."""
    fitted = fit_quickly(both, batch_key="batch")
    alone = [both[both.obs["batch"] == name].copy() for name in ("a", "b")]
    for one in alone:
        fitted.annotate(one, device="cpu")
    fitted.annotate(both, batch_key="batch", device="cpu")
    apart = ad.concat(alone).obs["spatial_domain"].astype(str)
    assert (apart.loc[both.obs_names] == both.obs["spatial_domain"].astype(str)).all()
