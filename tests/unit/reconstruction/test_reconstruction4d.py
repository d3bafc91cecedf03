"""Sections over depth and age as one result: asked, saved, loaded, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost
from isost import Reconstruction, Reconstruction4D
from isost._core.store import HEADER
from isost.tl import fit

KEYS: dict[str, Any] = {"depth_key": ["z_stage", "age"], "spatial_key": "spatial_stage", "progress": False}


@pytest.fixture(scope="module", autouse=True)
def _coarse_estimate() -> Iterator[None]:
    """Of covariances, which takes longer than all else."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("isost._time.field.MAX_GROUPS", 100)
        yield


@pytest.fixture(scope="module")
def _cells() -> AnnData:
    adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.0, 0.3], n_cells=30, n_genes=12, rng=3)
    isost.pp.embed(adata, n_comps=3)
    isost.pp.align_stages(adata, z_key="z")
    return adata


@pytest.fixture
def cells(_cells: AnnData) -> AnnData:
    """Two stages of three sections each."""
    return _cells.copy()


@pytest.fixture(scope="module")
def both(_cells: AnnData) -> Reconstruction4D:
    return fit(_cells, **KEYS)


@pytest.fixture(scope="module")
def plain() -> Reconstruction4D:
    """Without loadings and without sizes; depths that differ between the stages."""
    draw = np.random.default_rng(0)
    z, age = np.repeat([0.0, 50.0, 10.0, 90.0], 30), np.repeat([1.0, 1.0, 2.0, 2.0], 30)
    adata = AnnData(obs=pd.DataFrame({"z_stage": z, "age": age}, index=[f"c{i}" for i in range(120)]))
    adata.obsm["spatial_stage"] = draw.uniform(0, 200, (120, 2))
    adata.obsm["X_own"] = np.sin(adata.obsm["spatial_stage"] / 40).astype(np.float32)
    return fit(adata, use_rep="X_own", **KEYS)


def places(n: int = 30, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.uniform([-500, -200, -100, 9.5], [500, 200, 100, 11.5], (n, 4))


def test_its_name_says_sections_and_stages(both: Reconstruction4D, plain: Reconstruction4D) -> None:
    first, second = repr(both).splitlines()
    assert first == f"Reconstruction4D of 6 sections ({both.sheet.stack.n_cells:,} cells), 2 stages from 9.5 to 11.5"
    assert second.strip() == "features: X_pca (3), decoded to 12 genes"
    assert repr(plain).endswith("features: X_own (2), without loadings")


def test_a_measured_section_comes_back(both: Reconstruction4D, cells: AnnData) -> None:
    for z, age in both.sheet.at[[0, 4]]:
        section = both.section(z, age, rng=0)
        own = cells[np.isclose(cells.obs["z_stage"], z) & (cells.obs["age"] == age)]
        assert sorted(section.obs["cell_of_origin"]) == sorted(own.obs_names)
        own = own[section.obs["cell_of_origin"].astype(str)]
        np.testing.assert_allclose(section.obsm["spatial"][:, :2], own.obsm["spatial_stage"])
        np.testing.assert_array_equal(section.obsm["X_pca"], own.obsm["X_pca"])


def test_layout_of_a_section(both: Reconstruction4D, cells: AnnData) -> None:
    section = both.section(20.0, 10.2, rng=0)
    assert section.var_names.tolist() == cells.var_names.tolist()
    assert (section.obs["age"] == 10.2).all() and (section.obsm["spatial"][:, 2] == 20.0).all()
    about = both.sheet.about(20.0, 10.2)
    assert set(section.obs["section_of_origin"]) == {both.sheet.stack.names[k] for k in about}
    expected = sum(weight * np.diff(both.sheet.stack.starts)[k] for k, weight in about.items())
    assert abs(section.n_obs - expected) <= 1


def test_draws_follow_one_another(both: Reconstruction4D) -> None:
    section = both.section(20.0, 10.2, n_samples=3, rng=0)
    assert section.obs["sample"].cat.categories.tolist() == [0, 1, 2]
    counts = section.obs["sample"].value_counts(sort=False).to_numpy()
    assert np.ptp(counts) <= 1
    first = section[section.obs["sample"] == 0]
    alone = both.section(20.0, 10.2, rng=0)
    np.testing.assert_array_equal(first.obsm["spatial"], alone.obsm["spatial"])


def test_the_seed_decides(both: Reconstruction4D) -> None:
    one, same, other = (both.section(20.0, 10.2, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.obsm["spatial"], same.obsm["spatial"])
    assert set(one.obs["cell_of_origin"]) != set(other.obs["cell_of_origin"])


@pytest.mark.parametrize("age", [9.5, 10.1, 11.5])
def test_cells_come_in_the_size_of_their_age_too(both: Reconstruction4D, cells: AnnData, age: float) -> None:
    """All three coordinates; the logarithm of the size is linear between stages."""
    said = cells.uns["spatial_stage"]
    size = np.exp(np.interp(age, said["ages"], np.log(said["size"]))) / said["size_common"]
    section = both.section(30.0, age, rng=0)
    np.testing.assert_allclose(section.obsm["spatial_grown"], size * section.obsm["spatial"])


def test_without_sizes_sections_come_in_the_frame_only(plain: Reconstruction4D) -> None:
    assert "spatial_grown" not in plain.section(30.0, 1.5, rng=0).obsm


def test_a_stage_is_a_stack_of_sections(both: Reconstruction4D) -> None:
    stage = both.stage(10.2, depths=4, rng=0)
    assert stage.obs_names.is_unique and (stage.obs["age"] == 10.2).all()
    depths = stage.obs.assign(z=stage.obsm["spatial"][:, 2]).groupby("section", observed=True)["z"].unique()
    assert len(depths) == 4 and all(len(one) == 1 for one in depths)
    found = np.sort(np.concatenate(depths.to_list()))
    ends = [np.interp(10.2, [9.5, 11.5], both.sheet.at[[k, k + 3], 0]) for k in (0, 2)]
    np.testing.assert_allclose(found, np.linspace(*ends, 4))
    assert stage.uns["spatial_unit"] == "um"


def test_a_stage_of_given_depths(both: Reconstruction4D) -> None:
    stage = both.stage(10.2, depths=[-50.0, 20.0], rng=0)
    assert stage.obs["section"].cat.categories.tolist() == ["-50.0", "20.0"]
    first = stage[stage.obs["section"] == "-50.0"]
    np.testing.assert_array_equal(first.obsm["spatial"], both.section(-50.0, 10.2, rng=0).obsm["spatial"])


def test_expression_of_chosen_genes(both: Reconstruction4D, cells: AnnData) -> None:
    genes = cells.var_names[[7, 2]].tolist()
    every, deviation = both.expression(places(), return_std=True)
    assert every.shape == deviation.shape == (30, 12) and every.dtype == deviation.dtype == np.float32
    assert deviation.min() > 0
    some, of_some = both.expression(places(), genes=genes, return_std=True)
    np.testing.assert_allclose(some, every[:, [7, 2]], atol=1e-5)
    np.testing.assert_allclose(of_some, deviation[:, [7, 2]], atol=1e-5)
    np.testing.assert_allclose(both.expression(places(), genes=genes[0]), every[:, [7]], atol=1e-5)
    np.testing.assert_allclose(both.expression(places()), every, atol=1e-6)


def test_expression_at_a_section_is_that_of_its_cells(both: Reconstruction4D, cells: AnnData) -> None:
    """Of genes that organs differ by, as far as their counts say."""
    coords = np.column_stack([cells.obsm["spatial_stage"], cells.obs[["z_stage", "age"]]])
    known = isost.datasets.embryo_truth(cells)
    said, z = cells.uns["spatial_stage"], cells.obs["z"]
    number, turned = cells.obs["stage"].cat.codes, cells.uns["embryo"]
    back = cells.obsm["spatial"] - turned["shift"][number]
    cos, sin = np.cos(turned["angle"][number]), np.sin(turned["angle"][number])
    x, y = cos * back[:, 0] + sin * back[:, 1], cos * back[:, 1] - sin * back[:, 0]
    mean = known.expression(np.column_stack([x, y, z, cells.obs["age"]]))
    found = both.expression(coords)
    varying = mean.std(axis=0) > 0.3
    assert varying.sum() >= 3 and len(said["ages"]) == 2
    for column in np.flatnonzero(varying):
        assert np.corrcoef(found[:, column], mean[:, column])[0, 1] > 0.6


def test_places_are_predicted_whatever_others_are_asked(both: Reconstruction4D) -> None:
    together = both.expression(places())
    np.testing.assert_allclose(both.expression(places()[4:6]), together[4:6], atol=1e-5)
    assert both.expression(np.zeros((0, 4))).shape == (0, 12)


def test_places_are_left_as_they_are(both: Reconstruction4D) -> None:
    asked = places()
    asked.setflags(write=False)
    both.expression(asked)
    np.testing.assert_array_equal(asked, places())


def test_without_loadings_features_are_told(plain: Reconstruction4D) -> None:
    stack = plain.sheet.stack
    coords = np.column_stack([stack.coords[:30, :2], np.tile(plain.sheet.at[0], (30, 1))])
    mean, deviation = plain.expression(coords, return_std=True)
    assert mean.shape == deviation.shape == (30, 2)
    assert np.corrcoef(mean.ravel(), stack.features[:30].ravel())[0, 1] > 0.95
    assert "X_own" in plain.section(20.0, 1.2, rng=0).obsm
    with pytest.raises(ValueError, match=r"genes: expected a representation with loadings.*Next: leave genes out"):
        plain.expression(coords, genes=["Gad1"])


def test_unknown_genes(both: Reconstruction4D) -> None:
    with pytest.raises(KeyError, match=r"genes: expected names .*'Gad1'.*Next: "):
        both.expression(places(), genes=["marker_1", "Gad1"])


@pytest.mark.parametrize(
    ("coords", "error"),
    [
        (np.zeros((2, 3)), ValueError), (np.zeros(4), ValueError), ([[0, 0, np.nan, 10]], ValueError),
        ([["0", "0", "0", "10"]], TypeError), ("abc", TypeError), (np.ones((1, 4), dtype=bool), TypeError),
    ],
)  # fmt: skip
def test_places_that_are_none(both: Reconstruction4D, coords: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"coords: expected .*found .*Next: "):
        both.expression(coords)


@pytest.mark.parametrize("age", [9.4, 11.6, float("nan")])
def test_an_age_outside(both: Reconstruction4D, age: float) -> None:
    for call in (lambda: both.section(0.0, age), lambda: both.stage(age), lambda: both.expression([[0, 0, 0, age]])):
        with pytest.raises(ValueError, match=r"expected .*found .*Next: "):
            call()
    with pytest.raises(ValueError, match=r"age: expected one from 9\.5 to 11\.5, found .*Next"):
        both.section(0.0, age)


def test_a_depth_outside_what_the_stages_about_it_reach(plain: Reconstruction4D) -> None:
    """From 0 to 50 at the first age and from 10 to 90 at the last."""
    for z, age in ((-1.0, 1.0), (50.1, 1.0), (9.0, 2.0), (4.0, 1.5), (71.0, 1.5), (float("nan"), 1.5)):
        with pytest.raises(ValueError, match=rf"z: expected a depth from .* about age {age:g} reach, found {z:g}"):
            plain.section(z, age)
    for z, age in ((0.0, 1.0), (90.0, 2.0), (5.0, 1.5), (70.0, 1.5)):
        assert plain.section(z, age, rng=0).n_obs > 0


@pytest.mark.parametrize("arguments", [("a", 10.0), (0.0, None), (True, 10.0)])
def test_numbers_that_are_none(both: Reconstruction4D, arguments: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match=r"expected one number, found .*Next"):
        both.section(*arguments)


@pytest.mark.parametrize("options", [{"n_samples": 0}, {"n_samples": 1.5}])
def test_samples(both: Reconstruction4D, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="n_samples: expected a whole number"):
        both.section(0.0, 10.0, **options)


@pytest.mark.parametrize("depths", [1, 2.5, "ab"])
def test_numbers_of_depths(both: Reconstruction4D, depths: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="depths: expected a whole number of 2 or more"):
        both.stage(10.0, depths=depths)


def test_a_fit_says_how_it_was_made(both: Reconstruction4D) -> None:
    assert both.params["objective"] == "sheet"
    assert both.params["settings"] == {"n_candidates": 48, "feature_weight": 2.0}
    assert both.params["motion"] in (True, False) and set(both.params["left_out"]) == {"frame", "still"}
    assert json.loads(json.dumps(both.params)) == both.params


def test_order_of_cells_does_not_matter(both: Reconstruction4D, cells: AnnData) -> None:
    again = fit(cells[::-1].copy(), **KEYS)
    np.testing.assert_array_equal(again.expression(places()), both.expression(places()))


def test_the_input_is_left_as_it_is(cells: AnnData, _cells: AnnData) -> None:
    fit(cells, **KEYS)
    pd.testing.assert_frame_equal(cells.obs, _cells.obs)
    assert set(cells.obsm) == set(_cells.obsm) and set(cells.uns) == set(_cells.uns)
    for key in cells.obsm:
        np.testing.assert_array_equal(cells.obsm[key], _cells.obsm[key])
    assert (cells.X != _cells.X).nnz == 0


def test_an_interrupted_fit_goes_on(
    both: Reconstruction4D, cells: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isost._time import frame

    coupled, calls = frame._coupled, []

    def stop(*args: Any) -> dict[str, np.ndarray]:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError
        return coupled(*args)

    monkeypatch.setattr(frame, "_coupled", stop)
    folder = tmp_path / "progress"
    with pytest.raises(MemoryError):
        fit(cells, checkpoint=folder, **KEYS)
    kept = list(folder.glob("coupling_*.npz"))
    with pytest.raises(FileExistsError, match=r"expected a folder without a fit.*resume=True"):
        fit(cells, checkpoint=folder, **KEYS)
    with pytest.raises(ValueError, match="found one with other n_candidates"):
        fit(cells, checkpoint=folder, resume=True, n_candidates=20, **KEYS)
    with pytest.raises(ValueError, match="found one with other data"):
        fit(cells[3:].copy(), checkpoint=folder, resume=True, **KEYS)
    resumed = fit(cells, checkpoint=folder, resume=True, **KEYS)
    assert len(calls) - 4 == 2 * len(both.sheet.edges()) - len(kept) and len(kept) >= 1
    np.testing.assert_array_equal(resumed.field.shift, both.field.shift)
    np.testing.assert_array_equal(resumed.expression(places()), both.expression(places()))
    assert list(tmp_path.iterdir()) == []


def test_other_depths_are_another_fit(cells: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("isost._time.fit.calibrated", stop)
    with pytest.raises(MemoryError):
        fit(cells, checkpoint=tmp_path / "progress", **KEYS)
    cells.obs["z_stage"] *= 2.0
    with pytest.raises(ValueError, match=r"found one with other .*\bat in"):
        fit(cells, checkpoint=tmp_path / "progress", resume=True, **KEYS)


@pytest.fixture
def saved(both: Reconstruction4D, tmp_path: Path) -> Path:
    both.save(tmp_path / "fit")
    return tmp_path / "fit"


def test_saved_and_loaded_is_the_same(both: Reconstruction4D, saved: Path) -> None:
    again = Reconstruction4D.load(saved)
    assert (again.params, repr(again)) == (both.params, repr(both))
    for name in ("coords", "features", "starts", "rows", "obs_names", "growth"):
        np.testing.assert_array_equal(getattr(again.sheet.stack, name), getattr(both.sheet.stack, name))
    np.testing.assert_array_equal(again.sheet.at, both.sheet.at)
    for one, other in zip(*(fitted.expression(places(), return_std=True) for fitted in (again, both)), strict=True):
        np.testing.assert_array_equal(one, other)
    one, other = (fitted.section(20.0, 10.2, rng=3) for fitted in (again, both))
    for key in ("spatial", "spatial_grown", "X_pca"):
        np.testing.assert_array_equal(one.obsm[key], other.obsm[key])
    assert one.obs.equals(other.obs)


def test_saved_without_loadings(plain: Reconstruction4D, tmp_path: Path) -> None:
    plain.save(tmp_path / "fit")
    again = Reconstruction4D.load(tmp_path / "fit")
    assert again.sheet.stack.decoder is None and again.sheet.stack.growth is None
    asked = [[50.0, 60.0, 30.0, 1.5]]
    np.testing.assert_array_equal(again.expression(asked), plain.expression(asked))


def test_no_pickle_is_written(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["field.npz", HEADER, "stack.npz"]
    for path in saved.glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)


def test_existing_path(both: Reconstruction4D, saved: Path) -> None:
    before = (saved / HEADER).stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="Next: overwrite=True, or another path"):
        both.save(saved)
    assert (saved / HEADER).stat().st_mtime_ns == before
    both.save(saved, overwrite=True)
    assert (saved / HEADER).stat().st_mtime_ns != before
    assert [path.name for path in saved.parent.iterdir()] == ["fit"]


def test_overwrite_replaces_nothing_but_a_reconstruction(both: Reconstruction4D, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(FileExistsError, match="Expected a saved fit to overwrite"):
        both.save(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.png").exists()


def test_one_kind_of_fit_is_not_loaded_as_the_other(saved: Path, fitted: Reconstruction, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"found another {HEADER}.*Next: check the path"):
        Reconstruction.load(saved)
    fitted.save(tmp_path / "along depth")
    with pytest.raises(ValueError, match=f"found another {HEADER}.*Next: check the path"):
        Reconstruction4D.load(tmp_path / "along depth")


@pytest.mark.parametrize("name", [HEADER, "stack.npz", "field.npz"])
def test_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"found no {name}"):
        Reconstruction4D.load(saved)


@pytest.mark.parametrize("name", [HEADER, "stack.npz", "field.npz"])
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
        Reconstruction4D.load(saved)


def test_newer_version(saved: Path) -> None:
    header = json.loads((saved / HEADER).read_text())
    (saved / HEADER).write_text(json.dumps(header | {"format_version": 99}))
    with pytest.raises(ValueError, match="version 1 or older, found 99 in .* Next: pip install --upgrade isost"):
        Reconstruction4D.load(saved)


@pytest.mark.parametrize("missing", ["stack", "params"])
def test_header_that_does_not_fit(saved: Path, missing: str) -> None:
    header = json.loads((saved / HEADER).read_text())
    del header[missing]
    (saved / HEADER).write_text(json.dumps(header))
    with pytest.raises(ValueError, match="damaged"):
        Reconstruction4D.load(saved)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected the folder of a saved fit, found none at"):
        Reconstruction4D.load(tmp_path / "nowhere")
