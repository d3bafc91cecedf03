"""Arguments that are no numbers, no names, no paths or no AnnData."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._core.options import FitOptions
from isost._core.random import torch_generator

QUICK = {"epochs": 1, "progress": False, "rng": 0}


@pytest.fixture(scope="module")
def letters() -> AnnData:
    adata = isost.datasets.letters(60)
    isost.pp.embed(adata, n_comps=3)
    return adata


@pytest.fixture(scope="module")
def fitted(letters: AnnData) -> isost.Reconstruction:
    return isost.tl.fit(letters, **QUICK)


def refused(call: Callable[[], object], name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"(?s){name}: expected .*found .*Next: \S"):
        call()


@pytest.mark.parametrize("n_samples", ["a", None, float("nan"), float("inf"), True, 1.5, 0, -1])
def test_samples(fitted: isost.Reconstruction, n_samples: Any) -> None:
    refused(lambda: fitted.section(50, n_samples=n_samples), "n_samples")


def test_numbers_of_numpy_are_numbers(letters: AnnData, fitted: isost.Reconstruction, tmp_path: Any) -> None:
    assert fitted.section(np.float32(50), n_samples=np.int64(2), rng=np.int32(0)).obs["sample"].nunique() == 2
    again = isost.tl.fit(letters, sigma_xy=np.float32(0.01), **{**QUICK, "epochs": np.int64(1)})
    again.save(tmp_path / "fit")
    assert isost.Reconstruction.load(tmp_path / "fit").params["settings"]["epochs"] == 1


@pytest.mark.parametrize("seed", [2**63, 2**70, 99999999999999999999999])
def test_seed_that_is_too_large(seed: int) -> None:
    refused(lambda: torch_generator(seed), "rng")
    refused(lambda: isost.datasets.phantom(rng=seed), "rng")


def test_largest_seed() -> None:
    assert torch_generator(2**63 - 1).initial_seed() == 2**63 - 1


@pytest.mark.parametrize("genes", [3, [3], [None], np.array([1.5])])
def test_genes(fitted: isost.Reconstruction, genes: Any) -> None:
    refused(lambda: fitted.expression([[0, 500, 50]], genes=genes), "genes")
    refused(lambda: fitted.to_spatialdata(100, genes=genes), "genes")


def test_one_gene_of_a_volume(letters: AnnData, fitted: isost.Reconstruction) -> None:
    sdata = fitted.to_spatialdata(200, rng=0)
    for name in (3, ["gene_1", "gene_2"], None):
        refused(lambda name=name: isost.get.gene(sdata, name), "name")
    refused(lambda: isost.get.gene(letters, "gene_1"), "sdata")


@pytest.mark.parametrize(
    "coords",
    [
        [["0", "500", "50"]],
        [[0j, 500, 50]],
        np.ones((2, 3), dtype=bool),
        [[1e300, 0, 50]],
        [[0, np.inf, 50]],
        [[1, 2], [1, 2, 3]],
        [[None, 0, 50]],
        "abc",
    ],
)
def test_places(fitted: isost.Reconstruction, coords: Any) -> None:
    refused(lambda: fitted.expression(coords), "coords")


def test_places_are_left_as_they_are(fitted: isost.Reconstruction) -> None:
    places = np.array([[0.0, 500.0, 100.0 + 1e-8]])
    fitted.expression(places)
    assert places[0, 2] == 100.0 + 1e-8


@pytest.mark.parametrize("n", ["a", None, 1.5, True, 0])
def test_number_of_components(letters: AnnData, n: Any) -> None:
    refused(lambda: isost.pp.embed(letters.copy(), n_comps=n), "n_comps")


@pytest.mark.parametrize("options", [{"n_top_genes": 2.5}, {"target_sum": "a"}, {"target_sum": float("nan")}])
def test_other_numbers_of_an_embedding(letters: AnnData, options: dict[str, Any]) -> None:
    refused(lambda: isost.pp.embed(letters.copy(), **options), next(iter(options)))


def test_nothing_to_embed() -> None:
    refused(lambda: isost.pp.embed(AnnData(obsm={"spatial": np.ones((20, 3))})), r"adata\.X")


@pytest.mark.parametrize("option", [{"preset": [1]}, {"objective": [1]}, {"device": [1]}])
def test_choices_of_a_fit(letters: AnnData, option: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError), match=r"(?i)expected"):
        isost.tl.fit(letters, **option, **QUICK)


@pytest.mark.parametrize("value", [1.5, "1", np.float64(1), np.bool_(True)])
def test_epochs(value: Any) -> None:
    with pytest.raises(ValueError, match="epochs: expected a whole number"):
        FitOptions(epochs=value).check()


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_learning_rate_that_training_diverges_with(letters: AnnData, objective: str) -> None:
    refused(
        lambda: isost.tl.fit(letters, objective=objective, learning_rate=1e30, **{**QUICK, "epochs": 3}),
        "learning_rate",
    )


@pytest.mark.parametrize("adatas", [None, 3, (name for name in "ab")])
def test_no_sections(adatas: Any) -> None:
    refused(lambda: isost.pp.stack_sections(adatas, z=[0, 1]), "adatas")


def test_sections_of_a_generator(make_stack: Callable[..., AnnData]) -> None:
    sections = [make_stack(seed=seed) for seed in range(2)]
    stacked = isost.pp.stack_sections((section for section in sections), z=[0, 1])
    assert stacked.obs["section"].nunique() == 2
    refused(lambda: isost.pp.stack_sections(sections, z=[0, 1], section_key=None), "section_key")


@pytest.mark.parametrize("path", [None, 3, b"fit"])
def test_paths_of_a_fit(fitted: isost.Reconstruction, path: Any) -> None:
    refused(lambda: fitted.save(path), "path")
    refused(lambda: isost.Reconstruction.load(path), "path")


@pytest.mark.parametrize(
    "wrong", [{"hold_out": 1.5}, {"hold_out": None}, {"hold_out": True}, {"hold_out": 1}, {"n_draws": 0},
              {"n_draws": -1}, {"n_comps": "a"}]
)  # fmt: skip
def test_cross_validation(toy: AnnData, wrong: dict[str, Any]) -> None:
    refused(lambda: isost.tl.cross_validate(toy, **{**QUICK, **wrong}), next(iter(wrong)))


def test_a_section_named_twice_is_held_out_once(toy: AnnData) -> None:
    scores = isost.tl.cross_validate(toy, hold_out=["s2", "s2"], n_draws=1, n_comps=3, **QUICK)
    assert not scores.duplicated(["method", "section"]).any()


@pytest.mark.parametrize("steps", [["a"], [2.5], None, [0], [], [9]])
def test_titration(toy: AnnData, steps: Any) -> None:
    refused(lambda: isost.tl.section_titration(toy, steps=steps, **QUICK), "steps")


@pytest.mark.parametrize("call", [isost.tl.cross_validate, isost.tl.section_titration])
def test_nothing_to_score(call: Callable[..., object], toy: AnnData) -> None:
    refused(lambda: call(3), "adata")
    toy.X = None
    refused(lambda: call(toy), r"adata\.X")


@pytest.mark.parametrize("n_cells", ["a", None, 1.5, True, 0])
def test_toys(n_cells: Any) -> None:
    for make in (isost.datasets.letters, isost.datasets.morph, isost.datasets.phantom):
        refused(lambda make=make: make(n_cells=n_cells), "n_cells")


def test_every_impossible_parameter_of_a_phantom_at_once() -> None:
    wrong = {"n_sections": "a", "n_genes": 1.5, "spacing": None, "extent": True, "dropout": "b", "section_effects": -1}
    with pytest.raises(ValueError) as caught:
        isost.datasets.phantom(**wrong)
    assert all(f"{name}: expected" in str(caught.value) for name in wrong)


@pytest.mark.parametrize("name", [3, [], None])
def test_data_sets(name: Any) -> None:
    with pytest.raises((KeyError, TypeError), match="name: expected .*found .*Next"):
        isost.datasets.fetch(name)


@pytest.mark.parametrize("name", ["picture", "picture.zzz", ".png"])
def test_kind_of_picture(toy: AnnData, tmp_path: Any, name: str) -> None:
    refused(lambda: isost.pl.sections(toy, save=tmp_path / name), "save")
    refused(lambda: isost.pl.sections(toy, save=3), "path")
    assert list(tmp_path.iterdir()) == []
