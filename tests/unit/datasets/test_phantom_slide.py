"""A stained section whose genes follow what its image shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData
from scipy import sparse, stats
from skimage.draw import polygon2mask
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from spatialdata import SpatialData, read_zarr

import isost
from isost._histology.stain import find_stains
from isost.datasets import phantom_slide

#: Of obs, by link.
COLUMN = {"area": "nucleus_area"} | {name: name for name in ("density", "eosin", "darkness", "elongation", "fibres")}
SMALL: dict[str, Any] = {"n_cells": 60, "n_genes": 16, "side": 200}


@pytest.fixture(scope="module")
def slides() -> list[SpatialData]:
    """Two sections, the second of them stained otherwise."""
    return [phantom_slide(rng=0), phantom_slide(rng=1, stain=(1.25, 0.85), tint=0.5)]


@pytest.fixture(scope="module")
def features(slides: list[SpatialData]) -> list[AnnData]:
    return [isost.tl.histology_features(sdata["he_image"], sdata["nuclei"], pixel_size=0.5, progress=False)
            for sdata in slides]  # fmt: skip


def pixels(sdata: SpatialData) -> np.ndarray:
    """(h, w, 3) uint8."""
    return np.moveaxis(np.asarray(sdata["he_image"].data), 0, 2)


def within(sdata: SpatialData) -> np.ndarray:
    """(h, w) bool: the middle of the pixel is in a nucleus."""
    found = np.zeros(pixels(sdata).shape[:2], dtype=bool)
    for outline in sdata["nuclei"].geometry:
        found |= polygon2mask(found.shape, shapely.get_coordinates(outline)[:, ::-1] - 0.5)
    return found


def test_layout(slides: list[SpatialData]) -> None:
    sdata = slides[0]
    image, nuclei, table = sdata["he_image"], sdata["nuclei"], sdata["table"]
    assert image.dims == ("c", "y", "x") and image.shape == (3, 1200, 1200) and image.dtype == np.uint8
    assert table.shape == (600, 40) and table.obs_names.is_unique and table.var_names.is_unique
    assert table.obs_names.tolist() == nuclei.index.tolist() == table.obs["instance_id"].tolist()
    assert set(table.obs["region"]) == {"nuclei"}
    assert sparse.issparse(table.X) and table.X.format == "csr" and table.X.dtype == np.int32
    assert table.layers["rate"].dtype == np.float32 and table.layers["rate"].shape == (600, 40)
    centre = shapely.get_coordinates(nuclei.geometry.centroid)
    np.testing.assert_allclose(table.obsm["pixel"], centre, atol=1e-6)
    np.testing.assert_allclose(table.obsm["spatial"], centre / 2, atol=1e-6)
    assert table.var["link"].value_counts().to_dict() == {"none": 10} | dict.fromkeys(COLUMN, 5)
    assert table.uns["phantom_slide"]["pixel_size"] == 0.5


def test_nuclei_are_whole_and_apart(slides: list[SpatialData]) -> None:
    for sdata in slides:
        outline = sdata["nuclei"].geometry.to_numpy()
        assert shapely.is_valid(outline).all() and (sdata["nuclei"].geom_type == "Polygon").all()
        bounds = shapely.bounds(outline)
        assert bounds.min() > 0 and bounds.max() < 1200
        np.testing.assert_allclose(shapely.area(outline) / 4, sdata["table"].obs["nucleus_area"])
        pairs = shapely.STRtree(outline).query(outline, predicate="intersects")
        assert pairs.shape[1] == len(outline), "each meets itself only"


@pytest.mark.parametrize("seed", range(3))
def test_as_many_nuclei_as_are_allowed_fit(seed: int) -> None:
    assert phantom_slide(n_cells=105, n_genes=1, side=200, pixel_size=2, rng=seed)["table"].n_obs == 105


def test_what_is_true_of_nuclei(slides: list[SpatialData]) -> None:
    obs, place = slides[0]["table"].obs, slides[0]["table"].obsm["spatial"]
    square = np.square(place[:, None] - place).sum(axis=2)
    near = np.exp(-square / (2 * 25.0**2)).sum(axis=1) / (2 * np.pi * 25.0**2) * 1e6
    np.testing.assert_allclose(obs["density"], near, rtol=0.02)  # of a kernel that ends at 4 sigma
    assert obs["density"].quantile(0.9) > 2 * obs["density"].quantile(0.1), "nests and stroma"
    assert obs["elongation"].min() > 1 and obs["fibres"].between(0, 1).all()
    assert abs(obs["library"].mean() - 1) < 0.05


def test_rates_follow_the_links(slides: list[SpatialData]) -> None:
    for sdata in slides:
        table = sdata["table"]
        for j, (link, slope) in enumerate(table.var[["link", "slope"]].itertuples(index=False)):
            if link != "none":
                rank = stats.spearmanr(table.obs[COLUMN[link]], table.layers["rate"][:, j])[0]
                assert rank * np.sign(slope) > 0.999, table.var_names[j]
        spread = np.log(table.layers["rate"]).std(axis=0) / table.var["slope"].abs()
        of = spread.groupby(table.var["link"], observed=True).mean()
        assert of.between(0.7, 1.35).all(), of


def test_area_sets_the_rate_in_closed_form(slides: list[SpatialData]) -> None:
    table = slides[1]["table"]
    gene = table.var.loc["area_2"]
    expected = gene["intercept"] + gene["slope"] * np.log(table.obs["nucleus_area"] / 38.0) / 0.33
    np.testing.assert_allclose(np.log(table[:, "area_2"].layers["rate"].ravel()), expected, rtol=1e-4)


def test_counts_are_those_of_the_rates(slides: list[SpatialData]) -> None:
    table = slides[0]["table"]
    expected = table.layers["rate"] * table.obs["library"].to_numpy()[:, None]
    chi2 = float(((table.X.toarray() - expected) ** 2 / expected).mean())
    assert chi2 == pytest.approx(1, abs=0.05), "Poisson"
    assert table.X.sum(axis=1).mean() == pytest.approx(400, rel=0.1)
    assert phantom_slide(**SMALL, library_size=50)["table"].X.sum(axis=1).mean() == pytest.approx(50, rel=0.2)


def test_genes_that_follow_nothing(slides: list[SpatialData]) -> None:
    """Over sections they are correlated with no property, and neighbours are alike all the same."""
    found, near = [], []
    for seed in range(2, 8):
        table = phantom_slide(n_genes=40, pixel_size=4, rng=seed)["table"]
        log = pd.DataFrame(np.log(table.layers["rate"]), columns=table.var_names, index=table.obs_names)
        log = log.loc[:, (table.var["link"] == "none").to_numpy()]
        found.append(np.array([[stats.spearmanr(log[gene], table.obs[name])[0] for name in COLUMN.values()]
                               for gene in log]))  # fmt: skip
        distance = np.square(table.obsm["spatial"][:, None] - table.obsm["spatial"]).sum(axis=2)
        np.fill_diagonal(distance, np.inf)
        value, mate = log.to_numpy(), distance.argmin(axis=1)
        near.append([np.corrcoef(value[:, j], value[mate, j])[0, 1] for j in range(value.shape[1])])
    assert np.abs(np.mean(found, axis=(0, 1))).max() < 0.08
    assert np.mean(np.abs(found)) < 0.15
    assert np.mean(near) > 0.3


def test_the_image_is_of_stained_tissue_on_glass(slides: list[SpatialData]) -> None:
    for sdata in slides:
        rgb, nuclear = pixels(sdata).astype(float), within(sdata)
        border = np.ones(nuclear.shape, dtype=bool)
        border[8:-8, 8:-8] = False
        glass = rgb.min(axis=2) > 235
        assert glass[border].all() and 0.3 < glass.mean() < 0.6
        around = ~nuclear & ~glass
        assert rgb[nuclear].mean() < rgb[around].mean() - 30, "darker"
        excess = rgb[..., 2] - rgb[..., 0]
        assert excess[nuclear].mean() > 30 and excess[around].mean() < 0, "blue nuclei, pink between"


def test_the_stains_are_found(slides: list[SpatialData]) -> None:
    planted = []
    for sdata in slides:
        stains = sdata["table"].uns["phantom_slide"]["stains"]
        found = find_stains(pixels(sdata)[::3, ::3].reshape(-1, 3)).colours
        assert np.degrees(np.arccos((found * stains).sum(axis=1))).max() < 5
        planted.append(stains)
    assert np.degrees(np.arccos((planted[0] * planted[1]).sum(axis=1))).min() > 3, "other stains on the other slide"


def test_other_stains_are_seen_and_not_expressed() -> None:
    plain, strong, red, blue = (phantom_slide(**SMALL, **options) for options in
                                ({}, {"stain": [1.5, 1.5]}, {"tint": 1}, {"tint": -1.0}))  # fmt: skip
    for other in (strong, red, blue):
        assert (other["table"].X != plain["table"].X).nnz == 0
        pd.testing.assert_frame_equal(other["table"].obs, plain["table"].obs)
    assert pixels(strong).mean() < pixels(plain).mean() - 5
    redness = [pixels(one)[..., 0].mean() - pixels(one)[..., 2].mean() for one in (blue, plain, red)]
    assert redness[0] < redness[1] - 3 and redness[1] < redness[2] - 3


def test_the_seed_decides() -> None:
    one, same, other = (phantom_slide(**SMALL, rng=rng) for rng in (1, 1, 2))
    np.testing.assert_array_equal(pixels(one), pixels(same))
    assert (one["table"].X != same["table"].X).nnz == 0
    assert one["nuclei"].geometry.equals(same["nuclei"].geometry)
    pd.testing.assert_frame_equal(one["table"].obs, same["table"].obs)
    assert (one["table"].X != other["table"].X).nnz > 0
    assert not np.allclose(one["table"].obsm["pixel"], other["table"].obsm["pixel"])
    pd.testing.assert_frame_equal(one["table"].var, other["table"].var)
    advancing = np.random.default_rng(0)
    first, second = (phantom_slide(**SMALL, rng=advancing) for _ in range(2))
    assert not np.array_equal(pixels(first), pixels(second))


def test_more_genes_leave_the_links_of_the_first_alone() -> None:
    few, many = (phantom_slide(**SMALL | {"n_genes": n})["table"].var for n in (5, 30))
    assert few["slope"].tolist() == many["slope"].tolist()[:5] and few.index.tolist() == many.index.tolist()[:5]
    assert few["link"].cat.categories.tolist() == many["link"].cat.categories.tolist()
    assert {-1.0, 1.0} == set(np.sign(many["slope"]))


def test_pixels_of_another_size_show_the_same_cells() -> None:
    fine, coarse = (phantom_slide(**SMALL, pixel_size=size) for size in (0.5, 0.9))
    assert coarse["he_image"].shape == (3, 223, 223)
    assert (fine["table"].X != coarse["table"].X).nnz == 0
    np.testing.assert_allclose(coarse["table"].obsm["pixel"] * 0.9, fine["table"].obsm["spatial"])
    near = (
        coarse["nuclei"]
        .geometry.scale(0.9, 0.9, origin=(0, 0))
        .symmetric_difference(fine["nuclei"].geometry.scale(0.5, 0.5, origin=(0, 0)))
    )
    assert near.area.max() < 1e-9
    rgb, nuclear = pixels(coarse).astype(float), within(coarse)
    assert rgb[nuclear].mean() < rgb[~nuclear & (rgb.min(axis=2) < 235)].mean() - 30


def test_survives_writing(tmp_path: Path) -> None:
    sdata = phantom_slide(**SMALL)
    sdata.write(tmp_path / "slide.zarr")
    again = read_zarr(tmp_path / "slide.zarr")
    np.testing.assert_array_equal(pixels(again), pixels(sdata))
    assert (again["table"].X != sdata["table"].X).nnz == 0
    assert again["table"].var["link"].tolist() == sdata["table"].var["link"].tolist()
    assert again["nuclei"].index.tolist() == sdata["nuclei"].index.tolist()


def test_features_see_what_is_planted(slides: list[SpatialData], features: list[AnnData]) -> None:
    seen = {"area": "area", "elongation": "elongation", "darkness": "haematoxylin in it mean",
            "density": "nuclei 2.2 64 um mean", "eosin": "eosin 64 um sd",
            "fibres": "coherence 64 um mean"}  # fmt: skip
    least = {"area": 0.99, "elongation": 0.95, "darkness": 0.9, "density": 0.85, "eosin": 0.6, "fibres": 0.5}
    for sdata, found in zip(slides, features, strict=True):
        obs = sdata["table"].obs
        assert found.obs_names.tolist() == obs.index.tolist()
        np.testing.assert_allclose(found.obs["nucleus_area"], obs["nucleus_area"], rtol=1e-5)
        rank = {link: stats.spearmanr(found[:, name].X.ravel(), obs[COLUMN[link]])[0] for link, name in seen.items()}
        assert all(rank[link] > least[link] for link in rank), rank


def test_what_one_section_teaches_holds_on_another(slides: list[SpatialData], features: list[AnnData]) -> None:
    """From the second section, stained otherwise, to the first, by a plain ridge."""
    levels = []
    for sdata in slides:
        counts = sdata["table"].X.toarray().astype(float)
        levels.append(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 400))
    model = make_pipeline(StandardScaler(), Ridge(1000)).fit(features[1].X, levels[1])
    predicted = model.predict(features[0].X)
    correlation = pd.Series([np.corrcoef(*pair)[0, 1] for pair in zip(predicted.T, levels[0].T, strict=True)])
    link = slides[0]["table"].var["link"].to_numpy()
    mean = correlation.groupby(link).mean()
    assert correlation[link != "none"].mean() > 0.5, mean
    assert (mean[list(COLUMN)] > 0.25).all(), mean
    assert abs(mean["none"]) < 0.15, mean


@pytest.mark.parametrize(("options", "said"), [
    ({"n_cells": 0}, "n_cells: expected a whole number of 1 or more, found 0"),
    ({"n_cells": 10.5}, "n_cells: expected a whole number of 1 or more, found 10.5"),
    ({"n_cells": True}, "n_cells: expected a whole number of 1 or more, found True"),
    ({"n_genes": -1}, "n_genes: expected a whole number of 1 or more, found -1"),
    ({"side": 0}, "side: expected a number of µm, 100 or more, found 0"),
    ({"side": "wide"}, "side: expected a number of µm, 100 or more, found 'wide'"),
    ({"pixel_size": -0.5}, "pixel_size: expected a number above 0, found -0.5"),
    ({"pixel_size": np.nan}, "pixel_size: expected a number above 0, found nan"),
    ({"pixel_size": 0.01}, r"pixel_size: expected 50 to 8,000 pixels a side, found 60,000 of 0.01 µm on 600 µm"),
    ({"pixel_size": 30}, r"pixel_size: expected 50 to 8,000 pixels a side, found 20 of 30 µm on 600 µm"),
    ({"library_size": np.inf}, "library_size: expected a number above 0, found inf"),
    ({"stain": 1.0}, "stain: expected two numbers above 0, of haematoxylin and eosin, found 1.0"),
    ({"stain": (1.0, 0.0)}, "stain: expected two numbers above 0, of haematoxylin and eosin, found"),
    ({"stain": (1.0, 1.0, 1.0)}, "stain: expected two numbers above 0, of haematoxylin and eosin, found"),
    ({"tint": 2}, "tint: expected a number from -1 to 1, found 2"),
    ({"tint": None}, "tint: expected a number from -1 to 1, found None"),
    ({"n_cells": 5000}, "n_cells: expected 947 or fewer on 600 µm, found 5000"),
])  # fmt: skip
def test_what_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}.*Next: "):
        phantom_slide(**options)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"n_cells: .*; n_genes: .*; side: .*; pixel_size: .*; stain: .*; tint: "):
        phantom_slide(n_cells=0, n_genes=0, side=-1, pixel_size=0, stain=None, tint="red")  # type: ignore[arg-type]


def test_a_seed_of_another_kind() -> None:
    with pytest.raises(TypeError, match="rng: expected"):
        phantom_slide(rng="seed")  # type: ignore[arg-type]
