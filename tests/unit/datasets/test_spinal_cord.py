from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._tools.axis import Line
from isost.datasets._cord import LESION_RADIUS, Cord, CordGenes


@pytest.fixture(scope="module")
def pair() -> tuple[AnnData, AnnData]:
    return isost.datasets.spinal_cord(n_cells=400), isost.datasets.spinal_cord(lesion=True, n_cells=400)


def test_both_lie_in_one_frame_with_the_same_genes(pair: tuple[AnnData, AnnData]) -> None:
    healthy, injured = pair
    assert healthy.var_names.tolist() == injured.var_names.tolist()
    assert (healthy.var["kind"] == injured.var["kind"]).all()
    for key in ("canal", "lesion"):
        np.testing.assert_array_equal(healthy.uns["spinal_cord"][key], injured.uns["spinal_cord"][key])
    assert healthy.shape != injured.shape, "other cells"


def test_cells_lie_in_the_cord_and_not_in_the_canal(pair: tuple[AnnData, AnnData]) -> None:
    for adata in pair:
        assert sorted(set(adata.obsm["spatial"][:, 2])) == [150.0 * k for k in range(12)]
        truth = adata.uns["spinal_cord"]
        distance = Line(truth["canal"]).project(adata.obsm["spatial"])[0]
        assert truth["canal_radius"] < distance.min() < 1.2 * truth["canal_radius"]
        assert 800 < distance.max() <= 901
    share = [adata.obs["in_lesion"].mean() for adata in pair]
    assert share[1] < 0.6 * share[0], "a lesion has fewer cells"


def test_shares_are_what_was_planted() -> None:
    genes, cord = CordGenes.draw(40, np.random.default_rng(0)), Cord(1650.0)
    places = np.column_stack([np.linspace(100.0, 700.0, 50) + 150.0, np.zeros(50), np.full(50, 825.0)])
    shares = genes.shares(cord, places, lesion=True)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares > 0).all()
    rising = shares[:, genes.kind.tolist().index("canal_rising")]
    assert (np.diff(np.log(rising)) > 0).all()
    flat = shares[:, genes.kind.tolist().index("flat")]
    np.testing.assert_allclose(flat, flat[0])
    near, far = np.array([cord.lesion]), np.array([[0.0, 0.0, 0.0]])
    falls = genes.kind.tolist().index("lesion_falling")
    there, away, before = (
        genes.shares(cord, at, lesion=lesion)[0, falls] for at, lesion in ((near, True), (far, True), (near, False))
    )
    assert there > 3 * before
    assert away == pytest.approx(before, rel=0.2)


def test_the_truth_is_recorded(pair: tuple[AnnData, AnnData]) -> None:
    healthy, injured = (adata.var for adata in pair)
    assert set(injured["canal"]) == set(injured["lesion"]) == {"rising", "falling", "peaked", "flat", ""}
    assert healthy.loc[healthy["kind"].str.startswith("lesion"), "canal"].eq("flat").all()
    assert injured.loc[injured["kind"].str.startswith("lesion"), "canal"].eq("").all()
    assert injured.loc["canal_peaked_3", ["canal", "lesion"]].tolist() == ["peaked", "flat"]
    assert injured.loc["rest", ["kind", "canal", "lesion"]].tolist() == ["rest", "", ""]


def test_counts_follow_the_library_size_and_the_seed() -> None:
    one, same, other = (isost.datasets.spinal_cord(n_cells=100, n_genes=10, rng=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.X.toarray(), same.X.toarray())
    assert np.array_equal(one.obsm["spatial"], same.obsm["spatial"])
    assert one.n_obs != other.n_obs or not np.array_equal(one.obsm["spatial"], other.obsm["spatial"])
    assert np.asarray(one.X.sum(axis=1)).mean() == pytest.approx(1500.0, rel=0.05)


@pytest.mark.parametrize("options", [{"n_sections": 1}, {"n_cells": 0}, {"spacing": 0.0}, {"library_size": np.inf}])
def test_impossible_cords_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="Next"):
        isost.datasets.spinal_cord(**options)


def test_a_lesion_is_as_large_as_it_says(pair: tuple[AnnData, AnnData]) -> None:
    injured = pair[1]
    far = np.linalg.norm(injured.obsm["spatial"] - injured.uns["spinal_cord"]["lesion"], axis=1)
    np.testing.assert_array_equal(injured.obs["in_lesion"], far <= LESION_RADIUS)
