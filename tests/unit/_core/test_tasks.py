"""Independent calls here, and on the workers of a client."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anndata as ad
import numpy as np
import pytest
import torch

from isost._core.tasks import _on_worker, active_client, run
from isost.datasets import phantom
from isost.pp import embed
from isost.tl import fit, reconstruct

LARGE = np.arange(40_000, dtype=np.float64)


@pytest.fixture(scope="module")
def client(alone: Any) -> Iterator[Any]:
    """Two processes, active once that has been done without them."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def scaled(factor: float, values: np.ndarray, number: int) -> tuple[float, int]:
    return factor * float(values.sum()) + number, os.getpid()


def dying_once(folder: Path, number: int) -> int:
    mark = folder / f"died_{number}"
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def all_die_once(values: np.ndarray, folder: Path, number: int) -> int:
    mark = folder / f"all_died_{number}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number + int(values[0])


def failing(number: int) -> int:
    raise ValueError(f"no {number}")


def waiting_for_each_other(barrier: threading.Barrier, number: int) -> int:
    barrier.wait(timeout=20)
    return number


def test_threads_run_calls_at_once_and_pass_errors_on() -> None:
    """Each call waits for the other, which calls that come one after the other never could."""
    barrier = threading.Barrier(2)
    found = dict(run(waiting_for_each_other, [(barrier, n) for n in range(4)], n_threads=2))
    assert found == {0: 0, 1: 1, 2: 2, 3: 3}
    with pytest.raises(ValueError, match="no 1"):
        list(run(failing, [(1,)] * 8, n_threads=2))


def noting(noted: list[int], number: int) -> list[int]:
    noted.append(number)
    return [*noted]


def interrupting(number: int) -> int:
    if number == 1:
        raise KeyboardInterrupt
    return number


def test_each_thread_takes_calls_that_follow_one_another() -> None:
    """And has what is shared for itself: here, what the calls before noted in it."""
    found = dict(run(noting, [(n,) for n in range(6)], shared=([],), n_threads=2))
    assert found == {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [3], 4: [3, 4], 5: [3, 4, 5]}


def test_an_interrupted_thread_interrupts_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(run(interrupting, [(n,) for n in range(4)], n_threads=2))


def test_numerical_libraries_have_one_thread_meanwhile() -> None:
    before = torch.get_num_threads()
    found = dict(run(torch.get_num_threads, [()] * 4, n_threads=2))
    assert set(found.values()) == {1}
    assert torch.get_num_threads() == before


def test_without_a_client_calls_run_here_in_order() -> None:
    assert active_client() is None
    results = list(run(scaled, [(LARGE, n) for n in range(3)], shared=(2.0,)))
    assert [number for number, _ in results] == [0, 1, 2]
    assert [value for _, (value, _) in results] == [2 * LARGE.sum() + n for n in range(3)]
    assert {pid for _, (_, pid) in results} == {os.getpid()}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_gaps_directions_and_slabs_in_two_threads_are_as_in_one(alone: Any, tmp_path: Path) -> None:
    path, fitted, _ = alone
    adata = ad.read_h5ad(path)
    embed(adata, n_comps=6)
    again = fit(adata, epochs=1, progress=False, rng=0)
    assert again.history == fitted.history
    for name, value in again.model.state_dict().items():
        torch.testing.assert_close(value, fitted.model.state_dict()[name])
    with patch("isost._core.stream.SLAB_BYTES", 1):
        two = reconstruct(None, fitted=fitted, output=tmp_path / "threads.zarr", voxel_size=25, rng=0)
    with patch("isost._core.stream.SLAB_BYTES", 1), patch("isost._core.stream.threads_for", lambda _: 1):
        alone_again = reconstruct(None, fitted=fitted, output=tmp_path / "serial.zarr", voxel_size=25, rng=0)
    for name in ("isost_volume", "isost_uncertainty"):
        images = [s[name]["scale0"].image if hasattr(s[name], "children") else s[name] for s in (alone_again, two)]
        np.testing.assert_array_equal(*(image.values for image in images))


def test_a_client_runs_them_elsewhere_with_the_same_result(client: Any) -> None:
    results = dict(run(scaled, [(LARGE, n) for n in range(6)], shared=(2.0,)))
    assert {number: value for number, (value, _) in results.items()} == {n: 2 * LARGE.sum() + n for n in range(6)}
    assert os.getpid() not in {pid for _, pid in results.values()}


def test_an_error_of_a_task_is_raised_here(client: Any) -> None:
    with pytest.raises(ValueError, match="no 4"):
        list(run(failing, [(4,)]))


def test_a_killed_worker_does_not_lose_its_task(client: Any, tmp_path: Path) -> None:
    assert sorted(dict(run(dying_once, [(n,) for n in range(3)], shared=(tmp_path,))).values()) == [0, 1, 2]
    assert (tmp_path / "died_1").exists()


HOW = {"voxel_size": 25, "epochs": 1, "progress": False, "rng": 0}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Counts on disk, their fit, and the volume that it streams, without a client."""
    assert active_client() is None
    folder = tmp_path_factory.mktemp("alone")
    adata = phantom("bending", n_sections=4, n_cells=80, n_genes=20, spacing=50.0, extent=400.0, rng=0)
    adata.write_h5ad(folder / "stack.h5ad")
    embed(adata, n_comps=6)
    with patch("isost._core.stream.SLAB_BYTES", 1):
        return folder / "stack.h5ad", fit(adata, epochs=1, progress=False, rng=0), reconstruct(
            adata, output=folder / "alone.zarr", **HOW
        )  # fmt: skip


def test_gaps_and_slabs_on_two_processes_are_as_in_one(alone: Any, client: Any, tmp_path: Path) -> None:
    path, fitted, one = alone
    assert active_client() is client
    adata = ad.read_h5ad(path)
    embed(adata, n_comps=6)
    for name, value in fit(adata, epochs=1, progress=False, rng=0).model.state_dict().items():
        np.testing.assert_array_equal(value, fitted.model.state_dict()[name])
    with patch("isost._core.stream.SLAB_BYTES", 1):
        two = reconstruct(adata, output=tmp_path / "shared.zarr", **HOW)
    for name in ("isost_volume", "isost_uncertainty"):
        images = [s[name]["scale0"].image if hasattr(s[name], "children") else s[name] for s in (one, two)]
        np.testing.assert_array_equal(*(image.values for image in images))
    for name in ("isost_cells", "isost_voxels"):
        np.testing.assert_array_equal(one.tables[name].obsm["X_pca"], two.tables[name].obsm["X_pca"])


def test_an_open_file_is_read_here(alone: Any, client: Any, tmp_path: Path) -> None:
    backed = ad.read_h5ad(alone[0], backed="r")
    sdata = reconstruct(backed, output=tmp_path / "out.zarr", **HOW)
    assert sdata.tables["isost_cells"].n_vars == backed.n_vars
    backed.file.close()


def test_data_that_died_with_all_workers_are_sent_again(client: Any, tmp_path: Path) -> None:
    assert sorted(dict(run(all_die_once, [(n,) for n in range(2)], shared=(LARGE, tmp_path))).values()) == [0, 1]


def test_each_thread_of_a_worker_has_what_is_shared_for_itself() -> None:
    """And keeps it for the calls that follow, as caches in it are of use there."""
    shared: list[Any] = [[]]
    assert _on_worker(str, [], 5) == "5"
    assert [_on_worker(noting, shared, n) for n in range(3)] == [[0], [0, 1], [0, 1, 2]]
    other: list[Any] = []
    thread = threading.Thread(target=lambda: other.append(_on_worker(noting, shared, 7)))
    thread.start()
    thread.join()
    assert other == [[7]] and shared == [[]]
    assert _on_worker(noting, [[]], 1) == [1]
