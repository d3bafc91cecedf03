"""Progress of a fit on disk, so that what was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from isost._core.stack import Stack
from isost._logging import logger

_SECONDS = 15.0  # between two states of the training
_IDENTITY, _STATE = "identity.json", "training.pt"
_KEPT = r"(identity\.json|training\.pt|belief\.npz|coupling_\d+_\d+\.npz)"
_DAMAGED = (
    AttributeError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError
)  # fmt: skip
_FRESH = re.compile(rf"\.{_KEPT}\.[0-9a-f]{{8}}")  # while they are being written


class Checkpoint:
    """Couplings that are done and the last state of the training, in a folder; without one, nothing is kept.

    Every file is written beside its place and moved there. A file that cannot be written is said, and the fit goes on.

    Parameters
    ----------
    folder
        Of this fit alone; made here. None keeps nothing.
    identity
        JSON-able, what the fit depends on.
    resume
        Go on from what is there; else the folder has to be empty.

    Raises
    ------
    FileExistsError
        If there is something and `resume` is False.
    OSError
        If the folder cannot be made, as where there is a file.
    ValueError
        If what is there belongs to another fit, or is damaged.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any], *, resume: bool) -> None:
        self._folder = self._readable = folder
        self._saved = time.monotonic()
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"checkpoint: expected a folder that can be made, found {folder}, which cannot ({error.strerror}). "
                "Next: name another folder."
            ) from error
        known = folder / _IDENTITY
        if known.exists():
            _check(known, identity, resume=resume)
        elif others := sorted(path.name for path in folder.iterdir() if not _FRESH.fullmatch(path.name)):
            raise FileExistsError(
                f"checkpoint: expected a folder of its own, found {others[0]!r} in {folder}. Next: name another folder."
            )
        else:
            self._write(_IDENTITY, lambda path: path.write_text(json.dumps(identity, indent=1)))

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays that were kept by this name; a ValueError if they are damaged."""
        if self._folder is None or not (self._folder / f"{name}.npz").exists():
            return None
        path = self._folder / f"{name}.npz"
        with _says_damaged(path), path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return dict(kept)

    def put(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays by this name."""
        if self._folder is not None:
            self._write(f"{name}.npz", lambda fresh: _save_npz(fresh, arrays))

    def state(self) -> dict[str, Any] | None:
        """State of the training that was kept last; a ValueError if it is damaged."""
        if self._readable is None or not (self._readable / _STATE).exists():
            return None
        with _says_damaged(self._readable / _STATE):
            return torch.load(self._readable / _STATE, map_location="cpu", weights_only=True)

    def keep(self, state: Callable[[], dict[str, Any]], *, now: bool = False) -> None:
        """Keep the state of the training; unless it has to be now, not if one was kept a moment ago."""
        if self._folder is not None and (now or time.monotonic() - self._saved >= _SECONDS):
            self._write(_STATE, lambda fresh: torch.save(state(), fresh))
            self._saved = time.monotonic()

    def read_only(self) -> Checkpoint:
        """Make one for another process of the same training: it reads what is kept, and keeps nothing."""
        other = Checkpoint(None, {}, resume=True)
        other._readable = self._readable
        return other

    def _write(self, name: str, write: Callable[[Path], Any]) -> None:
        assert self._folder is not None
        fresh = self._folder / f".{name}.{uuid4().hex[:8]}"
        try:
            write(fresh)
            os.replace(fresh, self._folder / name)
        except (OSError, RuntimeError) as error:  # torch's writer has no OSError for a full disk
            fresh.unlink(missing_ok=True)
            logger.warning("fit: no checkpoint could be written to %s: %s; the fit goes on", self._folder, error)
            self._folder = None


def clear(folder: Path) -> None:
    """Remove the progress of a fit that is done, and its folder if nothing else is in it; what it is of goes last."""
    with suppress(OSError):  # progress that cannot be removed is no reason to lose the fit
        for path in sorted(folder.iterdir(), key=lambda path: path.name == _IDENTITY):
            if re.fullmatch(_KEPT, path.name) or _FRESH.fullmatch(path.name):
                path.unlink(missing_ok=True)
        folder.rmdir()


def identity_of(stack: Stack, generator: torch.Generator | None, **how: Any) -> dict[str, Any]:
    """Tell what a fit depends on: settings as they are, data and the state of the random numbers by checksum."""
    digest = hashlib.sha256()
    arrays = [stack.coords, stack.features, stack.starts, stack.depths]
    if generator is not None:
        arrays.append(generator.get_state().numpy())
    names: list[str] = [stack.unit, stack.use_rep, *stack.names, *stack.obs_names]
    if stack.decoder is not None:
        arrays += [stack.decoder.loadings, stack.decoder.mean]
        names += stack.decoder.genes
    if stack.remainder is not None:
        arrays += [stack.remainder.scores, stack.remainder.loadings]
    if stack.weights is not None:
        arrays.append(stack.weights)
    for values in arrays:
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    digest.update("\n".join(names).encode())
    return json.loads(json.dumps({"data": digest.hexdigest(), **how}, default=str))


def _check(known: Path, identity: dict[str, Any], *, resume: bool) -> None:
    if not resume:
        raise FileExistsError(
            f"checkpoint: expected a folder without a fit, found one in {known.parent}. "
            "Next: resume=True to go on from there, or remove it."
        )
    with _says_damaged(known):
        found = json.loads(known.read_text())
        differing = [name for name in identity if found.get(name) != identity[name]]
    if differing:
        raise ValueError(
            f"resume: expected the fit that was interrupted, found one with other {', '.join(differing)} in "
            f"{known.parent}. Next: pass the data, options and seed of that call, or remove the folder to begin anew."
        )


@contextmanager
def _says_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise ValueError(
            f"checkpoint: expected progress that can be read, found {path.name} damaged in {path.parent}. "
            "Next: remove the folder, or name another."
        ) from error


def _save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
