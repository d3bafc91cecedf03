from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData

from isost.pp import align_stages


def _turn(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def _rows(adata: AnnData, stage: str) -> np.ndarray:
    return (adata.obs["stage"] == stage).to_numpy()


def _angle_between(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees by which two clouds of the same cells about the origin are turned against each other."""
    cross = (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).sum()
    return float(np.degrees(np.arctan2(cross, (one * other).sum())))


@pytest.mark.parametrize("mirror", [False, True])
def test_stages_come_to_lie_as_the_truth_does(stages: AnnData, mirror: bool) -> None:
    """All of them turned by one angle, that of the first."""
    align_stages(stages, mirror=mirror)
    turn = stages.uns["spatial_stage"]["turn"]
    np.testing.assert_allclose(np.linalg.det(turn), 1.0)
    left = np.arctan2(turn[:, 1, 0], turn[:, 0, 0]) + stages.uns["embryo"]["angle"]
    off = np.degrees(np.angle(np.exp(1j * (left - left[0]))))
    assert np.abs(np.diff(off)).max() < 5.0


@pytest.mark.parametrize("stage", ["E9.5", "E12.5", "E15.5"])
def test_how_a_stage_lies_on_its_slide_does_not_matter(stages: AnnData, stage: str) -> None:
    before, own = stages.obsm["spatial_stage"].copy(), _rows(stages, stage)
    first = _rows(stages, "E9.5")
    stages.obsm["spatial"][own] = 1.7 * stages.obsm["spatial"][own] @ _turn(77.0).T + [3000.0, -500.0]
    align_stages(stages)
    after = stages.obsm["spatial_stage"]
    frame = _turn(77.0) if stage == "E9.5" else np.eye(2)  # the first says how all lie
    scale = 1.7**0.2  # of the geometric mean of five sizes
    np.testing.assert_allclose(after[first], scale * before[first] @ frame.T, atol=1e-6)
    for name in stages.obs["stage"].cat.categories:
        rows = _rows(stages, name)
        assert abs(_angle_between(before[rows] @ frame.T, after[rows])) < 3.0
        np.testing.assert_allclose(*(np.linalg.norm(xy[rows], axis=1) for xy in (scale * before, after)), rtol=1e-6)


def test_a_stage_that_lies_face_down_is_found(stages: AnnData) -> None:
    before, own = stages.obsm["spatial_stage"].copy(), _rows(stages, "E14")
    stages.obsm["spatial"][own] *= [-1.0, 1.0]
    align_stages(stages, mirror=True)
    said = stages.uns["spatial_stage"]
    assert np.sign(np.linalg.det(said["turn"])).tolist() == [1, 1, 1, -1, 1]
    assert abs(_angle_between(before[own], stages.obsm["spatial_stage"][own])) < 1.0


def test_without_leave_no_stage_is_mirrored(stages: AnnData) -> None:
    stages.obsm["spatial"][_rows(stages, "E14")] *= [-1.0, 1.0]
    align_stages(stages)
    assert (np.linalg.det(stages.uns["spatial_stage"]["turn"]) > 0).all()


def test_what_is_said_makes_the_frame(stages: AnnData) -> None:
    said = stages.uns["spatial_stage"]
    assert said["stages"] == ["E9.5", "E11", "E12.5", "E14", "E15.5"]
    np.testing.assert_array_equal(said["ages"], [9.5, 11.0, 12.5, 14.0, 15.5])
    assert said["size_common"] == pytest.approx(np.exp(np.log(said["size"]).mean()))
    for number, name in enumerate(said["stages"]):
        own = _rows(stages, name)
        off = stages.obsm["spatial"][own] - said["centre"][number]
        placed = off @ said["turn"][number].T * said["size_common"] / said["size"][number]
        np.testing.assert_allclose(stages.obsm["spatial_stage"][own], placed)


def test_stages_grow_and_their_frames_do_not(stages: AnnData) -> None:
    said = stages.uns["spatial_stage"]
    assert (np.diff(said["size"]) > 0).all()
    across = [np.sqrt((stages.obsm["spatial_stage"][_rows(stages, name)] ** 2).sum(axis=1).mean())
              for name in said["stages"]]  # fmt: skip
    np.testing.assert_allclose(across, said["size_common"], rtol=0.1)


def test_only_two_keys_are_written(stages: AnnData) -> None:
    before = stages.copy()
    align_stages(stages, key_added="frame")
    np.testing.assert_array_equal(stages.obsm["spatial"], before.obsm["spatial"])
    np.testing.assert_array_equal(stages.obsm["spatial_stage"], before.obsm["spatial_stage"])
    np.testing.assert_array_equal(stages.obsm["frame"], before.obsm["spatial_stage"])
    assert set(stages.obsm) - set(before.obsm) == {"frame"} == set(stages.uns) - set(before.uns)
    assert stages.obsm["frame"].dtype == np.float64 and stages.obsm["frame"].shape == (stages.n_obs, 2)


def test_order_of_cells_does_not_matter(stages: AnnData) -> None:
    again = stages[np.random.default_rng(0).permutation(stages.n_obs)].copy()
    align_stages(again)
    again = again[stages.obs_names]
    assert abs(_angle_between(stages.obsm["spatial_stage"], again.obsm["spatial_stage"])) < 2.0
    np.testing.assert_allclose(again.uns["spatial_stage"]["size"], stages.uns["spatial_stage"]["size"])


def test_without_a_representation_stages_keep_their_turn(stages: AnnData) -> None:
    del stages.obsm["X_pca"]
    align_stages(stages, use_rep=None)
    np.testing.assert_array_equal(stages.uns["spatial_stage"]["turn"], np.tile(np.eye(2), (5, 1, 1)))


def test_ages_are_stages_where_no_column_names_them(stages: AnnData) -> None:
    expected = stages.obsm["spatial_stage"].copy()
    del stages.obs["stage"]
    align_stages(stages)
    np.testing.assert_allclose(stages.obsm["spatial_stage"], expected)


def test_a_view_is_refused(stages: AnnData) -> None:
    with pytest.raises(ValueError, match=r"found a view.*Next: adata = adata\.copy"):
        align_stages(stages[:500])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"use_rep": "X_umap"}, KeyError, r"use_rep: expected a key of obsm.*'X_umap'.*Next: isost\.pp\.embed"),
        ({"depth_key": "day"}, ValueError, "The stages cannot be read.*'day'"),
        ({"spatial_key": "place"}, ValueError, "The stages cannot be read.*'place'"),
        ({"section_key": "slide"}, ValueError, "The stages cannot be read.*'slide'"),
    ],
)
def test_what_is_not_there(stages: AnnData, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"(?s){words}"):
        align_stages(stages, **options)


def test_ages_that_are_no_numbers(stages: AnnData) -> None:
    stages.obs["age"] = stages.obs["stage"].astype(str)
    with pytest.raises(ValueError, match=r"(?s)The stages cannot be read.*age.*Next"):
        align_stages(stages)


def test_another_type() -> None:
    with pytest.raises(TypeError, match=r"AnnData.*found ndarray"):
        align_stages(np.ones((3, 2)))


@pytest.fixture
def deep(stages: AnnData) -> AnnData:
    """Each stage with depths of its own, as if its cells were of several sections."""
    stages.obs["z"] = np.random.default_rng(0).choice([-40.0, 0.0, 60.0], stages.n_obs) * stages.obs["age"]
    return stages


def test_depths_are_scaled_like_the_plane(deep: AnnData) -> None:
    before = deep.obs["z"].copy()
    align_stages(deep, z_key="z")
    said = deep.uns["spatial_stage"]
    for name, size in zip(said["stages"], said["size"], strict=True):
        own = _rows(deep, name)
        np.testing.assert_allclose(deep.obs["z_stage"][own], before[own] * said["size_common"] / size)
    np.testing.assert_array_equal(deep.obs["z"], before)


def test_depths_do_not_change_the_plane(deep: AnnData) -> None:
    before = deep.obsm["spatial_stage"].copy()
    align_stages(deep, z_key="z")
    np.testing.assert_array_equal(deep.obsm["spatial_stage"], before)


def test_a_body_measured_in_another_unit_has_the_same_proportions(deep: AnnData) -> None:
    align_stages(deep, z_key="z")
    depth, plane = deep.obs["z_stage"].copy(), deep.obsm["spatial_stage"].copy()
    deep.obsm["spatial"] *= 1000.0
    deep.obs["z"] *= 1000.0
    align_stages(deep, z_key="z")
    np.testing.assert_allclose(deep.obs["z_stage"], 1000.0 * depth)
    np.testing.assert_allclose(deep.obsm["spatial_stage"], 1000.0 * plane)


def test_depths_are_written_on_request_only(deep: AnnData) -> None:
    columns = list(deep.obs.columns)
    align_stages(deep)
    assert list(deep.obs.columns) == columns
    align_stages(deep, z_key="z", key_added="frame")
    assert list(deep.obs.columns) == [*columns, "z_stage"]


def test_depths_that_are_not_there(deep: AnnData) -> None:
    with pytest.raises(KeyError, match=r"z_key: expected a column of obs.*found 'depth'.*Next: name one of these"):
        align_stages(deep, z_key="depth")


@pytest.mark.parametrize("bad", ["deep", np.nan, np.inf])
def test_depths_that_are_no_numbers(deep: AnnData, bad: Any) -> None:
    before = deep.obsm["spatial_stage"].copy()
    deep.obs["z"] = deep.obs["z"].astype(object).where(np.arange(deep.n_obs) != 3, bad)
    with pytest.raises(ValueError, match=r"adata\.obs\['z'\]: expected depths as numbers, found .*Next"):
        align_stages(deep, z_key="z")
    assert "z_stage" not in deep.obs
    np.testing.assert_array_equal(deep.obsm["spatial_stage"], before)


def test_a_representation_that_is_not_finite(stages: AnnData) -> None:
    stages.obsm["X_pca"] = stages.obsm["X_pca"].copy()
    stages.obsm["X_pca"][3, 0] = np.nan
    with pytest.raises(ValueError, match=r"obsm\['X_pca'\]: expected finite values, found others.*Next"):
        align_stages(stages)


def test_a_stage_at_one_place(stages: AnnData) -> None:
    own = _rows(stages, "E11")
    stages.obsm["spatial"] = stages.obsm["spatial"].copy()
    stages.obsm["spatial"][own] = [1.0, 2.0]
    with pytest.raises(
        ValueError, match=r"expected cells of each stage at different x and y, found the same in .*Next"
    ):
        align_stages(stages)
