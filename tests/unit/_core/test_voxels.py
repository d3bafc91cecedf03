from __future__ import annotations

import numpy as np
import pytest
from spatialdata import SpatialData

from isost._core.voxels import Voxels, read_voxels
from isost.datasets import phantom
from isost.pp import embed
from isost.tl import fit


@pytest.fixture(scope="module")
def sdata() -> SpatialData:
    adata = phantom(n_sections=3, n_cells=200, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    return fit(adata, epochs=1, progress=False, rng=0).to_spatialdata(40.0, rng=0)


@pytest.fixture
def voxels(sdata: SpatialData) -> Voxels:
    return read_voxels(sdata)


def test_centres_are_those_of_the_table(sdata: SpatialData, voxels: Voxels) -> None:
    table = sdata.tables["isost_voxels"]
    index = np.argwhere(voxels.mask)
    assert np.array_equal(index, table.obs[["z", "y", "x"]].to_numpy())
    assert np.allclose(voxels.centres(index), table.obsm["spatial"])
    assert np.allclose(voxels.axis("y")[index[:, 1]], table.obsm["spatial"][:, 1])


def test_decoded_genes_are_those_of_the_table_and_of_the_volume(sdata: SpatialData, voxels: Voxels) -> None:
    index = np.argwhere(voxels.mask)[::-7]
    rows = np.arange(voxels.mask.sum())[::-7]
    decoded = voxels.decoded(index)
    assert decoded.shape == (len(index), len(voxels.genes))
    assert np.allclose(decoded, sdata.tables["isost_voxels"].X[rows], atol=1e-4)
    name = voxels.genes[2]
    assert np.allclose(voxels.decoded(index, [name])[:, 0], np.asarray(voxels.gene(name))[tuple(index.T)], atol=1e-4)


def test_a_volume_of_genes_is_its_own_decoder(sdata: SpatialData) -> None:
    adata = phantom(n_sections=3, n_cells=200, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    names = list(adata.var_names[:3])
    voxels = read_voxels(fit(adata, epochs=1, progress=False, rng=0).to_spatialdata(40.0, genes=names, rng=0))
    index = np.argwhere(voxels.mask)
    assert voxels.genes == tuple(names)
    assert np.array_equal(voxels.decoded(index, names[1:2])[:, 0], np.asarray(voxels.values[1])[tuple(index.T)])


def test_the_tissue_holds_what_lies_in_its_voxels(sdata: SpatialData, voxels: Voxels) -> None:
    everywhere = np.argwhere(np.ones_like(voxels.mask))
    for offset in (0.0, 0.49, -0.49):
        held = voxels.holds(voxels.centres(everywhere) + offset * voxels.size)
        np.testing.assert_array_equal(held, voxels.mask.ravel())
    above = np.array([0.0, 0.0, voxels.shape[0] * voxels.size[2]])
    assert not voxels.holds(np.concatenate([voxels.centres(everywhere) + way * above for way in (-1, 1)])).any()


def test_the_tissue_holds_its_first_and_its_last_section(voxels: Voxels) -> None:
    """They lie on the faces of a grid whose planes fill the range."""
    faces = voxels.origin[2] + np.array([-1e-6, voxels.shape[0] * voxels.size[2] + 1e-6])
    for face, plane in zip(faces, voxels.mask[[0, -1]], strict=True):
        rows, columns = np.nonzero(plane)
        places = voxels.centres(np.column_stack([np.zeros(len(rows), int), rows, columns]))
        places[:, 2] = face
        assert voxels.holds(places).all()
