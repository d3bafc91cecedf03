"""Noise-free positions, marched once, are those of carrying the cells each time."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from isost._core import field as field_module
from isost._core import paths as paths_module
from isost._core.carry import carry
from isost._core.covariance import Hyperparameters
from isost._core.field import Field
from isost._core.follow import carried_to, positions_at
from isost._core.gap import GapField
from isost._core.grid import make_grid
from isost._core.model import SDEModel
from isost._core.paths import OVERLAP, Paths
from isost._core.stack import Stack
from isost._core.volume import Request, compute_volume

DEPTHS = (0.0, 50.0, 100.0, 180.0)


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    cells = [draw.uniform(0, 400, (n, 2)) for n in (20, 30, 25, 22)]
    return stack_of(cells, [draw.normal(size=(len(xy), 2)) for xy in cells], DEPTHS)


@pytest.fixture
def model(stack: Stack, moving_model: Callable[..., SDEModel]) -> SDEModel:
    return moving_model(stack, speed=0.03)


@pytest.mark.parametrize(
    ("section", "z"), [(0, 10.0), (0, 25.0), (0, 75.0), (1, 62.5), (2, 75.0), (3, 75.0), (2, 31.7)]
)
def test_positions_are_those_of_carrying_alone(stack: Stack, model: SDEModel, section: int, z: float) -> None:
    """Up to the steps, which on the way to the next stop end where that lies."""
    start = stack.coords[stack.slice_of(section), :2]
    found, alone = Paths(model, stack).at(section, z), carried_to(model, stack, section, z)
    assert found.dtype == np.float64
    moved = np.abs(alone - start).max()
    assert moved > 0.5
    np.testing.assert_allclose(found, alone, atol=0.04 * moved)


def test_at_a_section_and_where_nothing_moves_cells_are_as_measured(stack: Stack, model: SDEModel) -> None:
    measured = stack.coords[stack.slice_of(1), :2]
    np.testing.assert_array_equal(Paths(model, stack).at(1, 50.0), measured)
    model.config["moving"] = False
    np.testing.assert_array_equal(Paths(model, stack).at(1, 90.0), measured)


@pytest.mark.parametrize("z", [10.0, 62.5, 75.0])
def test_clouds_are_those_of_cells_carried_from_both_sides(stack: Stack, model: SDEModel, z: float) -> None:
    place, rows, weight = Paths(model, stack).clouds(z)
    cells = carry(model, stack, z)
    np.testing.assert_array_equal(rows, cells.row)
    np.testing.assert_allclose(weight, cells.weight, rtol=1e-6)
    # other steps, of which paths take half as many, have other neighbours here and there
    moved = np.abs(place - stack.coords[rows, :2]).max()
    assert np.sqrt(((place - cells.coords[:, :2]) ** 2).mean()) < 0.02 * moved


@pytest.mark.parametrize(("z", "section"), [(0.0, 0), (50.0, 1), (180.0, 3)])
def test_the_cloud_at_a_section_is_the_section(stack: Stack, model: SDEModel, z: float, section: int) -> None:
    place, rows, weight = Paths(model, stack).clouds(z)
    np.testing.assert_array_equal(place, stack.coords[stack.slice_of(section), :2])
    np.testing.assert_array_equal(rows, np.arange(stack.n_cells)[stack.slice_of(section)])
    np.testing.assert_array_equal(weight, 1.0)


def test_depths_beyond_a_gap_lie_in_its_neighbours(stack: Stack, model: SDEModel) -> None:
    paths = Paths(model, stack)
    before, after = paths.beyond(1)
    np.testing.assert_allclose([before.item(), after.item()], [50 - 50 * OVERLAP, 100 + 80 * OVERLAP])
    assert paths.beyond(0)[0].size == 0 and paths.beyond(2)[1].size == 0
    levels = paths.levels(2)
    assert (levels[0], levels[-1]) == (100.0, 180.0) and (np.diff(levels) > 0).all()


def test_all_that_fields_ask_for_is_marched_once_each_way(
    stack: Stack, model: SDEModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    marches: list[tuple[int, bool]] = []

    def counted(model: SDEModel, stack: Stack, section: int, *depths: np.ndarray) -> dict[float, np.ndarray]:
        marches.append((section, bool(depths[0][0] > stack.depths[section])))
        return positions_at(model, stack, section, *depths)

    monkeypatch.setattr(paths_module, "positions_at", counted)
    monkeypatch.setattr(paths_module, "carried_to", None)
    paths = Paths(model, stack)
    for gap in range(3):
        for section in range(max(gap - 1, 0), min(gap + 3, 4)):
            paths.at(section, paths.middle(gap))
        for z in np.concatenate([paths.levels(gap), *paths.beyond(gap)]).tolist():
            paths.clouds(z)
    assert len(marches) == len(set(marches)) == 6


def test_few_marches_are_kept(stack: Stack, model: SDEModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "_KEPT", 2)
    paths = Paths(model, stack)
    first = paths.at(0, 25.0)
    for section in (1, 2, 3):
        paths.at(section, 75.0)
    assert len(paths._marched) == 2
    np.testing.assert_array_equal(paths.at(0, 25.0), first)


@pytest.fixture
def moving_field(stack: Stack, model: SDEModel) -> Field:
    return Field(model, stack, Hyperparameters(*np.array([[40.0] * 2, [60.0] * 2, [0.5] * 2, [1.0] * 2])), 30.0)


def test_a_field_is_sent_to_another_process_without_what_it_remembers(moving_field: Field) -> None:
    fresh = len(pickle.dumps(moving_field))
    at = np.array([[200.0, 200.0, 70.0]])
    first = moving_field.predict(at)
    assert len(pickle.dumps(moving_field)) == fresh
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(moving_field)).predict(at).mean, first.mean)


def test_a_volume_solves_every_gap_once(moving_field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []

    def counted(paths: Paths, lower: int, *rest: Any) -> GapField:
        solved.append(lower)
        return GapField(paths, lower, *rest)

    monkeypatch.setattr(field_module, "GapField", counted)
    made = compute_volume(moving_field, make_grid(moving_field.stack, 10.0, n_channels=2), Request())
    assert made.mean.shape[1] >= 18
    assert solved == [0, 1, 2]


def test_a_field_from_a_gpu_is_read_where_there_is_none(moving_field: Field) -> None:
    other = Field.__new__(Field)
    other.__setstate__(moving_field.__getstate__() | {"_device": "cuda:0"})
    assert other.model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    at = np.column_stack([moving_field.stack.coords[:5, :2], np.full(5, moving_field.stack.depths[:2].mean())])
    np.testing.assert_allclose(other.predict(at).mean, moving_field.predict(at).mean, rtol=1e-4, atol=1e-4)
