"""Domains of a fit in cells that are normalised otherwise, and what is said of a fit that is not to be relied on."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import isost
from isost._domains import fit as room

QUICK: dict[str, Any] = {"n_domains": 3, "n_networks": 1, "epochs": 8, "variant": "spatial", "progress": False}


def bands(n: int = 400, seed: int = 0, shift: float = 0.0) -> AnnData:
    """Counts of three bands."""
    draw = np.random.default_rng(seed)
    place = draw.uniform(0, 300, (n, 2))
    domain = (place[:, 0] // 100).astype(int)
    level = np.where(np.arange(24)[None] % 3 == domain[:, None], 9.0, 2.0)
    adata = AnnData(sparse.csr_matrix(draw.poisson(level).astype(np.float32)))
    adata.obs_names = [f"{seed}_{k}" for k in range(n)]
    adata.obs["domain"] = domain.astype(str)
    adata.obsm["spatial"] = place + [shift, 0]
    return adata


def lognormal(adata: AnnData) -> AnnData:
    adata = adata.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]
    return adata


def found(fitted: isost.SpatialDomains, adata: AnnData) -> float:
    fitted.annotate(adata)
    return isost.metrics.domains(adata.obs["spatial_domain"], adata.obs["domain"])["ari"]


@pytest.fixture(scope="module")
def fits() -> dict[str, isost.SpatialDomains]:
    adata = bands()
    return {
        "counts": isost.SpatialDomains.fit(adata, **QUICK),
        "log": isost.SpatialDomains.fit(lognormal(adata), **QUICK),
    }


def test_log_normalised_cells_of_a_fit_on_counts(fits: Any, caplog: pytest.LogCaptureFixture) -> None:
    other = lognormal(bands(seed=1))
    assert found(fits["counts"], bands(seed=1)) > 0.85
    assert "log-normalised, where the fit took counts" not in caplog.text
    assert found(fits["counts"], other) > 0.85
    assert "log-normalised, where the fit took counts (whole numbers); taken as the logarithm of totals" in caplog.text


def test_reconstructed_values_a_little_below_0(fits: Any) -> None:
    for name in fits:
        other = lognormal(bands(seed=1))
        other.X = other.X.toarray()
        other.X[:50, 0] = -0.02
        assert found(fits[name], other) > 0.85


@pytest.mark.parametrize("kind", ["counts", "scaled", "nothing"])
def test_values_of_another_kind_are_refused(fits: Any, kind: str) -> None:
    other = bands(seed=1) if kind == "counts" else lognormal(bands(seed=1))
    if kind == "scaled":
        other.X = other.X.toarray()
        sc.pp.scale(other)
    if kind == "nothing":
        other.X = np.zeros(other.shape, dtype=np.float32)
    wanted = {"counts": "found counts", "scaled": "found scaled values", "nothing": "found 0 everywhere"}[kind]
    before = list(other.obs)
    with pytest.raises(ValueError, match=rf"adata\.X: expected .*{wanted}.*Next: "):
        fits["log"].annotate(other)
    assert list(other.obs) == before and "X_domains" not in other.obsm


def test_a_reconstruction_is_annotated_and_has_markers() -> None:
    phantom = isost.datasets.phantom(n_sections=3, n_cells=150, n_genes=20)
    fitted = isost.SpatialDomains.fit(phantom, n_domains=3, epochs=5, n_networks=1, progress=False)
    sdata = isost.tl.reconstruct(phantom, epochs=2, rng=0, progress=False)
    for name in ("isost_cells", "isost_voxels"):
        table = sdata[name]
        fitted.annotate(table)
        assert table.obs["spatial_domain"].nunique() > 1
        assert len(isost.tl.domain_markers(table)) > 0


def test_sections_over_each_other_are_said(caplog: pytest.LogCaptureFixture) -> None:
    apart = ad.concat({"a": bands(), "b": bands(seed=1, shift=2000)}, label="section")
    isost.tl.spatial_domains(apart, **QUICK)
    assert "lie over each other" not in caplog.text
    both = ad.concat({"a": bands(), "b": bands(seed=1)}, label="section")
    isost.tl.spatial_domains(both, sample_key="section", **QUICK)
    assert "lie over each other" not in caplog.text
    isost.tl.spatial_domains(both, **QUICK)
    assert "sections of obs['section'] lie over each other" in caplog.text


def test_a_stack_does_not_lie_over_itself(caplog: pytest.LogCaptureFixture) -> None:
    isost.tl.spatial_domains(isost.datasets.phantom(n_sections=3, n_cells=100, n_genes=20), **QUICK)
    assert "lie over each other" not in caplog.text


def test_what_was_read_is_kept() -> None:
    adata = ad.concat({"a": bands(), "b": bands(seed=1)}, label="section")
    adata.layers["own"] = adata.X.copy()
    isost.tl.spatial_domains(adata, layer="own", sample_key="section", n_top_genes=12, n_init=8, **QUICK)
    params = adata.uns["spatial_domain"]["params"]
    assert params["layer"] == "own" and params["sample_key"] == "section" and params["spatial_key"] == "spatial"
    assert (params["n_top_genes"], params["n_init"], params["n_latent"]) == (12, 8, 32)
    assert "batch_key" not in params


def test_domains_without_cells_are_said(fits: Any, caplog: pytest.LogCaptureFixture) -> None:
    part = bands(seed=2)
    part = part[part.obs["domain"] == "0"].copy()
    fits["counts"].annotate(part)
    assert "of the 3 domains have no cells here" in caplog.text


def test_networks_that_agree_little_are_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "agreement", lambda codes: np.full((len(codes), len(codes)), 0.6))
    isost.tl.spatial_domains(bands(), **(QUICK | {"n_networks": 4}))
    assert "agree by 0.60" in caplog.text and "the networks of the fit agree little" in caplog.text
