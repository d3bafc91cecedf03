"""Fits that images guide: from a stain to sections, fields and volumes between, and what is kept of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from xarray import DataArray

import isost
from isost._images.guide import Guide
from isost._images.planes import ImagePlanes


@pytest.fixture(scope="module", autouse=True)
def _fewer_points() -> Iterator[None]:
    """Couple fewer places from plane to plane, for the sake of time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("isost._core.imaged._POINTS", 1000)
        yield


@pytest.fixture(scope="module")
def adata() -> AnnData:
    """Three sections of a bending body, far apart."""
    whole = isost.datasets.phantom("bending", n_sections=3, spacing=225, n_cells=600, n_genes=30, rng=5)
    isost.pp.embed(whole, n_comps=10)
    return whole


@pytest.fixture(scope="module")
def features(adata: AnnData) -> DataArray:
    return isost.pp.image_features(isost.datasets.phantom_image(adata, spacing=25), kernel_sizes=(3, 7))


@pytest.fixture(scope="module")
def fits(adata: AnnData, features: DataArray) -> dict[str, isost.Reconstruction]:
    return {name: isost.tl.fit(adata, images=images, epochs=40, progress=False, rng=0)
            for name, images in (("plain", None), ("guided", features))}  # fmt: skip


def overlap(cells: AnnData, measured: AnnData) -> float:
    """Dice of the occupied bins of 80 µm."""
    places = [one.obsm["spatial"] for one in (cells, measured)]
    return isost.metrics.score_cells(
        places[0], np.zeros((cells.n_obs, 1)), measured_coords=places[1],
        measured_features=np.zeros((measured.n_obs, 1)), side=40.0, feature_scale=1.0,
    )["dice"]  # fmt: skip


def test_paths_and_outlines_follow_the_images(adata: AnnData, fits: dict[str, isost.Reconstruction]) -> None:
    assert fits["guided"].params["images"]["followed"] and fits["guided"].params["images"]["outline"]
    truth = isost.datasets.phantom_truth(adata)
    for z in (112.5, 337.5):
        measured = truth.sample_section(z, n=600, rng=1)
        dice, error = {}, {}
        for name, fitted in fits.items():
            draws = [fitted.section(z, rng=seed) for seed in range(5)]
            dice[name] = np.mean([overlap(cells, measured) for cells in draws])
            genes = list(fitted.stack.decoder.genes)
            known = np.log1p(truth.rate(measured.obsm["spatial"], genes=genes))
            off = fitted.expression(measured.obsm["spatial"]) - known
            error[name] = np.square(off - off.mean(axis=0)).mean()
        assert dice["guided"] > dice["plain"]
        assert error["guided"] < 0.6 * error["plain"]


def test_a_guided_fit_is_kept(fits: dict[str, isost.Reconstruction], tmp_path: Path) -> None:
    fitted = fits["guided"]
    fitted.save(tmp_path / "fit")
    again = isost.Reconstruction.load(tmp_path / "fit")
    places = np.column_stack([np.random.default_rng(0).uniform(-300, 300, (50, 2)), np.full(50, 210.0)])
    np.testing.assert_allclose(again.expression(places), fitted.expression(places), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again.section(210, rng=0).obsm["spatial"], fitted.section(210, rng=0).obsm["spatial"])
    again.save(tmp_path / "fit", overwrite=True)
    third = isost.Reconstruction.load(tmp_path / "fit")
    np.testing.assert_array_equal(third.field.density(places), fitted.field.density(places))
    shutil.rmtree(tmp_path / "fit" / "images.zarr")
    with pytest.raises(FileNotFoundError, match="Expected images.zarr in the folder of a fit that images guided"):
        isost.Reconstruction.load(tmp_path / "fit")


def test_what_follows_images_is_kept(fits: dict[str, isost.Reconstruction], tmp_path: Path) -> None:
    """With weights in it, and of some of the features alone."""
    guide = fits["guided"].field.guide
    assert isinstance(guide, Guide)
    weight = np.random.default_rng(0).normal(size=guide.weight.shape)
    places = fits["guided"].stack.coords[::7] + [0.0, 0.0, 1.0]
    some = guide.planes.features[[0, 5]]
    for number, one in enumerate((replace(guide, weight=weight), replace(guide, planes=ImagePlanes(some)))):
        one.save(tmp_path / str(number))
        again = Guide.load(tmp_path / str(number))
        np.testing.assert_allclose(again.planes.at(places), one.planes.at(places), rtol=1e-5)
        assert again.planes.names == one.planes.names
        np.testing.assert_array_equal(again.weight, one.weight)
        np.testing.assert_array_equal(again.inside(places), one.inside(places))
    assert np.abs(replace(guide, weight=weight).at(places)).max() > 1


def test_measured_cells_stay(fits: dict[str, isost.Reconstruction]) -> None:
    stack = fits["guided"].stack
    own = fits["guided"].section(float(stack.depths[1]), rng=0)
    assert own.n_obs == own.obs["cell_of_origin"].nunique() == stack.slice_of(1).stop - stack.slice_of(1).start


def test_the_volume_has_tissue_only_where_images_show_it(
    adata: AnnData, features: DataArray, fits: dict[str, isost.Reconstruction]
) -> None:
    sdata = fits["guided"].to_spatialdata(voxel_size=50.0, rng=0)
    inside = isost.datasets.phantom_truth(adata).inside
    assert inside(sdata.tables["isost_voxels"].obsm["spatial"]).mean() > 0.97
    assert inside(sdata.tables["isost_cells"].obsm["spatial"]).mean() > 0.97


def test_the_same_seed_gives_the_same_fit(adata: AnnData, features: DataArray) -> None:
    first, second = (isost.tl.fit(adata, images=features, epochs=2, progress=False, rng=0) for _ in range(2))
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert bool((one == other).all())


def test_a_volume_is_streamed_from_a_guided_fit(adata: AnnData, features: DataArray, tmp_path: Path) -> None:
    options = {"images": features, "epochs": 2, "voxel_size": 60.0, "progress": False, "rng": 0}
    whole = isost.tl.reconstruct(adata, **options)
    streamed = isost.tl.reconstruct(adata, output=tmp_path / "out.zarr", **options)
    for name in ("isost_mask", "isost_density"):
        np.testing.assert_array_equal(streamed[name].values, whole[name].values)
    with pytest.raises(ValueError, match="found that of another"):
        isost.tl.reconstruct(adata, output=tmp_path / "out.zarr", resume=True, **options | {"images": features[:2]})
