"""A process that is killed at any point, and run again, gives the result of one that was not."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from spatialdata import SpatialData

from isost.datasets import phantom
from isost.tl import fit, reconstruct

# Processes are forked from one that has imported everything, which takes longer than what they do.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["isost.pp._embed", "isost.tl._reconstruct"])

RUN = """
import importlib, os, signal
from functools import wraps

import anndata
import isost
from isost._core import checkpoint, stream

checkpoint._SECONDS = 0.0
stream.SLAB_BYTES = 1  # one plane a slab

def killing(module, name, call, after, only=""):
    owner = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), []

    @wraps(function)
    def killed(*args, **how):
        if only not in " ".join(map(str, args)):
            return function(*args, **how)
        calls.append(1)
        if len(calls) == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **how)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, last, killed)

if options["kill"]:
    killing(*options["kill"])
isost.tl.reconstruct(
    anndata.read_h5ad(options["input"]), output=options["output"], resume=options["resume"], voxel_size=20,
    epochs=3, progress=False, rng=options["rng"],
)
"""

# where, the number of the call, whether it was done or about to begin, and what its arguments have to name
POINTS = {
    "before the first coupling is kept": ("isost._core.checkpoint", "Checkpoint.put", 2, False),
    "between couplings": ("isost._core.checkpoint", "Checkpoint.put", 3, True),
    "in the training": ("isost._core.checkpoint", "Checkpoint.keep", 2, True),
    "before the fit is kept": ("isost.reconstruction", "Reconstruction.save", 1, False),
    "after the fit": ("isost.reconstruction", "Reconstruction.save", 1, True),
    "before a slab is moved into place": ("isost._core.slabs", "os.replace", 2, False, "slabs/slab_"),
    "while a slab is written": ("zarr.storage", "LocalStore.set", 25, False, "slabs/.slab_"),
    "between slabs": ("isost._core.stream", "write_slab", 2, True),
    "while the store is written": ("zarr.storage", "LocalStore.set", 40, False, "written.zarr"),
    "before the store is moved into place": ("isost._core.partial", "Partial.finish", 1, False),
    "before the folder is removed": ("isost._core.partial", "Partial.discard", 1, False),
}


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("counts") / "stack.h5ad"
    phantom("bending", n_sections=3, n_cells=90, n_genes=12, extent=300.0, rng=1).write_h5ad(path)
    return path


def run(counts: Path, output: Path, *, kill: Any = None, resume: bool = False, rng: int | None = 0) -> int | None:
    """Return the exit code of a process that reconstructs, or is killed meanwhile."""
    options = {"input": counts, "output": output, "kill": kill, "resume": resume, "rng": rng}
    process = FORKED.Process(target=exec, args=(RUN, {"options": options}))
    process.start()
    process.join()
    return process.exitcode


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(counts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out.zarr"
    assert run(counts, output) == 0
    return output


def same(one: Path, other: Path) -> None:
    import spatialdata

    a, b = (spatialdata.read_zarr(path) for path in (one, other))
    assert {name for _, name, _ in a.gen_elements()} == {name for _, name, _ in b.gen_elements()}
    for name in ("isost_volume", "isost_uncertainty", "isost_density", "isost_mask", "isost_voxel_ids"):
        np.testing.assert_array_equal(values(a, name), values(b, name))
    for name in a.tables:
        for key in a.tables[name].obsm:
            np.testing.assert_array_equal(a.tables[name].obsm[key], b.tables[name].obsm[key])
        assert a.tables[name].obs.equals(b.tables[name].obs)
    np.testing.assert_array_equal(a["isost_points"].compute(), b["isost_points"].compute())


def values(sdata: SpatialData, name: str) -> np.ndarray:
    element = sdata[name]
    return (element["scale0"].image if hasattr(element, "children") else element).values


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again(counts: Path, whole: Path, tmp_path: Path, point: str) -> None:
    output = tmp_path / "out.zarr"
    assert run(counts, output, kill=POINTS[point]) == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()}
    assert "out.zarr.partial" in left
    assert ("out.zarr" in left) == (point == "before the folder is removed")
    if point == "before the fit is kept":
        assert (tmp_path / "out.zarr.partial" / "progress" / "training.pt").exists()
    assert run(counts, output, resume=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
    same(output, whole)


def test_what_is_done_is_not_done_again(counts: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.zarr"
    run(counts, output, kill=("isost._core.stream", "write_slab", 3, True))
    assert len(list((tmp_path / "out.zarr.partial" / "slabs").iterdir())) == 3
    # of five slabs two are missing: a third would kill it
    assert run(counts, output, resume=True, kill=("isost._core.stream", "write_slab", 3, False)) == 0
    same(output, whole)


def test_a_fit_that_is_done_is_not_done_again(counts: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.zarr"
    run(counts, output, kill=("isost._core.stream", "write_slab", 1, False))
    assert run(counts, output, resume=True, kill=("isost.tl._fit", "fit_stack", 1, False)) == 0
    same(output, whole)


def test_without_a_seed_the_interrupted_call_decides(counts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.zarr"
    run(counts, output, rng=None, kill=("isost._core.stream", "write_slab", 2, True))
    assert run(counts, output, rng=None, resume=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.fixture
def begun(counts: Path, tmp_path: Path) -> Path:
    output = tmp_path / "out.zarr"
    run(counts, output, kill=("isost._core.stream", "write_slab", 1, True))
    return output


def test_another_call_is_refused(counts: Path, begun: Path) -> None:
    import anndata

    adata: AnnData = anndata.read_h5ad(counts)
    how = {"voxel_size": 20, "epochs": 3, "progress": False, "rng": 0, "output": begun}
    before = contents(begun.with_name("out.zarr.partial"))
    with pytest.raises(FileExistsError, match="expected no unfinished run.*resume=True"):
        reconstruct(adata, **how)
    for other, said in (
        ({"rng": 1}, "rng"), ({"voxel_size": 25}, "voxel_size"), ({"epochs": 4}, "epochs"),
        ({"genes": list(adata.var_names[:1])}, "genes"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"found one with other {said}"):
            reconstruct(adata, resume=True, **how | other)
    with pytest.raises(ValueError, match="found one with other data"):
        reconstruct(adata[10:].copy(), resume=True, **how)
    assert contents(begun.with_name("out.zarr.partial")) == before
    with pytest.raises(ValueError, match="resume: expected the output"):
        reconstruct(adata, resume=True)


def test_a_model_of_another_fit_is_not_taken_for_this_one(counts: Path, begun: Path, tmp_path: Path) -> None:
    import anndata

    adata, other = anndata.read_h5ad(counts), tmp_path / "model"
    how = {"voxel_size": 20, "epochs": 3, "progress": True, "rng": 0, "save_model": other}
    reconstruct(adata, **how | {"rng": 1})
    kept = contents(other)
    with pytest.raises(FileExistsError, match="save_model: expected a new folder, or the fit of this call"):
        reconstruct(adata, output=begun, resume=True, **how)
    with pytest.raises(FileExistsError):  # of a call that never began nothing can be there
        reconstruct(adata, output=tmp_path / "new.zarr", resume=True, **how)
    assert contents(other) == kept and not (tmp_path / "new.zarr.partial").exists()
    sdata = reconstruct(adata, output=begun, resume=True, **how | {"save_model": None})
    assert sdata.path == begun


def test_a_complete_output_is_opened(counts: Path, whole: Path) -> None:
    import anndata

    before, adata = contents(whole), anndata.read_h5ad(counts)
    how = {"voxel_size": 20, "epochs": 3, "progress": True, "rng": 0, "output": whole, "resume": True}
    assert reconstruct(adata, max_memory=1, **how).path == whole
    with pytest.raises(ValueError, match="resume: expected the output of this call"):
        reconstruct(adata, **how | {"voxel_size": 25})
    with pytest.raises(ValueError, match="save_model: expected the fit that .* was made of, found none"):
        reconstruct(adata, save_model=whole.with_name("model"), **how)
    renamed = adata.copy()
    renamed.var_names = [f"other_{name}" for name in adata.var_names]
    with pytest.raises(ValueError, match="resume: expected the output of this call"):
        reconstruct(renamed, **how)
    assert contents(whole) == before and [path.name for path in whole.parent.iterdir()] == ["out.zarr"]


def test_a_fit_goes_on_from_its_checkpoint(toy_embedded: AnnData, tmp_path: Path, monkeypatch: Any) -> None:
    from isost._core import checkpoint
    from isost._core.train import Training

    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    how = {"epochs": 4, "progress": False, "rng": 0}
    straight = fit(toy_embedded, **how)
    epoch, calls = Training._epoch, []

    def stop(self: Training, *args: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return epoch(self, *args)

    monkeypatch.setattr(Training, "_epoch", stop)
    with pytest.raises(MemoryError):
        fit(toy_embedded, checkpoint=tmp_path / "progress", **how)
    with pytest.raises(FileExistsError, match="expected a folder without a fit.*resume=True"):
        fit(toy_embedded, checkpoint=tmp_path / "progress", **how)
    with pytest.raises(ValueError, match="found one with other settings"):
        fit(toy_embedded, checkpoint=tmp_path / "progress", resume=True, **how | {"epochs": 5})
    resumed = fit(toy_embedded, checkpoint=tmp_path / "progress", resume=True, **how)
    assert len(calls) == 3 + 2
    assert resumed.history == straight.history
    for name, value in straight.model.state_dict().items():
        np.testing.assert_array_equal(value, resumed.model.state_dict()[name])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="resume: expected the checkpoint"):
        fit(toy_embedded, resume=True, **how)


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_every_phase_resumes(toy_embedded: AnnData, tmp_path: Path, monkeypatch: Any, objective: Any) -> None:
    from isost._core import checkpoint
    from isost._core.train import Training

    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    how = {"epochs": 2, "progress": False, "rng": 0, "objective": objective}
    straight = fit(toy_embedded, **how)
    epoch, ran = Training._epoch, [False]

    def one_a_run(self: Training, *args: Any) -> float:
        if ran[0]:
            raise MemoryError
        ran[0] = True
        return epoch(self, *args)

    monkeypatch.setattr(Training, "_epoch", one_a_run)
    n_epochs = sum(map(len, straight.history.values()))
    for number in range(n_epochs):
        ran[0] = False
        if number < n_epochs - 1:
            with pytest.raises(MemoryError):
                fit(toy_embedded, checkpoint=tmp_path / "progress", resume=True, **how)
    resumed = fit(toy_embedded, checkpoint=tmp_path / "progress", resume=True, **how)
    assert resumed.history == straight.history


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_fit(
    toy_embedded: AnnData, tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import errno

    from isost._core import checkpoint

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_save_npz", full)
    fitted = fit(toy_embedded, checkpoint=tmp_path / "progress", epochs=1, progress=False, rng=0)
    assert fitted.params["interrupted"] is False
    assert "no checkpoint could be written" in caplog.text and "No space left" in caplog.text


def test_only_a_folder_of_its_own_is_taken_and_only_its_own_files_removed(
    toy_embedded: AnnData, tmp_path: Path, monkeypatch: Any
) -> None:
    from isost._core import checkpoint
    from isost._core.train import Training

    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    folder, how = tmp_path / "results", {"epochs": 2, "progress": False, "rng": 0}
    folder.mkdir()
    for name in ("thesis.txt", ".env", "cells.npz"):
        (folder / name).write_text("years of work")
        for resume in (False, True):
            with pytest.raises(FileExistsError, match=f"expected a folder of its own, found '{name}'"):
                fit(toy_embedded, checkpoint=folder, resume=resume, **how)
        (folder / name).unlink()
    epoch, added = Training._epoch, {".env", ".git", "cells.npz", "notes.txt"}

    def add_files(self: Training, *args: Any) -> float:
        (folder / ".git").mkdir(exist_ok=True)
        for name in added - {".git"}:
            (folder / name).write_text("kept")
        return epoch(self, *args)

    monkeypatch.setattr(Training, "_epoch", add_files)
    fit(toy_embedded, checkpoint=folder, **how)
    assert {path.name for path in folder.iterdir()} == added


def test_progress_without_what_it_is_of_is_not_taken_up(
    toy_embedded: AnnData, tmp_path: Path, monkeypatch: Any
) -> None:
    from isost._core.train import Training

    how = {"epochs": 1, "progress": False, "rng": 0}

    def stop(*_: Any) -> float:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Training, "_epoch", stop)
        with pytest.raises(MemoryError):
            fit(toy_embedded, checkpoint=tmp_path / "progress", **how)
    (tmp_path / "progress" / "identity.json").unlink()
    with pytest.raises(FileExistsError, match="expected a folder of its own"):
        fit(toy_embedded, checkpoint=tmp_path / "progress", **how)


def test_a_generator_is_not_rewound(counts: Path, begun: Path) -> None:
    import anndata
    import torch

    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    with pytest.raises(ValueError, match="found one with other rng"):
        reconstruct(
            anndata.read_h5ad(counts), voxel_size=20, epochs=3, progress=False, rng=generator, output=begun, resume=True
        )
    assert torch.equal(generator.get_state(), state)
