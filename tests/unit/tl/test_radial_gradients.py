from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from anndata import AnnData
from scipy import ndimage
from spatialdata import SpatialData
from spatialdata.models import Labels3DModel

import isost

Make = Callable[..., SpatialData]

SHAPE = (12, 20, 20)
SIZE = (10.0, 10.0, 10.0)
AXIS = [[100.0, 100.0, 0.0], [100.0, 100.0, 120.0]]
GENES = ["rises", "falls", "peaks", "angular", "constant"]


def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (z, y, x, 3), distance from the axis, and the mask of a cylinder."""
    z, y, x = np.indices(SHAPE) + 0.5
    places = np.stack([x, y, z], axis=-1) * 10.0
    radius = np.hypot(places[..., 0] - 100, places[..., 1] - 100)
    return places, radius, radius <= 95


def fields(seed: int = 0) -> np.ndarray:
    """Genes (5, z, y, x) of a known dependence on radius, with noise a voxel or so wide."""
    places, radius, _ = grid()
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(5, *SHAPE)), (0, 1, 1, 1)) * 0.6
    angle = np.arctan2(places[..., 1] - 100, places[..., 0] - 100)
    signal = [radius / 95, -radius / 95, -(((radius - 47) / 47) ** 2), np.cos(angle), np.zeros(SHAPE)]
    noise[4] = 0.0
    return np.stack(signal) + noise


@pytest.fixture
def cylinder(gene_volume: Make) -> SpatialData:
    return gene_volume(fields(), grid()[2], GENES)


def classes(sdata: SpatialData | AnnData, key: str = "radial") -> dict[str, str]:
    return isost.get.radial_gradients(sdata, key=key)["class"].astype(str).to_dict()


def test_genes_are_sorted_by_what_they_do(cylinder: SpatialData, caplog: pytest.LogCaptureFixture) -> None:
    isost.tl.radial_gradients(cylinder, axis=AXIS, width=10.0)
    assert "Next: measured=" in caplog.text
    expected = {"rises": "rising", "falls": "falling", "peaks": "peaked", "angular": "flat", "constant": "flat"}
    assert classes(cylinder) == expected
    found = isost.get.radial_gradients(cylinder)
    assert found.loc["rises", "pearson"] > 0.8
    assert found.loc["rises", "slope"] == pytest.approx(1 / 95, rel=0.1)
    assert found.loc["peaks", "extreme"] == pytest.approx(45.0, abs=10)
    assert found.loc["constant", ["p", "sd"]].tolist() == [1.0, 0.0]
    assert (found["padj"] >= found["p"]).all()


def test_what_is_written_where(cylinder: SpatialData) -> None:
    table = cylinder.tables["isost_voxels"]
    assert isost.tl.radial_gradients(cylinder, axis=AXIS, width=10.0, key_added="canal") is None
    _, radius, mask = grid()
    np.testing.assert_allclose(table.obs["canal_distance"], radius[mask])
    np.testing.assert_array_equal(table.obs["canal_shell"], np.floor(radius[mask] / 10))
    mean = isost.get.radial_gradients(cylinder, key="canal", what="mean")
    shells = isost.get.radial_gradients(cylinder, key="canal", what="shells")
    values = fields()[0][mask].astype(np.float32)
    for shell, (at, row) in enumerate(shells.iterrows()):
        inside = table.obs["canal_shell"] == shell
        assert row["n"] == inside.sum()
        assert (row["inner"], row["outer"], row["distance"]) == (10 * shell, 10 * shell + 10, float(at))
        assert mean.loc["rises", at] == pytest.approx(values[inside].mean(), abs=1e-5)
    params = table.uns["canal_gradients"]["params"]
    assert params["width"] == 10.0
    np.testing.assert_array_equal(params["axis"], AXIS)


def test_results_outlive_writing(cylinder: SpatialData, tmp_path: object) -> None:
    isost.tl.radial_gradients(cylinder, point=(100, 100, 60))
    before = isost.get.radial_gradients(cylinder)
    cylinder.write(f"{tmp_path}/volume.zarr")
    after = isost.get.radial_gradients(SpatialData.read(f"{tmp_path}/volume.zarr"))
    assert after["class"].astype(str).tolist() == before["class"].astype(str).tolist()
    np.testing.assert_allclose(after["padj"], before["padj"])


def test_an_axis_that_is_traced_is_that_which_was_given(gene_volume: Make) -> None:
    _, radius, mask = grid()
    hollow = mask & (radius > 15)
    sdata = gene_volume(fields(), hollow, GENES, density=np.where(hollow, 1.0, 0.0))
    expected = radius[hollow]
    for axis in ("centre", "lumen"):
        isost.tl.radial_gradients(sdata, axis=axis)
        assert np.abs(sdata.tables["isost_voxels"].obs["radial_distance"] - expected).max() < 10.0
    isost.tl.radial_gradients(sdata, point=(100, 100, 5), direction=(0, 0, -3))
    np.testing.assert_allclose(sdata.tables["isost_voxels"].obs["radial_distance"], expected)


def test_distance_from_a_point_a_region_and_the_surface(cylinder: SpatialData) -> None:
    places, radius, mask = grid()
    obs = cylinder.tables["isost_voxels"].obs
    isost.tl.radial_gradients(cylinder, point=(20, 100, 60), key_added="point")
    np.testing.assert_allclose(obs["point_distance"], np.linalg.norm(places - [20, 100, 60], axis=-1)[mask])
    lesion = np.linalg.norm(places - [130, 100, 60], axis=-1) < 25
    isost.tl.radial_gradients(cylinder, region=lesion, key_added="lesion")
    expected = ndimage.distance_transform_edt(~lesion, sampling=10.0)[mask]
    np.testing.assert_allclose(obs["lesion_distance"], np.where(expected > 0, expected, np.nan))
    assert set(obs.loc[lesion[mask], "lesion_shell"]) == {-1}
    isost.tl.radial_gradients(cylinder, region="surface", key_added="depth")
    np.testing.assert_allclose(obs["depth_distance"], ndimage.distance_transform_edt(mask, sampling=10.0)[mask])


def test_a_region_can_be_labels_or_a_column(cylinder: SpatialData) -> None:
    places, _, mask = grid()
    lesion = np.linalg.norm(places - [130, 100, 60], axis=-1) < 25
    table = cylinder.tables["isost_voxels"]
    isost.tl.radial_gradients(cylinder, region=lesion)
    expected = table.obs["radial_distance"].copy()
    cylinder.labels["regions"] = Labels3DModel.parse(np.where(lesion, 4, 1).astype(np.uint8), dims=("z", "y", "x"))
    isost.tl.radial_gradients(cylinder, region=("regions", 4))
    np.testing.assert_array_equal(table.obs["radial_distance"], expected)
    table.obs["where"] = np.where(lesion[mask], "scar", "tissue")
    isost.tl.radial_gradients(cylinder, region=("where", "scar"))
    np.testing.assert_array_equal(table.obs["radial_distance"], expected)


def test_cells_with_places_will_do(cylinder: SpatialData) -> None:
    cells = cylinder.tables["isost_voxels"].copy()
    cells.uns.pop("spatialdata_attrs", None)
    isost.tl.radial_gradients(cylinder, axis=AXIS, width=10.0)
    isost.tl.radial_gradients(cells, axis=AXIS, width=10.0)
    here, there = isost.get.radial_gradients(cylinder), isost.get.radial_gradients(cells)
    assert classes(cells) == classes(cylinder)
    np.testing.assert_allclose(here["pearson"], there["pearson"], rtol=1e-5)
    np.testing.assert_allclose(here["p"], there["p"], rtol=1e-3)


def test_some_genes(cylinder: SpatialData) -> None:
    isost.tl.radial_gradients(cylinder, axis=AXIS, genes=["peaks", "rises"])
    assert classes(cylinder) == {"peaks": "peaked", "rises": "rising"}


def test_a_baseline_is_taken_off(cylinder: SpatialData, gene_volume: Make) -> None:
    """What both have is gone, also where it varies along the axis, and what one has alone is left."""
    places, _, mask = grid()
    along = places[..., 2] / 40
    before = gene_volume((fields(seed=1) + along)[[0, 2, 1, 3, 4]], mask, [GENES[k] for k in (0, 2, 1, 3, 4)])
    changed = fields(seed=2) + along
    changed[1] -= fields()[1]
    after = gene_volume(changed, mask, GENES)
    isost.tl.radial_gradients(after, axis=AXIS, width=10.0, segment=20.0, baseline=before)
    expected = {"rises": "flat", "falls": "rising", "peaks": "flat", "angular": "flat", "constant": "flat"}
    assert classes(after) == expected
    mean = isost.get.radial_gradients(after, what="mean")
    assert np.abs(mean.loc["rises"]).max() < 0.2
    isost.tl.radial_gradients(after, axis=AXIS, baseline=after)
    assert np.abs(isost.get.radial_gradients(after, what="mean").to_numpy()).max() < 1e-5


@pytest.mark.parametrize("lacking", ["after", "before"])
def test_a_side_that_one_tissue_lacks_is_no_difference(gene_volume: Make, lacking: str) -> None:
    """The other's mean over all sides would leave a gene that differs between sides with a profile."""
    places, _, mask = grid()
    part = mask & (places[..., 0] > 65)
    masks = {"after": mask, "before": mask} | {lacking: part}
    after, before = (gene_volume(fields(), masks[name], GENES) for name in ("after", "before"))
    isost.tl.radial_gradients(after, axis=AXIS, width=10.0, baseline=before)
    assert np.abs(isost.get.radial_gradients(after, what="mean").to_numpy()).max() < 1e-5
    assert set(classes(after).values()) == {"flat"}
    known = np.isfinite(after.tables["isost_voxels"].obs["radial_distance"])
    np.testing.assert_array_equal(known, part[masks["after"]])


def side_cells(seed: int, least: float) -> AnnData:
    """Cells of a cylinder, but for those with a smaller x, of a gene that differs between sides and one that rises."""
    rng = np.random.default_rng(seed)
    places = rng.uniform([-95, -95, 0], [95, 95, 120], (6000, 3))
    radius = np.hypot(places[:, 0], places[:, 1])
    kept = (radius <= 95) & (places[:, 0] > least)
    signal = np.column_stack([places[:, 0] / radius, radius / 95 * (least > -95)])[kept]
    cells = AnnData((signal + 0.2 * rng.normal(size=signal.shape)).astype(np.float32), obsm={"spatial": places[kept]})
    cells.var_names = ["side", "rises"]
    return cells


def test_a_side_that_cells_lack_is_no_difference() -> None:
    cells = side_cells(0, -40.0)
    isost.tl.radial_gradients(cells, axis=[[0, 0, 0], [0, 0, 120]], width=10.0, baseline=side_cells(1, -95.0))
    assert classes(cells) == {"side": "flat", "rises": "rising"}
    mean = isost.get.radial_gradients(cells, what="mean").to_numpy()[:, 1:]
    assert np.abs(mean[0]).max() < 0.15
    assert np.ptp(mean[1]) > 0.7


def test_the_surface_has_an_inside(gene_volume: Make) -> None:
    """What a larger tissue has beyond it is not what lies as deep within."""
    _, radius, mask = grid()
    small = radius <= 55
    wide = np.where(radius > 65, 50.0, fields())
    after, before = gene_volume(fields(), small, GENES), gene_volume(wide, mask, GENES)
    cells, others = cells_of(after, 0, 1000), cells_of(before, 1)
    isost.tl.radial_gradients(after, region="surface", width=10.0, baseline=before, measured=(cells, others))
    found = isost.get.radial_gradients(after)
    assert np.nanmax(np.abs(isost.get.radial_gradients(after, what="mean").to_numpy())) < 1e-5
    inside = np.hypot(*(others.obsm["spatial"][:, :2] - 100).T) <= 55
    isost.tl.radial_gradients(
        after, region="surface", width=10.0, baseline=before, measured=(cells, others[inside].copy())
    )
    np.testing.assert_array_equal(found["p"], isost.get.radial_gradients(after)["p"])


def test_measured_cells_outside_the_tissue_have_no_distance_from_its_surface(gene_volume: Make) -> None:
    _, radius, _ = grid()
    sdata = gene_volume(fields(), radius <= 55, GENES)
    cells = cells_of(gene_volume(fields(), radius <= 95, GENES), 0)
    inside = np.hypot(*(cells.obsm["spatial"][:, :2] - 100).T) <= 55
    p = []
    for some in (cells, cells[inside].copy()):
        isost.tl.radial_gradients(sdata, region="surface", width=10.0, measured=some)
        p.append(isost.get.radial_gradients(sdata)["p"])
    np.testing.assert_array_equal(*p)


def test_shells_may_be_fine() -> None:
    """Of 250 none holds 1 % of the places; a peak that lies near the axis is still seen."""
    n, rng = 10_000, np.random.default_rng(0)
    radius, angle = 100 * np.sqrt((np.arange(n) + 0.5) / n), rng.uniform(0, 2 * np.pi, n)
    places = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0, 100, n)])
    signal = np.column_stack([radius / 100, -radius / 100, np.exp(-0.5 * ((radius - 25) / 10) ** 2)])
    cells = AnnData((signal + 0.1 * rng.normal(size=signal.shape)).astype(np.float32), obsm={"spatial": places})
    cells.var_names = GENES[:3]
    isost.tl.radial_gradients(cells, axis=[[0, 0, 0], [0, 0, 100]], width=100 / 250)
    assert isost.get.radial_gradients(cells, what="shells")["n"].max() < n / 100
    assert classes(cells) == {"rises": "rising", "falls": "falling", "peaks": "peaked"}
    assert isost.get.radial_gradients(cells).loc["peaks", "extreme"] == pytest.approx(25.0, abs=8)
    assert len(isost.pl.radial_gradients(cells)) == 4


def cells_of(sdata: SpatialData, seed: int, n: int = 1500) -> AnnData:
    """Cells at some voxels, with noise of their own."""
    table = sdata.tables["isost_voxels"]
    rows = np.sort(np.random.default_rng(seed).choice(table.n_obs, n, replace=False))
    noise = np.random.default_rng(seed + 1).normal(size=(n, table.n_vars))
    cells = AnnData((table.X[rows] + noise).astype(np.float32), obsm={"spatial": table.obsm["spatial"][rows]})
    cells.var_names = table.var_names
    return cells


def test_measured_cells_decide_what_is_significant(cylinder: SpatialData, gene_volume: Make) -> None:
    """p is that of the cells; profiles and correlations stay those of the volume."""
    isost.tl.radial_gradients(cylinder, axis=AXIS, width=10.0)
    alone = isost.get.radial_gradients(cylinder)
    cells = cells_of(cylinder, 5)
    isost.tl.radial_gradients(cylinder, axis=AXIS, width=10.0, measured=cells)
    found = isost.get.radial_gradients(cylinder)
    isost.tl.radial_gradients(cells, axis=AXIS, width=10.0)
    varies = found["sd"] > 0
    np.testing.assert_allclose(found["p"][varies], isost.get.radial_gradients(cells)["p"][varies])
    np.testing.assert_array_equal(found["pearson"], alone["pearson"])
    assert (found["p"] != alone["p"])[varies].all()
    before = gene_volume(np.zeros((5, *SHAPE)), grid()[2], GENES)
    isost.tl.radial_gradients(
        cylinder, axis=AXIS, width=10.0, baseline=before, measured=(cells, cells_of(before, 7)), key_added="pair"
    )
    assert classes(cylinder, "pair")["rises"] == "rising"
    assert classes(cylinder, "pair")["angular"] == "flat"


def test_measured_cells_are_compared_where_both_have_tissue(gene_volume: Make) -> None:
    places, _, mask = grid()
    hole = np.hypot(places[..., 0] - 140, places[..., 1] - 100) < 12
    after, before = gene_volume(fields(0), mask & ~hole, GENES), gene_volume(fields(1), mask, GENES)
    cells, others, p = cells_of(after, 2), cells_of(before, 3), []
    beyond = np.hypot(*(others.obsm["spatial"][:, :2] - [140, 100]).T) < 12
    assert beyond.any()
    for shift in (0.0, 50.0):
        others.X[beyond] += shift
        isost.tl.radial_gradients(after, axis=AXIS, width=10.0, baseline=before, measured=(cells, others))
        p.append(isost.get.radial_gradients(after)["p"])
    np.testing.assert_array_equal(*p)


def test_measured_cells_of_another_kind_are_refused(cylinder: SpatialData) -> None:
    cells = cells_of(cylinder, 0)
    about = {"axis": AXIS, "width": 10.0}
    with pytest.raises(TypeError, match="expected an AnnData, found tuple.*Next"):
        isost.tl.radial_gradients(cylinder, **about, measured=(cells, cells))
    with pytest.raises(TypeError, match="expected a pair.*Next"):
        isost.tl.radial_gradients(cylinder, **about, baseline=cylinder, measured=cells)
    with pytest.raises(ValueError, match="1 genes missing.*rises.*Next"):
        isost.tl.radial_gradients(cylinder, **about, measured=cells[:, 1:].copy())
    counts = cells.copy()
    counts.X = np.rint(counts.X)
    with pytest.raises(ValueError, match="whole numbers.*Next"):
        isost.tl.radial_gradients(cylinder, **about, measured=counts)
    away = cells.copy()
    away.obsm["spatial"] = away.obsm["spatial"] + 1e6
    with pytest.raises(ValueError, match="same frame.*Next"):
        isost.tl.radial_gradients(cylinder, **about, measured=away)


def test_a_shift_of_all_is_no_gradient_but_a_change(gene_volume: Make) -> None:
    _, _, mask = grid()
    before, after = gene_volume(fields(1), mask, GENES), gene_volume(fields(2) + 3.0, mask, GENES)
    isost.tl.radial_gradients(after, axis=AXIS, width=10.0, baseline=before)
    assert set(classes(after).values()) == {"flat"}
    np.testing.assert_allclose(isost.get.radial_gradients(after, what="mean").to_numpy(), 3.0, atol=0.3)


def test_a_baseline_elsewhere_or_of_other_genes_is_refused(cylinder: SpatialData, gene_volume: Make) -> None:
    _, _, mask = grid()
    away = gene_volume(fields(), mask, GENES, origin=(500.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="same frame.*Next"):
        isost.tl.radial_gradients(cylinder, axis=AXIS, baseline=away)
    others = gene_volume(fields(), mask, ["a", *GENES[1:]])
    with pytest.raises(ValueError, match="1 missing.*rises.*Next"):
        isost.tl.radial_gradients(cylinder, axis=AXIS, baseline=others)
    in_mm = gene_volume(fields(), mask, GENES)
    in_mm.attrs["isost"]["unit"] = "mm"
    with pytest.raises(ValueError, match="expected positions in um, found mm"):
        isost.tl.radial_gradients(cylinder, axis=AXIS, baseline=in_mm)
    with pytest.raises(TypeError, match="same kind"):
        isost.tl.radial_gradients(cylinder, axis=AXIS, baseline=cylinder.tables["isost_voxels"])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "axis, point, region: expected one of them, found none"),
        ({"axis": AXIS, "point": (0, 0, 0)}, ValueError, "found axis, point"),
        ({"axis": AXIS, "direction": (0, 0, 1)}, ValueError, "direction: expected a point"),
        ({"axis": "middle"}, ValueError, "'centre', 'lumen' or points"),
        ({"axis": [[0, 0, 0]]}, ValueError, "two or more points apart"),
        ({"axis": [[0, 0, 0], [0, 0, 0]]}, ValueError, "two or more points apart"),
        ({"axis": [[0, 0], [1, 1]]}, ValueError, "points \\(m, 3\\)"),
        ({"axis": [["a", 0, 0], [0, 0, 1]]}, TypeError, "points \\(m, 3\\)"),
        ({"point": (0, 0, 0), "direction": (0, 0, 0)}, ValueError, "found zeros"),
        ({"point": (0, float("nan"), 0)}, ValueError, "three finite numbers"),
        ({"point": "here"}, (TypeError, ValueError), "three"),
        ({"region": np.ones((2, 2, 2), bool)}, ValueError, "boolean mask of shape"),
        ({"region": np.zeros(SHAPE, bool)}, ValueError, "found none of"),
        ({"region": ("nothing", 1)}, KeyError, "found 'nothing'"),
        ({"region": "lesion"}, ValueError, "'surface'"),
        ({"axis": AXIS, "width": 0}, ValueError, "above 0"),
        ({"axis": AXIS, "width": 1e-3}, ValueError, "or more"),
        ({"axis": AXIS, "genes": ["nothing"]}, KeyError, "found 'nothing'"),
        ({"axis": AXIS, "table_key": "cells"}, KeyError, "table_key"),
    ],
)
def test_errors_say_what_to_do(cylinder: SpatialData, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"(?s){words}.*Next"):
        isost.tl.radial_gradients(cylinder, **options)


def test_other_things_are_refused(cylinder: SpatialData) -> None:
    with pytest.raises(TypeError, match="Next"):
        isost.tl.radial_gradients(np.ones(3), axis=AXIS)  # type: ignore[arg-type]
    cells = cylinder.tables["isost_voxels"]
    with pytest.raises(ValueError, match="lumen.*Next"):
        isost.tl.radial_gradients(cells, axis="lumen")
    with pytest.raises(ValueError, match="view.*Next"):
        isost.tl.radial_gradients(cells[:50], axis=AXIS)
    with pytest.raises(ValueError, match="finite.*Next"):
        isost.tl.radial_gradients(
            AnnData(np.full((9, 2), np.nan), obsm={"spatial": np.eye(9, 3)}), point=(0, 0, 0), width=1.0
        )
    with pytest.raises(ValueError, match="\\(n, 3\\).*Next"):
        isost.tl.radial_gradients(AnnData(np.ones((9, 2)), obsm={"spatial": np.ones((9, 2))}), axis=AXIS)
    with pytest.raises(KeyError, match="Next"):
        isost.get.radial_gradients(cylinder, key="never")
