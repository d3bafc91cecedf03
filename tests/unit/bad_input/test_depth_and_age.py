"""Depths, ages and options that a fit over both cannot be made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import isost

KEYS: dict[str, Any] = {"depth_key": ["z", "age"], "progress": False}


@pytest.fixture
def adata(make_stack: Callable[..., AnnData]) -> AnnData:
    """Three depths, each at two ages."""
    made = make_stack(n=24, n_genes=6)
    made.obs["z"] = made.obsm["spatial"][:, 2]
    made.obs["age"] = np.where(np.arange(made.n_obs) % 2, 9.5, 11.0)
    return made


@pytest.mark.parametrize("keys", [[], ["z"], ["z", "age", "stage"], ["z", 3], [None, "age"]])
def test_another_number_of_keys(adata: AnnData, keys: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"depth_key: expected one column of obs, or two.*found .*Next: depth_key="):
        isost.tl.fit(adata, depth_key=keys, progress=False)


def test_a_column_that_is_not_there(adata: AnnData, problems_of: Callable[..., list[str]]) -> None:
    (first, second) = problems_of(lambda: isost.tl.fit(adata, depth_key=["depth", "day"], progress=False))
    assert "expected columns of adata.obs; found 'depth', while the columns are" in first
    assert "found 'day'" in second


def test_ages_that_are_text(adata: AnnData, the_problem: Callable[..., str]) -> None:
    adata.obs["age"] = [f"E{age}" for age in adata.obs["age"]]
    assert "adata.obs['age']: expected finite numbers; found 'E" in the_problem(lambda: isost.tl.fit(adata, **KEYS))


def test_a_depth_that_is_missing(adata: AnnData, the_problem: Callable[..., str]) -> None:
    adata.obs.loc[adata.obs_names[3], "z"] = np.nan
    problem = the_problem(lambda: isost.tl.fit(adata, **KEYS))
    assert "adata.obs['z']: expected finite numbers; found NaN or infinity" in problem


def test_predicted_sections(adata: AnnData, the_problem: Callable[..., str]) -> None:
    adata.obs["section_weight"] = np.where(adata.obs["z"] == 50, 0.5, 1.0)
    problem = the_problem(lambda: isost.tl.fit(adata, **KEYS))
    assert "expected measured sections alone, over depth and age; found 24 cells of predicted ones" in problem


def test_one_age(adata: AnnData, the_problem: Callable[..., str]) -> None:
    adata.obs["age"] = 9.5
    problem = the_problem(lambda: isost.tl.fit(adata, **KEYS))
    assert "found 1 stages, of 3 sections at most" in problem and "Next: depth_key='z'" in problem


def test_one_depth_a_stage(adata: AnnData, the_problem: Callable[..., str]) -> None:
    adata.obs["age"] = adata.obs["z"]
    problem = the_problem(lambda: isost.tl.fit(adata, **KEYS))
    assert "found 3 stages, of 1 sections at most" in problem and "Next: depth_key='age'" in problem


def test_sections_of_too_few_cells(adata: AnnData, the_problem: Callable[..., str]) -> None:
    few = np.flatnonzero((adata.obs["age"] == 11.0) & (adata.obs["z"] == 50.0))[:4]
    kept = np.r_[few, np.flatnonzero((adata.obs["age"] == 9.5) | (adata.obs["z"] != 50.0))]
    problem = the_problem(lambda: isost.tl.fit(adata[kept].copy(), **KEYS))
    assert "expected at least 10 cells in every section" in problem and "'age 11.0, s2' with 4" in problem


def test_a_representation_that_is_not_there(adata: AnnData, the_problem: Callable[..., str]) -> None:
    assert "adata.obsm['X_umap']" in the_problem(lambda: isost.tl.fit(adata, use_rep="X_umap", **KEYS))


def test_stages_that_were_not_aligned(adata: AnnData) -> None:
    adata.uns["spatial"] = {"ages": [9.5], "size": [1.0], "size_common": 1.0}
    with pytest.raises(ValueError, match=r"expected the stages of adata, found none of age 11.*Next: isost\.pp\.align"):
        isost.tl.fit(adata, **KEYS)


@pytest.mark.parametrize(
    "option",
    [
        {"objective": "trajectory"}, {"preset": "mouse_brain_merfish"}, {"images": object()}, {"devices": 2},
        {"epochs": 3}, {"correct_sections": False}, {"n_candidate": 3},
    ],
)  # fmt: skip
def test_options_that_mean_nothing(adata: AnnData, option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(TypeError, match=rf"than n_candidates, feature_weight, found {name}\. Next: leave them out"):
        isost.tl.fit(adata, **KEYS, **option)


def test_all_options_that_mean_nothing_are_said_at_once(adata: AnnData) -> None:
    with pytest.raises(TypeError, match="found preset, epochs, dz"):
        isost.tl.fit(adata, preset="mouse_brain_merfish", epochs=2, dz=0.1, **KEYS)


def test_something_else_than_an_anndata() -> None:
    with pytest.raises(TypeError, match=r"expected an AnnData, found ndarray\. Next"):
        isost.tl.fit(np.ones((3, 2)), **KEYS)


def test_a_column_of_sections_that_is_not_there(adata: AnnData, the_problem: Callable[..., str]) -> None:
    assert "'nope'" in the_problem(lambda: isost.tl.fit(adata, section_key="nope", **KEYS))


def test_resuming_without_a_checkpoint(adata: AnnData) -> None:
    with pytest.raises(ValueError, match="resume: expected the checkpoint"):
        isost.tl.fit(adata, resume=True, **KEYS)


@pytest.mark.parametrize("options", [{"n_candidates": 0}, {"feature_weight": -1.0}, {"feature_weight": float("nan")}])
def test_impossible_options_of_the_couplings(adata: AnnData, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="The fit cannot run with these options"):
        isost.tl.fit(adata, **options, **KEYS)


@pytest.mark.parametrize("tool", [isost.tl.cross_validate, isost.tl.reconstruct, isost.tl.section_titration])
def test_two_depth_keys_where_one_is_meant(adata: AnnData, tool: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"depth_key: expected the name of one column.*\n.*Next: name one; two"):
        tool(adata, depth_key=["z", "age"])


@pytest.mark.parametrize("tool", [isost.tl.growth, isost.tl.propagate_labels])
def test_tools_along_age_of_a_fit_over_depth_too(adata: AnnData, tool: Callable[..., object]) -> None:
    over_both = isost.tl.fit(adata, **KEYS)
    with pytest.raises(TypeError, match=r"fitted: expected .* for one depth_key, found Reconstruction4D.*Next"):
        tool(over_both, adata, key="section")
