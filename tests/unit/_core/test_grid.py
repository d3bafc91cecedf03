from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from isost._core import grid as grid_module
from isost._core.grid import GIB, make_grid
from isost._core.stack import Stack


def stack_of(extent: tuple[float, float], depths: list[float], n: int = 300, n_features: int = 4) -> Stack:
    """Cells spread evenly over a box, its corners among them."""
    draw = np.random.default_rng(0)
    plane = draw.random((n, 2)) * extent
    plane[:4] = [[0, 0], [extent[0], 0], [0, extent[1]], extent]
    coords = np.concatenate([np.column_stack([plane, np.full(n, z)]) for z in depths])
    return Stack(
        coords=coords,
        features=draw.random((len(coords), n_features), dtype=np.float32),
        starts=np.arange(len(depths) + 1) * n,
        depths=np.array(depths),
        names=tuple(f"s{z:g}" for z in depths),
        rows=np.arange(len(coords)),
        obs_names=np.arange(len(coords)).astype(str),
        use_rep="X_pca",
        decoder=None,
        unit="um",
    )


@pytest.mark.parametrize("size", [7.0, 10.0, 33.3, 390.0])
def test_covers_the_block_with_every_plane_inside_the_stack(size: float) -> None:
    stack = stack_of((400.0, 300.0), [-40.0, 0.0, 70.0])
    grid = make_grid(stack, size, n_channels=4)
    low = grid.origin
    high = grid.origin + np.array(grid.shape[::-1]) * size
    assert (low[:2] <= 0).all() and (high[:2] >= (400, 300)).all()
    assert low[2] <= -40 + 1e-9 and high[2] >= 70 - 1e-9
    assert grid.depths.min() >= -40 and grid.depths.max() <= 70
    assert np.allclose(np.diff(grid.depths), size)
    assert (grid.index(stack.coords) >= 0).all()


def test_planes_tile_a_depth_range_that_voxels_divide() -> None:
    grid = make_grid(stack_of((400.0, 300.0), [0.0, 50.0, 100.0]), 25.0, n_channels=4)
    assert np.allclose(grid.depths, [12.5, 37.5, 62.5, 87.5])


def test_centres_lie_in_their_own_voxel_and_run_in_array_order() -> None:
    grid = make_grid(stack_of((90.0, 50.0), [0.0, 35.0]), 10.0, n_channels=4)
    centres = grid.centres(slice(None))
    assert np.array_equal(grid.index(centres), np.arange(grid.n_voxels))
    z, y, x = np.unravel_index(123, grid.shape)
    assert np.allclose(centres[123], grid.origin + (np.array([x, y, z]) + 0.5) * 10.0)
    assert np.allclose(grid.centres(slice(1, 3)), centres.reshape(*grid.shape, 3)[1:3].reshape(-1, 3))


def test_places_outside_have_no_voxel() -> None:
    grid = make_grid(stack_of((90.0, 50.0), [0.0, 35.0]), 10.0, n_channels=4)
    high = grid.origin + np.array(grid.shape[::-1]) * 10.0
    assert np.array_equal(grid.index(np.array([grid.origin - 1, high + 1])), [-1, -1])
    assert grid.index(high[None])[0] == grid.n_voxels - 1


@pytest.mark.parametrize("extent", [(400.0, 300.0), (5000.0, 130.0), (20.0, 9000.0)])
def test_every_level_of_a_pyramid_covers_the_same_box(extent: tuple[float, float]) -> None:
    grid = make_grid(stack_of(extent, [0.0, 50.0, 90.0]), 10.0, n_channels=4)
    planes, rows, columns = grid.shape
    assert grid.scale_factors
    for factor in grid.scale_factors:
        assert (planes % factor["z"], rows % factor["y"], columns % factor["x"]) == (0, 0, 0)
        planes, rows, columns = planes // factor["z"], rows // factor["y"], columns // factor["x"]
    assert max(rows, columns) < 128


def test_automatic_size_follows_the_cells(caplog: pytest.LogCaptureFixture) -> None:
    side = np.arange(0.0, 200.0, 10.0)
    lattice = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    stack = stack_of((400.0, 300.0), [0.0, 50.0], n=len(lattice))
    stack = replace(stack, coords=np.column_stack([np.tile(lattice, (2, 1)), stack.coords[:, 2]]))
    with caplog.at_level(logging.INFO, "isost"):
        assert make_grid(stack, None, n_channels=4).voxel_size == 25.0
    assert "voxel size: 25 um" in caplog.text
    close = replace(stack, coords=stack.coords * (1, 1, 0.16), depths=np.array([0.0, 8.0]))
    assert make_grid(close, None, n_channels=4).voxel_size == 8.0


@pytest.mark.parametrize("gap", [100.8, 0.0437, 7.0])
def test_automatic_size_is_at_most_the_distance_of_sections(gap: float) -> None:
    size = make_grid(stack_of((4e3, 3e3), [0.0, gap, 2 * gap], n=100), None, n_channels=4, max_memory=1e4).voxel_size
    assert 0.9 * gap <= size <= gap


def test_automatic_size_where_cells_coincide() -> None:
    stack = stack_of((400.0, 300.0), [0.0, 50.0])
    columns = np.column_stack([100.0 * stack.section_index, np.zeros(stack.n_cells), stack.coords[:, 2]])
    assert make_grid(replace(stack, coords=columns), None, n_channels=4).voxel_size == 50.0


def test_automatic_size_is_one_that_may_be_asked_for() -> None:
    stack = stack_of((400.0, 300.0), [0.0, 5000.0])
    places = np.tile([0.0, 1.0], len(stack.coords) // 2)
    stack = replace(stack, coords=np.column_stack([places, 0 * places, stack.coords[:, 2]]))
    size = make_grid(stack, None, n_channels=4).voxel_size
    assert make_grid(stack, size, n_channels=4).voxel_size == size == 1.0


def test_automatic_size_is_in_proportion_to_the_unit() -> None:
    stack = stack_of((400.0, 300.0), [0.0, 50.0])
    in_mm = replace(stack, coords=stack.coords / 1000, depths=stack.depths / 1000, unit="mm")
    assert make_grid(in_mm, None, n_channels=4).voxel_size * 1000 == pytest.approx(
        make_grid(stack, None, n_channels=4).voxel_size
    )


def test_automatic_size_gives_way_to_memory() -> None:
    stack = stack_of((4000.0, 3000.0), [0.0, 500.0, 1000.0])
    free = make_grid(stack, None, n_channels=50)
    tight = make_grid(stack, None, n_channels=50, max_memory=1e-3)
    assert tight.voxel_size > free.voxel_size
    assert tight.n_voxels * 4 * 50 * 2 < 1e-3 * GIB


@pytest.mark.parametrize("size", [0, -5.0, float("nan"), float("inf")])
def test_impossible_size(size: float) -> None:
    with pytest.raises(ValueError, match=r"voxel_size: expected a finite number above 0, found .*Next"):
        make_grid(stack_of((90.0, 50.0), [0.0, 35.0]), size, n_channels=4)


@pytest.mark.parametrize("size", [400.1, 1e5, 1e20, 1e300])
def test_size_above_the_width_of_the_tissue(size: float) -> None:
    stack = stack_of((300.0, 400.0), [0.0, 35.0])
    with pytest.raises(ValueError, match=r"at most the width of the tissue, 400 um, found .* Next") as raised:
        make_grid(stack, size, n_channels=4)
    works = float(str(raised.value).split("Next: voxel_size=")[1].split(",")[0])
    assert make_grid(stack, works, n_channels=4).voxel_size == works


@pytest.mark.parametrize(("extent", "size"), [((400.0, 300.0), 400.0), ((400.0, 0.0), 100.0), ((400.0, 90.0), 250.0)])
def test_a_voxel_as_large_as_the_tissue_lies_in_the_middle_of_it(extent: tuple[float, float], size: float) -> None:
    centres = make_grid(stack_of(extent, [0.0, 35.0]), size, n_channels=4).centres(slice(None))
    assert np.abs(centres - [extent[0] / 2, extent[1] / 2, 17.5]).sum(axis=1).min() <= size / 2
    assert np.abs(centres[:, 1] - extent[1] / 2).min() < 1e-9


@pytest.mark.parametrize("size", ["25", True, [25.0]])
def test_size_that_is_no_number(size: object) -> None:
    with pytest.raises(TypeError, match="voxel_size: expected one number"):
        make_grid(stack_of((90.0, 50.0), [0.0, 35.0]), size, n_channels=4)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0.01, 1e-300])
def test_volume_too_large_says_how_large_and_what_fits(size: float) -> None:
    stack = stack_of((2000.0, 2000.0), [0.0, 35.0])
    with pytest.raises(ValueError, match=r"voxels \(z, y, x\) of 4 channels, about .* GiB") as raised:
        make_grid(stack, size, n_channels=4, max_memory=0.5)
    fits = float(str(raised.value).split("Next: voxel_size=")[1].split()[0])
    assert make_grid(stack, fits, n_channels=4, max_memory=0.5).voxel_size == fits
    with pytest.raises(ValueError, match="max_memory"):
        make_grid(stack, 0.8 * fits, n_channels=4, max_memory=0.5)


def test_budget_without_an_answer_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(grid_module.os, "sysconf", unknown)
    with pytest.raises(ValueError, match="fits into 8 GiB"):
        make_grid(stack_of((2000.0, 2000.0), [0.0, 35.0]), 0.01, n_channels=4)


@pytest.mark.parametrize("max_memory", [0, -1.0, float("nan")])
def test_impossible_memory(max_memory: float) -> None:
    with pytest.raises(ValueError, match="max_memory: expected GiB above 0"):
        make_grid(stack_of((90.0, 50.0), [0.0, 35.0]), 10.0, n_channels=4, max_memory=max_memory)
