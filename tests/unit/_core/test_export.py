from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData, get_pyramid_levels, join_spatialelement_table, transform
from spatialdata.models import PointsModel
from spatialdata.transformations import get_transformation

from isost._core import tables
from isost._core.carry import Cells
from isost._core.export import build_spatialdata
from isost._core.field import FieldValue
from isost._core.grid import Grid, make_grid
from isost._core.slabs import missing_planes, read_slabs, write_slab
from isost._core.stack import Decoder, Stack
from isost._core.volume import GRIDDED, Request, Volume, compute_slab, compute_volume

SIZE = 20.0


@dataclass
class LinearField:
    """A field that is a known function of the place; tissue is a disc."""

    stack: Stack
    density_floor: float = 1e-6

    def predict(self, coords: np.ndarray) -> FieldValue:
        mean = np.column_stack([coords, coords.sum(axis=1)]).astype(np.float32)
        inside = np.hypot(coords[:, 0] - 200, coords[:, 1] - 150) < 140
        return FieldValue(mean, (mean / 50) ** 2, np.where(inside, 2e-3, 0).astype(np.float32))

    def density(self, coords: np.ndarray) -> np.ndarray:
        return self.predict(coords).density

    def std(self, value: FieldValue) -> np.ndarray:
        return np.sqrt(value.var[:, : self.stack.n_features])

    def genes(self, value: FieldValue, index: np.ndarray) -> np.ndarray:
        return self.stack.decode(value.mean, index)

    def gene_std(self, value: FieldValue, index: np.ndarray) -> np.ndarray:
        return np.sqrt(value.var @ (self.stack.decoder.loadings[index] ** 2).T)


def make_stack(n: int = 200, *, decoder: bool = True, use_rep: str = "X_pca") -> Stack:
    draw = np.random.default_rng(0)
    depths = np.array([-30.0, 10.0, 90.0])
    coords = np.column_stack([draw.random((3 * n, 2)) * (400, 300), np.repeat(depths, n)])
    coords[:2, :2] = [[0, 0], [400, 300]]
    loadings = draw.normal(size=(6, 4)).astype(np.float32)
    genes = tuple(f"Gene{i}" for i in range(6))
    return Stack(
        coords=coords,
        features=draw.normal(size=(3 * n, 4)).astype(np.float32),
        starts=np.arange(4) * n,
        depths=depths,
        names=("a", "b", "c"),
        rows=np.arange(3 * n),
        obs_names=np.array([f"cell{i}" for i in range(3 * n)]),
        use_rep=use_rep,
        decoder=Decoder(genes, loadings, draw.normal(size=6).astype(np.float32)) if decoder else None,
        unit="um",
    )


def export(stack: Stack, genes: list[str] | None = None, size: float = SIZE) -> tuple[SpatialData, Grid]:
    grid = make_grid(stack, size, n_channels=4)
    index = None if genes is None else stack.decoder.index(genes)
    volume = volume_of(stack, grid, Request(genes, index))
    return build_spatialdata(stack, grid, volume, genes=genes, params={"objective": "none"}), grid


def measured(field: LinearField, grid: Grid, planes: slice, seed: int) -> Cells:
    stack = field.stack
    plane = grid.index(stack.coords) // (grid.shape[1] * grid.shape[2])
    rows = np.flatnonzero((plane >= planes.start) & (plane < planes.stop))
    weight = np.ones(len(rows), np.float32)
    return Cells(stack.coords[rows], stack.features[rows], stack.section_index[rows], rows, weight)


def volume_of(stack: Stack, grid: Grid, request: Request) -> Volume:
    """The field on the grid, filled with the measured cells."""

    with patch("isost._core.volume.fill", measured):
        return compute_volume(LinearField(stack), grid, request)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack()


@pytest.fixture(scope="module")
def exported(stack: Stack) -> tuple[SpatialData, Grid]:
    return export(stack)


def full(sdata: SpatialData, name: str) -> np.ndarray:
    element = sdata[name]
    return (element["scale0"].image if hasattr(element, "children") else element).values


def test_every_element_is_there(exported: tuple[SpatialData, Grid]) -> None:
    sdata, grid = exported
    assert set(sdata.images) == {"isost_volume", "isost_uncertainty", "isost_density"}
    assert set(sdata.labels) == {"isost_mask", "isost_voxel_ids"}
    assert set(sdata.points) == {"isost_points"}
    assert set(sdata.tables) == {"isost_cells", "isost_voxels"}
    assert sdata.coordinate_systems == ["global"]
    assert sdata["isost_volume"]["scale0"].image.dims == ("c", "z", "y", "x")
    assert sdata["isost_volume"]["scale0"].coords["c"].values.tolist() == ["PC1", "PC2", "PC3", "PC4"]
    assert full(sdata, "isost_volume").shape == full(sdata, "isost_uncertainty").shape == (4, *grid.shape)
    assert full(sdata, "isost_volume").dtype == full(sdata, "isost_uncertainty").dtype == np.float32
    assert full(sdata, "isost_density").shape == (1, *grid.shape)
    assert set(np.unique(full(sdata, "isost_mask"))) == {0, 1}
    assert np.array_equal(full(sdata, "isost_voxel_ids") > 0, full(sdata, "isost_mask") == 1)


def test_a_place_at_a_voxel_centre_is_that_voxel(exported: tuple[SpatialData, Grid]) -> None:
    sdata, grid = exported
    inside = np.argwhere(full(sdata, "isost_mask") == 1)[[0, 57, -1]]
    centres = grid.origin + (inside[:, ::-1] + 0.5) * SIZE
    for name in ("isost_volume", "isost_uncertainty", "isost_density", "isost_mask"):
        to_voxels = get_transformation(sdata[name]).inverse()
        points = PointsModel.parse(
            pd.DataFrame(centres, columns=["x", "y", "z"]), transformations={"global": to_voxels}
        )
        # a voxel i reaches from i to i + 1 in the coordinates of an image
        assert np.allclose(transform(points, to_coordinate_system="global").compute(), inside[:, ::-1] + 0.5)
    z, y, x = inside.T
    assert np.allclose(full(sdata, "isost_volume")[:3, z, y, x].T, centres, rtol=1e-5)
    assert np.allclose(full(sdata, "isost_uncertainty")[:3, z, y, x].T, np.abs(centres) / 50, rtol=1e-5)


def test_coarser_levels_hold_the_mean_at_the_same_place(exported: tuple[SpatialData, Grid]) -> None:
    sdata, _ = exported
    levels = list(get_pyramid_levels(sdata["isost_volume"]))
    assert len(levels) > 1
    place = {"z": 0, "y": 4, "x": 5}
    matrix = get_transformation(sdata["isost_volume"]["scale1"].image).to_affine_matrix(
        ("x", "y", "z"), ("x", "y", "z")
    )
    centre = matrix @ [place["x"] + 0.5, place["y"] + 0.5, place["z"] + 0.5, 1]
    # a linear function's mean over a block is its value in the middle of the block
    assert np.allclose(levels[1].isel(place).values[:3], centre[:3], rtol=1e-5)


def test_outside_the_tissue_nothing_is_claimed(exported: tuple[SpatialData, Grid]) -> None:
    sdata, _ = exported
    outside = full(sdata, "isost_mask") == 0
    assert outside.any()
    for name in ("isost_volume", "isost_uncertainty"):
        assert np.isnan(full(sdata, name)[:, outside]).all()
        assert np.isfinite(full(sdata, name)[:, ~outside]).all()
    assert (full(sdata, "isost_density")[0][outside] == 0).all()


def test_density_counts_one_section_in_each_plane(exported: tuple[SpatialData, Grid]) -> None:
    sdata, grid = exported
    plane = full(sdata, "isost_density")[0, 2].sum() * SIZE**3
    assert plane == pytest.approx(2e-3 * np.pi * 140**2, rel=0.03)
    assert sdata.attrs["isost"]["density"]["unit"] == "cells / um^3"


def test_cells_annotate_the_points(stack: Stack, exported: tuple[SpatialData, Grid]) -> None:
    sdata, _ = exported
    table = sdata.tables["isost_cells"]
    sdata.validate_table_in_spatialdata(table)
    elements, joined = join_spatialelement_table(
        sdata=sdata, spatial_element_names="isost_points", table_name="isost_cells", how="inner", match_rows="left"
    )
    points = elements["isost_points"].compute()
    assert np.allclose(points[["x", "y", "z"]], joined.obsm["spatial"])
    assert np.allclose(table.obsm["spatial"], stack.coords)
    assert np.allclose(table.obsm["X_pca"], stack.features)
    assert table.obs["section_of_origin"].cat.categories.tolist() == ["a", "b", "c"]
    assert table.obs["section_of_origin"].value_counts().tolist() == [200, 200, 200]
    assert table.obs["cell_of_origin"].iloc[3] == "cell3"
    assert np.allclose(table.X, stack.decoder.decode(stack.features), atol=1e-6)


def test_voxels_are_those_inside(exported: tuple[SpatialData, Grid]) -> None:
    sdata, grid = exported
    table = sdata.tables["isost_voxels"]
    mask = full(sdata, "isost_mask") == 1
    assert table.n_obs == mask.sum()
    z, y, x = (table.obs[axis].to_numpy() for axis in "zyx")
    assert mask[z, y, x].all()
    sdata.validate_table_in_spatialdata(table)
    assert np.array_equal(full(sdata, "isost_voxel_ids")[z, y, x], table.obs["instance_id"])
    assert np.array_equal(grid.index(table.obsm["spatial"]), np.flatnonzero(mask))
    assert np.array_equal(table.obsm["X_pca"], full(sdata, "isost_volume")[:, z, y, x].T)
    index = grid.index(sdata.tables["isost_cells"].obsm["spatial"])
    assert table.obs["n_cells"].sum() == np.isin(index, np.flatnonzero(mask)).sum()


def test_tables_keep_what_decodes_a_gene(stack: Stack, exported: tuple[SpatialData, Grid]) -> None:
    for table in exported[0].tables.values():
        assert np.array_equal(table.varm["PCs"], stack.decoder.loadings)
        assert np.allclose(table.var["pca_mean"], stack.decoder.mean)


def test_run_is_noted_in_plain_json(stack: Stack, exported: tuple[SpatialData, Grid]) -> None:
    run = exported[0].attrs["isost"]
    assert json.loads(json.dumps(run)) == run
    assert run["sections"] == {"name": ["a", "b", "c"], "depth": [-30.0, 10.0, 90.0], "n_cells": [200, 200, 200]}
    assert (run["voxel_size"], run["unit"], run["channels"]) == (SIZE, "um", "features")
    assert run["params"] == {"objective": "none"}


def test_asked_genes_become_the_channels(stack: Stack) -> None:
    sdata, grid = export(stack, ["Gene4", "Gene1"])
    assert sdata["isost_volume"]["scale0"].coords["c"].values.tolist() == ["Gene4", "Gene1"]
    table = sdata.tables["isost_voxels"]
    assert table.var_names.tolist() == ["Gene4", "Gene1"]
    z, y, x = (table.obs[axis].to_numpy() for axis in "zyx")
    assert np.allclose(table.X, full(sdata, "isost_volume")[:, z, y, x].T, atol=1e-3)
    mean = LinearField(stack).predict(table.obsm["spatial"]).mean
    assert np.allclose(table.X, stack.decoder.decode(mean, ["Gene4", "Gene1"]), atol=1e-2)
    assert sdata.attrs["isost"]["channels"] == "genes"


def test_representation_without_loadings_is_volumed_as_itself() -> None:
    sdata, _ = export(make_stack(decoder=False, use_rep="X_scVI"))
    assert sdata["isost_volume"]["scale0"].coords["c"].values.tolist() == ["scVI1", "scVI2", "scVI3", "scVI4"]
    assert sdata.tables["isost_cells"].shape == (600, 0)
    assert sdata.tables["isost_voxels"].obsm["X_scVI"].shape[1] == 4


def test_a_table_too_large_to_decode_says_so(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tables, "LARGEST_X", 600 * 6 - 1)
    with caplog.at_level(logging.INFO, "isost"):
        cells = export(stack)[0].tables["isost_cells"]
        asked = export(stack, [f"Gene{i}" for i in range(6)])[0].tables["isost_cells"]
    assert cells.X is None and cells.n_vars == 6
    assert asked.X.shape == (600, 6)
    assert "600 rows x 6 genes" in caplog.text


def test_chunks_stay_small_and_lazy() -> None:
    wide = replace(make_stack(), coords=make_stack().coords * (100, 1, 1))
    sdata, _ = export(wide)
    for element in (*get_pyramid_levels(sdata["isost_volume"]), sdata["isost_uncertainty"], sdata["isost_mask"]):
        assert isinstance(element.data, da.Array)
        assert max(np.prod(chunk) for chunk in [element.data.chunksize]) <= 64**4
    assert sdata["isost_volume"]["scale0"].image.data.numblocks[3] > 1


def test_planes_computed_in_blocks_are_the_same(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = make_grid(stack, SIZE, n_channels=4)
    whole = volume_of(stack, grid, Request())
    monkeypatch.setattr("isost._core.volume._BLOCK_BYTES", 1)
    same(whole, volume_of(stack, grid, Request()))


def test_slabs_are_the_planes_of_the_whole(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grid = make_grid(stack, SIZE, n_channels=4)
    for request in (Request(), Request(["Gene4"], np.array([4])), Request(kind="cells")):
        whole = volume_of(stack, grid, request)
        assert np.array_equal(whole.ids[tuple(whole.voxels.T)], np.arange(1, len(whole.voxels) + 1))
        with monkeypatch.context() as patched:
            patched.setattr(
                "isost._core.volume.slabs_of", lambda *_: [slice(0, 1), slice(1, 4), slice(4, grid.shape[0])]
            )
            same(whole, volume_of(stack, grid, request))


def test_slabs_on_disk_are_the_whole(stack: Stack, tmp_path: Path) -> None:
    grid = make_grid(stack, SIZE, n_channels=4)
    whole = volume_of(stack, grid, Request())
    with patch("isost._core.volume.fill", measured):
        for planes in (slice(0, 2), slice(2, grid.shape[0])):
            write_slab(tmp_path, planes.start, compute_slab(LinearField(stack), grid, planes, Request()))
    on_disk = read_slabs(tmp_path, grid.shape[0])
    assert isinstance(on_disk.mean, da.Array) and isinstance(on_disk.scores, da.Array)
    same(whole, on_disk)
    lazily, _ = build_spatialdata(stack, grid, on_disk, genes=None, params={}), grid
    eagerly = build_spatialdata(stack, grid, whole, genes=None, params={})
    for name in ("isost_volume", "isost_voxel_ids", "isost_mask", "isost_density"):
        assert np.array_equal(full(lazily, name), full(eagerly, name), equal_nan=True)
    for name, table in eagerly.tables.items():
        assert np.allclose(np.asarray(lazily.tables[name].X), table.X, atol=1e-6)
        assert lazily.tables[name].obs.equals(table.obs)


def test_slabs_go_on_where_others_end_however_thick_they_are(stack: Stack, tmp_path: Path) -> None:
    """A slab that is there stays, and what another process has made beside it meanwhile does no harm."""
    grid = make_grid(stack, SIZE, n_channels=4)
    whole, n_planes = volume_of(stack, grid, Request()), grid.shape[0]
    with patch("isost._core.volume.fill", measured):
        parts = {
            (first, last): compute_slab(LinearField(stack), grid, slice(first, last), Request())
            for first, last in ((0, 2), (1, 3), (2, 3), (3, n_planes))
        }
    assert missing_planes(tmp_path, n_planes) == [slice(0, n_planes)]
    for first, last in ((0, 2), (1, 3)):
        write_slab(tmp_path, first, parts[first, last])
    assert missing_planes(tmp_path, n_planes) == [slice(2, n_planes)]
    write_slab(tmp_path, 3, parts[3, n_planes])
    assert missing_planes(tmp_path, n_planes) == [slice(2, 3)]
    for _ in range(2):
        write_slab(tmp_path, 2, parts[2, 3])
    assert missing_planes(tmp_path, n_planes) == []
    same(whole, read_slabs(tmp_path, n_planes))


def test_a_slab_that_is_not_complete_is_not_there(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = volume_of(stack, make_grid(stack, SIZE, n_channels=4), Request())

    replace_file = os.replace

    def stop(fresh: Any, target: Any) -> None:
        if Path(target).name.startswith("slab_"):
            raise KeyboardInterrupt
        replace_file(fresh, target)

    monkeypatch.setattr("isost._core.slabs.os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_slab(tmp_path, 0, part)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_too_many_voxels_is_left_out(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("isost._core.export.LARGEST_TABLE", 10)
    sdata, _ = export(stack)
    assert set(sdata.tables) == {"isost_cells"} and set(sdata.labels) == {"isost_mask"}
    assert "isost_voxels and isost_voxel_ids are left out" in caplog.text


def same(one: Volume, other: Volume) -> None:
    for name in (*GRIDDED, "voxels", "n_cells", "scores"):
        assert np.array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), equal_nan=True), name
    for name in ("coords", "features", "section", "row"):
        assert np.array_equal(np.asarray(getattr(one.cells, name)), np.asarray(getattr(other.cells, name))), name


def test_no_voxel_in_the_tissue_says_so(stack: Stack) -> None:
    ring = replace(stack, coords=stack.coords + (240.0, 0.0, 0.0))  # the field's disc lies beside the block
    with pytest.raises(ValueError, match=r"voxel_size: expected voxels whose centres lie inside .*400 um\. Next: "):
        export(ring, size=400.0)
