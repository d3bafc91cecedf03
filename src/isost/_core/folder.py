"""Write a folder completely or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """Make an absolute path of what a user named.

    Raises
    ------
    TypeError
        If it is no path.
    """
    try:
        return Path(path).expanduser().absolute()
    except TypeError as error:
        raise TypeError(f"path: expected text or a pathlib.Path, found {path!r}. Next: pass 'results/fit'.") from error


def check_target(path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
    """Make sure, by trying, that an output can be written there; return its absolute path.

    Parameters
    ----------
    path
        Of the output.
    overwrite
        What was said of an output that exists; None where the caller has no such option.

    Raises
    ------
    TypeError
        If it is no path.
    FileExistsError
        If it exists and `overwrite` is not True.
    FileNotFoundError
        If the folder it is to lie in does not exist.
    OSError
        If nothing can be written to that folder.
    """
    target = absolute_path(path)
    if not overwrite and os.path.lexists(target):
        way = "remove it, or choose another path" if overwrite is None else "overwrite=True, or another path"
        raise FileExistsError(f"Expected a path that does not exist yet, found {target}. Next: {way}.")
    if not os.path.isdir(target.parent):
        raise FileNotFoundError(
            f"Expected a path in an existing folder, found no {target.parent}. Next: mkdir -p {target.parent}"
        )
    _room_beside(target).rmdir()
    return target


def check_apart(**paths: str | os.PathLike[str] | None) -> None:
    """Refuse outputs of which one is, or lies in, another.

    Raises
    ------
    ValueError
        If two of them do.
    """
    given = [(name, absolute_path(path).resolve()) for name, path in paths.items() if path is not None]
    for (one, first), (other, second) in itertools.combinations(given, 2):
        if first.is_relative_to(second) or second.is_relative_to(first):
            raise ValueError(
                f"{one}, {other}: expected two paths beside each other, found {first} and {second}. "
                f"Next: choose another path for {other}."
            )


@contextmanager
def written_beside(path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Iterator[Path]:
    """Give a path beside `path` to write a folder to; it is moved into place at the end, or removed after a failure.

    Yields
    ------
    pathlib.Path
        Does not exist yet.

    Raises
    ------
    OSError
        If the target exists, or writing fails; after a failure the target is as it was before.
    """
    target = check_target(path, overwrite=overwrite)
    room = _room_beside(target)
    fresh, old = room / target.name, room / "replaced"
    try:
        with says_disk_full(target, "nothing was left behind"):
            yield fresh
            if target.exists() or target.is_symlink():
                check_target(path, overwrite=overwrite)  # somebody else may have written it meanwhile
                os.replace(target, old)
            try:
                os.replace(fresh, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def says_disk_full(target: Path, remains: str) -> Iterator[None]:
    """Say of a full disk what the output was, and what remains of it.

    Raises
    ------
    OSError
        As it came, but for a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"Expected room for {target.name}, found the disk full while writing; {remains}. "
            f"Next: free space in {target.parent}, or choose another path.",
        ) from error


def _room_beside(target: Path) -> Path:
    """Make a folder beside the target, on the same disk."""
    room = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    try:
        room.mkdir()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise OSError(
            getattr(error, "errno", None) or errno.EINVAL,
            f"Expected a path that can be written, found that {target.parent} takes no folder {target.name!r}: "
            f"{getattr(error, 'strerror', None) or error}. Next: choose another path.",
        ) from error
    return room
