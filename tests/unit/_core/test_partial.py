"""The folder of an unfinished output belongs to one call."""

from __future__ import annotations

from pathlib import Path

import pytest

from isost._core.partial import Partial

CALL, CHOSEN = {"genes": ["a", "b"], "voxel_size": None}, {"voxel_size": 20.0}


def test_what_was_chosen_at_first_is_kept(tmp_path: Path) -> None:
    first = Partial(tmp_path / "out.zarr", resume=False)
    assert first.started() is None
    assert first.begin(CALL, CHOSEN) == CHOSEN
    again = Partial(tmp_path / "out.zarr", resume=True)
    assert again.started() == CHOSEN
    assert again.begin(CALL, {"voxel_size": 10.0}) == CHOSEN
    assert again.digest == first.digest != ""


def test_another_call_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    Partial(tmp_path / "out.zarr", resume=False).begin(CALL, CHOSEN)
    (kept,) = tmp_path.iterdir()
    before = sorted(path.name for path in kept.rglob("*"))
    with pytest.raises(ValueError, match=r"resume: expected the call that was interrupted, found .* other genes"):
        Partial(tmp_path / "out.zarr", resume=True).begin(CALL | {"genes": ["a"]}, CHOSEN)
    with pytest.raises(FileExistsError, match="output: expected no unfinished run"):
        Partial(tmp_path / "out.zarr", resume=False)
    assert sorted(path.name for path in kept.rglob("*")) == before


def test_an_output_that_is_there_is_complete_or_refused(tmp_path: Path) -> None:
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(FileExistsError):
        Partial(tmp_path / "out.zarr", resume=False)
    done = Partial(tmp_path / "out.zarr", resume=True)
    assert done.complete and done.has_fit
    assert done.begin(CALL, CHOSEN) == CHOSEN and not done.folder.exists()


def test_the_end_moves_the_output_and_removes_the_folder(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "out.zarr", resume=False)
    partial.begin(CALL, CHOSEN)
    partial.keep("note.txt", "kept")
    assert partial.kept("note.txt") == "kept" and partial.slabs.is_dir() and not partial.has_fit
    stale = partial.fresh()
    stale.mkdir()
    assert partial.fresh() == stale and not stale.exists()
    stale.mkdir()
    partial.finish(stale)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
