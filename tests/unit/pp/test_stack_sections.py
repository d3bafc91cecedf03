from __future__ import annotations

import copy
import logging

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse

import isost
from isost._core.stack import read_stack


def make_section(seed: int, genes: str = "abcd", n: int = 12, width: int = 2) -> AnnData:
    draw = np.random.default_rng(seed)
    section = AnnData(sparse.csr_matrix(draw.poisson(2.0, (n, len(genes))).astype(np.float32)))
    section.obs_names = [f"s{seed}c{i}" for i in range(n)]
    section.var_names = list(genes)
    section.obsm["spatial"] = draw.random((n, width))
    return section


@pytest.fixture
def sections() -> dict[str, AnnData]:
    return {"top": make_section(0), "bottom": make_section(1, n=15), "middle": make_section(2)}


Z = {"bottom": 0.0, "middle": 12.5, "top": 100.0}


def test_sections_are_put_in_the_order_of_depth(sections):
    adata = isost.pp.stack_sections(sections, z=Z)
    assert adata.shape == (39, 4)
    assert adata.obs["section"].cat.ordered
    assert adata.obs["section"].cat.categories.tolist() == ["bottom", "middle", "top"]
    spatial = adata.obsm["spatial"]
    assert (spatial.shape, spatial.dtype) == ((39, 3), np.float64)
    np.testing.assert_array_equal(spatial[:, 2], np.repeat([0.0, 12.5, 100.0], [15, 12, 12]))
    for name, section in sections.items():
        part = adata[adata.obs["section"] == name]
        assert part.obs_names.tolist() == section.obs_names.tolist()
        np.testing.assert_array_equal(part.obsm["spatial"][:, :2], section.obsm["spatial"])
        np.testing.assert_array_equal(part.X.toarray(), section.X.toarray())


@pytest.mark.parametrize("z", [[100, 0, 12.5], np.array([100.0, 0.0, 12.5]), (100, 0, 12.5), pd.Series([100, 0, 12.5])])
def test_depths_may_be_a_list(sections, z):
    adata = isost.pp.stack_sections(list(sections.values()), z=z)
    assert adata.obs["section"].cat.categories.tolist() == ["section_1", "section_2", "section_0"]


def test_sections_of_a_list_keep_the_names_that_they_have(sections):
    for name, section in sections.items():
        section.obs["slide"] = name
    adata = isost.pp.stack_sections(list(sections.values()), z=Z, section_key="slide")
    assert adata.obs["slide"].cat.categories.tolist() == ["bottom", "middle", "top"]


def test_many_sections_get_names_of_one_width():
    adata = isost.pp.stack_sections([make_section(i, n=2) for i in range(11)], z=np.arange(11.0))
    assert adata.obs["section"].cat.categories[[0, 10]].tolist() == ["section_00", "section_10"]


def test_what_is_stacked_is_read(sections):
    adata = isost.pp.stack_sections(sections, z=Z)
    isost.pp.embed(adata, n_comps=2)
    stack = read_stack(adata)
    assert stack.names == ("bottom", "middle", "top")
    np.testing.assert_array_equal(stack.depths, [0.0, 12.5, 100.0])


def test_inputs_are_left_as_they_are(sections):
    sections["top"].uns["note"] = {"a": np.arange(3)}
    before = {name: section.copy() for name, section in sections.items()}
    adata = isost.pp.stack_sections(sections, z=Z)
    adata.X.data[:] = 0.0
    adata.uns["note"]["a"][:] = 7
    for name, section in sections.items():
        assert (section.X != before[name].X).nnz == 0
        assert section.obsm["spatial"].shape == (section.n_obs, 2)
        assert list(section.obs) == []
    np.testing.assert_array_equal(sections["top"].uns["note"]["a"], np.arange(3))


def test_views_and_files_are_stacked(sections, tmp_path):
    sections["top"].write_h5ad(tmp_path / "top.h5ad")
    expected = isost.pp.stack_sections(sections, z=Z)
    mixed = dict(sections, top=read_h5ad(tmp_path / "top.h5ad", backed="r"), middle=sections["middle"][:])
    adata = isost.pp.stack_sections(mixed, z=Z)
    mixed["top"].file.close()
    assert (adata.X != expected.X).nnz == 0
    assert not adata.is_view


def test_a_third_column_is_replaced_and_said(sections, caplog):
    sections["top"].obsm["spatial"] = np.column_stack([sections["top"].obsm["spatial"], np.linspace(3, 8, 12)])
    with caplog.at_level(logging.INFO, logger="isost"):
        adata = isost.pp.stack_sections(sections, z=Z)
    assert adata[adata.obs["section"] == "top"].obsm["spatial"][:, 2].tolist() == [100.0] * 12
    assert "section 'top', obsm['spatial']: z from 3 to 8 is replaced by 100" in caplog.text


def test_inner_join_keeps_shared_genes(sections, caplog):
    sections["top"] = make_section(0, "dcbx")
    with caplog.at_level(logging.INFO, logger="isost"):
        adata = isost.pp.stack_sections(sections, z=Z)
    assert sorted(adata.var_names) == ["b", "c", "d"]
    assert "3 of 5 genes are in all sections" in caplog.text
    part = adata[adata.obs["section"] == "top", "d"]
    np.testing.assert_array_equal(part.X.toarray(), sections["top"][:, "d"].X.toarray())


@pytest.mark.parametrize("as_sparse", [False, True])
def test_outer_join_fills_with_zeros(sections, caplog, as_sparse):
    sections["top"] = make_section(0, "dcbx")
    for section in sections.values():
        section.X = section.X if as_sparse else section.X.toarray()
    adata = isost.pp.stack_sections(sections, z=Z, join="outer")
    assert sorted(adata.var_names) == ["a", "b", "c", "d", "x"]
    assert sparse.issparse(adata.X) == as_sparse
    lacking = adata[adata.obs["section"] != "top", "x"].X
    assert np.asarray(lacking.sum()) == 0.0
    assert "3 sections lack genes of others; these are zero there" in caplog.text


def test_mixed_dense_and_sparse_become_sparse(sections):
    sections["top"].X = sections["top"].X.toarray()
    assert sparse.issparse(isost.pp.stack_sections(sections, z=Z).X)


def test_names_of_cells_are_made_unique(sections, caplog):
    sections["top"].obs_names = sections["bottom"].obs_names[:12]
    with caplog.at_level(logging.INFO, logger="isost"):
        adata = isost.pp.stack_sections(sections, z=Z)
    assert adata.obs_names.is_unique
    assert adata.obs_names[0] == "s1c0-bottom"
    assert "each gets its section's name appended" in caplog.text
    sections["middle"].obs_names = ["same"] * 12
    assert isost.pp.stack_sections(sections, z=Z).obs_names.is_unique


def test_annotation_is_kept_where_sections_agree_and_losses_are_said(sections, caplog):
    for i, section in enumerate(sections.values()):
        section.obs["type"] = pd.Categorical(["n"] * section.n_obs)
        section.obs["mixed"] = 1.0 if i else "one"
        section.var["ensembl"] = ["E1", "E2", "E3", "E4"]
        section.var["mean"] = float(i)
        section.obsm["X_umap"] = np.zeros((section.n_obs, 2))
        section.obsm["pixel"] = np.zeros((section.n_obs, 2 + (i == 1)))
        section.layers["counts"] = section.X.copy()
    sections["top"].obs["only"] = 1
    with caplog.at_level(logging.INFO, logger="isost"):
        adata = isost.pp.stack_sections(sections, z=Z)
    assert list(adata.obs) == ["type", "section"]
    assert list(adata.var) == ["ensembl"]
    assert set(adata.obsm) == {"X_umap", "spatial"}
    assert list(adata.layers) == ["counts"]
    assert "obs 'mixed', 'only'; var 'mean'; obsm 'pixel'" in caplog.text


def test_uns_that_differs_goes_to_its_section(sections, caplog, tmp_path):
    for i, (name, section) in enumerate(sections.items()):
        section.uns["spatial_unit"] = "um"
        section.uns["spatial"] = {f"library{i}": {"scale": float(i)}}
        section.uns["date"] = f"day {i}"
        section.uns["array"] = np.array([1.0, np.nan])
        section.uns["run"] = {"by": "us", "slide": name}
    sections["a/b"] = sections.pop("top")
    with caplog.at_level(logging.INFO, logger="isost"):
        adata = isost.pp.stack_sections(sections, z={"bottom": 0.0, "middle": 12.5, "a/b": 100.0})
    assert adata.uns["spatial_unit"] == "um"
    assert sorted(adata.uns["spatial"]) == ["library0", "library1", "library2"]
    np.testing.assert_array_equal(adata.uns["array"], [1.0, np.nan])
    assert adata.uns["run"]["by"] == "us"
    assert adata.uns["run"]["section_uns"]["bottom"] == {"slide": "bottom"}
    assert adata.uns["section_uns"]["a|b"] == {"date": "day 0"}
    assert "'date'" in caplog.text
    adata.write_h5ad(tmp_path / "stack.h5ad")


def test_scores_on_different_axes_are_not_put_together(sections, caplog):
    joint = isost.pp.stack_sections(sections, z=Z)
    isost.pp.embed(joint, n_comps=2)
    parts = {name: joint[joint.obs["section"] == name].copy() for name in Z}
    again = isost.pp.stack_sections(parts, z=Z)
    np.testing.assert_array_equal(again.obsm["X_pca"], joint.obsm["X_pca"])
    np.testing.assert_array_equal(read_stack(again).decoder.mean, read_stack(joint).decoder.mean)
    for part in parts.values():
        isost.pp.embed(part, n_comps=2)
    with caplog.at_level(logging.INFO, logger="isost"):
        apart = isost.pp.stack_sections(parts, z=Z)
    assert "X_pca" not in apart.obsm
    assert "PCs" not in apart.varm
    assert "isost" not in apart.uns
    assert set(apart.uns["section_uns"]["top"]) == {"isost", "pca"}
    assert "obsm 'X_pca'" in caplog.text


def test_real_sections_come_back_as_they_were(data_dir):
    adata = read_h5ad(data_dir / "paste_breast.h5ad")
    uns = copy.deepcopy(adata.uns)
    parts = {name: adata[adata.obs["section"] == name] for name in ["layer3", "layer1", "layer4", "layer2"]}
    stacked = isost.pp.stack_sections(parts, z={f"layer{i + 1}": 16.0 * i for i in range(4)})
    assert stacked.obs_names.equals(adata.obs_names)
    assert (stacked.X != adata.X).nnz == 0
    np.testing.assert_array_equal(stacked.obsm["spatial"], adata.obsm["spatial"])
    assert stacked.uns.keys() == uns.keys()
