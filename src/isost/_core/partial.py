"""What is done of an output so far, in a folder beside it, until all of it is moved into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from isost._core.folder import absolute_path, check_target

SUFFIX = ".partial"
_CALL = "call.json"


class Partial:
    """The folder ``<output>.partial``.

    Parameters
    ----------
    output
        Path of the output.
    resume
        Go on from what is there.

    Attributes
    ----------
    target, folder
        Absolute paths of the output and of the folder, which `begin` makes.
    complete
        Whether the output is in place.
    digest
        Checksum of the call, once that is known.

    Raises
    ------
    FileExistsError
        If the output exists; or the folder does, and `resume` is False.
    OSError
        If nothing can be written there.
    """

    def __init__(self, output: str | os.PathLike[str], *, resume: bool) -> None:
        self.target = absolute_path(output)
        self.complete = resume and self.target.exists()
        if not self.complete:
            check_target(output)
        self.folder = self.target.with_name(self.target.name + SUFFIX)
        self.digest = ""
        if self.folder.exists() and not resume:
            raise FileExistsError(
                f"output: expected no unfinished run, found one in {self.folder}. Next: the same call with resume=True "
                "goes on from there, or remove that folder."
            )

    @property
    def fit(self) -> Path:
        """Where the fit is kept, once it is complete."""
        return self.folder / "fit"

    @property
    def has_fit(self) -> bool:
        """Whether the fit is done."""
        return self.complete or self.fit.exists()

    @property
    def progress(self) -> Path:
        """Where the progress of the fit is kept."""
        return self.folder / "progress"

    @property
    def slabs(self) -> Path:
        """Where slabs of the volume are kept."""
        return self.folder / "slabs"

    def begin(self, call: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
        """Make the folder for a call, or make sure that it is of the same call.

        Returns
        -------
        What was chosen when the call began, JSON-able.

        Raises
        ------
        ValueError
            If it is of another.
        """
        call = json.loads(json.dumps(call, default=str))
        self.digest = hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()
        if self.complete:
            return chosen
        known = self.folder / _CALL
        if known.exists():
            kept = json.loads(known.read_text())
            differing = [name for name in call if kept["call"].get(name) != call[name]]
            if differing:
                raise ValueError(
                    f"resume: expected the call that was interrupted, found one with other {', '.join(differing)} in "
                    f"{self.folder}. Next: repeat that call, or remove the folder to begin anew (its fit, if there is "
                    "one, can be loaded from 'fit')."
                )
            return kept["chosen"]
        self.slabs.mkdir(parents=True, exist_ok=True)
        self._write(_CALL, json.dumps({"call": call, "chosen": chosen}, indent=1).encode())
        return chosen

    def started(self) -> dict[str, Any] | None:
        """Read what was chosen when the call began, if it has."""
        known = self.folder / _CALL
        return json.loads(known.read_text())["chosen"] if known.exists() else None

    def keep(self, name: str, text: str) -> None:
        self._write(name, text.encode())

    def kept(self, name: str) -> str:
        return (self.folder / name).read_text()

    def fresh(self) -> Path:
        """Path in the folder for the output to be written to, where nothing is."""
        path = self.folder / f"written{self.target.suffix}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def finish(self, written: Path) -> None:
        """Move the output into place and remove the folder."""
        os.replace(written, self.target)
        self.discard()

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> None:
        fresh = self.folder / f".{name}.{uuid4().hex[:8]}"
        fresh.write_bytes(content)
        os.replace(fresh, self.folder / name)
