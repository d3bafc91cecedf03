"""Saved, loaded, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import isost


def test_loaded_finds_the_same_in_new_cells(fitted: isost.SpatialDomains, bands: AnnData, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    again = isost.SpatialDomains.load(tmp_path / "fit")
    assert repr(again) == repr(fitted) and again.params == fitted.params
    other = bands[::2].copy()
    other.obsm["spatial"] += 3
    one, two = other.copy(), other.copy()
    fitted.annotate(one, device="cpu")
    again.annotate(two, device="cpu")
    assert one.obs["spatial_domain"].equals(two.obs["spatial_domain"])
    for key in ("X_domains", "X_domains_spatial", "X_domains_intrinsic"):
        np.testing.assert_array_equal(one.obsm[key], two.obsm[key])
    assert one.uns["spatial_domain"]["params"] == two.uns["spatial_domain"]["params"]


def test_other_variants_come_back(bands: AnnData, fit_quickly, tmp_path: Path) -> None:
    made = fit_quickly(bands, variant="spatial", covariance="full", n_networks=1, n_top_genes=12)
    made.save(tmp_path / "fit")
    one, two = bands.copy(), bands.copy()
    made.annotate(one, device="cpu")
    isost.SpatialDomains.load(tmp_path / "fit").annotate(two, device="cpu")
    np.testing.assert_array_equal(one.obsm["X_domains"], two.obsm["X_domains"])
    assert "X_domains_intrinsic" not in two.obsm


def test_nothing_is_pickled(fitted: isost.SpatialDomains, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    with np.load(tmp_path / "fit" / "domains.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@pytest.mark.parametrize("name", ["domains.npz", "networks.pt", "isost.json"])
def test_a_damaged_file(fitted: isost.SpatialDomains, tmp_path: Path, name: str) -> None:
    fitted.save(tmp_path / "fit")
    path = tmp_path / "fit" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"(?s)Expected.*found.*Next"):
        isost.SpatialDomains.load(tmp_path / "fit")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="Next"):
        isost.SpatialDomains.load(tmp_path / "fit")


def test_another_folder(fitted: isost.SpatialDomains, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"(?s)Expected.*found.*Next"):
        isost.SpatialDomains.load(tmp_path / "nothing")
    fitted.save(tmp_path / "fit")
    header = tmp_path / "fit" / "isost.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": "isost.Reconstruction"}))
    with pytest.raises(ValueError, match=r"(?s)Expected.*found another.*Next"):
        isost.SpatialDomains.load(tmp_path / "fit")


def test_overwrite(fitted: isost.SpatialDomains, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    with pytest.raises(FileExistsError, match="Next"):
        fitted.save(tmp_path / "fit")
    fitted.save(tmp_path / "fit", overwrite=True)
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError, match="Next"):
        fitted.save(tmp_path / "photos", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit", "photos"]
