from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pooch
import pytest

from isost._core.options import PRESETS
from isost._core.units import read_unit
from isost.datasets import _fetch, available, fetch
from isost.datasets._public import PUBLIC, Dataset, PublicFile, read_abca, read_mosta, read_tidy

TIDY = [name for name, dataset in PUBLIC.items() if dataset.read is read_tidy and dataset.files[0].checksum]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def refuse(url: str, *args: object, **kwargs: object) -> str:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    return asked


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicFile:
    path = tmp_path / "data" / "tiny.h5ad"
    path.parent.mkdir()
    ad.AnnData(np.ones((3, 2), np.float32)).write_h5ad(path)
    file = PublicFile("tiny.h5ad", f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", "https://example.org/t")
    monkeypatch.setitem(PUBLIC, "tiny", Dataset("tiny", "nowhere", (file,), read_tidy))
    monkeypatch.setenv("ISOST_DATA_DIR", str(path.parent))
    return file


def test_every_entry_is_complete() -> None:
    assert available().keys() == PUBLIC.keys()
    for dataset in PUBLIC.values():
        assert dataset.about and dataset.files
        for file in dataset.files:
            assert file.checksum or file.url or "by hand" in dataset.about
            if file.checksum:
                kind, value = file.checksum.split(":")
                assert len(value) == {"sha256": 64, "md5": 32}[kind] and int(value, 16) >= 0
            if file.url:
                assert file.url.startswith("https://")


def test_the_folder_comes_first(tiny: PublicFile, offline: list[str], tmp_path: Path) -> None:
    assert fetch("tiny", path=tmp_path / "cache").shape == (3, 2)
    assert offline == []


def test_a_damaged_file_is_refused(tiny: PublicFile, offline: list[str], tmp_path: Path) -> None:
    (tmp_path / "data" / "tiny.h5ad").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="expected sha256 .* found .* Next"):
        fetch("tiny")
    assert offline == []


def test_offline_says_what_to_do(
    tiny: PublicFile, offline: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISOST_DATA_DIR")
    with pytest.raises(ConnectionError, match=r"example\.org.*no network.*by hand.*ISOST_DATA_DIR"):
        fetch("tiny", path=tmp_path / "cache")
    assert offline == ["https://example.org/t"]


def test_a_download_lands_in_the_cache(tiny: PublicFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOST_DATA_DIR")
    source = tmp_path / "data" / "tiny.h5ad"

    def copy(url: str, known_hash: str, fname: str, path: Path, **kwargs: object) -> str:
        assert (url, known_hash) == (tiny.url, tiny.checksum)
        Path(path).mkdir()
        return str((Path(path) / fname).write_bytes(source.read_bytes()) and Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", copy)
    assert fetch("tiny", path=tmp_path / "cache").shape == (3, 2)
    monkeypatch.setattr(pooch, "retrieve", None)
    assert fetch("tiny", path=tmp_path / "cache").shape == (3, 2)


def test_no_checksum_is_said(
    tiny: PublicFile, offline: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = PublicFile(tiny.name, None, tiny.url)
    monkeypatch.setitem(PUBLIC, "tiny", Dataset("tiny", "nowhere", (file,), read_tidy))
    with caplog.at_level(logging.WARNING):
        fetch("tiny")
    assert "not verified" in caplog.text


def test_a_tidy_file_that_is_nowhere(offline: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOST_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="ISOST_DATA_DIR .not set.*Next.*SpatialZ"):
        fetch("merfish_hypothalamus", path=tmp_path)
    assert offline == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if "by hand" in PUBLIC[name].about])
def test_what_has_no_known_address_says_where_it_comes_from(
    name: str, offline: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOST_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{name}\.h5ad: .*Next: download .*https://.* by hand .*spatial"):
        fetch(name, path=tmp_path / "cache")
    assert offline == []
    ad.AnnData(np.ones((3, 2), np.float32)).write_h5ad(tmp_path / f"{name}.h5ad")
    assert fetch(name).shape == (3, 2)


def test_every_preset_has_its_data() -> None:
    assert {name for name in PRESETS if name not in PUBLIC} == {"mouse_brain_merfish", "mouse_embryo_time"}
    assert "zhuang_abca2" in PUBLIC and "mosta_e9.5" in PUBLIC


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="merfish_hypothalamus"):
        fetch("merfish_hypotalamus")
    with pytest.raises(KeyError, match="available"):
        fetch("qqq")


@pytest.mark.parametrize("name", TIDY)
def test_real_files(name: str, data_dir: Path, offline: list[str]) -> None:
    adata = fetch(name)
    assert adata.obs["section"].cat.ordered and adata.obsm["spatial"].shape == (adata.n_obs, 3)
    assert f"{adata.n_obs:,}" in available()[name] and f"{adata.n_vars:,} genes" in available()[name]
    assert offline == []


def test_the_atlas_tables_are_joined(tmp_path: Path) -> None:
    labels = [str(10**30 + i) for i in range(6)]
    counts = ad.AnnData(np.arange(12, dtype=np.float32).reshape(6, 2), pd.DataFrame(index=labels))
    counts.var_names = ["ENSMUSG1", "ENSMUSG2"]
    counts.var["gene_symbol"] = ["Gad1", "Slc17a7"]
    counts.write_h5ad(tmp_path / "raw.h5ad")
    cells = pd.DataFrame(
        {
            "cell_label": labels[::-1],
            "brain_section_label": ["b", "b", "b", "a", "a", "c"],
            "cluster_alias": [1, 2, 3, 4, 5, 6],
            "x": np.arange(6) / 10.0,
            "y": np.arange(6) / 5.0,
            "z": [0.4, 0.4, 0.4, 2.1, 2.1, 9.0],
        }
    )
    cells.to_csv(tmp_path / "cells.csv", index=False)
    # The cell of section c and one of section b are not registered.
    pd.DataFrame({"cell_label": labels[1:5], "x": 0, "y": 0, "z": 0, "parcellation_index": 7}).to_csv(
        tmp_path / "ccf.csv", index=False
    )
    adata = read_abca([tmp_path / "raw.h5ad", tmp_path / "cells.csv", tmp_path / "ccf.csv"])
    assert adata.obs_names.tolist() == labels[1:5]
    assert adata.obs["section"].tolist() == ["a", "a", "b", "b"]
    assert adata.obs["section"].cat.categories.tolist() == ["b", "a"]
    np.testing.assert_allclose(adata.obsm["spatial"][0], [400.0, 800.0, 2100.0])
    np.testing.assert_array_equal(adata.X[0], [2.0, 3.0])
    assert adata.var_names.tolist() == ["Gad1", "Slc17a7"]


def test_a_stage_becomes_a_section(tmp_path: Path) -> None:
    adata = ad.AnnData(np.ones((4, 2), np.float32))
    adata.obsm["spatial"] = np.arange(8, dtype=np.float32).reshape(4, 2)
    adata.write_h5ad(tmp_path / "stage.h5ad")
    stage = read_mosta([tmp_path / "stage.h5ad"], day=10.5)
    assert stage.obs["section"].cat.categories.tolist() == ["E10.5"]
    np.testing.assert_array_equal(stage.obsm["spatial"][:, 2], 10.5)
    assert read_unit(stage) == stage.uns["spatial_unit"] == "a.u."


def test_addresses_are_not_asked_on_import() -> None:
    assert not hasattr(_fetch, "requests")
