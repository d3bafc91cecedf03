from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from spatialdata import SpatialData

import isost
from isost._core import precomputed
from isost._core.voxels import read_voxels


@pytest.fixture(scope="module")
def sdata() -> SpatialData:
    adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=10, rng=1)
    isost.pp.embed(adata, n_comps=4)
    return isost.tl.fit(adata, epochs=1, progress=False, rng=0).to_spatialdata(40.0, rng=0)


def test_it_is_read_back(sdata: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    monkeypatch.setattr(precomputed, "_LEAST", 12)
    voxels = read_voxels(sdata)
    names = list(voxels.genes[:2])
    isost.tl.to_neuroglancer(sdata, tmp_path / "genes", genes=names, outside=-1.0)
    info = json.loads((tmp_path / "genes" / "info").read_text())
    assert (info["num_channels"], info["data_type"]) == (2, "float32")
    assert len(info["scales"]) > 1
    # nm of a voxel of 40 µm
    assert info["scales"][0]["resolution"] == [40_000.0] * 3
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{tmp_path}/genes/"}}
    stored = tensorstore.open(spec, open=True).result().read().result()
    expected = np.stack([np.asarray(isost.get.gene(sdata, name)) for name in names])
    expected = np.where(np.isnan(expected), -1.0, expected)
    np.testing.assert_allclose(stored.transpose(3, 2, 1, 0), expected, rtol=1e-6)


def test_the_transform_puts_voxels_into_place(sdata: SpatialData, tmp_path: Path) -> None:
    pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    isost.tl.to_neuroglancer(sdata, tmp_path / "pcs")
    voxels = read_voxels(sdata)
    transform = json.loads((tmp_path / "pcs" / "transform.json").read_text())
    index = np.array([3.5, 2.5, 1.5])  # of the middle of voxel 3, 2, 1 along x, y, z
    placed = np.array(transform["matrix"]) @ [*index, 1.0]
    metres = [length for length, unit in transform["outputDimensions"].values() if unit == "m"]
    np.testing.assert_allclose(placed * metres * 1e6, voxels.centres(np.array([[1, 2, 3]]))[0])


def test_without_tensorstore(sdata: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ImportError, match=r"Next: pip install 'isost\[neuroglancer\]'"):
        isost.tl.to_neuroglancer(sdata, tmp_path / "a")
    assert not list(tmp_path.iterdir())
