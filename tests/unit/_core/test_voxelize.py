from __future__ import annotations

import numpy as np
import pytest

from isost._core.fit import fit_stack
from isost._core.grid import Grid, make_grid
from isost._core.options import FitOptions
from isost._core.stack import read_stack
from isost._core.voxelize import fill, join, voxelize
from isost.datasets import phantom
from isost.pp import embed

GRID = Grid(np.array([-10.0, 5.0, 100.0]), 4.0, (3, 6, 5))


def cloud(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return GRID.origin + draw.random((n, 3)) * np.array(GRID.shape[::-1]) * 4.0, draw.normal(size=(n, 2))


def test_mean_of_each_cube_as_in_equation_10() -> None:
    coords, values = cloud(400)
    count, mean = voxelize(GRID, coords, values)
    for z, y, x in np.ndindex(GRID.shape):
        low = GRID.origin + 4.0 * np.array([x, y, z])
        inside = ((coords >= low) & (coords < low + 4.0)).all(axis=1)
        assert count[z, y, x] == inside.sum()
        if inside.any():
            assert np.allclose(mean[:, z, y, x], values[inside].mean(axis=0), atol=1e-6)


def test_counts_and_totals_are_conserved() -> None:
    coords, values = cloud(5000)
    count, mean = voxelize(GRID, coords, values)
    assert count.sum() == 5000
    assert np.allclose(np.nansum(mean.astype(np.float64) * count, axis=(1, 2, 3)), values.sum(axis=0), atol=1e-3)


def test_constants_are_conserved() -> None:
    coords, _ = cloud(300)
    count, mean = voxelize(GRID, coords, np.full((300, 1), 0.7))
    assert np.array_equal(mean[0, count > 0], np.full((count > 0).sum(), np.float32(0.7)))


def test_cubes_without_cells_hold_nothing() -> None:
    count, mean = voxelize(GRID, GRID.origin[None] + 0.1, np.ones((1, 3)))
    assert count.sum() == 1
    assert mean.shape == (3, 3, 6, 5)
    assert np.isnan(mean[:, count == 0]).all()


def test_order_of_cells_does_not_matter_and_cells_outside_are_left_out() -> None:
    coords, values = cloud(200)
    order = np.random.default_rng(1).permutation(200)
    there = voxelize(GRID, np.concatenate([coords, coords - 1000]), np.concatenate([values, values]))
    again = voxelize(GRID, coords[order], values[order])
    assert np.array_equal(there[0], again[0])
    assert np.allclose(there[1], again[1], equal_nan=True, atol=1e-6)


@pytest.fixture(scope="module")
def fitted_phantom():
    adata = phantom(n_sections=4, n_cells=300, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    stack = read_stack(adata)
    return stack, fit_stack(stack, options=FitOptions(epochs=1), progress=False).field


def test_cells_fill_the_depth_at_the_density_of_the_sections(fitted_phantom) -> None:
    stack, field = fitted_phantom
    grid = make_grid(stack, 25.0, n_channels=4)
    cells = fill(field, grid, slice(0, grid.shape[0]), 0)
    z = cells.coords[:, 2]
    assert z.min() >= stack.depths[0] and z.max() <= stack.depths[-1]
    # uniform within a slab: its cells are centred on the plane and as wide as it
    first = z < stack.depths[0] + 25.0
    assert z[first].mean() == pytest.approx(grid.depths[0], abs=25.0 / np.sqrt(12 * first.sum()) * 4)
    assert z[first].std() == pytest.approx(25.0 / np.sqrt(12), rel=0.1)
    sizes = np.diff(stack.starts)
    expected = np.interp(grid.depths, stack.depths, sizes)
    count, _ = voxelize(grid, cells.coords, np.empty((len(z), 0)))
    assert np.allclose(count.sum(axis=(1, 2)), expected, atol=3 + 0.02 * sizes.max())


def test_a_voxel_that_does_not_divide_the_height_fills_it_evenly(fitted_phantom) -> None:
    stack, field = fitted_phantom
    first, last = stack.depths[[0, -1]]
    size = (last - first) / 2.6
    grid = make_grid(stack, size, n_channels=4)
    z = fill(field, grid, slice(0, grid.shape[0]), 0).coords[:, 2]
    assert grid.origin[2] < first - 1 and z.min() >= first and z.max() <= last
    assert np.isin(z, [first, last]).sum() <= 3
    faces = np.clip(grid.origin[2] + size * np.arange(grid.shape[0] + 1), first, last)
    per_depth = np.histogram(z, faces)[0] / np.diff(faces)
    assert per_depth * size == pytest.approx(np.interp(grid.depths, stack.depths, np.diff(stack.starts)), rel=0.03)
    # and evenly within a plane
    outer = z[z <= faces[1]]
    assert outer.mean() == pytest.approx(faces[:2].mean(), abs=4 * np.diff(faces)[0] / np.sqrt(12 * len(outer)))


def test_cells_come_from_the_two_sections_about_them(fitted_phantom) -> None:
    stack, field = fitted_phantom
    grid = make_grid(stack, 10.0, n_channels=4)
    cells = fill(field, grid, slice(0, grid.shape[0]), 0)
    below = np.clip(np.searchsorted(stack.depths, cells.coords[:, 2], side="right") - 1, 0, 2)
    # a slab that crosses a section holds cells of both gaps
    assert np.isin(cells.section - below, [-1, 0, 1, 2]).all()
    assert np.mean(np.isin(cells.section - below, [0, 1])) > 0.9
    assert np.array_equal(stack.section_index[cells.row], cells.section)


def test_the_same_seed_draws_the_same_cells(fitted_phantom) -> None:
    stack, field = fitted_phantom
    grid = make_grid(stack, 50.0, n_channels=4)
    one, two, three = (fill(field, grid, slice(0, grid.shape[0]), seed) for seed in (5, 5, 6))
    assert np.array_equal(one.coords, two.coords) and np.array_equal(one.features, two.features)
    assert not np.array_equal(one.coords, three.coords)


def test_planes_hold_the_same_cells_whichever_are_asked_for(fitted_phantom) -> None:
    stack, field = fitted_phantom
    grid = make_grid(stack, 12.0, n_channels=4)
    whole = fill(field, grid, slice(0, grid.shape[0]), 3)
    cuts = [0, 1, 4, 9, grid.shape[0]]
    parts = [fill(field, grid, slice(*cut), 3) for cut in zip(cuts[:-1], cuts[1:], strict=True)]
    for name in ("coords", "features", "section", "row"):
        np.testing.assert_array_equal(getattr(join(parts), name), getattr(whole, name))
