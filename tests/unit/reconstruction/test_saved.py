"""Saved and loaded, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from isost import Reconstruction
from isost._core.store import HEADER


def test_saved_and_loaded_is_the_same(fitted: Reconstruction, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    again = Reconstruction.load(tmp_path / "fit")
    assert (again.history, again.params) == (fitted.history, fitted.params)
    assert repr(again) == repr(fitted)
    for name in ("coords", "features", "starts", "depths", "rows", "obs_names"):
        assert np.array_equal(getattr(again.stack, name), getattr(fitted.stack, name))
    assert again.stack.names == fitted.stack.names and again.stack.decoder.genes == fitted.stack.decoder.genes
    places = fitted.stack.coords[::13] * (1, 1, 0.9)
    assert np.array_equal(again.expression(places), fitted.expression(places))
    assert np.array_equal(again.section(70, rng=3).obsm["X_pca"], fitted.section(70, rng=3).obsm["X_pca"])


def test_saved_without_loadings(without_loadings: Reconstruction, tmp_path: Path) -> None:
    without_loadings.save(tmp_path / "fit")
    assert Reconstruction.load(tmp_path / "fit").stack.decoder is None


def test_no_pickle_is_written_beside_the_weights(fitted: Reconstruction, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    for path in (tmp_path / "fit").glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)


def test_existing_path(fitted: Reconstruction, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    before = (tmp_path / "fit" / HEADER).stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="Next: overwrite=True, or another path"):
        fitted.save(tmp_path / "fit")
    assert (tmp_path / "fit" / HEADER).stat().st_mtime_ns == before
    fitted.save(tmp_path / "fit", overwrite=True)
    assert (tmp_path / "fit" / HEADER).stat().st_mtime_ns != before
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]


def test_overwrite_replaces_nothing_but_a_reconstruction(fitted: Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(FileExistsError, match="Expected a saved fit to overwrite"):
        fitted.save(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.png").exists()


def test_full_disk_leaves_what_was_there(
    fitted: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.save(tmp_path / "fit")
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name == "stack.npz":
            write(self, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("fit", "other"):
        with pytest.raises(OSError, match=f"Expected room for {name}, found the disk full"):
            fitted.save(tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]
    monkeypatch.undo()
    Reconstruction.load(tmp_path / "fit")


@pytest.fixture
def saved(fitted: Reconstruction, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "fit")
    return tmp_path / "fit"


def rewrite_header(folder: Path, **changes: object) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps({**header, **changes}))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected the folder of a saved fit, found none at"):
        Reconstruction.load(tmp_path / "nowhere")
    (tmp_path / "fit.py").touch()
    with pytest.raises(FileNotFoundError, match="found a file: .*fit.py. Next: check the path"):
        Reconstruction.load(tmp_path / "fit.py")


@pytest.mark.parametrize("name", [HEADER, "model.pt", "stack.npz", "field.npz"])
def test_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"found no {name}"):
        Reconstruction.load(saved)


@pytest.mark.parametrize("name", [HEADER, "model.pt", "stack.npz", "field.npz"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_file(saved: Path, name: str, damage: str) -> None:
    content = bytearray((saved / name).read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray()
    (saved / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} damaged.*Next: save it again from the fit, or fit anew"):
        Reconstruction.load(saved)


def test_newer_version(saved: Path) -> None:
    rewrite_header(saved, format_version=99)
    with pytest.raises(ValueError, match="version 1 or older, found 99 in .* Next: pip install --upgrade isost"):
        Reconstruction.load(saved)


@pytest.mark.parametrize("changes", [{"format_version": "x"}, {"model": {"n_features": 3}}, {"stack": {}}])
def test_header_that_does_not_fit(saved: Path, changes: dict) -> None:
    rewrite_header(saved, **changes)
    with pytest.raises(ValueError, match="damaged"):
        Reconstruction.load(saved)


def test_folder_of_something_else(saved: Path) -> None:
    rewrite_header(saved, format="another")
    with pytest.raises(ValueError, match=f"found another {HEADER}"):
        Reconstruction.load(saved)


def test_nothing_in_the_folder_is_run(saved: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    buffer = io.BytesIO()
    torch.save(OrderedDict(weight=Evil()), buffer)
    (saved / "model.pt").write_bytes(buffer.getvalue())
    header = json.loads((saved / HEADER).read_text())
    rewrite_header(saved, sha256={**header["sha256"], "model.pt": hashlib.sha256(buffer.getvalue()).hexdigest()})
    with pytest.raises(ValueError, match="damaged"):
        Reconstruction.load(saved)
    assert not (tmp_path / "ran").exists()
