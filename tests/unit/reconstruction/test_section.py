"""Sections drawn at any depth."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

from isost import Reconstruction


def test_section_between_two(fitted: Reconstruction) -> None:
    section = fitted.section(60, rng=0)
    sizes = np.diff(fitted.stack.starts)
    assert isinstance(section, AnnData)
    assert section.n_obs == pytest.approx(0.8 * sizes[1] + 0.2 * sizes[2], abs=2)
    assert (section.obsm["spatial"][:, 2] == 60).all()
    assert section.X.shape == (section.n_obs, 10) and section.X.dtype == np.float32
    assert np.allclose(section.X, fitted.stack.decoder.decode(section.obsm["X_pca"]))
    origin = section.obs["section_of_origin"]
    assert origin.dtype == "category" and set(origin) == set(fitted.stack.names[1:3])
    assert (origin == fitted.stack.names[1]).mean() == pytest.approx(0.8, abs=0.05)
    assert section.obs["cell_of_origin"].isin(fitted.stack.obs_names).all()
    assert section.var_names.tolist() == list(fitted.stack.decoder.genes)
    assert "sample" not in section.obs


def test_section_at_a_measured_depth_is_the_measured_one(fitted: Reconstruction) -> None:
    for k in (0, 2, 3):
        rows = fitted.stack.slice_of(k)
        section = fitted.section(float(fitted.stack.depths[k]), rng=0)
        order = np.argsort(section.obs["cell_of_origin"].to_numpy())
        there = np.argsort(fitted.stack.obs_names[rows])
        assert np.allclose(section.obsm["spatial"][order], fitted.stack.coords[rows][there])
        assert np.allclose(section.obsm["X_pca"][order], fitted.stack.features[rows][there])


def test_samples_follow_each_other(fitted: Reconstruction) -> None:
    section = fitted.section(75, n_samples=3, rng=0)
    assert section.obs["sample"].cat.categories.tolist() == [0, 1, 2]
    sizes = section.obs["sample"].value_counts(sort=False)
    assert np.ptp(sizes) <= 2 and section.obs_names.is_unique
    first, second = (section.obsm["spatial"][section.obs["sample"] == k][:50] for k in (0, 1))
    assert not np.allclose(first, second)


def test_a_seed_gives_the_same_section(fitted: Reconstruction) -> None:
    one, two, other = (fitted.section(75, rng=seed).obsm["spatial"] for seed in (4, 4, 5))
    assert np.array_equal(one, two)
    assert one.shape != other.shape or not np.allclose(one, other)


@pytest.mark.parametrize("z", [-0.1, 150.1, float("nan")])
def test_depth_outside(fitted: Reconstruction, z: float) -> None:
    message = "z: expected depths inside the stack, 0 to 150 um, found .* Next: ask within that range"
    with pytest.raises(ValueError, match=message):
        fitted.section(z)
    if z == z:
        with pytest.raises(ValueError, match=message):
            fitted.expression([[500.0, 500.0, z]])


def test_depth_that_is_no_number(fitted: Reconstruction) -> None:
    with pytest.raises(TypeError, match="z: expected one number"):
        fitted.section("75")  # type: ignore[arg-type]


@pytest.mark.parametrize("n_samples", [0, -1, 1.5])
def test_impossible_samples(fitted: Reconstruction, n_samples: float) -> None:
    with pytest.raises((TypeError, ValueError), match="n_samples: expected a whole number of 1 or more"):
        fitted.section(75, n_samples=n_samples)  # type: ignore[arg-type]
