"""Progress of a fit on disk: of one fit alone, and no reason to lose the fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isost._core import checkpoint as module
from isost._core.checkpoint import Checkpoint, clear

FIT = {"data": "abc", "settings": {"epochs": 3}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "progress"


def test_arrays_come_back(folder: Path) -> None:
    Checkpoint(folder, FIT, resume=False).put("coupling_0_1", {"target": np.arange(4.0)})
    again = Checkpoint(folder, FIT, resume=True)
    found = again.get("coupling_0_1")
    assert found is not None
    np.testing.assert_array_equal(found["target"], np.arange(4.0))
    assert again.get("coupling_1_2") is None and again.state() is None


def test_a_state_is_kept_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kept = Checkpoint(folder, FIT, resume=False)

    def state(number: int) -> dict[str, Any]:
        return {"weights": torch.full((2,), float(number))}

    for seconds, expected in ((1.0, None), (14.0, 2), (1.0, 2), (20.0, 4)):
        now[0] += seconds
        number = {101.0: 1, 115.0: 2, 116.0: 3, 136.0: 4}[now[0]]
        kept.keep(lambda number=number: state(number))
        found = kept.state()
        assert (None if found is None else int(found["weights"][0])) == expected


def test_another_fit_is_refused(folder: Path) -> None:
    Checkpoint(folder, FIT, resume=False)
    with pytest.raises(FileExistsError, match="resume=True to go on"):
        Checkpoint(folder, FIT, resume=False)
    with pytest.raises(ValueError, match="other settings"):
        Checkpoint(folder, FIT | {"settings": {"epochs": 4}}, resume=True)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("name", ["identity.json", "training.pt", "coupling_0_1.npz"])
def test_damaged_progress_is_said(folder: Path, name: str, share: float) -> None:
    kept = Checkpoint(folder, FIT, resume=False)
    kept.put("coupling_0_1", {"target": np.arange(100.0)})
    kept.keep(lambda: {"weights": torch.zeros(100)}, now=True)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])

    def read() -> None:
        again = Checkpoint(folder, FIT, resume=True)
        again.state()
        again.get("coupling_0_1")

    message = rf"checkpoint: expected progress that can be read, found {name} damaged in .*progress\. Next: remove the"
    with pytest.raises(ValueError, match=message):
        read()


def test_an_identity_that_is_none_is_damaged(folder: Path) -> None:
    Checkpoint(folder, FIT, resume=False)
    (folder / "identity.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"found identity\.json damaged"):
        Checkpoint(folder, FIT, resume=True)


def test_a_folder_with_something_else_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"found 'thesis\.tex'"):
        Checkpoint(folder, FIT, resume=False)


def test_what_cannot_be_written_is_said_and_the_fit_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Checkpoint(folder, FIT, resume=False)

    def full(*args: Any, **how: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez", full)
    with caplog.at_level(logging.WARNING, logger="isost"):
        kept.put("coupling_0_1", {"target": np.zeros(1)})
        kept.put("coupling_1_2", {"target": np.zeros(1)})
    assert len(caplog.records) == 1 and "No space left" in caplog.text
    assert [path.name for path in folder.iterdir()] == ["identity.json"]


def test_clearing_leaves_what_others_put_there(folder: Path) -> None:
    kept = Checkpoint(folder, FIT, resume=False)
    kept.put("coupling_0_1", {"target": np.zeros(1)})
    (folder / "notes.txt").touch()
    clear(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    Checkpoint(folder, FIT, resume=False)
    clear(folder)
    assert not folder.exists()


def test_another_process_reads_and_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    kept = Checkpoint(folder, FIT, resume=False)
    kept.keep(lambda: {"epoch": 1})
    other = kept.read_only()
    other.keep(lambda: {"epoch": 2})
    other.put("coupling_0_1", {"target": np.zeros(1)})
    assert other.state() == kept.state() == {"epoch": 1}
    assert kept.get("coupling_0_1") is None


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    kept = Checkpoint(None, FIT, resume=False)
    kept.put("coupling_0_1", {"target": np.zeros(1)})
    kept.keep(lambda: {"epoch": 1})
    assert kept.get("coupling_0_1") is None and kept.state() is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "network_0"])
def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"checkpoint: expected a folder that can be made, found .*file.*Next"):
        Checkpoint(tmp_path / "file" / below, {}, resume=False)
    assert (tmp_path / "file").read_text() == "mine"
