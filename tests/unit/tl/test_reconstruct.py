from __future__ import annotations

import errno
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from isost import Reconstruction
from isost.datasets import phantom
from isost.pp import embed
from isost.tl import fit, reconstruct

QUICK = {"epochs": 1, "progress": False, "rng": 0}


@pytest.fixture(scope="module")
def counts() -> AnnData:
    return phantom(n_sections=3, n_cells=150, n_genes=10, rng=1)


@pytest.fixture(scope="module")
def fitted(counts: AnnData) -> Reconstruction:
    adata = counts.copy()
    embed(adata, n_comps=4)
    return fit(adata, epochs=1, progress=False, rng=0)


def no_fit(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("fitted before the input was checked")


def forbid_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_reconstruct", "_stream"):
        monkeypatch.setattr(f"isost.tl.{module}.fit_read", no_fit)


def test_alone_it_does_everything(counts: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    before = counts.copy()
    with caplog.at_level(logging.INFO, "isost"):
        sdata = reconstruct(counts, **QUICK)
    run = sdata.attrs["isost"]
    assert run["sections"]["depth"] == [0, 50, 100] and run["use_rep"] == "X_pca"
    assert 0 < run["voxel_size"] <= 50
    said = caplog.text
    for word in ("a copy is embedded", "voxel size", "3 sections", "cpu", "isost_volume", " s; "):
        assert word in said
    for part in ("obsm", "varm", "uns", "layers"):
        assert set(getattr(counts, part)) == set(getattr(before, part))
    assert (counts.X != before.X).nnz == 0 and counts.var.equals(before.var) and counts.obs.equals(before.obs)


def test_expression_is_neither_copied_nor_made_dense(counts: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(adata: AnnData, **how: Any) -> None:
        seen.append(adata)
        embed(adata, n_comps=3, **how)

    monkeypatch.setattr("isost.tl._reconstruct.embed", look)
    forbid_fits(monkeypatch)
    weighted = counts.copy()
    weighted.obs["section_weight"] = np.where(weighted.obs["section"] == "s2", 0.5, 1.0)
    with pytest.raises(AssertionError):
        reconstruct(weighted, **QUICK)
    assert seen.pop().obs["section_weight"].equals(weighted.obs["section_weight"])
    with pytest.raises(AssertionError):
        reconstruct(counts, **QUICK)
    (embedded,) = seen
    assert embedded is not counts
    assert sparse.issparse(embedded.X) and np.shares_memory(embedded.X.data, counts.X.data)


def test_depths_without_section_names(counts: AnnData) -> None:
    bare = AnnData(counts.X, var=counts.var[[]], obsm={"spatial": counts.obsm["spatial"]})
    bare.obs_names = counts.obs_names
    assert reconstruct(bare, voxel_size=50, **QUICK).attrs["isost"]["sections"]["depth"] == [0, 50, 100]


def test_depth_from_a_column_and_unit_from_the_input(counts: AnnData) -> None:
    other = counts.copy()
    other.obs["depth"] = other.obsm["spatial"][:, 2] / 1000
    other.obsm["xy"] = other.obsm.pop("spatial")[:, :2] / 1000
    other.uns["spatial_unit"] = "mm"
    sdata = reconstruct(other, voxel_size=0.05, spatial_key="xy", depth_key="depth", **QUICK)
    assert sdata.attrs["isost"]["unit"] == "mm" and np.allclose(
        sdata.attrs["isost"]["sections"]["depth"], [0, 0.05, 0.1]
    )


def test_view_and_backed_input(counts: AnnData, tmp_path: Path) -> None:
    view = counts[counts.obs["section"] != counts.obs["section"].cat.categories[-1]]
    assert len(reconstruct(view, voxel_size=50, **QUICK).attrs["isost"]["sections"]["name"]) == 2
    assert view.is_view
    counts.write_h5ad(tmp_path / "stack.h5ad")
    backed = ad.read_h5ad(tmp_path / "stack.h5ad", backed="r")
    assert reconstruct(backed, voxel_size=50, **QUICK).tables["isost_cells"].n_vars == 10
    backed.file.close()


def test_an_embedding_that_is_there_is_used(counts: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    other = counts.copy()
    sc.pp.normalize_total(other)
    sc.pp.log1p(other)
    sc.pp.pca(other, n_comps=3)
    with caplog.at_level(logging.INFO, "isost"):
        sdata = reconstruct(other, voxel_size=50, **QUICK)
    assert sdata["isost_volume"].children["scale0"].image.sizes["c"] == 3
    assert "embedded" not in caplog.text
    assert sdata.tables["isost_cells"].X is not None


def test_fitted_is_not_fitted_again(counts: AnnData, fitted: Reconstruction, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_fits(monkeypatch)
    one, two = (reconstruct(data, fitted=fitted, voxel_size=50, rng=0) for data in (counts, None))
    assert np.array_equal(one.tables["isost_cells"].X, two.tables["isost_cells"].X)
    there = fitted.to_spatialdata(50, rng=0)
    assert np.array_equal(one.tables["isost_cells"].obsm["spatial"], there.tables["isost_cells"].obsm["spatial"])


def test_a_seed_gives_the_same_volume(counts: AnnData) -> None:
    one, two = (reconstruct(counts, voxel_size=50, **QUICK) for _ in range(2))
    for name in ("isost_cells", "isost_voxels"):
        assert np.array_equal(one.tables[name].X, two.tables[name].X)


def test_written_output_is_opened_lazily(
    fitted: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "isost"):
        sdata = reconstruct(None, fitted=fitted, voxel_size=50, output=tmp_path / "out.zarr", rng=0)
    assert sdata.path == tmp_path / "out.zarr" and [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
    assert f"wrote {tmp_path / 'out.zarr'}" in caplog.text
    assert all(sdata.elements_are_self_contained().values())


def test_existing_output(counts: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_fits(monkeypatch)
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(FileExistsError, match="Next: remove it, or choose another path"):
        reconstruct(counts, output=tmp_path / "out.zarr", **QUICK)


def test_full_disk_keeps_what_is_done(fitted: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zarr.storage import LocalStore

    put, calls = LocalStore.set, []

    async def full(self: Any, key: str, value: Any, **how: Any) -> None:
        calls.append(key)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        await put(self, key, value, **how)

    monkeypatch.setattr(LocalStore, "set", full)
    with pytest.raises(OSError, match="Expected room for out.zarr, found the disk full"):
        reconstruct(None, fitted=fitted, voxel_size=50, output=tmp_path / "out.zarr", rng=0)
    assert len(calls) > 20 and [path.name for path in tmp_path.iterdir()] == ["out.zarr.partial"]
    monkeypatch.setattr(LocalStore, "set", put)
    reconstruct(None, fitted=fitted, voxel_size=50, output=tmp_path / "out.zarr", rng=0, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"voxel_size": 0}, ValueError, "voxel_size: expected a finite number above 0"),
        ({"voxel_size": -1}, ValueError, "voxel_size: expected a finite number above 0"),
        ({"voxel_size": float("nan")}, ValueError, "voxel_size: expected a finite number above 0"),
        ({"voxel_size": 1e5}, ValueError, "voxel_size: expected at most the width of the tissue"),
        ({"voxel_size": 0.001}, ValueError, r"voxels \(z, y, x\) of .* channels, about .* GiB"),
        ({"voxel_size": 5, "max_memory": 1e-4}, ValueError, "GiB"),
        ({"genes": ["nope"]}, KeyError, "1 unknown: 'nope'"),
        ({"epoch": 2}, TypeError, "did you mean 'epochs'"),
        ({"volume": "mean"}, ValueError, "volume: expected"),
        ({"output": 3}, TypeError, "path: expected text"),
        ({"output": "/proc/out.zarr"}, OSError, "Expected a path that can be written"),
        ({"save_model": "/proc/fit"}, OSError, "Expected a path that can be written"),
        ({"output": "same", "save_model": "same"}, ValueError, "expected two paths beside each other"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_fit(
    counts: AnnData, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    forbid_fits(monkeypatch)
    with pytest.raises(error, match=message):
        reconstruct(counts, **{**QUICK, **wrong})


@pytest.mark.parametrize("wrong", [{"voxel_size": -1}, {"voxel_size": 1e5}, {"genes": "nope"}, {"max_memory": 0}])
def test_nothing_is_saved_of_a_fit_whose_volume_cannot_be_made(
    fitted: Reconstruction, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, KeyError), match="Next: "):
        reconstruct(None, fitted=fitted, save_model=tmp_path / "fit", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_cells_on_a_line(counts: AnnData) -> None:
    line = counts.copy()
    line.obsm["spatial"][:, 1] = 0.0
    sdata = reconstruct(line, voxel_size=100, **QUICK)
    assert sdata["isost_mask"].values.any() and sdata.tables["isost_voxels"].n_obs


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError(), KeyboardInterrupt()])
def test_a_failure_after_the_fit_does_not_lose_it(
    counts: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("isost.tl._stream.stream_volume", fail)
        with pytest.raises(type(error)):
            reconstruct(counts, voxel_size=50, output=tmp_path / "out.zarr", save_model=tmp_path / "model", **QUICK)
    assert "Next: the same call with resume=True" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.zarr.partial"]
    assert Reconstruction.load(tmp_path / "out.zarr.partial" / "fit").stack.n_cells == counts.n_obs
    forbid_fits(monkeypatch)
    how = {"output": tmp_path / "out.zarr", "save_model": tmp_path / "model", "resume": True}
    assert reconstruct(counts, voxel_size=50, **how, **QUICK).path == tmp_path / "out.zarr"


def test_a_fit_that_cannot_be_saved_is_saved_beside(
    counts: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = Reconstruction.save

    def only_elsewhere(self: Reconstruction, path: Path) -> None:
        if path.name == "fit" or path.parent.name == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, path)

    monkeypatch.setattr(Reconstruction, "save", only_elsewhere)
    (tmp_path / "full").mkdir()
    with pytest.raises(OSError, match="No space left"):
        reconstruct(counts, voxel_size=50, save_model=tmp_path / "fit", **QUICK)
    assert Reconstruction.load(tmp_path / "fit_fit").stack.n_cells == counts.n_obs
    assert f"isost.Reconstruction.load({str(tmp_path / 'fit_fit')!r})" in caplog.text
    with pytest.raises(OSError, match="No space left"):
        reconstruct(counts, voxel_size=50, save_model=tmp_path / "full" / "fit", **QUICK)
    assert "could not be saved either" in caplog.text and list((tmp_path / "full").iterdir()) == []


def test_a_fit_that_fails_for_what_was_asked_leaves_nothing(
    counts: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*args: Any, **kwargs: Any) -> None:
        raise ValueError("learning_rate: expected one that training converges with")

    monkeypatch.setattr("isost.tl._stream.fit_read", diverge)
    with pytest.raises(ValueError, match="learning_rate"):
        reconstruct(counts, voxel_size=50, output=tmp_path / "out.zarr", **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_more_genes_than_fit_into_memory_are_streamed(counts: AnnData, tmp_path: Path) -> None:
    how = {"voxel_size": 25, "genes": list(counts.var_names), "max_memory": 2e-4, **QUICK}
    with pytest.raises(ValueError, match=r"stream it to a file by output='volume\.zarr'"):
        reconstruct(counts, **how)
    sdata = reconstruct(counts, output=tmp_path / "out.zarr", **how)
    whole = reconstruct(counts, **how | {"max_memory": None})
    for name in ("isost_volume", "isost_uncertainty"):
        images = [
            image["scale0"].image if hasattr(image, "children") else image for image in (sdata[name], whole[name])
        ]
        # products of other block sizes round differently
        np.testing.assert_allclose(images[0].values, images[1].values, rtol=1e-5, atol=1e-6)


def test_a_volume_that_the_disk_has_no_room_for(
    counts: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_fits(monkeypatch)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1e6))
    with pytest.raises(ValueError, match="half of what is free on the disk.*or free space"):
        reconstruct(counts, voxel_size=10, output=tmp_path / "out.zarr", **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_every_problem_of_a_raw_stack_at_once(counts: AnnData) -> None:
    bad = counts.copy()
    bad.X = bad.X.astype(np.float32)
    bad.X.data[3] = np.nan
    bad.obsm["spatial"][5, 0] = np.inf
    with pytest.raises(ValueError, match="2 problems"):
        reconstruct(bad, **QUICK)


def test_fitted_of_other_cells_or_with_options(counts: AnnData, fitted: Reconstruction) -> None:
    other = counts.copy()
    other.obs_names = [f"other{i}" for i in range(other.n_obs)]
    with pytest.raises(ValueError, match="fitted: expected a fit of the cells of adata"):
        reconstruct(other, fitted=fitted)
    with pytest.raises(TypeError, match="no options of a fit together with fitted, found epochs"):
        reconstruct(counts, fitted=fitted, epochs=3)
    with pytest.raises(TypeError, match="fitted: expected what isost.tl.fit returns, found dict"):
        reconstruct(counts, fitted={})  # type: ignore[arg-type]


def test_nothing_to_reconstruct() -> None:
    with pytest.raises(TypeError, match="expected an AnnData, found NoneType"):
        reconstruct(None)
