"""What is written, and that planted domains are found, over batches and in other sections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from spatialdata import SpatialData

import isost

QUICK = {"n_domains": 3, "n_networks": 2, "epochs": 8, "n_init": 4, "progress": False, "device": "cpu"}


def bands(seed: int = 0, n: int = 220, strength: float = 4.0) -> AnnData:
    """Counts of three bands of 50, 30 and 20 percent, each with five genes of its own among 20."""
    draw = np.random.default_rng(seed)
    place = draw.uniform(0, [600, 300], (n, 2))
    band = np.digitize(place[:, 0], [300, 480])
    rate = np.full((n, 20), 2.0)
    for number in range(3):
        rate[np.ix_(band == number, np.arange(5 * number, 5 * number + 5))] *= strength
    adata = AnnData(draw.poisson(rate).astype(np.float32))
    adata.obs_names = [f"{seed}_{k}" for k in range(n)]
    adata.var_names = [f"gene{k}" for k in range(20)]
    adata.obsm["spatial"] = place
    adata.obs["band"] = np.array(["left", "mid", "right"])[band]
    return adata


@pytest.fixture
def adata() -> AnnData:
    return bands()


def score(adata: AnnData, key: str = "spatial_domain") -> float:
    return adjusted_rand_score(adata.obs["band"], adata.obs[key])


def test_what_is_written(adata: AnnData) -> None:
    before = adata.copy()
    assert isost.tl.spatial_domains(adata, **QUICK) is None
    assert score(adata) > 0.8
    found = adata.obs["spatial_domain"]
    assert found.cat.categories.tolist() == ["0", "1", "2"]
    assert found.value_counts().sort_index().is_monotonic_decreasing
    assert len(adata.uns["spatial_domain_colors"]) == 3
    for key in ("X_domains", "X_domains_spatial", "X_domains_intrinsic"):
        values = adata.obsm[key]
        assert values.dtype == np.float32 and values.shape[0] == adata.n_obs and 1 < values.shape[1] <= 30
        assert np.isfinite(values).all()
    params = adata.uns["spatial_domain"]["params"]
    assert params["n_domains"] == 3 and params["variant"] == "dual" and not params["interrupted"]
    assert params["n_networks"] == QUICK["n_networks"] and params["n_kept"] == -(-QUICK["n_networks"] // 2)
    np.testing.assert_array_equal(adata.X, before.X)
    np.testing.assert_array_equal(adata.obsm["spatial"], before.obsm["spatial"])
    assert adata.obs[["band"]].equals(before.obs) and adata.var.equals(before.var)
    assert set(adata.uns) == {"spatial_domain", "spatial_domain_colors"}


def test_names(adata: AnnData) -> None:
    isost.tl.spatial_domains(adata, key_added="mine", rep_added="X_mine", **QUICK)
    assert set(adata.obsm) == {"spatial", "X_mine", "X_mine_spatial", "X_mine_intrinsic"}
    assert set(adata.uns) == {"mine", "mine_colors"} and list(adata.obs) == ["band", "mine"]


@pytest.mark.parametrize("n_votes", [0, 6, 40])
def test_domains_are_numbered_by_size(adata: AnnData, n_votes: int) -> None:
    """Of what is written, after the votes."""
    isost.tl.spatial_domains(adata, **QUICK | {"n_domains": 6, "n_votes": n_votes})
    sizes = adata.obs["spatial_domain"].value_counts().sort_index()
    assert sizes.is_monotonic_decreasing, sizes.tolist()


def test_without_the_gene_branch(adata: AnnData) -> None:
    """Nor is one left from an earlier fit."""
    isost.tl.spatial_domains(adata, **QUICK)
    isost.tl.spatial_domains(adata, variant="spatial", **QUICK)
    assert adata.uns["spatial_domain"]["params"]["variant"] == "spatial" and score(adata) > 0.8
    assert "X_domains_intrinsic" not in adata.obsm


@pytest.mark.parametrize("n_bands", [1, 3, 5])
def test_the_number_is_chosen(n_bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost._domains.mixture.MOST", 8)
    draw = np.random.default_rng(0)
    place = draw.uniform(0, [300 * n_bands, 900], (900, 2))
    band = np.minimum(place[:, 0] // 300, n_bands - 1).astype(int)
    rate = np.full((900, 8 * n_bands), 2.0)
    for number in range(n_bands):
        rate[np.ix_(band == number, np.arange(8 * number, 8 * number + 8))] = 4.0
    adata = AnnData(draw.poisson(rate).astype(np.float32), obsm={"spatial": place})
    isost.tl.spatial_domains(adata, **QUICK | {"n_domains": None, "variant": "spatial"})
    bic = adata.uns["spatial_domain"]["bic"]
    assert list(bic) == [str(number) for number in range(1, 9)]
    assert len(adata.obs["spatial_domain"].cat.categories) == int(min(bic, key=lambda k: bic[k])) == n_bands, bic


def test_a_number_that_is_not_told_is_said(
    adata: AnnData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("isost._domains.mixture.MOST", 2)
    monkeypatch.setattr("isost._domains.fit._shared", lambda graph: 1.0)
    isost.tl.spatial_domains(adata, **QUICK | {"n_domains": None})
    assert "lowest at the largest number that was tried, 2" in caplog.text


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "csr_array", "log", "layer"])
def test_forms_of_expression(adata: AnnData, kind: str) -> None:
    other = adata.copy()
    options: dict[str, str] = {}
    if kind == "log":
        total = other.X.sum(axis=1, keepdims=True)
        other.X = np.log1p(other.X / total * np.median(total))
    elif kind == "layer":
        other.layers["counts"], options = other.X.copy(), {"layer": "counts"}
        other.X = np.random.default_rng(0).normal(size=other.shape)
    else:
        other.X = getattr(sparse, kind)(other.X)
    isost.tl.spatial_domains(adata, **QUICK)
    isost.tl.spatial_domains(other, **QUICK | options)
    assert adjusted_rand_score(adata.obs["spatial_domain"], other.obs["spatial_domain"]) > 0.98
    np.testing.assert_allclose(
        np.abs(adata.obsm["X_domains"][:, 0]), np.abs(other.obsm["X_domains"][:, 0]), rtol=0.02, atol=0.02
    )


def test_batches_are_taken_out() -> None:
    """Two samples of the same tissue, each gene of one measured by a factor of its own."""
    one, two = bands(0), bands(1)
    factor = np.exp(np.random.default_rng(2).normal(0, 1.2, 20))
    two.X = np.random.default_rng(3).poisson(two.X * factor).astype(np.float32)
    both = isost_concat(one, two)
    isost.tl.spatial_domains(both, sample_key="sample", key_added="as_is", **QUICK)
    isost.tl.spatial_domains(both, batch_key="sample", key_added="corrected", **QUICK)
    assert score(both, "corrected") > max(0.7, score(both, "as_is") + 0.2)


def spots(seed: int) -> AnnData:
    """Counts at 169 places of three bands, each with eight genes of its own among 600."""
    draw = np.random.default_rng(seed)
    across = np.arange(13)
    place = np.stack(np.meshgrid(across, across, indexing="ij"), axis=-1).reshape(-1, 2) * 100.0
    band = place[:, 0].astype(int) // 500
    rate = np.full((169, 600), 2.0)
    for number in range(3):
        rate[np.ix_(band == number, np.arange(8 * number, 8 * number + 8))] *= 2.5
    adata = AnnData(draw.poisson(rate).astype(np.float32))
    adata.obsm["spatial"] = place
    adata.obs["band"] = np.array(["left", "mid", "right"])[band]
    return adata


@pytest.mark.parametrize("seed", [0, 1])
def test_few_spots_and_many_genes(seed: int, tmp_path: Path) -> None:
    """Trained on all 600 genes, networks agree with the bands by 0.48 and 0.73; and axes are kept with a fit."""
    adata, other = spots(seed), spots(seed + 10)
    fitted = isost.SpatialDomains.fit(adata, n_domains=3, n_networks=2, variant="spatial", rng=seed, progress=False)
    fitted.annotate(adata)
    assert score(adata) > 0.95 and adata.uns["spatial_domain"]["params"]["gene_comps"] == 16
    fitted.save(tmp_path / "domains")
    isost.SpatialDomains.load(tmp_path / "domains").annotate(other)
    assert score(other) > 0.8
    told = other.obsm["X_domains"].copy()
    fitted.annotate(other)
    np.testing.assert_array_equal(other.obsm["X_domains"], told)


def isost_concat(one: AnnData, two: AnnData) -> AnnData:
    import anndata

    return anndata.concat({"one": one, "two": two}, label="sample")


def test_another_section(adata: AnnData) -> None:
    other = bands(7)
    fitted = isost.SpatialDomains.fit(adata, **QUICK)
    fitted.annotate(other)
    assert score(other) > 0.7
    isost.tl.spatial_domains(adata, **QUICK)
    fitted.annotate(adata, key_added="again")
    assert adjusted_rand_score(adata.obs["again"], adata.obs["spatial_domain"]) == 1.0
    assert (adata.obs["again"].astype(str) == adata.obs["spatial_domain"].astype(str)).all()


@pytest.mark.parametrize("fitted_on", [None, "counts"])
def test_another_section_keeps_counts_elsewhere(adata: AnnData, fitted_on: str | None) -> None:
    """The layer that is named counts, not the one that the fit took."""
    other, there = bands(7), bands(7)
    noise = np.random.default_rng(0).poisson(2.0, there.shape).astype(np.float32)
    if fitted_on is None:
        there.layers["raw"], there.X = there.X.copy(), noise
    else:
        adata.layers["counts"], adata.X = adata.X.copy(), noise[: adata.n_obs]
    fitted = isost.SpatialDomains.fit(adata, layer=fitted_on, **QUICK)
    fitted.annotate(there, layer="raw" if fitted_on is None else None)
    if fitted_on is None:
        fitted.annotate(other)
        assert there.obs["spatial_domain"].equals(other.obs["spatial_domain"])
    assert score(there) > 0.7


def test_cells_and_voxels() -> None:
    stack = isost.datasets.phantom(n_sections=3, n_cells=150, n_genes=20, rng=1)
    isost.pp.embed(stack, n_comps=6)
    sdata: SpatialData = isost.tl.fit(stack, epochs=1, progress=False, rng=0).to_spatialdata(80.0, rng=0)
    for table_key in ("isost_cells", "isost_voxels"):
        isost.tl.spatial_domains(sdata, table_key=table_key, **QUICK)
        table = sdata.tables[table_key]
        assert table.obs["spatial_domain"].notna().all()
    labels = sdata["isost_spatial_domain"].values
    voxels = sdata.tables["isost_voxels"]
    assert np.array_equal(labels[tuple(voxels.obs[axis] for axis in "zyx")], voxels.obs["spatial_domain"].cat.codes + 1)
