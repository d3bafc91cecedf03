from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy import sparse, stats

from isost.datasets import embryo, embryo_truth
from isost.datasets._embryo_sampling import expected_cells, material_grid
from isost.datasets._organs import DENSITY, ORGANS, TYPES, TYPES_OF_ORGAN, membership, type_of_organ

AGES = [9.5, 11.0, 12.5, 14.0, 15.5]


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return embryo(n_cells=120, n_genes=24, rng=4)


def test_layout(adata: ad.AnnData) -> None:
    assert sparse.issparse(adata.X) and adata.X.dtype == np.int32
    assert adata.obsm["spatial"].dtype == np.float64 and adata.obsm["spatial"].shape == (adata.n_obs, 2)
    stage = adata.obs["stage"].cat
    assert stage.ordered and stage.categories.tolist() == ["E9.5", "E11", "E12.5", "E14", "E15.5"]
    np.testing.assert_array_equal(np.array(AGES)[stage.codes], adata.obs["age"])
    assert adata.obs_names.is_unique and adata.var_names.is_unique
    assert adata.uns["organ_of_type"]["muscle"] == "trunk" and set(adata.uns["organ_of_type"]) == set(TYPES)


def test_peaks_of_genes_are_ages(adata: ad.AnnData) -> None:
    changing = adata.var["kind"].isin(["peak", "cyclic"])
    assert adata.var.loc[changing, "peak"].between(10.7, 14.3).all() and adata.var.loc[~changing, "peak"].isna().all()
    truth = embryo_truth(adata)
    gene = "peak_2"
    assert adata.var.loc[gene, "target"] == "brain"
    curve = truth.curves("brain", np.arange(9.5, 15.55, 0.1))[gene]
    assert curve.idxmax() == pytest.approx(adata.var.loc[gene, "peak"], abs=0.25)


def test_the_truth_comes_back_from_a_subset_of_a_file(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "embryo.h5ad")
    again = embryo_truth(ad.read_h5ad(tmp_path / "embryo.h5ad")[5:, :7])
    truth, coords = embryo_truth(adata), np.array([[0.0, 0.0, 12.0], [500.0, 100.0, 9.5]])
    np.testing.assert_array_equal(again.expression(coords), truth.expression(coords))
    assert again.proportions([12.0]).equals(truth.proportions([12.0])) and again.n_cells == truth.n_cells


def test_the_seed_decides(adata: ad.AnnData) -> None:
    same, other = embryo(n_cells=120, n_genes=24, rng=4), embryo(n_cells=120, n_genes=24, rng=5)
    assert (adata.X != same.X).nnz == 0
    np.testing.assert_array_equal(adata.obsm["spatial"], same.obsm["spatial"])
    assert adata.shape != other.shape or (adata.X != other.X).nnz > 0


def test_stages_lie_turned_and_shifted_as_recorded(adata: ad.AnnData) -> None:
    straight = embryo(n_cells=120, n_genes=24, rng=4, oriented=True)
    assert (adata.X != straight.X).nnz == 0
    said = adata.uns["embryo"]
    for number, name in enumerate(adata.obs["stage"].cat.categories):
        cos, sin = np.cos(said["angle"][number]), np.sin(said["angle"][number])
        own = (adata.obs["stage"] == name).to_numpy()
        turned = straight.obsm["spatial"][own] @ np.array([[cos, -sin], [sin, cos]]).T + said["shift"][number]
        np.testing.assert_allclose(adata.obsm["spatial"][own], turned, atol=1e-8)
    assert not straight.uns["embryo"]["angle"].any() and not straight.uns["embryo"]["shift"].any()


def test_oriented_stages_lie_as_the_truth_does() -> None:
    adata = embryo(n_cells=120, n_genes=12, oriented=True)
    coords = np.column_stack([adata.obsm["spatial"], adata.obs["age"]])
    truth = embryo_truth(adata)
    np.testing.assert_array_equal(truth.organ(coords), adata.obs["organ"].astype(str))
    np.testing.assert_allclose(np.column_stack(truth.body.to_material(coords)), adata.obsm["material"], atol=1e-6)


@pytest.mark.parametrize("age", [9.5, 13.0, 15.5])
def test_cells_are_drawn_from_the_density(adata: ad.AnnData, age: float) -> None:
    truth, n = embryo_truth(adata), 30_000
    cells = truth.sample_stage(age, n=n, rng=1)
    a, b, area = material_grid(truth.body, age)
    weight = area * (membership(a, b, np.full(len(a), truth.body.relative(age))) @ DENSITY)
    edges = np.linspace(-1.0, 1.0, 11)
    expected = np.histogram2d(a, b, edges, weights=weight)[0] * n / weight.sum()
    found = np.histogram2d(*cells.obsm["material"].T, edges)[0]
    full = expected > 50.0
    deviation = ((found - expected)[full] ** 2 / expected[full]).sum()
    # the error of the grid at the rim widens the chi-squared distribution a little
    assert deviation < 1.5 * stats.chi2.ppf(0.999, full.sum())


def test_the_number_of_cells_grows_with_the_body(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    expected = np.array([expected_cells(truth, age) for age in AGES])
    assert expected[0] == pytest.approx(120.0)
    assert (np.diff(expected) > 0).all()
    found = adata.obs["stage"].value_counts(sort=False).to_numpy()
    np.testing.assert_array_less(np.abs(found - expected), 4.5 * np.sqrt(expected))


def test_types_of_cells_are_those_of_their_place(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    cells = truth.sample_stage(15.0, n=20_000, rng=2)
    a, b = cells.obsm["material"].T.astype(float)
    member = membership(a, b, np.full(len(a), truth.body.relative(15.0)))
    expected = (member @ type_of_organ()).sum(axis=0)
    found = cells.obs["cell_type"].value_counts().reindex(list(TYPES)).to_numpy()
    np.testing.assert_array_less(np.abs(found - expected), 4.5 * np.sqrt(expected))
    most = cells.obs.groupby("organ", observed=True)["cell_type"].agg(lambda types: types.value_counts().idxmax())
    assert most.to_dict() == {organ: names[0] for organ, names in TYPES_OF_ORGAN.items()}


def test_mean_counts_are_the_expected_ones(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    cells = truth.sample_stage(12.0, n=8000, rng=3)
    a, b = cells.obsm["material"].T.astype(float)
    tau = np.full(len(a), truth.body.relative(12.0))
    rates = truth.programme.rates(a, b, tau, membership(a, b, tau))
    own = rates[cells.obs["cell_type"].cat.codes, np.arange(len(a))] * truth.library_size / 1e4
    counts = cells.X.toarray()
    for organ in ("brain", "liver"):
        inside = (cells.obs["organ"] == organ).to_numpy()
        error = counts[inside].std(axis=0) / np.sqrt(inside.sum())
        assert (np.abs(counts[inside].mean(axis=0) - own[inside].mean(axis=0)) < 4.5 * error).all()


def test_the_truth_is_the_mean_of_cells_about_a_place(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    cells = truth.sample_stage(13.3, n=60_000, count_noise=False, rng=0)
    assert isinstance(cells.X, np.ndarray) and cells.X.dtype == np.float32
    place = np.array([1200.0, 200.0])
    near = np.linalg.norm(cells.obsm["spatial"] - place, axis=1) < 80.0
    assert near.sum() > 80
    found = cells.X[near]
    error = found.std(axis=0) / np.sqrt(near.sum())
    known = truth.expression(np.column_stack([cells.obsm["spatial"][near], np.full(near.sum(), 13.3)])).mean(axis=0)
    assert (np.abs(found.mean(axis=0) - known) < 4.5 * error + 1e-5).all()


def test_proportions_are_those_of_a_grid_over_the_plane(adata: ad.AnnData) -> None:
    truth, age = embryo_truth(adata), 14.2
    side = np.arange(-3500.0, 3500.0, 25.0) + 12.5
    x, y = np.meshgrid(side, side)
    organ = truth.organ(np.column_stack([x.ravel(), y.ravel(), np.full(x.size, age)]))
    found = [(organ == name).sum() / (organ != "").sum() for name in ORGANS]
    shares = truth.proportions([age])
    np.testing.assert_allclose(shares.to_numpy()[0], found, atol=3e-3)
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_there_is_no_kidney_at_first(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    assert truth.proportions([9.5])["kidney"].item() == 0.0
    assert truth.curves("kidney", [9.5]).isna().all(axis=None)
    assert truth.curves("kidney", [15.5]).notna().all(axis=None)


def test_curves_of_an_organ_are_the_mean_over_it(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    cells = truth.sample_stage(14.0, n=20_000, count_noise=False, rng=0)
    brain = cells.X[(cells.obs["organ"] == "brain").to_numpy()].mean(axis=0)
    # cells are somewhat denser where the brain borders on no other organ
    np.testing.assert_allclose(truth.curves("brain", [14.0]).to_numpy()[0], brain, atol=0.06)


def test_stage_effects_are_technical() -> None:
    plain, changed = (
        embryo(n_cells=1500, ages=(9.5, 10.0), n_genes=24, count_noise=False, stage_effects=s, rng=6) for s in (0, 0.4)
    )
    constant = (plain.var["kind"] == "constant").to_numpy()
    spread = []
    for adata in (plain, changed):
        first, last = (adata.X[np.ix_(adata.obs["age"] == age, constant)].mean(axis=0) for age in (9.5, 10.0))
        spread.append(np.ptp(last - first))  # the sum over genes changes with the others, alike for all of these
    assert spread[0] < 0.01 < 0.2 < spread[1]
    known = [embryo_truth(adata).expression([[0.0, 0.0, 9.7]]) for adata in (plain, changed)]
    np.testing.assert_array_equal(*known)


def test_outside_is_said_to_be_outside(adata: ad.AnnData) -> None:
    truth = embryo_truth(adata)
    coords = np.array([[0.0, 0.0, 12.0], [9000.0, 0.0, 12.0], [0.0, 0.0, 17.0]])
    assert truth.inside(coords).tolist() == [True, False, False]
    assert truth.organ(coords)[1:].tolist() == ["", ""]
    assert np.isfinite(truth.expression(coords)).all(axis=1).tolist() == [True, False, False]


def test_genes_are_chosen_by_name(adata: ad.AnnData) -> None:
    truth, coords = embryo_truth(adata), np.array([[0.0, 0.0, 12.0]])
    chosen = truth.expression(coords, genes=[truth.genes[7], truth.genes[2]])
    np.testing.assert_array_equal(chosen, truth.expression(coords)[:, [7, 2]])
    with pytest.raises(KeyError, match=r"found 'Gad1'.*Next"):
        truth.expression(coords, genes=["Gad1"])


@pytest.mark.parametrize("age", [9.4, 15.6, float("nan")])
def test_a_stage_of_another_age(adata: ad.AnnData, age: float) -> None:
    with pytest.raises(ValueError, match=r"age: expected one from 9\.5 to 15\.5, found .*Next"):
        embryo_truth(adata).sample_stage(age)


@pytest.mark.parametrize(
    "options",
    [
        {"ages": [9.5]}, {"ages": [9.5, 9.5]}, {"ages": [11.0, 9.5]}, {"ages": ["a", "b"]}, {"ages": [9.5, np.nan]},
        {"ages": 3.0}, {"n_cells": 0}, {"n_genes": 1.5}, {"length": 0.0}, {"length": np.inf}, {"library_size": -1.0},
        {"stage_effects": -0.1}, {"stage_effects": "a"}, {"depths": []}, {"depths": [-1.0, 0.0]},
        {"depths": [0.5, 0.2]}, {"depths": [0.0, 0.0]}, {"depths": ["a"]}, {"depths": 0.3}, {"depths": [0.0, np.nan]},
    ],
)  # fmt: skip
def test_impossible_parameters(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"{next(iter(options))}: expected .*found .*Next: "):
        embryo(**options)


def test_no_truth_of_something_else() -> None:
    with pytest.raises(KeyError, match=r"expected the parameters of an embryo phantom, found none.*Next"):
        embryo_truth(ad.AnnData(np.ones((2, 2))))


DEPTHS = [-0.6, 0.0, 0.4]


@pytest.fixture(scope="module")
def deep() -> ad.AnnData:
    return embryo([9.5, 12.5], depths=DEPTHS, n_cells=120, n_genes=12, oriented=True, rng=4)


def test_every_stage_has_its_sections(deep: ad.AnnData) -> None:
    body = embryo_truth(deep).body
    for age in (9.5, 12.5):
        found = np.unique(deep.obs.loc[deep.obs["age"] == age, "z"])
        np.testing.assert_allclose(found, np.array(DEPTHS) * body.thickness(age))
    assert deep.obs_names.is_unique and deep.obs["stage"].cat.categories.tolist() == ["E9.5", "E12.5"]
    np.testing.assert_array_equal(deep.uns["embryo"]["depths"], DEPTHS)


def test_without_depths_there_is_the_middle_plane(adata: ad.AnnData) -> None:
    assert (adata.obs["z"] == 0.0).all()
    same = embryo(n_cells=120, n_genes=24, depths=[0.0], rng=4)
    assert (adata.X != same.X).nnz == 0 and adata.obs_names.equals(same.obs_names)


def test_cells_of_all_depths_lie_as_the_truth_does(deep: ad.AnnData) -> None:
    truth = embryo_truth(deep)
    coords = np.column_stack([deep.obsm["spatial"], deep.obs[["z", "age"]]])
    assert truth.inside(coords).all()
    np.testing.assert_array_equal(truth.organ(coords), deep.obs["organ"].astype(str))
    w = deep.obs["z"].to_numpy() / truth.body.thickness(deep.obs["age"].to_numpy())
    found = truth.body.to_material(coords[:, [0, 1, 3]], w)
    np.testing.assert_allclose(np.column_stack(found), deep.obsm["material"], atol=1e-6)
    assert ((deep.obsm["material"] ** 2).sum(axis=1) + w**2 <= 1 + 1e-6).all()


def test_numbers_of_cells_are_those_of_the_planes(deep: ad.AnnData) -> None:
    truth = embryo_truth(deep)
    expected = np.array([[expected_cells(truth, age, w) for w in DEPTHS] for age in (9.5, 12.5)])
    assert expected[0, 1] == pytest.approx(120.0) and (expected[:, 0] < expected[:, 1]).all()
    found = deep.obs.groupby(["age", "z"]).size().to_numpy().reshape(2, 3)
    np.testing.assert_array_less(np.abs(found - expected), 4.5 * np.sqrt(expected))


def test_all_sections_of_a_stage_lie_turned_alike(deep: ad.AnnData) -> None:
    turned = embryo([9.5, 12.5], depths=DEPTHS, n_cells=120, n_genes=12, rng=4)
    said = turned.uns["embryo"]
    for number, name in enumerate(turned.obs["stage"].cat.categories):
        cos, sin = np.cos(said["angle"][number]), np.sin(said["angle"][number])
        own = (turned.obs["stage"] == name).to_numpy()
        expected = deep.obsm["spatial"][own] @ np.array([[cos, -sin], [sin, cos]]).T + said["shift"][number]
        np.testing.assert_allclose(turned.obsm["spatial"][own], expected, atol=1e-8)


def test_the_truth_without_a_depth_is_that_of_the_middle_plane(deep: ad.AnnData) -> None:
    truth = embryo_truth(deep)
    flat = np.array([[0.0, 0.0, 12.0], [300.0, 100.0, 9.5], [9000.0, 0.0, 12.0]])
    middle = np.insert(flat, 2, 0.0, axis=1)
    assert truth.inside(middle).tolist() == truth.inside(flat).tolist() == [True, True, False]
    np.testing.assert_array_equal(truth.expression(middle), truth.expression(flat))
    np.testing.assert_array_equal(truth.organ(middle), truth.organ(flat))
    beyond = middle + [0.0, 0.0, 1.01 * truth.body.thickness(12.0), 0.0]
    assert not truth.inside(beyond).any() and np.isnan(truth.expression(beyond)).all()


def test_the_truth_is_the_mean_of_cells_about_a_place_at_any_depth(deep: ad.AnnData) -> None:
    truth = embryo_truth(deep)
    cells = truth.sample_stage(11.3, depth=0.5, n=40_000, count_noise=False, rng=0)
    near = np.linalg.norm(cells.obsm["spatial"] - np.median(cells.obsm["spatial"], axis=0), axis=1) < 60.0
    assert near.sum() > 80
    found = cells.X[near]
    coords = np.column_stack([cells.obsm["spatial"][near], cells.obs.loc[near, ["z", "age"]]])
    known, error = truth.expression(coords), found.std(axis=0) / np.sqrt(near.sum())
    assert (np.abs(found.mean(axis=0) - known.mean(axis=0)) < 4.5 * error + 1e-5).all()


def test_a_stage_is_sampled_at_a_depth(deep: ad.AnnData) -> None:
    truth = embryo_truth(deep)
    cells = truth.sample_stage(11.0, depth=-0.5, n=70, rng=1)
    assert cells.shape == (70, 12)
    np.testing.assert_allclose(cells.obs["z"], -0.5 * truth.body.thickness(11.0))
    middle = truth.sample_stage(11.0, n=70, rng=1)
    assert (middle.obs["z"] == 0.0).all()
    assert (truth.sample_stage(11.0, depth=0.0, n=70, rng=1).X != middle.X).nnz == 0


@pytest.mark.parametrize("depth", [-1.0, 1.0, 3.0, float("nan")])
def test_a_stage_at_another_depth(deep: ad.AnnData, depth: float) -> None:
    with pytest.raises(ValueError, match=r"depth: expected above -1 and below 1, found .*Next"):
        embryo_truth(deep).sample_stage(12.0, depth=depth)
