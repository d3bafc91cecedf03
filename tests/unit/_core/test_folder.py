from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from isost._core.folder import check_apart, check_target, written_beside


def test_moved_into_place_when_complete(tmp_path: Path) -> None:
    with written_beside(tmp_path / "out") as fresh:
        fresh.mkdir()
        (fresh / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "1"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError(), KeyboardInterrupt()]
)
def test_nothing_is_left_behind_by_a_failure(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), written_beside(tmp_path / "out") as fresh:
        fresh.mkdir()
        (fresh / "a").write_text("1")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_full_disk_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="found the disk full while writing; nothing was left behind. Next") as raised:
        with written_beside(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.errno == errno.ENOSPC


def test_existing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match=r"that does not exist yet.*Next: remove it, or choose another path\."):
        check_target(tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"that does not exist yet.*Next: overwrite=True, or another path\."):
        check_target(tmp_path / "out", overwrite=False)
    assert check_target(tmp_path / "out", overwrite=True) == tmp_path / "out"


def test_target_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Next: mkdir -p"):
        check_target(tmp_path / "no" / "out")


@pytest.mark.parametrize("path", ["/proc/out", "/dev/null/out", "with\0null", "long" * 100])
def test_what_cannot_be_written_is_found_by_trying(tmp_path: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"Expected a path .*Next: "):
        check_target(tmp_path / path)


def test_trying_leaves_nothing(tmp_path: Path) -> None:
    check_target(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 3, b"out", ["out"]])
def test_no_path(path: object) -> None:
    with pytest.raises(TypeError, match=r"path: expected text or a pathlib.Path, found .* Next: "):
        check_target(path)  # type: ignore[arg-type]


def test_outputs_lie_beside_each_other(tmp_path: Path) -> None:
    check_apart(output=tmp_path / "out", save_model=tmp_path / "out_fit")
    check_apart(output=tmp_path / "out", save_model=None)
    (tmp_path / "link").symlink_to(tmp_path)
    for other in ("out", "out/fit", "no/../out", "link/out"):
        for one, two in ((other, "out"), ("out", other)):
            with pytest.raises(ValueError, match="output, save_model: expected two paths beside each other.*Next"):
                check_apart(output=tmp_path / one, save_model=tmp_path / two)


def test_made_by_somebody_else_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), written_beside(tmp_path / "out") as fresh:
        fresh.mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_old_is_back_if_the_new_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    move = os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.name == "out" and source.parent != tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        move(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"), written_beside(tmp_path / "out", overwrite=True) as fresh:
        fresh.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
