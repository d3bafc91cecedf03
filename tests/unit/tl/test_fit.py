from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost import Reconstruction
from isost.datasets import letters, phantom
from isost.pp import embed
from isost.tl import fit

QUICK = {"epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def adata() -> AnnData:
    adata = phantom(n_sections=3, n_cells=150, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    return adata


def test_fits_and_leaves_the_input_alone(adata: AnnData) -> None:
    before = adata.copy()
    fitted = fit(adata, rng=0, **QUICK)
    assert isinstance(fitted, Reconstruction)
    assert fitted.stack.n_sections == 3 and fitted.stack.n_cells == adata.n_obs
    assert fitted.params["settings"]["epochs"] == 1 and fitted.history
    assert (adata.X != before.X).nnz == 0 and adata.obs.equals(before.obs)
    assert set(adata.obsm) == set(before.obsm) and set(adata.uns) == set(before.uns)
    assert all(np.array_equal(adata.obsm[key], before.obsm[key]) for key in adata.obsm)


def test_a_view_is_read_without_becoming_a_copy(adata: AnnData) -> None:
    view = adata[adata.obs["section"].isin(adata.obs["section"].cat.categories[:2])]
    assert fit(view, rng=0, **QUICK).stack.n_sections == 2
    assert view.is_view


def test_a_seed_gives_the_same_fit(adata: AnnData) -> None:
    moving = {**QUICK, "objective": "trajectory"}
    one, two, other = (fit(adata, rng=seed, **moving).section(30, rng=0).obsm["X_pca"] for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_order_of_cells_does_not_matter(adata: AnnData) -> None:
    order = np.random.default_rng(0).permutation(adata.n_obs)
    one, two = (fit(data, rng=1, **QUICK).section(30, rng=0) for data in (adata, adata[order].copy()))
    assert np.array_equal(one.obs["cell_of_origin"], two.obs["cell_of_origin"])
    assert np.allclose(one.obsm["spatial"], two.obsm["spatial"])


def test_keys_name_what_is_read(adata: AnnData) -> None:
    other = AnnData(
        obs={"slice": adata.obs["section"].to_numpy(), "depth": adata.obsm["spatial"][:, 2] + 7},
        obsm={"xy": adata.obsm["spatial"][:, :2], "X_other": adata.obsm["X_pca"]},
    )
    fitted = fit(other, section_key="slice", spatial_key="xy", depth_key="depth", use_rep="X_other", **QUICK)
    assert fitted.stack.depths.tolist() == [7, 57, 107] and fitted.stack.decoder is None


def test_the_papers_objective_and_presets() -> None:
    adata = letters(60)
    embed(adata, n_comps=3)
    fitted = fit(adata, objective="trajectory", preset="human_embryo_cs7", rng=0, **QUICK)
    assert fitted.params["objective"] == "trajectory" and len(fitted.history) == 3
    assert fitted.params["settings"]["sigma_xy"] == 0.014


def test_without_embedding(adata: AnnData) -> None:
    plain = adata.copy()
    del plain.obsm["X_pca"]
    with pytest.raises(ValueError, match=r"isost.pp.embed\(adata\)"):
        fit(plain, **QUICK)


def test_unknown_option(adata: AnnData) -> None:
    with pytest.raises(TypeError, match="found 'epoch'. Next: did you mean 'epochs'"):
        fit(adata, epoch=3)
    with pytest.raises(TypeError, match="Next: leave it out"):
        fit(adata, zzz=3)


def test_impossible_settings(adata: AnnData) -> None:
    with pytest.raises(ValueError, match="epochs"):
        fit(adata, epochs=-1)
    with pytest.raises(ValueError, match="objective"):
        fit(adata, objective="guess")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device"):
        fit(adata, device="tpu")
    with pytest.raises(KeyError, match="preset"):
        fit(adata, preset="mars")


def test_images_that_are_none(adata: AnnData) -> None:
    with pytest.raises(TypeError, match="images: expected what isost.pp.image_features returns, found ndarray. Next"):
        fit(adata, images=np.zeros((3, 4, 5)))
    with pytest.raises(
        ValueError, match="beta, gamma: expected images and objective='trajectory'.*without images. Next"
    ):
        fit(adata, beta=1.0, objective="trajectory")


def test_images_elsewhere() -> None:
    phantom = isost.datasets.phantom(n_sections=3, n_cells=60, n_genes=10)
    isost.pp.embed(phantom, n_comps=4)
    features = isost.pp.image_features(isost.datasets.phantom_image(phantom, pixel_size=40), kernel_sizes=(3,))
    with pytest.raises(ValueError, match="images: expected tissue where cells were measured, found none at any cell"):
        fit(phantom, images=features.assign_coords(x=features.x + 1e5), epochs=1, progress=False)
    with pytest.raises(ValueError, match="images: expected tissue where cells were measured, found none at any cell"):
        fit(
            phantom, images=features.assign_coords(z=features.z + 1e5), epochs=1, progress=False, objective="trajectory"
        )


def test_the_papers_objective_with_images() -> None:
    phantom = isost.datasets.phantom(n_sections=3, n_cells=60, n_genes=10)
    isost.pp.embed(phantom, n_comps=4)
    features = isost.pp.image_features(isost.datasets.phantom_image(phantom, pixel_size=40), kernel_sizes=(3,))
    fitted = fit(phantom, images=features, epochs=1, progress=False, objective="trajectory", beta=10, gamma=1e-3)
    report = fitted.params["images"]
    assert report["outline"] and not report["followed"] and len(report["r2"]) == 4 and max(report["r2"]) < 1
    assert fitted.params["settings"]["beta"] == 10
