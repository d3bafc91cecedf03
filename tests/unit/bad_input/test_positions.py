"""Positions and depths that cannot be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isost._core.stack import read_stack


def test_no_z(adata, the_problem):
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :2]
    problem = the_problem(lambda: read_stack(adata))
    assert "expected (n_cells, 3) with x, y and the depth z" in problem
    assert "found shape (60, 2), that is coordinates without depth" in problem
    assert "isost.pp.stack_sections(sections, z=depths)" in problem
    assert "depth_key='z'" in problem


def test_no_positions(adata, the_problem):
    adata.obsm["X_umap"] = adata.obsm.pop("spatial")
    adata.obs[["x", "y", "z"]] = adata.obsm["X_umap"]
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['spatial']: expected coordinates (n_cells, 3)" in problem
    assert "found obsm keys 'X_pca', 'X_umap'" in problem
    assert "adata.obsm['spatial'] = adata.obs[['x', 'y', 'z']].to_numpy()" in problem


@pytest.mark.parametrize("shape", [(60, 1), (60, 4), (60, 2, 2)])
def test_positions_of_another_shape(adata, shape, the_problem):
    adata.obsm["spatial"] = np.zeros(shape)
    assert f"found shape {shape}" in the_problem(lambda: read_stack(adata))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2])
def test_coordinates_that_are_not_finite(adata, bad, column, the_problem):
    adata.obsm["spatial"][[3, 7, 11], column] = bad
    problem = the_problem(lambda: read_stack(adata))
    assert "expected finite coordinates; found NaN or infinity in 3 of 60 cells (rows 3, 7, 11)" in problem
    remedy = "adata[numpy.isfinite(adata.obsm['spatial']).all(axis=1)].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata, "numpy": np})).n_cells == 57


def test_depths_that_are_not_finite(adata, the_problem):
    adata.obs["z"] = adata.obsm["spatial"][:, 2]
    adata.obs.loc[adata.obs_names[:2], "z"] = np.nan
    problem = the_problem(lambda: read_stack(adata, depth_key="z"))
    assert "adata.obs['z']: expected finite coordinates; found NaN or infinity in 2 of 60 cells (rows 0, 1)" in problem
    remedy = "adata[numpy.isfinite(adata.obs['z'])].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata, "numpy": np}), depth_key="z").n_cells == 58


def test_coordinates_that_overflowed(adata, the_problem):
    adata.obsm["spatial"][5, 0] = 1e300
    problem = the_problem(lambda: read_stack(adata))
    assert "expected coordinates within 1e+09; found larger ones in 1 of 60 cells (row 5)" in problem
    remedy = "adata[(abs(adata.obsm['spatial']) < 1e+09).all(axis=1)].copy()"
    assert remedy in problem
    assert read_stack(eval(remedy, {"adata": adata})).n_cells == 59


def test_cells_that_all_lie_at_one_place(adata, the_problem):
    adata.obsm["spatial"][:, :2] = 5.0
    assert "found the same x and y for all cells" in the_problem(lambda: read_stack(adata))


def test_unknown_depth_key(adata, the_problem):
    problem = the_problem(lambda: read_stack(adata, depth_key="depth"))
    assert "adata.obs['depth']: expected a column of depths; found the columns 'section'" in problem


@pytest.mark.parametrize("categorical", [False, True])
def test_text_depths(adata, categorical, the_problem):
    adata.obs["z"] = [f"{depth:g} um" for depth in adata.obsm["spatial"][:, 2]]
    if categorical:
        adata.obs["z"] = adata.obs["z"].astype("category")
    problem = the_problem(lambda: read_stack(adata, depth_key="z"))
    assert "adata.obs['z']: expected depths as numbers, in the unit of x and y" in problem
    assert "'100 um'" in problem
    assert "'0 um'" in problem
    assert "adata.obs['z'].map({" in problem


def test_text_that_looks_like_numbers_is_not_guessed(adata, the_problem):
    adata.obs["z"] = [f"{depth:g}" for depth in adata.obsm["spatial"][:, 2]]
    assert "text: '100', '0', '50'" in the_problem(lambda: read_stack(adata, depth_key="z"))


def test_text_coordinates(adata, the_problem):
    adata.obsm["spatial"] = pd.DataFrame(adata.obsm["spatial"], index=adata.obs_names, columns=list("xyz")).astype(str)
    problem = the_problem(lambda: read_stack(adata))
    assert "adata.obsm['spatial']: expected numbers; found values that are none" in problem
