from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from spatialdata import SpatialData, bounding_box_query, deepcopy
from spatialdata.transformations import Affine, set_transformation

from isost.datasets import phantom
from isost.get import gene
from isost.pp import embed
from isost.tl import fit

SIZE = 40.0


@pytest.fixture(scope="module")
def fitted():
    adata = phantom(n_sections=3, n_cells=200, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    return fit(adata, epochs=1, progress=False, rng=0)


@pytest.fixture(scope="module")
def sdata(fitted) -> SpatialData:
    return fitted.to_spatialdata(SIZE, rng=0)


def test_a_gene_is_decoded_when_computed(fitted, sdata: SpatialData) -> None:
    name = fitted.stack.decoder.genes[3]
    volume = gene(sdata, name)
    assert volume.dims == ("z", "y", "x") and isinstance(volume.data, da.Array) and volume.dtype == np.float32
    assert (volume.name, volume.attrs["unit"]) == (name, "um")
    table = sdata.tables["isost_voxels"]
    z, y, x = (table.obs[axis].to_numpy() for axis in "zyx")
    values = volume.values
    assert np.allclose(values[z, y, x], fitted.expression(table.obsm["spatial"], genes=name)[:, 0], atol=1e-4)
    assert np.isnan(values).sum() == values.size - table.n_obs


def test_coordinates_are_voxel_centres(sdata: SpatialData) -> None:
    volume = gene(sdata, "PC1")
    x, y, z = sdata.tables["isost_voxels"].obsm["spatial"][17]
    at = sdata.tables["isost_voxels"].obs.iloc[17]
    assert (volume.x[at["x"]], volume.y[at["y"]], volume.z[at["z"]]) == pytest.approx((x, y, z))
    assert volume.sel(x=x, y=y, z=z, method="nearest").values == sdata.tables["isost_voxels"].obsm["X_pca"][17, 0]


def test_a_cropped_volume_keeps_its_place(sdata: SpatialData) -> None:
    whole = gene(sdata, "PC2")
    # a box that begins in the last half of a voxel: SpatialData misplaces other crops by a voxel
    low = np.array([whole.x[12], whole.y[9], whole.z[0]]) - 0.8 * SIZE
    part = bounding_box_query(
        sdata.subset(["isost_volume", "isost_voxel_ids", "isost_voxels"]),
        axes=("x", "y", "z"),
        min_coordinate=low,
        max_coordinate=low + 5 * SIZE,
        target_coordinate_system="global",
    )
    crop = gene(part, "PC2")
    assert crop.shape[1:] == (5, 5)
    there = whole.sel(x=crop.x, y=crop.y, z=crop.z, method="nearest")
    assert all(np.allclose(there[axis], crop[axis]) for axis in "zyx")
    assert np.array_equal(crop.values, there.values, equal_nan=True) and np.isfinite(crop.values).any()


def test_asked_genes_are_channels(fitted) -> None:
    one, other = fitted.stack.decoder.genes[:2]
    sdata = fitted.to_spatialdata(SIZE, genes=[one], rng=0)
    there = gene(fitted.to_spatialdata(SIZE, rng=0), one)
    assert np.allclose(gene(sdata, one), there, equal_nan=True, atol=1e-5)
    with pytest.raises(KeyError, match="reconstruct without genes=, or with this one"):
        gene(sdata, other)


def test_unknown_gene(sdata: SpatialData) -> None:
    with pytest.raises(KeyError, match="1 unknown: 'nope'"):
        gene(sdata, "nope")


def test_no_volume() -> None:
    with pytest.raises(KeyError, match=r"expected 'isost_volume' among its images, found none.*isost.tl.reconstruct"):
        gene(SpatialData(tables={"other": AnnData(np.ones((2, 2)))}), "Gad1")


def test_rotated_volume(sdata: SpatialData) -> None:
    turn = Affine([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], ("x", "y", "z"), ("x", "y", "z"))
    turned = deepcopy(sdata)
    set_transformation(turned["isost_volume"], turn)
    with pytest.raises(ValueError, match="found a rotated one"):
        gene(turned, "PC1")
