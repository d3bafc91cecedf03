"""Write a folder completely or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Make sure that an output can be written there; return its absolute path.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    FileNotFoundError
        If the folder it is to lie in does not exist.
    """
    target = Path(path).expanduser().absolute()
    if not overwrite and (target.exists() or target.is_symlink()):
        raise FileExistsError(
            f"Expected a path that does not exist yet, found {target}. Next: remove it, or choose another path."
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Expected a path in an existing folder, found no {target.parent}. Next: mkdir -p {target.parent}"
        )
    return target


@contextmanager
def written_beside(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
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
    room = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    room.mkdir()
    fresh, old = room / target.name, room / "replaced"
    try:
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
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                errno.ENOSPC,
                f"Expected room for {target.name}, found the disk full while writing; nothing was left behind. "
                f"Next: free space in {target.parent}, or choose another path.",
            ) from error
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)
