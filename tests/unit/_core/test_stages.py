from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._core.requests import check_one_tissue
from isost._core.stack import read_stack
from isost._core.stages import Pose, align, read_growth, tissue

READ = {"section_key": "stage", "spatial_key": "spatial_stage", "depth_key": "age"}


def _disc(n: int, radius: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    angle, far = draw.uniform(-np.pi, np.pi, n), radius * np.sqrt(draw.uniform(size=n))
    return np.column_stack([far * np.cos(angle), far * np.sin(angle)])


def test_a_pose_centres_turns_and_scales() -> None:
    pose = Pose(np.array([10.0, 20.0]), 5.0, np.array([[0.0, -1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(pose.applied(np.array([[11.0, 20.0], [10.0, 23.0]]), 10.0), [[0.0, 2.0], [-6.0, 0.0]])


@pytest.mark.parametrize("radius", [1.0, 300.0])
def test_the_size_of_a_disc(radius: float) -> None:
    """The mean of r^2 over a disc of radius R is R^2 / 2."""
    places = _disc(6000, radius) + [70.0, -3.0]
    (pose,) = align([(places, np.zeros((6000, 0)))], mirror=False, turned=False)
    assert pose.size == pytest.approx(radius / np.sqrt(2.0), rel=0.02)
    np.testing.assert_allclose(pose.centre, [70.0, -3.0], atol=0.03 * radius)
    np.testing.assert_array_equal(pose.turn, np.eye(2))


def test_size_and_middle_are_of_the_area_and_not_of_the_cells() -> None:
    """One half of the disc is stained three times as densely."""
    places = _disc(8000, 1.0)
    thinned = places[(places[:, 0] > 0) | (np.arange(8000) % 3 == 0)]
    even, uneven = (align([(xy, np.zeros((len(xy), 0)))], mirror=False, turned=False)[0] for xy in (places, thinned))
    assert thinned[:, 0].mean() > 0.2
    assert np.abs(uneven.centre).max() < 0.05
    assert uneven.size == pytest.approx(even.size, rel=0.03)


@pytest.mark.parametrize("angle", [-170.0, -33.0, 20.0, 90.0])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_turned_copy_of_a_stage_is_turned_back(angle: float, flipped: bool) -> None:
    places = _disc(900, 1.0) * [1.0, 0.6]
    features = np.column_stack([places[:, 0] + places[:, 1] ** 2, np.sin(3 * places[:, 1])])
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, -1.0 if flipped else 1.0])
    poses = align([(places, features), (places @ turn.T, features)], mirror=flipped)
    np.testing.assert_allclose(poses[1].turn @ turn, np.eye(2), atol=0.01)


def test_growth_is_read_by_age() -> None:
    adata = AnnData(np.zeros((1, 1)))
    adata.uns["frame"] = {"ages": [9.0, 10.0, 12.0], "size": [2.0, 4.0, 16.0], "size_common": 4.0}
    np.testing.assert_array_equal(read_growth(adata, "frame", np.array([9.0, 12.0])), [0.5, 4.0])
    assert read_growth(adata, "other", np.array([9.0])) is None
    adata.uns["frame"] = "something else"
    assert read_growth(adata, "frame", np.array([9.0])) is None


def test_growth_between_stages_is_geometric(fitted_stages: isost.Reconstruction) -> None:
    stack = fitted_stages.stack
    np.testing.assert_allclose(stack.growth_at(stack.depths), stack.growth)
    middle = (stack.depths[1:] + stack.depths[:-1]) / 2
    np.testing.assert_allclose(stack.growth_at(middle), np.sqrt(stack.growth[1:] * stack.growth[:-1]))
    assert np.exp(np.log(stack.growth).mean()) == pytest.approx(1.0)


def test_a_stack_of_some_stages_keeps_their_growth(stages: AnnData) -> None:
    stack = read_stack(stages, **READ)
    np.testing.assert_array_equal(stack.select([3, 1]).growth, stack.growth[[1, 3]])
    some = stages[stages.obs["stage"].isin(["E11", "E14"])]
    np.testing.assert_array_equal(read_stack(some, **READ).growth, stack.growth[[1, 3]])


def test_another_frame_has_no_growth(stages: AnnData) -> None:
    stack = read_stack(stages, **READ | {"spatial_key": "spatial"})
    assert stack.growth is None
    check_one_tissue(stack)
    with pytest.raises(ValueError, match="Expected stages in a common frame"):
        stack.growth_at(10.0)


def test_a_stage_that_was_not_aligned(stages: AnnData) -> None:
    stages.obs["age"] = stages.obs["age"].where(stages.obs["stage"] != "E14", 14.25)
    with pytest.raises(ValueError, match=r"expected the stages of adata, found none of age 14\.25.*align_stages"):
        read_stack(stages, **READ)


def test_growth_is_saved(fitted_stages: isost.Reconstruction, tmp_path: Path) -> None:
    fitted_stages.save(tmp_path / "fit")
    again = isost.Reconstruction.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.stack.growth, fitted_stages.stack.growth)
    assert repr(again) == repr(fitted_stages)


def test_growth_is_read_from_a_file(stages: AnnData, tmp_path: Path) -> None:
    import anndata as ad

    stages.write_h5ad(tmp_path / "stages.h5ad")
    again = read_stack(ad.read_h5ad(tmp_path / "stages.h5ad"), **READ)
    np.testing.assert_array_equal(again.growth, read_stack(stages, **READ).growth)


def test_a_few_stray_cells_do_not_count() -> None:
    """1 % of the cells scattered over fifteen times the width of the tissue."""
    draw = np.random.default_rng(0)
    disc = draw.uniform(-1.0, 1.0, (6000, 2))
    disc = 100.0 * disc[np.hypot(*disc.T) < 1.0]
    stray = draw.normal(0.0, 1500.0, (len(disc) // 100, 2))
    (clean,), (dirty,) = (
        align([(places, np.zeros((len(places), 0)))], mirror=False, turned=False)
        for places in (disc, np.concatenate([disc, stray]))
    )
    assert dirty.size == pytest.approx(clean.size, rel=0.03)
    np.testing.assert_allclose(dirty.centre, clean.centre, atol=3.0)


def test_parts_that_lie_apart_are_tissue_if_they_are_large() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.uniform(0.0, 100.0, (2000, 2)), draw.uniform(0.0, 50.0, (500, 2)) + [400.0, 0.0]
    assert len(tissue(np.concatenate([first, second]))) > 2450
