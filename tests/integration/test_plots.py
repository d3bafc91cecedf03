"""What a fit makes is what the plots show."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from spatialdata import SpatialData

import isost


@pytest.fixture(autouse=True)
def _no_window() -> None:
    mpl.use("Agg", force=True)


@pytest.fixture(scope="module")
def fitted() -> isost.Reconstruction:
    adata = isost.datasets.letters(150)
    isost.pp.embed(adata, n_comps=4)
    return isost.tl.fit(adata, epochs=2, progress=False, rng=0)


@pytest.fixture(scope="module")
def sdata(fitted: isost.Reconstruction) -> SpatialData:
    return fitted.to_spatialdata(50.0, rng=0)


def test_orthoviews_show_the_field(fitted: isost.Reconstruction, sdata: SpatialData) -> None:
    axes = isost.pl.orthoviews(sdata, "gene_2", position=(0, 500, 50))
    (image,) = axes[0].images
    left, right, bottom, top = image.get_extent()
    drawn = np.ma.filled(image.get_array(), np.nan)
    x = np.linspace(left, right, 2 * drawn.shape[1] + 1)[1::2]
    y = np.linspace(bottom, top, 2 * drawn.shape[0] + 1)[1::2]
    (z,) = {float(line.get_ydata()[0]) for line in axes[1].lines[1:2]}
    places = np.stack(np.meshgrid(x, y, [z], indexing="ij"), axis=-1).reshape(-1, 3)
    expected = fitted.expression(places, genes="gene_2").reshape(len(x), len(y)).T
    inside = np.isfinite(drawn)
    assert 0.2 < inside.mean() < 1
    np.testing.assert_allclose(drawn[inside], expected[inside], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("color", ["PC1", "density", "uncertainty"])
def test_orthoviews_of_every_element(sdata: SpatialData, color: str) -> None:
    for ax in isost.pl.orthoviews(sdata, color):
        assert np.isfinite(np.ma.filled(ax.images[0].get_array(), np.nan)).any()


def test_orthoviews_of_a_crop(sdata: SpatialData) -> None:
    box = {"min_coordinate": [-200, 0, 0], "max_coordinate": [200, 600, 100]}
    images = sdata.subset(["isost_volume", "isost_mask"])
    cropped = images.query.bounding_box(axes=("x", "y", "z"), target_coordinate_system="global", **box)
    whole, part = isost.pl.orthoviews(sdata, "PC1"), isost.pl.orthoviews(cropped, "PC1")
    low, _, _, high = part[0].images[0].get_extent()
    assert low > whole[0].images[0].get_extent()[0]
    assert low == pytest.approx(-200, abs=50)
    assert high == pytest.approx(600, abs=50)


def test_morph_begins_and_ends_with_the_measured_cells(fitted: isost.Reconstruction, tmp_path: Path) -> None:
    axes = isost.pl.morph(fitted, n_frames=4, color="gene_1", path=tmp_path / "letters.gif", rng=0)
    for ax, section in ((axes[0], 0), (axes[-1], 1)):
        drawn = np.concatenate([points.get_offsets() for points in ax.collections])
        expected = fitted.stack.coords[fitted.stack.slice_of(section), :2]
        np.testing.assert_allclose(np.unique(drawn, axis=0), np.unique(expected, axis=0))
    assert (tmp_path / "letters.gif").read_bytes().startswith(b"GIF8")


def test_sections_that_were_fitted_are_followed(fitted: isost.Reconstruction, sdata: SpatialData) -> None:
    """At random places the field would not correlate with what was measured there."""
    adata = isost.datasets.letters(150)
    isost.pp.embed(adata, n_comps=4)
    axes = isost.pl.compare(adata, sdata, "gene_2")
    assert axes.shape == (3, 2)
    for ax in axes[2]:
        assert "fitted" in ax.get_title()
        assert float(ax.get_title().split()[2]) > 0.3


def test_every_view_of_a_reconstruction(sdata: SpatialData, tmp_path: Path) -> None:
    gene = np.asarray(isost.get.gene(sdata, "gene_2"))
    points = isost.pl.volume(sdata, "gene_2", threshold=None).data[0]
    np.testing.assert_allclose(np.sort(points.marker.color), np.sort(gene[np.isfinite(gene)]), rtol=1e-5)
    axes = isost.pl.uncertainty(sdata, "gene_2")
    assert all(np.nanmin(np.ma.filled(ax.images[0].get_array(), np.nan)) > 0 for ax in axes[1])
    isost.pl.rotate(sdata, "gene_2", n_frames=2, save=tmp_path / "turn.gif")
    isost.tl.to_ome_zarr(sdata, tmp_path / "gene.ome.zarr", genes="gene_2")
    assert {path.name for path in tmp_path.iterdir()} == {"turn.gif", "gene.ome.zarr"}


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_training_shows_every_epoch(objective: str) -> None:
    adata = isost.datasets.letters(60)
    isost.pp.embed(adata, n_comps=3)
    ax = isost.pl.training(isost.tl.fit(adata, objective=objective, epochs=2, progress=False, rng=0))
    assert len(ax.lines) == (1 if objective == "bridge" else 3)
    assert all(len(line.get_ydata()) == 2 for line in ax.lines)
