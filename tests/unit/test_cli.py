from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from anndata import AnnData

import isost
from isost._cli import main


@pytest.fixture
def stack(toy: AnnData, tmp_path: Path) -> Path:
    path = tmp_path / "stack.h5ad"
    toy.write_h5ad(path)
    return path


def fails(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """What a command line says that ends with exit code 2: one error, with its problems indented, no traceback."""
    assert main([str(word) for word in argv]) == 2
    said = capsys.readouterr().err
    assert said.count("isost: error: ") == 1 and "Traceback" not in said
    error = said[said.index("isost: error: ") :]
    assert all(line.startswith("  ") for line in error.splitlines()[1:])
    return error


def test_run_writes_the_volume_and_the_fit(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, model = tmp_path / "volume.zarr", tmp_path / "model"
    words = [
        "run",
        stack,
        out,
        "--voxel-size",
        50,
        "--genes",
        "gradient_x_1, noise_1",
        "--epochs",
        1,
        "--save-model",
        model,
    ]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert str(out) in said and str(model) in said

    sdata = sd.read_zarr(out)
    assert sdata.attrs["isost"]["voxel_size"] == 50
    assert list(sdata["isost_volume"]["scale0"].c.values) == ["gradient_x_1", "noise_1"]
    fitted = isost.Reconstruction.load(model)
    assert fitted.stack.n_sections == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "stack.h5ad", "volume.zarr"]


def test_the_same_seed_writes_the_same_cells_and_volume(stack: Path, tmp_path: Path) -> None:
    volumes, places = [], []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ["run", stack, tmp_path / f"{name}.zarr", "--voxel-size", 50, "--epochs", 1, "--seed", seed]
        assert main([str(word) for word in words]) == 0
        sdata = sd.read_zarr(tmp_path / f"{name}.zarr")
        volumes.append(sdata["isost_volume"]["scale0"].image.values)
        places.append(sdata["isost_cells"].obsm["spatial"])
    np.testing.assert_array_equal(volumes[0], volumes[1])
    np.testing.assert_array_equal(places[0], places[1])
    assert not np.array_equal(places[0], places[2])


def test_a_path_that_exists_is_refused_before_work(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.zarr"
    there.mkdir()
    (there / "kept").write_text("mine")
    assert str(there) in fails(capsys, "run", stack, there)
    assert str(there) in fails(capsys, "run", stack, tmp_path / "new.zarr", "--save-model", there)
    assert (there / "kept").read_text() == "mine"
    assert not (tmp_path / "new.zarr").exists()


def test_an_output_without_a_folder_is_refused(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "mkdir" in fails(capsys, "run", stack, tmp_path / "none" / "volume.zarr")


def test_an_input_that_is_missing_or_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.h5ad" in fails(capsys, "run", tmp_path / "none.h5ad", tmp_path / "volume.zarr")
    text = tmp_path / "text.h5ad"
    text.write_text("not a file of this kind")
    assert "cannot be read" in fails(capsys, "run", text, tmp_path / "volume.zarr")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--voxel-size", "-3"], "voxel_size"),
        (["--genes", "gradient_x_1,nothing"], "nothing"),
        (["--section-key", "slice"], "section_key"),
        (["--depth-key", "depth"], "depth"),
        (["--use-rep", "X_other"], "X_other"),
        (["--epochs", "0"], "epochs"),
        (["--device", "abacus"], "device"),
    ],
)
def test_what_cannot_be_done_is_said(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    out, model = tmp_path / "volume.zarr", tmp_path / "model"
    assert expected in fails(capsys, "run", stack, out, "--save-model", model, *words)
    assert not out.exists() and not model.exists()


def test_a_wrong_word_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["walk"], ["run"], ["run", "a", "b", "--objective", "guess"], ["demo", "--seed", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert "usage: isost" in capsys.readouterr().err


def test_traceback_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["run", str(tmp_path / "none.h5ad"), str(tmp_path / "volume.zarr"), "--traceback"])


def test_demo_refuses_a_folder_that_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in fails(capsys, "demo", "--out", tmp_path)


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tissue = {"n_sections": 4, "n_cells": 80, "n_genes": 20, "spacing": 50.0, "extent": 400.0}
    monkeypatch.setattr("isost._demo._TISSUE", tissue)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "isost_demo").mkdir()
    assert main(["demo"]) == 0
    out = tmp_path / "isost_demo_2"
    said = capsys.readouterr().out
    for method in ("isost", "nearest", "union", "kernel"):
        assert re.search(rf"^{method} ", said, flags=re.MULTILINE)
    assert sd.read_zarr(out / "volume.zarr")["isost_volume"]["scale0"].image.shape[0] > 1
    assert isost.Reconstruction.load(out / "model").stack.names == ("s1", "s3", "s4")
    scores = pd.read_csv(out / "held_out.csv")
    assert set(scores["section"]) == {"s2"} and np.isfinite(scores["pcc"]).all()
    assert len(list(out.glob("orthoviews_*.png"))) == 3


def test_python_m_isost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isost", "run", "none.h5ad", "volume.zarr"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("isost: error: ") and "Traceback" not in done.stderr
    shown = subprocess.run([sys.executable, "-m", "isost", "run", "--help"], capture_output=True, text=True, check=True)
    for option in ("--voxel-size", "--section-key", "--genes", "--objective", "--device", "--seed", "--save-model"):
        assert option in shown.stdout


def test_an_interrupted_run_goes_on(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", str(stack), str(tmp_path / "volume.zarr"), "--voxel-size", "50", "--epochs", "1"]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("isost._core.stream.write_slab", interrupt)
        assert main(words) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack.h5ad", "volume.zarr.partial"]
    assert "resume=True" in fails(capsys, *words)
    assert main([*words, "--resume"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack.h5ad", "volume.zarr"]


def test_a_large_file_is_read_in_blocks(stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost._cli._LARGE", 0)
    assert main(["run", str(stack), str(tmp_path / "volume.zarr"), "--voxel-size", "50", "--epochs", "1"]) == 0
