from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import TableModel

import isost

CELLS, BINS, FIELD = 0, 1, 2
LOADINGS = np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 1.0]])


def measured_in(volume: SpatialData, depths: dict[str, float], noise: float = 0.0) -> AnnData:
    """A cell in the middle of each voxel of the plane at each depth, with its scores and genes, and noise on them."""
    scores, places, names = [], [], []
    mask = volume.labels["isost_mask"].values > 0
    pcs = volume.images["isost_volume"]["scale0"]["image"].values
    for name, depth in depths.items():
        plane = int((depth - 100) // 10) if depth < 140 else 3
        y, x = np.nonzero(mask[plane])
        scores.append(pcs[:, plane, y, x].T)
        places.append(np.column_stack([-35 + 10 * x, 5 + 10 * y, np.full(len(x), depth)]))
        names += [name] * len(x)
    rng = np.random.default_rng(0)
    pca = np.concatenate(scores)
    adata = AnnData(
        X=(pca @ LOADINGS.T + [1, 2, 3] + noise * rng.normal(size=(len(pca), 3))).astype(np.float32),
        obs=pd.DataFrame({"section": names}, index=[f"c{i}" for i in range(len(pca))]),
        var=pd.DataFrame(index=["Gad1", "Slc17a6", "Sst"]),
        obsm={"spatial": np.concatenate(places), "X_pca": pca},
    )
    return adata[rng.permutation(adata.n_obs)].copy()


def titles(axes: np.ndarray, row: int) -> list[str]:
    return [ax.get_title() for ax in axes[row]]


@pytest.mark.parametrize("color", ["Sst", "PC2"])
def test_what_is_alike_correlates(volume: SpatialData, color: str) -> None:
    adata = measured_in(volume, {"low": 100.0, "high": 140.0})
    axes = isost.pl.compare(adata, volume, color, side=10)
    assert titles(axes, CELLS) == ["low, z = 100 µm", "high, z = 140 µm"]
    assert titles(axes, FIELD) == ["r = 1.00 (fitted)"] * 2
    for column, plane in ((0, 0), (1, 3)):
        image = np.ma.filled(np.ma.masked_invalid(axes[FIELD, column].images[0].get_array()).astype(float), np.nan)
        bins = np.ma.filled(np.ma.masked_invalid(axes[BINS, column].images[0].get_array()).astype(float), np.nan)
        pcs = volume.images["isost_volume"]["scale0"]["image"].values[:, plane]
        expected = pcs[1] if color == "PC2" else 3 - pcs[0] + pcs[1]
        np.testing.assert_allclose(image, expected, rtol=1e-5, atol=1e-5)
        # the bins begin at the first cell, here the middle of a voxel, and each holds one
        np.testing.assert_allclose(
            np.sort(bins[np.isfinite(bins)]), np.sort(expected[np.isfinite(expected)]), rtol=1e-5
        )
    norms = {(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in axes[1:].ravel()}
    assert len(norms) == 1, "one scale of colour"


def test_noise_lowers_it(volume: SpatialData) -> None:
    axes = isost.pl.compare(measured_in(volume, {"low": 100.0}, noise=3.0), volume, "Sst", side=10)
    r = float(axes[FIELD, 0].get_title().split()[2].replace("−", "-"))
    assert -0.4 < r < 0.8


def test_bins_average_cells(volume: SpatialData) -> None:
    adata = measured_in(volume, {"low": 110.0})
    axes = isost.pl.compare(adata, volume, "Gad1", side=20)
    low = np.min(adata.obsm["spatial"][:, :2], axis=0)
    index = np.floor((adata.obsm["spatial"][:, :2] - low) / 20).astype(int)
    expected = pd.Series(adata.X[:, 0].astype(float)).groupby([index[:, 1], index[:, 0]]).mean().unstack().to_numpy()
    image = axes[BINS, 0].images[0]
    np.testing.assert_allclose(
        np.ma.filled(np.ma.masked_invalid(image.get_array()).astype(float), np.nan), expected, rtol=1e-5
    )
    assert image.get_extent() == [low[0], low[0] + 20 * 4, low[1], low[1] + 20 * 3]


def test_sections_that_were_held_out_come_first(volume: SpatialData) -> None:
    adata = measured_in(volume, {"a": 100.0, "b": 118.0, "c": 131.0, "d": 140.0})
    axes = isost.pl.compare(adata, volume, "Sst", side=10)
    assert titles(axes, CELLS) == ["b, z = 118 µm", "c, z = 131 µm"]
    assert all("held out" in title for title in titles(axes, FIELD))
    named = isost.pl.compare(adata, volume, "Sst", sections=["d", "a"], side=10)
    assert titles(named, CELLS) == ["a, z = 100 µm", "d, z = 140 µm"]


def test_counts_are_log_normalised(volume: SpatialData) -> None:
    adata = measured_in(volume, {"low": 100.0})
    adata.X = np.random.default_rng(0).poisson(5, adata.shape).astype(np.float32)
    axes = isost.pl.compare(adata, volume, "Gad1")
    total = adata.X.sum(axis=1)
    expected = np.log1p(adata.X[:, 0] / total * np.median(total))
    shown = np.concatenate([points.get_array() for points in axes[CELLS, 0].collections])
    np.testing.assert_allclose(np.sort(shown), np.sort(expected), rtol=1e-5)


def test_reconstructed_cells(volume: SpatialData, tmp_path: Path) -> None:
    adata = measured_in(volume, {"low": 103.0})
    cells = AnnData(
        obs=pd.DataFrame(index=[f"r{i}" for i in range(adata.n_obs + 1)]),
        obsm={"spatial": np.vstack([adata.obsm["spatial"], [[0.0, 30.0, 125.0]]]),
              "X_pca": np.vstack([adata.obsm["X_pca"], [[50.0, 50.0]]])},
    )  # fmt: skip
    volume.tables["isost_cells"] = TableModel.parse(cells)
    axes = isost.pl.compare(adata, volume, "Sst", kind="cells", side=10, save=tmp_path / "compared.png")
    assert titles(axes, FIELD) == ["r = 1.00 (held out)"]
    shown = np.concatenate([points.get_offsets() for points in axes[FIELD, 0].collections])
    assert len(shown) == adata.n_obs, "cells at other depths are not drawn"
    assert (tmp_path / "compared.png").exists()


def test_a_gene_that_does_not_vary(volume: SpatialData) -> None:
    adata = measured_in(volume, {"low": 100.0})
    adata.X[:, 0] = 1.5
    assert titles(isost.pl.compare(adata, volume, "Gad1"), FIELD) == ["r = nan (fitted)"]


@pytest.mark.parametrize(
    ("color", "options", "error", "words"),
    [
        ("gad1", {}, KeyError, "close: Gad1"),
        ("Sst", {"sections": ["x"]}, ValueError, "sections: expected names among low, .*found x"),
        ("Sst", {"kind": "both"}, ValueError, "kind"),
        ("Sst", {"side": 0}, ValueError, "side: expected a length above 0"),
        ("Sst", {"kind": "cells"}, KeyError, "isost_cells"),
    ],
)
def test_bad_requests(volume: SpatialData, color: str, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.compare(measured_in(volume, {"low": 100.0}), volume, color, **options)
    assert "Next: " in str(caught.value)
    assert not plt.get_fignums()


def test_another_frame(volume: SpatialData) -> None:
    adata = measured_in(volume, {"low": 100.0})
    adata.obsm["spatial"][:, 2] = 0.1
    with pytest.raises(ValueError, match="between 100 and 140 µm, where the volume lies, found none"):
        isost.pl.compare(adata, volume, "Sst")
