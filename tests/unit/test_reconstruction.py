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
from anndata import AnnData

from isost import Reconstruction
from isost._core.store import HEADER
from isost.datasets import phantom
from isost.pp import embed
from isost.tl import fit


def make(n_cells: int = 250, *, use_rep: str = "X_pca") -> Reconstruction:
    adata = phantom(n_sections=4, n_cells=n_cells, n_genes=10, rng=1)
    embed(adata, n_comps=4)
    if use_rep != "X_pca":
        adata.obsm[use_rep] = adata.obsm["X_pca"]
    return fit(adata, use_rep=use_rep, epochs=1, progress=False, rng=0)


@pytest.fixture(scope="module")
def fitted() -> Reconstruction:
    return make()


@pytest.fixture(scope="module")
def without_loadings() -> Reconstruction:
    return make(100, use_rep="X_other")


def test_section_between_two(fitted: Reconstruction) -> None:
    section = fitted.section(60, rng=0)
    sizes = np.diff(fitted.stack.starts)
    assert isinstance(section, AnnData)
    assert section.n_obs == pytest.approx(0.8 * sizes[1] + 0.2 * sizes[2], abs=2)
    assert (section.obsm["spatial"][:, 2] == 60).all()
    assert section.X.shape == (section.n_obs, 10) and section.X.dtype == np.float32
    assert np.allclose(section.X, fitted.stack.decoder.decode(section.obsm["X_pca"]))
    origin = section.obs["section_of_origin"]
    assert origin.dtype == "category" and set(origin) == set(fitted.stack.names[1:3])
    assert (origin == fitted.stack.names[1]).mean() == pytest.approx(0.8, abs=0.05)
    assert section.obs["cell_of_origin"].isin(fitted.stack.obs_names).all()
    assert section.var_names.tolist() == list(fitted.stack.decoder.genes)
    assert "sample" not in section.obs


def test_section_at_a_measured_depth_is_the_measured_one(fitted: Reconstruction) -> None:
    for k in (0, 2, 3):
        rows = fitted.stack.slice_of(k)
        section = fitted.section(float(fitted.stack.depths[k]), rng=0)
        order = np.argsort(section.obs["cell_of_origin"].to_numpy())
        there = np.argsort(fitted.stack.obs_names[rows])
        assert np.allclose(section.obsm["spatial"][order], fitted.stack.coords[rows][there])
        assert np.allclose(section.obsm["X_pca"][order], fitted.stack.features[rows][there])


def test_samples_follow_each_other(fitted: Reconstruction) -> None:
    section = fitted.section(75, n_samples=3, rng=0)
    assert section.obs["sample"].cat.categories.tolist() == [0, 1, 2]
    sizes = section.obs["sample"].value_counts(sort=False)
    assert np.ptp(sizes) <= 2 and section.obs_names.is_unique
    first, second = (section.obsm["spatial"][section.obs["sample"] == k][:50] for k in (0, 1))
    assert not np.allclose(first, second)


def test_a_seed_gives_the_same_section(fitted: Reconstruction) -> None:
    one, two, other = (fitted.section(75, rng=seed).obsm["spatial"] for seed in (4, 4, 5))
    assert np.array_equal(one, two)
    assert one.shape != other.shape or not np.allclose(one, other)


@pytest.mark.parametrize("z", [-0.1, 150.1, float("nan")])
def test_depth_outside(fitted: Reconstruction, z: float) -> None:
    message = "z: expected depths inside the stack, 0 to 150 um, found .* Next: ask within that range"
    with pytest.raises(ValueError, match=message):
        fitted.section(z)
    if z == z:
        with pytest.raises(ValueError, match=message):
            fitted.expression([[500.0, 500.0, z]])


def test_depth_that_is_no_number(fitted: Reconstruction) -> None:
    with pytest.raises(TypeError, match="z: expected one number"):
        fitted.section("75")  # type: ignore[arg-type]


@pytest.mark.parametrize("n_samples", [0, -1, 1.5])
def test_impossible_samples(fitted: Reconstruction, n_samples: float) -> None:
    with pytest.raises(ValueError, match="n_samples: expected 1, 2"):
        fitted.section(75, n_samples=n_samples)  # type: ignore[arg-type]


def test_expression_decodes_the_field(fitted: Reconstruction) -> None:
    places = fitted.stack.coords[::97]
    everything = fitted.expression(places)
    assert everything.shape == (len(places), 10) and everything.dtype == np.float32
    names = list(fitted.stack.decoder.genes)
    some, std = fitted.expression(places, genes=[names[7], names[2]], return_std=True)
    assert np.allclose(some, everything[:, [7, 2]], atol=1e-5)
    assert std.shape == some.shape and std.dtype == np.float32 and (std >= 0).all() and (std > 0).any()
    assert np.allclose(fitted.expression(places, genes=names[7])[:, 0], everything[:, 7], atol=1e-5)


def test_expression_at_any_order_of_places(fitted: Reconstruction) -> None:
    draw = np.random.default_rng(0)
    places = fitted.stack.coords[::31].copy()
    places[:, 2] = draw.uniform(0, 150, len(places))
    order = draw.permutation(len(places))
    assert np.allclose(fitted.expression(places)[order], fitted.expression(places[order]), atol=1e-5)


@pytest.mark.parametrize(
    ("coords", "error", "message"),
    [
        ([[1.0, 2.0]], ValueError, r"shape \(n, 3\), found \(1, 2\)"),
        ([1.0, 2.0, 3.0], ValueError, r"shape \(n, 3\), found \(3,\)"),
        ([[np.nan, 2.0, 3.0]], ValueError, "found 1 of 1 with NaN"),
        ([["a", "b", "c"]], TypeError, "coords: expected numbers"),
    ],
)
def test_bad_places(fitted: Reconstruction, coords: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fitted.expression(coords)  # type: ignore[arg-type]


def test_unknown_gene(fitted: Reconstruction) -> None:
    with pytest.raises(KeyError, match="1 unknown: 'nope'"):
        fitted.expression(fitted.stack.coords[:2], genes="nope")
    with pytest.raises(KeyError, match="1 unknown: 'nope'"):
        fitted.to_spatialdata(50, genes=["nope"])
    with pytest.raises(ValueError, match="found an empty list"):
        fitted.to_spatialdata(50, genes=[])


def test_without_loadings(without_loadings: Reconstruction) -> None:
    places = without_loadings.stack.coords[:20]
    features, std = without_loadings.expression(places, return_std=True)
    assert features.shape == std.shape == (20, 4)
    with pytest.raises(ValueError, match=r"expected a representation with loadings.*isost.pp.embed"):
        without_loadings.expression(places, genes=["a"])
    with pytest.raises(ValueError, match="expected a representation with loadings"):
        without_loadings.to_spatialdata(50, genes=["a"])
    section = without_loadings.section(60, rng=0)
    assert section.n_vars == 0 and section.obsm["X_other"].shape == (section.n_obs, 4)
    assert "without loadings" in repr(without_loadings)


def test_volume_is_the_field_at_the_voxels(fitted: Reconstruction) -> None:
    sdata = fitted.to_spatialdata(40, rng=0)
    table = sdata.tables["isost_voxels"]
    assert np.allclose(fitted.expression(table.obsm["spatial"]), table.X, atol=1e-4)
    cells = sdata.tables["isost_cells"].n_obs
    assert sdata["isost_density"].values.sum() * 40**3 == pytest.approx(cells, rel=0.1)


def test_volume_of_cells_is_their_mean(fitted: Reconstruction) -> None:
    gene = fitted.stack.decoder.genes[0]
    sdata = fitted.to_spatialdata(40, genes=gene, volume="cells", rng=0)
    table = sdata.tables["isost_voxels"]
    z, y, x = (table.obs[axis].to_numpy() for axis in "zyx")
    values = sdata["isost_volume"]["scale0"].image.values[0, z, y, x]
    assert np.array_equal(np.isnan(values), table.obs["n_cells"] == 0)
    at = int(np.argmax(table.obs["n_cells"]))
    cells = sdata.tables["isost_cells"]
    inside = (np.abs(cells.obsm["spatial"] - table.obsm["spatial"][at]) <= 20).all(axis=1)
    assert inside.sum() == table.obs["n_cells"].iloc[at]
    assert values[at] == pytest.approx(cells.X[inside, 0].mean(), rel=1e-4)
    with pytest.raises(ValueError, match="volume: expected 'field' or 'cells'"):
        fitted.to_spatialdata(40, volume="mean")  # type: ignore[arg-type]


def test_representation_says_what_it_is(fitted: Reconstruction) -> None:
    assert "4 sections" in repr(fitted) and "depths 0 to 150 um" in repr(fitted)
    assert "X_pca (4), decoded to 10 genes" in repr(fitted) and "bridge on" in repr(fitted)


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
    with pytest.raises(FileExistsError, match="Next: remove it, or choose another path"):
        fitted.save(tmp_path / "fit")
    assert (tmp_path / "fit" / HEADER).stat().st_mtime_ns == before
    fitted.save(tmp_path / "fit", overwrite=True)
    assert (tmp_path / "fit" / HEADER).stat().st_mtime_ns != before
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]


def test_overwrite_replaces_nothing_but_a_reconstruction(fitted: Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(FileExistsError, match="Expected a saved reconstruction to overwrite"):
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
    with pytest.raises(FileNotFoundError, match="Expected the folder of a saved reconstruction, found none at"):
        Reconstruction.load(tmp_path / "nowhere")


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
    with pytest.raises(ValueError, match=f"{name} damaged.*Next: save it again"):
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
