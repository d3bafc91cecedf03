"""A fit of stages of development: sections come in their own size, and there is no volume of them."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost import Reconstruction


@pytest.mark.parametrize("age", [9.5, 10.3, 15.5])
def test_cells_come_in_the_size_of_their_age_too(fitted_stages: Reconstruction, age: float) -> None:
    cells = fitted_stages.section(age, rng=0)
    grown = cells.obsm["spatial"][:, :2] * fitted_stages.stack.growth_at(age)
    np.testing.assert_allclose(cells.obsm["spatial_grown"], grown)


def test_a_profiled_stage_comes_in_the_size_it_was_measured_in(stages: AnnData, fitted_stages: Reconstruction) -> None:
    cells = fitted_stages.section(14.0, n_samples=1, rng=0)
    measured = stages[cells.obs["cell_of_origin"].astype(str)].obsm["spatial"]
    off = measured - measured.mean(axis=0), cells.obsm["spatial_grown"] - cells.obsm["spatial_grown"].mean(axis=0)
    np.testing.assert_allclose(*(np.linalg.norm(one, axis=1) for one in off), rtol=1e-9)


def test_sections_of_one_tissue_do_not_grow(fitted: Reconstruction) -> None:
    assert "spatial_grown" not in fitted.section(25.0, rng=0).obsm
    assert ", depths 0 to " in repr(fitted)


def test_its_name_says_ages(fitted_stages: Reconstruction) -> None:
    first = repr(fitted_stages).splitlines()[0]
    assert first.startswith("Reconstruction of 5 sections (") and first.endswith(" cells), ages 9.5 to 15.5")


def test_there_is_no_volume_of_stages(stages: AnnData, fitted_stages: Reconstruction) -> None:
    with pytest.raises(ValueError, match=r"found stages of development.*Next: fitted\.section"):
        fitted_stages.to_spatialdata(100.0)
    with pytest.raises(ValueError, match=r"found stages of development.*Next: fitted\.section"):
        isost.tl.reconstruct(stages, fitted=fitted_stages, voxel_size=100.0)


def test_a_volume_of_stages_is_refused_before_a_fit(stages: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("fitted for nothing")

    monkeypatch.setattr("isost.tl._reconstruct.fit_read", never)
    with pytest.raises(ValueError, match="found stages of development"):
        isost.tl.reconstruct(stages, depth_key="age", section_key="stage", spatial_key="spatial_stage")
