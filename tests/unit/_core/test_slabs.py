"""Slabs on disk: whole or absent, and joined in the order of their planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isost._core import slabs
from isost._core.carry import Cells
from isost._core.slabs import missing_planes, read_slabs, slab_path, write_slab
from isost._core.volume import Volume


def part(first: int, n_planes: int) -> Volume:
    """Planes of a volume of 2 x 3 voxels a plane, one of them outside the tissue; values tell the plane."""
    plane = np.arange(first, first + n_planes, dtype=np.float32)
    mask = np.ones((n_planes, 2, 3), dtype=bool)
    mask[:, 0, 0] = False
    ids = np.zeros(mask.shape, dtype=np.int32)
    ids[mask] = np.arange(1, mask.sum() + 1)
    values = np.broadcast_to(plane[:, None, None], mask.shape).copy()
    n = int(mask.sum())
    m = 2 * n_planes
    coords, features = np.repeat(plane, 2)[:, None] + np.zeros((m, 3)), np.ones((m, 4), np.float32)
    cells = Cells(coords, features, np.zeros(m, np.int64), np.arange(m), np.ones(m, np.float32))
    voxels = np.argwhere(mask).astype(np.int32) + np.array([first, 0, 0], dtype=np.int32)
    return Volume(values[None], values[None] + 0.5, values[None][:0], values, mask, ids, voxels,
                  np.full(n, 2, np.int32), np.full((n, 1), 7, np.float32), cells)  # fmt: skip


def test_slabs_are_joined_in_order(tmp_path: Path) -> None:
    for first, n_planes in ((3, 2), (0, 3)):
        write_slab(tmp_path, first, part(first, n_planes))
    whole = read_slabs(tmp_path, 5)
    np.testing.assert_array_equal(np.asarray(whole.mean)[0, :, 1, 1], np.arange(5))
    np.testing.assert_array_equal(np.asarray(whole.density)[:, 0, 2], np.arange(5))
    ids = np.asarray(whole.ids)
    np.testing.assert_array_equal(ids[ids > 0], np.arange(1, 26))
    np.testing.assert_array_equal(np.argwhere(ids > 0), whole.voxels)
    np.testing.assert_array_equal(whole.cells.coords[:, 0], np.repeat(np.arange(5), 2))
    assert np.asarray(whole.cells.features).shape == (10, 4) and np.asarray(whole.remainder).shape == (0, 5, 2, 3)


def test_planes_that_no_slab_holds_are_missing(tmp_path: Path) -> None:
    assert missing_planes(tmp_path, 6) == [slice(0, 6)]
    write_slab(tmp_path, 2, part(2, 2))
    assert missing_planes(tmp_path, 6) == [slice(0, 2), slice(4, 6)]
    with pytest.raises(FileNotFoundError):
        read_slabs(tmp_path, 6)
    write_slab(tmp_path, 0, part(0, 2))
    write_slab(tmp_path, 4, part(4, 2))
    assert missing_planes(tmp_path, 6) == []


def test_a_slab_that_is_there_stays(tmp_path: Path) -> None:
    write_slab(tmp_path, 0, part(0, 2))
    write_slab(tmp_path, 0, part(5, 2))
    assert float(np.asarray(read_slabs(tmp_path, 2).density)[0, 0, 0]) == 0.0
    assert [path.name for path in tmp_path.iterdir()] == [slab_path(tmp_path, 0).name]


def test_a_slab_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, written = slabs._put, []

    def failing(group: object, name: str, *rest: object) -> None:
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        written.append(name)
        put(group, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(slabs, "_put", failing)
    with pytest.raises(OSError, match="No space left"):
        write_slab(tmp_path, 0, part(0, 2))
    assert list(tmp_path.iterdir()) == []
