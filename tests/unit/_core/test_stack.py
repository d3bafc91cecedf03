from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

from isost._core.stack import Scaling, Stack, check_stack, read_stack


def assert_same(a: Stack, b: Stack) -> None:
    for name in ("coords", "features", "starts", "depths", "obs_names"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.names, a.use_rep, a.unit) == (b.names, b.use_rep, b.unit)


def test_sections_are_sorted_by_number_not_by_name(make_stack):
    stack = read_stack(make_stack(n=20))
    assert stack.names == ("s1", "s2", "s10")
    np.testing.assert_array_equal(stack.depths, [0.0, 50.0, 100.0])
    np.testing.assert_array_equal(stack.starts, [0, 20, 40, 60])
    np.testing.assert_array_equal(stack.coords[:, 2], np.repeat([0.0, 50.0, 100.0], 20))
    np.testing.assert_array_equal(stack.section_index, np.repeat([0, 1, 2], 20))
    assert (stack.n_cells, stack.n_sections, stack.n_features, stack.slice_of(1)) == (60, 3, 4, slice(20, 40))


def test_types_are_as_promised(make_stack):
    adata = make_stack()
    adata.obsm["spatial"] = adata.obsm["spatial"].astype(np.float32)
    adata.obsm["X_pca"] = adata.obsm["X_pca"].astype(np.float64)
    stack = read_stack(adata)
    assert (stack.coords.dtype, stack.features.dtype) == (np.float64, np.float32)
    assert (stack.starts.dtype, stack.depths.dtype, stack.rows.dtype) == (np.int64, np.float64, np.int64)
    assert stack.obs_names.dtype.kind == "U"
    assert all(type(name) is str for name in stack.names)


def test_rows_lead_back_to_the_cells_of_the_input(make_stack):
    adata = make_stack()
    stack = read_stack(adata)
    np.testing.assert_array_equal(stack.coords, adata.obsm["spatial"][stack.rows])
    np.testing.assert_array_equal(stack.features, adata.obsm["X_pca"][stack.rows])
    np.testing.assert_array_equal(stack.obs_names, adata.obs_names[stack.rows])


def test_a_permutation_of_the_cells_gives_the_same_stack(make_stack):
    adata = make_stack()
    shuffled = adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()
    assert_same(read_stack(adata), read_stack(shuffled))


def test_input_is_left_as_it_is_and_a_view_will_do(make_stack):
    adata = make_stack()
    before, stack = adata.copy(), read_stack(adata)
    stack.coords[:] = 0.0
    stack.features[:] = 0.0
    np.testing.assert_array_equal(adata.obsm["spatial"], before.obsm["spatial"])
    np.testing.assert_array_equal(adata.obsm["X_pca"], before.obsm["X_pca"])
    view = adata[adata.obs["section"] != "s2"]
    assert read_stack(view).names == ("s1", "s10")
    assert view.is_view


def test_a_backed_file_is_read(make_stack, tmp_path):
    adata = make_stack()
    adata.write_h5ad(tmp_path / "stack.h5ad")
    backed = read_h5ad(tmp_path / "stack.h5ad", backed="r")
    assert_same(read_stack(backed), read_stack(adata))
    backed.file.close()


def test_distinct_depths_are_sections_where_no_column_names_them(make_stack):
    adata = make_stack()
    del adata.obs["section"]
    adata.obsm["spatial"][:, 2] += np.random.default_rng(0).uniform(-1e-3, 1e-3, adata.n_obs)
    adata.obsm["spatial"][:3, 2] = 100.0
    stack = read_stack(adata)
    np.testing.assert_allclose(stack.depths, [0.0, 50.0, 100.0], atol=1e-3)
    np.testing.assert_array_equal(stack.starts, [0, 20, 40, 60])
    assert len(set(stack.names)) == 3


def test_section_key_none_reads_depths_beside_a_column_of_sections(make_stack):
    adata = make_stack()
    adata.obs["section"] = "all"
    assert read_stack(adata, section_key=None).names == ("z0", "z50", "z100")


@pytest.mark.parametrize("categorical", [False, True])
def test_depth_may_stand_in_a_column(make_stack, categorical):
    adata = make_stack()
    z = adata.obsm["spatial"][:, 2] / 1000.0
    adata.obs["mm"] = pd.Categorical(z) if categorical else z
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :2]
    np.testing.assert_array_equal(read_stack(adata, depth_key="mm").depths, [0.0, 0.05, 0.1])


def test_a_section_may_have_cells_at_several_depths(make_stack):
    adata = make_stack()
    adata.obsm["spatial"][:, 2] += np.tile(np.linspace(-25.0, 25.0, 20), 3)
    stack = read_stack(adata)
    np.testing.assert_allclose(stack.depths, [0.0, 50.0, 100.0], atol=1e-12)
    np.testing.assert_array_equal(np.sort(stack.coords[:, 2]), np.sort(adata.obsm["spatial"][:, 2]))


def test_tilted_sections_are_read_with_a_warning(make_stack, caplog):
    adata = make_stack()
    adata.obsm["spatial"][:, 2] += np.tile(np.linspace(-60.0, 60.0, 20), 3)
    assert read_stack(adata).names == ("s1", "s2", "s10")
    assert "sections s1 and s2 overlap: 10%" in caplog.text


@pytest.mark.parametrize(
    ("said", "unit", "z"),
    [
        ("µm", "um", 1e3),
        ("microns", "um", 1e3),
        ("um of the atlas", "um", 1e3),
        ("mm", "mm", 1.0),
        ("px", "pixel", 1e3),
        ("pixels of the scan", "pixel", 1e3),
        ("x, y in px; z in days", "a.u.", 1e3),
    ],
)
def test_unit_is_the_first_word_of_uns(make_stack, said, unit, z):
    adata = make_stack()
    adata.uns["spatial_unit"] = said
    stack = read_stack(adata)
    assert (stack.unit, stack.scaling.z) == (unit, z)


def test_scaling_keeps_shapes_and_inverts(make_stack):
    stack = read_stack(make_stack())
    inside = stack.scaling.to_internal(stack.coords)
    np.testing.assert_allclose(inside[:, :2].min(axis=0), 0.0, atol=1e-12)
    assert inside[:, :2].max() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(np.unique(inside[:, 2]), [0.0, 0.05, 0.1], atol=1e-12)
    ratio = np.ptp(stack.coords[:, 0]) / np.ptp(stack.coords[:, 1])
    assert np.ptp(inside[:, 0]) / np.ptp(inside[:, 1]) == pytest.approx(ratio, rel=1e-12)
    np.testing.assert_allclose(stack.scaling.to_physical(inside), stack.coords, rtol=1e-12, atol=1e-12 * 2000.0)


def test_scaling_ignores_the_unit_of_length():
    coords = np.random.default_rng(0).uniform(-3000.0, 3000.0, (50, 3))
    um = Scaling(np.array([1.0, 2.0, 3.0]), xy=4.0, z=1e3)
    mm = Scaling(np.array([1e-3, 2e-3, 3e-3]), xy=4e-3, z=1.0)
    np.testing.assert_allclose(um.to_internal(coords), mm.to_internal(coords * 1e-3), rtol=1e-12, atol=1e-12)


def test_select_keeps_order_and_rows(make_stack):
    adata = make_stack()
    stack = read_stack(adata)
    part = stack.select([2, 0])
    assert part.names == ("s1", "s10")
    np.testing.assert_array_equal(part.starts, [0, 20, 40])
    assert part.starts.dtype == np.int64
    np.testing.assert_array_equal(part.coords, adata.obsm["spatial"][part.rows])
    assert_same(stack.select(range(3)), stack)
    assert stack.select([-1]).names == ("s10",)
    with pytest.raises(IndexError):
        stack.select([3])


def test_check_stack_passes_a_stack_that_has_no_representation_yet(make_stack):
    adata = make_stack()
    del adata.obsm["X_pca"]
    check_stack(adata)


@pytest.mark.parametrize(
    ("name", "n_sections", "unit"),
    [("merfish_hypothalamus", 5, "um"), ("heart_asp2019", 9, "um"), ("bdtnp_embryo", 12, "um"), ("her2st_C", 6, "um")],
)
def test_real_stacks_are_read(data_dir, name, n_sections, unit):
    adata: AnnData = read_h5ad(data_dir / f"{name}.h5ad")
    stack = read_stack(adata, use_rep="spatial")
    assert (stack.n_sections, stack.unit, stack.n_cells) == (n_sections, unit, adata.n_obs)
    assert np.all(np.diff(stack.depths) > 0)
    # The files list their sections in the order of depth.
    assert stack.names == tuple(adata.obs["section"].cat.categories)
