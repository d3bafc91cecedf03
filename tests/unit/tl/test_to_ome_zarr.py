from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from spatialdata import SpatialData

import isost
from isost._core import ngff
from isost._core.downsample import block_mean, halved
from isost._core.voxels import read_voxels


@pytest.fixture(scope="module")
def sdata() -> SpatialData:
    adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=10, rng=1)
    isost.pp.embed(adata, n_comps=4)
    return isost.tl.fit(adata, epochs=1, progress=False, rng=0).to_spatialdata(40.0, rng=0)


@pytest.fixture
def names(sdata: SpatialData) -> list[str]:
    return list(read_voxels(sdata).genes[:2])


def multiscales(path: Path, version: str) -> dict:
    attrs = zarr.open_group(str(path), mode="r").attrs
    return (attrs["ome"] if version == "0.5" else attrs)["multiscales"][0]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_reader_of_the_format_finds_everything(
    sdata: SpatialData, names: list[str], tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngff, "_LEAST", 12)
    path = tmp_path / "genes.ome.zarr"
    isost.tl.to_ome_zarr(sdata, path, genes=names, version=version)
    assert zarr.open_group(str(path), mode="r").metadata.zarr_format == (2 if version == "0.4" else 3)
    (node,) = list(Reader(parse_url(path))())
    voxels = read_voxels(sdata)
    expected = np.stack([np.asarray(isost.get.gene(sdata, name)) for name in names])
    np.testing.assert_allclose(np.asarray(node.data[0]), expected, rtol=1e-6)
    assert len(node.data) > 1
    np.testing.assert_allclose(
        np.asarray(node.data[1]), block_mean(da.from_array(expected), tuple(np.minimum(2, voxels.shape))), rtol=1e-5
    )
    assert node.metadata["channel_names"] == names
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "z", "y", "x"]
    assert {axis.get("unit") for axis in node.metadata["axes"][1:]} == {"micrometer"}
    for low, high in node.metadata["contrast_limits"]:
        assert np.nanmin(expected) <= low < high <= np.nanmax(expected)


def test_every_level_lies_where_the_volume_is(
    sdata: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngff, "_LEAST", 12)
    isost.tl.to_ome_zarr(sdata, tmp_path / "a.ome.zarr")
    voxels = read_voxels(sdata)
    datasets = multiscales(tmp_path / "a.ome.zarr", "0.5")["datasets"]
    steps = [(1, 1, 1), *halved(voxels.shape, least=12)]
    assert len(datasets) == len(steps) > 1
    factors = np.ones(3)
    for dataset, step in zip(datasets, steps, strict=True):
        factors *= step
        scale, translation = (part[part["type"]][1:] for part in dataset["coordinateTransformations"])
        np.testing.assert_allclose(scale, voxels.size[::-1] * factors)
        corner = np.array(translation) - np.array(scale) / 2
        np.testing.assert_allclose(corner, voxels.origin[::-1], err_msg="the place is that of the first centre")
    first = multiscales(tmp_path / "a.ome.zarr", "0.5")["datasets"][0]["coordinateTransformations"]
    centre = [axis[0] for axis in (voxels.axis(name) for name in "zyx")]
    np.testing.assert_allclose(first[1]["translation"][1:], centre)
    np.testing.assert_allclose(first[0]["scale"][1:], voxels.size)


def test_channels_are_those_of_the_volume(sdata: SpatialData, tmp_path: Path) -> None:
    isost.tl.to_ome_zarr(sdata, tmp_path / "a.zarr")
    (node,) = list(Reader(parse_url(tmp_path / "a.zarr"))())
    assert node.metadata["channel_names"] == list(read_voxels(sdata).channels)
    values = np.asarray(node.data[0])
    inside = read_voxels(sdata).mask
    assert np.isnan(values[:, ~inside]).all()
    assert np.isfinite(values[:, inside]).all()
    assert zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs["isost"] == {"unit": "um", "values": "score"}


def test_all_or_nothing(sdata: SpatialData, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("a disk that fails")

    monkeypatch.setattr(da, "store", full)
    with pytest.raises(OSError, match="a disk that fails"):
        isost.tl.to_ome_zarr(sdata, tmp_path / "a.zarr", genes=names)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept(sdata: SpatialData, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FileExistsError, match="Next: "):
        isost.tl.to_ome_zarr(sdata, tmp_path / "a.zarr", genes=names)
    isost.tl.to_ome_zarr(sdata, tmp_path / "a.zarr", genes=names[0], overwrite=True)
    assert (tmp_path / "a.zarr" / "zarr.json").exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"version": "0.3"}, ValueError, "version: expected one of 0.4, 0.5"),
        ({"genes": []}, ValueError, "genes: expected names"),
        ({"genes": ["PC1", "PC1"]}, ValueError, "genes: expected names, each once"),
        ({"genes": "nothing"}, KeyError, "nothing"),
    ],
)
def test_bad_requests(sdata: SpatialData, tmp_path: Path, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.tl.to_ome_zarr(sdata, tmp_path / "a.zarr", **options)
    assert "Next: " in str(caught.value)
    assert not list(tmp_path.iterdir())
