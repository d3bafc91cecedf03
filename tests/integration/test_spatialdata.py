"""A reconstruction through a zarr store and through SpatialData's own operations."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from spatialdata import SpatialData, bounding_box_query, get_extent, get_pyramid_levels, read_zarr
from spatialdata.transformations import get_transformation

import isost

SIZE = 25.0
AXES = ("x", "y", "z")


@pytest.fixture(scope="module")
def made() -> SpatialData:
    adata = isost.datasets.phantom(n_sections=3, n_cells=250, n_genes=10, rng=1)
    isost.pp.embed(adata, n_comps=4)
    return isost.tl.reconstruct(adata, voxel_size=SIZE, epochs=1, progress=False, rng=0)


@pytest.fixture(scope="module")
def read(made: SpatialData, tmp_path_factory: pytest.TempPathFactory) -> SpatialData:
    path = tmp_path_factory.mktemp("zarr") / "block.zarr"
    made.write(path)
    made.path = None
    return read_zarr(path)


def levels(sdata: SpatialData, name: str) -> list:
    element = sdata[name]
    return list(get_pyramid_levels(element)) if hasattr(element, "children") else [element]


def test_every_element_comes_back(made: SpatialData, read: SpatialData) -> None:
    assert {name for _, name, _ in read.gen_elements()} == {name for _, name, _ in made.gen_elements()}
    for name in ("isost_volume", "isost_uncertainty", "isost_density", "isost_mask", "isost_voxel_ids"):
        assert len(levels(made, name)) == len(levels(read, name)) == (2 if name == "isost_volume" else 1)
        for one, other in zip(levels(made, name), levels(read, name), strict=True):
            assert one.dims == other.dims and one.dtype == other.dtype
            assert np.array_equal(one.values, other.values, equal_nan=True)
    assert read["isost_volume"]["scale0"].coords["c"].values.tolist() == ["PC1", "PC2", "PC3", "PC4"]
    assert np.array_equal(made["isost_points"].compute()[[*AXES]], read["isost_points"].compute()[[*AXES]])


def test_places_come_back(made: SpatialData, read: SpatialData) -> None:
    assert read.coordinate_systems == ["global"]
    for name in ("isost_volume", "isost_uncertainty", "isost_density", "isost_mask", "isost_voxel_ids", "isost_points"):
        one, other = (get_transformation(sdata[name]).to_affine_matrix(AXES, AXES) for sdata in (made, read))
        assert np.array_equal(one, other)
    extent = get_extent(read["isost_points"])
    assert extent["z"][0] >= 0 and extent["z"][1] <= 100


def test_run_parameters_come_back(made: SpatialData, read: SpatialData) -> None:
    assert read.attrs["isost"] == made.attrs["isost"]


def test_tables_come_back(made: SpatialData, read: SpatialData) -> None:
    for name in ("isost_cells", "isost_voxels"):
        one, other = made.tables[name], read.tables[name]
        assert np.array_equal(one.X, other.X) and one.obs.equals(other.obs[one.obs.columns])
        for key in ("spatial", "X_pca"):
            assert np.array_equal(one.obsm[key], other.obsm[key])
        assert np.array_equal(one.varm["PCs"], other.varm["PCs"])
    assert read.tables["isost_cells"].obs["section_of_origin"].dtype == "category"


def test_opens_lazily_and_decodes_from_disk(made: SpatialData, read: SpatialData) -> None:
    for name in ("isost_volume", "isost_uncertainty", "isost_density", "isost_mask", "isost_voxel_ids"):
        assert all(isinstance(level.data, da.Array) for level in levels(read, name))
    name = made.tables["isost_cells"].var_names[5]
    assert np.array_equal(isost.get.gene(read, name), isost.get.gene(made, name), equal_nan=True)


def test_tables_without_decoded_genes_and_without_loadings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adata = isost.datasets.letters(80)
    isost.pp.embed(adata, n_comps=3)
    monkeypatch.setattr("isost._core.tables.LARGEST_X", 1)
    sdata = isost.tl.reconstruct(adata, voxel_size=50, output=tmp_path / "large.zarr", epochs=1, progress=False, rng=0)
    assert sdata.tables["isost_cells"].X is None
    assert np.isfinite(isost.get.gene(sdata, "gene_3")).any()
    adata.obsm["X_other"] = adata.obsm["X_pca"]
    sdata = isost.tl.reconstruct(
        adata, voxel_size=50, output=tmp_path / "other.zarr", use_rep="X_other", epochs=1, progress=False, rng=0
    )
    assert sdata.tables["isost_voxels"].n_vars == 0 and sdata["isost_volume"]["scale0"].sizes["c"] == 3


@pytest.mark.filterwarnings("ignore:The object has `points` element:UserWarning")
def test_box_in_three_dimensions(read: SpatialData) -> None:
    table = read.tables["isost_voxels"]
    low = np.median(table.obsm["spatial"], axis=0) - 4.3 * SIZE
    high = low + 8 * SIZE
    low[2], high[2] = 31.0, 77.0
    box = bounding_box_query(
        read, axes=AXES, min_coordinate=low, max_coordinate=high, target_coordinate_system="global"
    )
    points = box["isost_points"].compute()
    coords = read.tables["isost_cells"].obsm["spatial"]
    inside = ((coords >= low) & (coords <= high)).all(axis=1)
    assert len(points) == inside.sum() > 0
    assert np.allclose(box.tables["isost_cells"].obsm["spatial"], coords[inside])
    assert box["isost_volume"]["scale0"].image.shape == (4, 2, 8, 8)
    assert box["isost_mask"].shape == (2, 8, 8)
    voxels = box.tables["isost_voxels"]
    assert voxels.n_obs == (box["isost_mask"].values == 1).sum() > 0
    assert ((voxels.obsm["spatial"] > low) & (voxels.obsm["spatial"] < high)).all()


def test_a_written_block_takes_more_tables(read: SpatialData) -> None:
    read.tables["again"] = read.tables["isost_voxels"].copy()
    read.write_element("again")
    assert "again" in read_zarr(read.path).tables
