from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spatialdata import SpatialData, bounding_box_query

import isost

VOXELS = "isost_voxels"


def drawn(ax: object) -> np.ndarray:
    return np.ma.filled(np.ma.masked_invalid(ax.images[0].get_array()).astype(float), np.nan)


@pytest.fixture(scope="module")
def made() -> SpatialData:
    adata = isost.datasets.phantom("still", n_sections=3, n_cells=150, n_genes=12, rng=1)
    isost.pp.embed(adata, n_comps=4)
    sdata = isost.tl.reconstruct(adata, voxel_size=60, epochs=1, progress=False, rng=0)
    isost.tl.spatial_features(sdata, n_comps=5)
    return sdata


def test_components_of_the_table_lie_where_its_voxels_are(made: SpatialData, tmp_path: Path) -> None:
    axes = isost.pl.spatial_features(made, components=[2, 5], save=tmp_path / "features.png")
    assert axes.shape == (2, 3) and (tmp_path / "features.png").stat().st_size
    table = made.tables[VOXELS]
    level = made["isost_mask"].shape[0] // 2
    at = isost.pl.spatial_features(made, components=2, position=(None, None, level_centre(made, level)))
    here = table.obs["z"].to_numpy() == level
    rows = table.obs.loc[here, "y"].to_numpy(), table.obs.loc[here, "x"].to_numpy()
    np.testing.assert_allclose(drawn(at[0, 0])[rows], table.obsm["X_spatial"][here, 1], rtol=1e-6)
    assert np.isfinite(drawn(at[0, 0])).sum() == here.sum()
    titles = [ax.get_ylabel() for ax in axes[0, 0].figure.axes]
    assert "spatial component 2" in titles and "spatial component 5" in titles


def level_centre(sdata: SpatialData, level: int) -> float:
    run = sdata.attrs["isost"]
    return float(run["origin"][2] + (level + 0.5) * run["voxel_size"])


def test_the_image_of_a_volume_without_a_table(made: SpatialData) -> None:
    with_table = isost.pl.spatial_features(made, components=1)
    bare = SpatialData(
        images=dict(made.images), labels=dict(made.labels), tables={"isost_cells": made.tables["isost_cells"]},
        points=dict(made.points), attrs=dict(made.attrs),
    )  # fmt: skip
    isost.tl.spatial_features(bare, n_comps=5)
    alone = isost.pl.spatial_features(bare, components=1)
    np.testing.assert_allclose(drawn(alone[0, 0]), drawn(with_table[0, 0]), rtol=1e-4, atol=1e-4)


def test_a_crop_is_drawn_where_it_lies(made: SpatialData) -> None:
    run = made.attrs["isost"]
    low = np.array(run["origin"])
    high = low + np.array(run["shape"][::-1]) * run["voxel_size"] * [0.5, 1.0, 1.0]
    volume = made.subset(["isost_volume", "isost_mask", "isost_voxel_ids", VOXELS])
    volume.attrs = made.attrs
    crop = bounding_box_query(volume, axes=("x", "y", "z"), min_coordinate=low, max_coordinate=high,
                              target_coordinate_system="global")  # fmt: skip
    assert 0 < crop.tables[VOXELS].n_obs < made.tables[VOXELS].n_obs
    at = level_centre(made, made["isost_mask"].shape[0] // 2)
    whole, part = (drawn(isost.pl.spatial_features(one, components=1, position=(None, None, at))[0, 0])
                   for one in (made, crop))  # fmt: skip
    np.testing.assert_array_equal(part, whole[:, : part.shape[1]])


def test_errors(made: SpatialData) -> None:
    with pytest.raises(KeyError, match="key: expected features of voxels.*found 'X_other'.*Next"):
        isost.pl.spatial_features(made, key="X_other")
    for components in ([6], [], 0):
        with pytest.raises(ValueError, match="components: expected .*Next"):
            isost.pl.spatial_features(made, components=components)
