"""What spatial domains cannot be found in, and what they can although it is odd; nothing is written on an error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost

QUICK = {"n_domains": 2, "n_networks": 1, "epochs": 3, "n_init": 2, "progress": False, "device": "cpu"}
THREE_PARTS = r"(?s)expected .+found .+Next: \S"


@pytest.fixture
def adata(make_stack: Callable[..., AnnData]) -> AnnData:
    found = make_stack(n=15, n_genes=8)
    found.obsm["spatial"] = found.obsm["spatial"][:, :2]
    return found


def kept(adata: AnnData) -> list[list[str]]:
    return [list(part) for part in (adata.obs, adata.obsm, adata.uns, adata.layers, adata.var, adata.obsp)]


def refused(adata: AnnData, match: str, error: type[Exception] = ValueError, **options: object) -> str:
    before = kept(adata)
    with pytest.raises(error, match=match) as caught:
        isost.tl.spatial_domains(adata, **QUICK | options)
    assert kept(adata) == before
    text = str(caught.value)
    assert pd.Series([text]).str.contains(THREE_PARTS).all(), text
    return text


def works(adata: AnnData, **options: object) -> None:
    isost.tl.spatial_domains(adata, **QUICK | options)
    assert adata.obs["spatial_domain"].notna().all()
    assert np.isfinite(adata.obsm["X_domains"]).all()


def test_no_coordinates(adata: AnnData) -> None:
    refused(adata, r"obsm\['nope'\]: expected coordinates.*found obsm keys 'spatial'", spatial_key="nope")
    refused(adata, r"spatial_key: expected the name.*found \['spatial'\]", spatial_key=["spatial"])
    del adata.obsm["spatial"]
    refused(adata, r"obsm\['spatial'\]: expected coordinates.*found obsm keys 'X_pca'")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_that_are_not_finite(adata: AnnData, value: float) -> None:
    adata.obsm["spatial"][3, 1] = value
    refused(adata, "finite coordinates.*NaN or infinity in 1 of 45 cells")


def test_coordinates_of_another_shape(adata: AnnData) -> None:
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :1]
    refused(adata, r"\(n_cells, 2 or 3\) with x, y; found shape \(45, 1\)")


def test_hardly_any_cells(adata: AnnData) -> None:
    refused(adata[:0].copy(), r"2 cells.*found shape \(0, 8\)", n_domains=1)
    refused(adata[:1].copy(), "2 cells", n_domains=1)
    works(adata[:2].copy(), n_domains=1)
    works(adata[:2].copy())
    works(adata[:3].copy())
    refused(adata[:5].copy(), "at most the 5 cells, found 6", n_domains=6)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_genes_constant(adata: AnnData, value: float, dtype: type) -> None:
    adata.X = np.full(adata.shape, value, dtype=dtype)
    refused(adata, "genes that vary|expression")


def test_some_genes_constant(adata: AnnData) -> None:
    x = np.log1p(adata.X.toarray())
    x[:, :3], x[:, 3] = 1.3, 0.0
    adata.X = x
    works(adata)


def test_parts_that_are_not_connected(adata: AnnData) -> None:
    adata.obsm["spatial"][:20] += 1e5
    works(adata)


def test_cells_alone(adata: AnnData) -> None:
    """Each the only one of its sample, and all in one spot."""
    adata.obs["own"] = adata.obs_names
    works(adata, sample_key="own")
    adata.obsm["spatial"][:] = 5.0
    works(adata)


def test_batches(adata: AnnData) -> None:
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) < 20, "one", "two")
    adata.obs.loc[adata.obs_names[3], "batch"] = None
    refused(adata, "batch_key.*1 cells without one", batch_key="batch")
    adata.obs["batch"] = ["one", *["two"] * (adata.n_obs - 1)]
    refused(adata, "two batches or more, of 2 cells or more.*one: 1", batch_key="batch")


@pytest.mark.parametrize("name", ["batch_key", "sample_key"])
def test_unknown_columns(adata: AnnData, name: str) -> None:
    """One mistake is one problem."""
    assert "1 problem." in refused(adata, f"{name}.*found 'nope'", **{name: "nope"})


def test_unknown_layer(adata: AnnData) -> None:
    refused(adata, "layer.*found 'nope'", layer="nope")


def test_missing_genes(adata: AnnData) -> None:
    fitted = isost.SpatialDomains.fit(adata, **QUICK)
    other = adata[:, :5].copy()
    before = kept(other)
    with pytest.raises(ValueError, match=r"expected the \d genes.*found \d of them missing.*Next"):
        fitted.annotate(other)
    assert kept(other) == before
    with pytest.raises(ValueError, match=r"found a view.*Next"):
        fitted.annotate(adata[:30])
    with pytest.raises(ValueError, match=r"key_added.*found 'pca'.*Next"):
        fitted.annotate(adata, key_added="pca")


def test_names_that_repeat(adata: AnnData) -> None:
    adata.var_names = ["a", "a", *adata.var_names[2:]]
    refused(adata, "var_names.*unique.*'a'")


def test_a_view(adata: AnnData) -> None:
    refused(adata[:40], "owns its data.*view")


def test_another_type() -> None:
    with pytest.raises(TypeError, match=r"expected an AnnData.*found list. Next"):
        isost.tl.spatial_domains([1, 2])
    with pytest.raises(TypeError, match=r"expected an AnnData.*found list. Next"):
        isost.SpatialDomains.fit([1, 2])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n_domains": 0}, ValueError),
        ({"n_domains": 2.5}, TypeError),
        ({"n_domains": True}, TypeError),
        ({"variant": "both"}, ValueError),
        ({"covariance": "diag"}, ValueError),
        ({"gene_map": "pca"}, ValueError),
        ({"n_neighbors": 0}, ValueError),
        ({"n_top_genes": 1}, ValueError),
        ({"n_networks": 0}, ValueError),
        ({"n_latent": 1}, ValueError),
        ({"epochs": -1}, ValueError),
        ({"epochs": "10"}, TypeError),
        ({"mask_rate": 0}, ValueError),
        ({"mask_rate": 1}, ValueError),
        ({"mask_rate": "0.5"}, TypeError),
        ({"temperature": 0}, ValueError),
        ({"temperature": np.nan}, ValueError),
        ({"contrast": -1}, ValueError),
        ({"n_comps": 0}, ValueError),
        ({"n_init": 0}, ValueError),
        ({"n_votes": -1}, ValueError),
        ({"rng": -1}, ValueError),
        ({"key_added": "pca"}, ValueError),
    ],
    ids=str,
)
def test_impossible_options(adata: AnnData, options: dict[str, object], error: type[Exception]) -> None:
    refused(adata, f"^{next(iter(options))}: ", error, **options)


@pytest.mark.parametrize(
    ("names", "error", "match"),
    [
        ({"rep_added": "spatial"}, ValueError, "rep_added.*over the positions"),
        ({"rep_added": None}, TypeError, "rep_added.*expected a name"),
        ({"rep_added": 3}, TypeError, "rep_added.*expected a name"),
        ({"key_added": 5}, TypeError, "key_added.*expected a name"),
        ({"key_added": "mouse", "sample_key": "mouse"}, ValueError, "key_added.*batches or samples"),
    ],
)
def test_nothing_that_is_read_is_written_over(names: dict[str, object], error: type[Exception], match: str) -> None:
    adata = isost.datasets.phantom(n_sections=2, n_cells=40, n_genes=10)
    adata.obs["mouse"] = ["a"] * adata.n_obs
    before = adata.copy()
    with pytest.raises(error, match=match):
        isost.tl.spatial_domains(adata, **QUICK | names)
    np.testing.assert_array_equal(adata.obsm["spatial"], before.obsm["spatial"])
    assert adata.obs.equals(before.obs) and set(adata.obsm) == set(before.obsm)


@pytest.mark.parametrize("covariance", ["tied", "full"])
@pytest.mark.parametrize("less", [0, 1])
def test_as_many_domains_as_cells(covariance: str, less: int) -> None:
    adata = isost.datasets.phantom(n_sections=2, n_cells=40, n_genes=10)[:8].copy()
    isost.tl.spatial_domains(adata, **QUICK | {"n_domains": 8 - less, "covariance": covariance})
    assert adata.obs["spatial_domain"].notna().all()


def test_more_genes_than_transport_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost._domains.fit._PLACED", 5)
    adata = isost.datasets.phantom(n_sections=2, n_cells=60, n_genes=20)
    with pytest.raises(ValueError, match="n_top_genes: expected at most 5 genes"):
        isost.tl.spatial_domains(adata, **QUICK)
    isost.tl.spatial_domains(adata, gene_map="random", **QUICK)


def test_positions_that_are_no_numbers() -> None:
    adata = isost.datasets.phantom(n_sections=2, n_cells=40, n_genes=10)
    adata.obsm["spatial"] = np.full((adata.n_obs, 2), "here")
    with pytest.raises(ValueError, match="expected numbers; found values that are none: 'here'"):
        isost.tl.spatial_domains(adata, **QUICK)


def test_names_that_are_none(adata: AnnData) -> None:
    refused(adata, r"batch_key: expected a column.*found \['section'\]", batch_key=["section"])
    refused(adata, r"sample_key: expected a column.*found \['section'\]", sample_key=["section"])
    refused(adata, r"layer: expected one of the layers.*found \['counts'\]", layer=["counts"])
    refused(adata, "path: expected text or a pathlib.Path, found 3", TypeError, checkpoint=3)
    refused(adata, "project_conflicts: expected True or False, found 'no'", TypeError, project_conflicts="no")


def test_training_that_diverges(adata: AnnData) -> None:
    refused(adata, "expected finite losses, found .* in epoch", contrast=1e300, epochs=20)


def test_options_that_are_none_of_a_fit(adata: AnnData) -> None:
    with pytest.raises(
        TypeError, match=r"key_added: expected an option of a fit \('variant', 'layer'.*Next: .*annotate"
    ):
        isost.SpatialDomains.fit(adata, key_added="mine")
    fitted = isost.SpatialDomains.fit(adata, **QUICK)
    with pytest.raises(TypeError, match="adata: expected an AnnData, found str. Next"):
        fitted.annotate("x")  # type: ignore[arg-type]
