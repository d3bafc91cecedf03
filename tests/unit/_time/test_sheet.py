"""Sections over depth and age: how they are read, which are neighbours, and how much each weighs at a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from isost._time.sheet import Sheet, read_sheet

# three stages that were cut at depths of their own: of three, four and two sections
AT = [(0, 9), (50, 9), (100, 9), (-10, 11), (30, 11), (60, 11), (110, 11), (20, 13), (90, 13)]
KEYS: dict[str, Any] = {
    "section_key": "section", "spatial_key": "spatial", "depth_key": ["z", "age"], "use_rep": "X_pca"
}  # fmt: skip


@pytest.fixture
def sheet(empty_sheet: Callable[..., Sheet]) -> Sheet:
    return empty_sheet(AT)


@pytest.fixture
def adata() -> AnnData:
    """Twelve cells at each of three depths at each of two ages, in any order, with positions that tell them apart."""
    draw = np.random.default_rng(0)
    z, age = (one.ravel() for one in np.meshgrid([0.0, 40.0, 100.0], [9.5, 11.0]))
    order = draw.permutation(72)
    obs = pd.DataFrame({"z": np.repeat(z, 12), "age": np.repeat(age, 12)}, index=[f"c{i}" for i in range(72)])
    made = AnnData(obs=obs.iloc[order])
    made.obsm["spatial"] = draw.uniform(0, 100, (72, 2))
    made.obsm["X_pca"] = draw.normal(size=(72, 3)).astype(np.float32)
    return made


@pytest.mark.parametrize("at", AT)
def test_a_measured_section_is_all_there_is_about_itself(sheet: Sheet, at: tuple[float, float]) -> None:
    assert sheet.about(*at) == {AT.index(at): 1.0}


def test_weights_about_a_place_reproduce_its_depth_and_age(sheet: Sheet) -> None:
    """They are positive, sum to one, and their mean is the place itself: linear along both."""
    for z, age in np.random.default_rng(0).uniform([20, 9], [90, 13], (50, 2)):
        weights = sheet.about(z, age)
        chosen, weight = sheet.at[list(weights)], np.array(list(weights.values()))
        assert weight.min() > 0 and weight.sum() == pytest.approx(1)
        np.testing.assert_allclose(weight @ chosen, [z, age])


def test_weights_halfway_are_halves_and_quarters(empty_sheet: Callable[..., Sheet]) -> None:
    square = empty_sheet([(0, 1), (10, 1), (0, 2), (10, 2)])
    assert square.about(5, 1) == {0: 0.5, 1: 0.5}
    assert square.about(10, 1.5) == {1: 0.5, 3: 0.5}
    assert square.about(5, 1.5) == dict.fromkeys(range(4), 0.25)


def test_beyond_the_sections_of_a_stage_its_last_one_counts(sheet: Sheet) -> None:
    """As between stages of which one reaches less far than the other."""
    assert sheet.about(-10, 10) == pytest.approx({0: 0.5, 3: 0.5})
    assert sheet.about(500, 20) == {8: 1.0}


def test_weights_change_steadily(sheet: Sheet) -> None:
    """No jump where the sections about a place change."""
    path = np.linspace([-5, 9], [105, 13], 4001)
    weight = np.zeros((len(path), len(AT)))
    for row, (z, age) in enumerate(path):
        for k, one in sheet.about(z, age).items():
            weight[row, k] = one
    assert np.abs(np.diff(weight, axis=0)).max() < 0.005


def test_a_place_is_predicted_from_two_on_either_side_in_two_stages(empty_sheet: Callable[..., Sheet]) -> None:
    grid = empty_sheet([(z, age) for age in (1, 3, 5) for z in (0, 50, 100, 150, 200)])
    ((sections, share),) = grid.patches(np.array([[75.0, 2.0]])).items()
    assert sections == (0, 1, 2, 3, 5, 6, 7, 8) and share.tolist() == [1.0]
    ((sections, _),) = grid.patches(np.array([[10.0, 4.0]])).items()
    assert sections == (5, 6, 7, 10, 11, 12)


def test_shares_of_sets_of_sections_sum_to_one_and_have_no_seam(sheet: Sheet) -> None:
    """Also at measured sections, where they are those of the sets on both sides."""
    path = np.concatenate([np.linspace([-5, 9], [105, 13], 4001), sheet.at])
    shares = np.stack(list(sheet.patches(path).values()))
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    assert len(shares) > 4 and shares.min() >= 0
    assert np.abs(np.diff(shares[:, :4001], axis=1)).max() < 0.02


def test_sets_of_sections_reach_to_both_sides(sheet: Sheet) -> None:
    """In age and, where the stage does, in depth."""
    for z, age in np.random.default_rng(0).uniform([-10, 9], [110, 13], (50, 2)):
        for sections in sheet.patches(np.array([[z, age]])):
            ages = sheet.at[list(sections), 1]
            assert len(set(ages)) == 2
            for one in set(ages):
                depths = sheet.at[[k for k in sections if sheet.at[k, 1] == one], 0]
                assert 2 <= len(depths) <= 4


def test_one_stage_left_is_a_set_of_its_own(empty_sheet: Callable[..., Sheet]) -> None:
    left = empty_sheet([(0, 1), (50, 1), (20, 2)]).without(2)
    ((sections, share),) = left.patches(np.array([[10.0, 1.5], [40.0, 2.0]])).items()
    assert sections == (0, 1) and share.tolist() == [1.0, 1.0]


def test_neighbours_on_a_grid_are_those_along_its_lines(empty_sheet: Callable[..., Sheet]) -> None:
    grid = empty_sheet([(z, age) for age in (1, 2) for z in (0, 50, 100)])
    assert grid.edges() == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (4, 5)]


@pytest.mark.parametrize(
    "at",
    [
        AT,
        [(0, 1), (10, 1), (500, 2), (510, 2)],  # that do not reach the same depths
        [(0, 1), (10, 1), (20, 1), (30, 2), (31, 3), (35, 3)],
        [(0, 1), (10, 1), (-1000, 2), (3000, 3)],
    ],
)
def test_neighbours_connect_all_sections(empty_sheet: Callable[..., Sheet], at: list[tuple[float, float]]) -> None:
    one, other = np.array(empty_sheet(at, scale=(10.0, 1.0)).edges()).T
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(len(at), len(at)))
    assert connected_components(graph, directed=False)[0] == 1
    assert (one < other).all()


def test_neighbours_do_not_depend_on_units(empty_sheet: Callable[..., Sheet]) -> None:
    scaled = empty_sheet([(1e-3 * z, 365 * age) for z, age in AT], scale=(0.05, 730.0))
    assert scaled.edges() == empty_sheet(AT).edges()


def test_without_a_section_the_others_stay(sheet: Sheet) -> None:
    left = sheet.without(4)
    np.testing.assert_array_equal(left.at, np.delete(sheet.at, 4, axis=0))
    assert left.stack.n_sections == 8 and left.stack.n_cells == 16
    assert left.about(30, 11) == pytest.approx({3: 3 / 7, 4: 4 / 7})
    np.testing.assert_array_equal(left.scale, sheet.scale)
    assert sheet.stack.n_sections == 9


def test_sections_are_read_by_age_and_then_by_depth(adata: AnnData) -> None:
    sheet = read_sheet(adata, **KEYS)
    assert sheet.at.tolist() == [[0, 9.5], [40, 9.5], [100, 9.5], [0, 11], [40, 11], [100, 11]]
    assert sheet.ages.tolist() == [9.5, 11.0] and sheet.stage(11.0).tolist() == [3, 4, 5]
    np.testing.assert_array_equal(np.diff(sheet.stack.starts), 12)
    found = adata[sheet.stack.obs_names]
    np.testing.assert_array_equal(found.obs[["z", "age"]], np.repeat(sheet.at, 12, axis=0))
    np.testing.assert_array_equal(found.obsm["spatial"], sheet.stack.coords[:, :2])
    np.testing.assert_array_equal(found.obsm["X_pca"], sheet.stack.features)


def test_distances_are_counted_in_median_gaps(adata: AnnData) -> None:
    sheet = read_sheet(adata, **KEYS)
    assert sheet.scale.tolist() == [50.0, 1.5]
    np.testing.assert_allclose(sheet.scaled(np.array([[100.0, 3.0]])), [[2.0, 2.0]])


def test_order_of_cells_does_not_matter(adata: AnnData) -> None:
    one, other = read_sheet(adata, **KEYS), read_sheet(adata[::-1].copy(), **KEYS)
    for name in ("coords", "features", "starts", "obs_names"):
        np.testing.assert_array_equal(getattr(one.stack, name), getattr(other.stack, name))
    np.testing.assert_array_equal(one.at, other.at)


def test_depths_that_differ_by_rounding_are_one(adata: AnnData) -> None:
    exact = read_sheet(adata, **KEYS)
    adata.obs["z"] += np.random.default_rng(1).uniform(0, 1e-6, adata.n_obs)
    adata.obs["age"] = adata.obs["age"].astype(np.float32).astype(float) + 1e-9 * np.arange(adata.n_obs)
    rounded = read_sheet(adata, **KEYS)
    np.testing.assert_allclose(rounded.at, exact.at, atol=1e-5)
    np.testing.assert_array_equal(rounded.stack.starts, exact.stack.starts)


def test_sections_that_are_named_lie_at_the_median_of_their_cells(adata: AnnData) -> None:
    exact = read_sheet(adata, **KEYS)
    adata.obs["slide"] = [f"{age} at {z}" for z, age in adata.obs[["z", "age"]].to_numpy()]
    tilted = adata.copy()
    tilted.obs["z"] += np.random.default_rng(1).uniform(-3, 3, adata.n_obs)
    sheet = read_sheet(tilted, **KEYS | {"section_key": "slide"})
    np.testing.assert_array_equal(sheet.stack.obs_names, exact.stack.obs_names)
    expected = tilted.obs.groupby("slide")[["z", "age"]].median().sort_values(["age", "z"])
    np.testing.assert_allclose(sheet.at, expected)


def test_sizes_of_stages_are_read(adata: AnnData) -> None:
    assert read_sheet(adata, **KEYS).stack.growth is None
    adata.uns["spatial"] = {"ages": [9.5, 11.0], "size": [100.0, 400.0], "size_common": 200.0}
    sheet = read_sheet(adata, **KEYS)
    np.testing.assert_allclose(sheet.stack.growth, [0.5] * 3 + [2.0] * 3)
    np.testing.assert_allclose(sheet.without(0).stack.growth, [0.5] * 2 + [2.0] * 3)


def test_what_is_read_is_left_as_it_is(adata: AnnData) -> None:
    before = adata.copy()
    read_sheet(adata, **KEYS)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.obsm) == set(before.obsm) and set(adata.uns) == set(before.uns)
    np.testing.assert_array_equal(adata.obsm["spatial"], before.obsm["spatial"])


def test_a_stage_of_one_section_is_a_stage(adata: AnnData) -> None:
    kept = (adata.obs["age"] < 10) | (adata.obs["z"] == 40)
    assert read_sheet(adata[kept].copy(), **KEYS).at.tolist() == [[0, 9.5], [40, 9.5], [100, 9.5], [40, 11]]
