"""Expression fitted to features of stained slides: what is told of other slides, and what a fit takes and refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse, stats

import isost
from isost._histology import fit as room

QUICK: dict[str, Any] = {"progress": False, "device": "cpu"}
HOW: dict[str, dict[str, Any]] = {
    "ridge": {"method": "ridge", **QUICK},
    "network": {"method": "network", "hidden": (64,), "epochs": 25, **QUICK},
    "prts": {"method": "prts", "hidden": (64, 64), "epochs": 25, **QUICK},
}
SHORT: dict[str, Any] = {"hidden": (16,), "epochs": 3, **QUICK}
RIDGE: dict[str, Any] = HOW["ridge"]

Slides = dict[str, tuple[AnnData, AnnData]]
MakeUp = Callable[..., tuple[AnnData, dict[str, AnnData]]]


def lognormal(adata: AnnData, genes: Any) -> np.ndarray:
    counts = adata.X.toarray()
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)[:, adata.var_names.get_indexer(genes)]


def linked(told: AnnData, measured: AnnData) -> tuple[float, float]:
    """Mean Pearson's r of genes that follow the image, and of those that do not."""
    wanted = lognormal(measured, told.var_names)
    r = np.array([stats.pearsonr(told.X[:, gene], wanted[:, gene])[0] for gene in range(told.n_vars)])
    none = (measured.var["link"][told.var_names] == "none").to_numpy()
    return r[~none].mean(), r[none].mean()


def same(one: AnnData, other: AnnData) -> None:
    np.testing.assert_array_equal(one.X, other.X)
    assert set(one.layers) == set(other.layers)
    for name in one.layers:
        np.testing.assert_array_equal(one.layers[name], other.layers[name])
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)


@pytest.fixture(scope="module")
def two(stained_slides: Slides) -> tuple[AnnData, dict[str, AnnData]]:
    """Slides "a" and "b" together."""
    adata = ad.concat([stained_slides[name][0] for name in "ab"], merge="same")
    return adata, {name: stained_slides[name][1] for name in "ab"}


@pytest.fixture(scope="module")
def models(two: tuple[AnnData, dict[str, AnnData]]) -> dict[str, isost.HistologyModel]:
    return {method: isost.tl.fit_histology(*two, **how) for method, how in HOW.items()}


@pytest.mark.parametrize("method", HOW)
@pytest.mark.parametrize("name", ["c", "other"])
def test_linked_genes_are_told_on_another_slide(
    stained_slides: Slides, models: dict[str, isost.HistologyModel], method: str, name: str
) -> None:
    """Stained otherwise, too; genes that follow nothing of the image are not told."""
    measured, features = stained_slides[name]
    told = models[method].predict(features, device="cpu")
    follow, none = linked(told, measured)
    assert follow > {"ridge": 0.5, "network": 0.5, "prts": 0.3}[method] and abs(none) < 0.12, (follow, none)
    assert (told.obs["out_of_distribution"] > 1).mean() < 0.2
    if method != "prts":
        np.testing.assert_allclose(told.X.mean(axis=0), lognormal(measured, told.var_names).mean(axis=0), atol=0.8)


@pytest.mark.parametrize("method", HOW)
def test_held_out_accuracy_says_which_genes_are_told(
    stained_slides: Slides, models: dict[str, isost.HistologyModel], method: str
) -> None:
    model = models[method]
    none = (stained_slides["c"][0].var["link"][model.genes] == "none").to_numpy()
    assert model.accuracy.index.name == "gene" and model.accuracy.index.tolist() == model.genes
    assert model.accuracy["pcc"][~none].mean() > model.accuracy["pcc"][none].mean() + 0.15
    assert 0 < model.trust <= 0.95
    assert model.accuracy["expressed"].between(0, 1).all()


@pytest.mark.parametrize("part", ["local", "global"])
def test_some_of_the_features(stained_slides: Slides, two: tuple[AnnData, dict[str, AnnData]], part: str) -> None:
    adata, features = two
    some = {name: each[:, each.var["part"] == part] for name, each in features.items()}
    model = isost.tl.fit_histology(adata, some, **RIDGE)
    measured, other = stained_slides["c"]
    told = model.predict(other, device="cpu")
    same(told, model.predict(other[:, other.var["part"] == part], device="cpu"))
    wanted = lognormal(measured, model.genes)
    link = measured.var["link"][model.genes].to_numpy()
    for follows, least in {"local": {"area": 0.6, "darkness": 0.6}, "global": {"density": 0.4}}[part].items():
        r = [stats.pearsonr(told.X[:, gene], wanted[:, gene])[0] for gene in np.flatnonzero(link == follows)]
        assert np.mean(r) > least, (follows, r)


@pytest.mark.parametrize("method", HOW)
def test_cells_beyond_what_was_measured(stained_slides: Slides, method: str) -> None:
    """The left half is measured, all of the slide is told."""
    measured, features = stained_slides["a"]
    left = measured.obsm["spatial"][:, 0] < np.median(measured.obsm["spatial"][:, 0])
    model = isost.tl.fit_histology(measured[left], features, **HOW[method])
    told = model.predict(features, device="cpu")
    assert told.n_obs == 300 and model.fitted.info["n_cells"] == left.sum()
    follow, none = linked(told[~left], measured[~left])
    assert follow > 0.25 and abs(none) < 0.2, (follow, none)
    np.testing.assert_allclose(model.fitted.scale.mean[0], features.X.mean(axis=0, dtype=float), rtol=1e-5)


@pytest.mark.parametrize("method", HOW)
def test_what_is_told(stained_slides: Slides, models: dict[str, isost.HistologyModel], method: str) -> None:
    features, model = stained_slides["c"][1], models[method]
    told = model.predict(features, device="cpu", interval=0.8)
    assert list(told.layers) == ["expressed", "level", "sd", "lower", "upper"]
    assert told.X.dtype == np.float32 and all(values.dtype == np.float32 for values in told.layers.values())
    expressed, level = told.layers["expressed"], told.layers["level"]
    np.testing.assert_allclose(told.X, expressed * level, rtol=0 if method == "prts" else 1e-6)
    assert (told.X >= 0).all() and (expressed >= 0).all() and (expressed <= 1).all() and (level >= 0).all()
    assert (told.layers["sd"] > 0).all() and (told.layers["lower"] <= told.layers["upper"]).all()
    assert told.obs_names.equals(features.obs_names) and told.var_names.tolist() == model.genes
    pd.testing.assert_frame_equal(told.obs[list(features.obs)], features.obs)
    pd.testing.assert_frame_equal(told.var, model.accuracy, check_names=False)
    np.testing.assert_array_equal(told.obsm["spatial"], features.obsm["spatial"])
    assert told.uns["histology"]["trust"] == model.trust and told.uns["histology"]["method"] == method
    assert told.uns["histology"]["encoder"] == "texture"
    assert f"by {method} from 304 features of 600 cells" in repr(model)


def test_calls_and_levels_follow_what_was_measured(
    stained_slides: Slides, models: dict[str, isost.HistologyModel]
) -> None:
    measured, features = stained_slides["c"]
    for method, model in models.items():
        share = (lognormal(measured, model.genes) > 0).mean(axis=0)
        told = model.predict(features, device="cpu", layers=["expressed"])
        assert list(told.layers) == ["expressed"]
        np.testing.assert_allclose(told.layers["expressed"].mean(axis=0), share, atol=0.2, err_msg=method)


@pytest.mark.parametrize("method", HOW)
def test_a_model_is_saved_and_loaded(
    stained_slides: Slides, models: dict[str, isost.HistologyModel], tmp_path: Path, method: str
) -> None:
    model, features = models[method], stained_slides["other"][1]
    model.save(tmp_path / "model")
    state = torch.random.get_rng_state()
    loaded = isost.HistologyModel.load(str(tmp_path / "model"))
    assert torch.equal(state, torch.random.get_rng_state())
    assert repr(loaded) == repr(model) and loaded.params == model.params and loaded.trust == model.trust
    assert loaded.genes == model.genes and loaded.fitted.history == model.fitted.history
    pd.testing.assert_frame_equal(loaded.accuracy, model.accuracy)
    same(loaded.predict(features, interval=0.9, device="cpu"), model.predict(features, interval=0.9, device="cpu"))
    same(loaded.predict(features, like="a", device="cpu"), model.predict(features, like="a", device="cpu"))
    loaded.save(tmp_path / "model", overwrite=True)
    same(isost.HistologyModel.load(tmp_path / "model").predict(features, device="cpu"),
         model.predict(features, device="cpu"))  # fmt: skip


def test_features_from_disk_make_a_model_that_is_saved(made_up: MakeUp, tmp_path: Path) -> None:
    adata, features = made_up()
    features["s0"].write_h5ad(tmp_path / "features.h5ad")
    read = ad.read_h5ad(tmp_path / "features.h5ad")
    model = isost.tl.fit_histology(adata, read, **RIDGE)
    model.save(tmp_path / "model")
    same(isost.HistologyModel.load(tmp_path / "model").predict(read), model.predict(features["s0"]))


def test_what_is_told_is_written(made_up: MakeUp, tmp_path: Path) -> None:
    adata, features = made_up(2)
    told = isost.tl.fit_histology(adata, features, **RIDGE).predict(features["s1"], interval=0.5)
    told.write_h5ad(tmp_path / "told.h5ad")
    read = ad.read_h5ad(tmp_path / "told.h5ad")
    same(read, told)
    assert read.uns["histology"]["trust"] == told.uns["histology"]["trust"]


@pytest.mark.parametrize("method", HOW)
def test_the_same_seed_gives_the_same(made_up: MakeUp, method: str) -> None:
    adata, features = made_up(2, n=50)
    how = HOW[method] | ({} if method == "ridge" else {"epochs": 3})
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = isost.tl.fit_histology(adata, features, rng=3, **how)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(2)
    again = isost.tl.fit_histology(adata, features, rng=3, **how)
    same(one.predict(features["s0"]), again.predict(features["s0"]))
    assert one.trust == again.trust and one.fitted.history == again.fitted.history
    if method != "ridge":
        other = isost.tl.fit_histology(adata, features, rng=np.random.default_rng(4), **how)
        assert not np.array_equal(one.predict(features["s0"]).X, other.predict(features["s0"]).X)


def test_the_input_is_left_as_it_is(made_up: MakeUp) -> None:
    adata, features = made_up(2)
    before, parts = adata.copy(), {name: part.copy() for name, part in features.items()}
    for genes in ("hvg", "markers"):
        model = isost.tl.fit_histology(adata, features, genes=genes, **RIDGE)
    model.predict(features["s0"], interval=0.9)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())
    assert list(adata.uns) == list(before.uns) and list(adata.obsm) == list(before.obsm)
    for name, part in parts.items():
        same(features[name], part)
        assert features[name].uns == part.uns and list(features[name].obsm) == list(part.obsm)


def test_what_features_of_several_slides_may_be(made_up: MakeUp) -> None:
    """A list, a dictionary, or one of all with the column of sections: all the same."""
    adata, features = made_up(3)
    whole = ad.concat(list(features.values()), merge="same", uns_merge="first")
    models = [
        isost.tl.fit_histology(adata, given, section_key=key, **RIDGE)
        for given, key in ((features, None), (list(features.values()), None), (whole, "section"), (features, "section"),
                           (dict(reversed(features.items())), "section"))
    ]  # fmt: skip
    assert [model.fitted.info["n_slides"] for model in models] == [3] * 5
    assert models[1].fitted.scale.slides == ["0", "1", "2"] and models[2].fitted.scale.slides == ["s0", "s1", "s2"]
    told = [model.predict(features["s1"]).X for model in models]
    for one in told[1:]:
        np.testing.assert_allclose(one, told[0], atol=1e-4)


def test_the_scale_is_that_of_all_cells_of_a_slide(made_up: MakeUp) -> None:
    """Measured or not, whatever the order of slides."""
    adata, features = made_up(2, n=80)
    some = adata[np.arange(160) % 2 == 0]
    for given in (features, dict(reversed(features.items()))):
        scale = isost.tl.fit_histology(some, given, section_key="section", **RIDGE).fitted.scale
        assert scale.slides == ["s0", "s1"]
        for number, name in enumerate(scale.slides):
            np.testing.assert_allclose(scale.mean[number], features[name].X.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("method", HOW)
@pytest.mark.parametrize("standardise", ["slide", "all"])
def test_slides_where_nothing_was_measured(made_up: MakeUp, method: str, standardise: Any) -> None:
    adata, features = made_up(5, n=40)
    measured = adata[adata.obs["section"].isin(["s0", "s3", "s4"])]
    how = HOW[method] | ({} if method == "ridge" else {"epochs": 2})
    model = isost.tl.fit_histology(measured, features, standardise=standardise, **how)
    assert model.fitted.info["n_slides"] == model.fitted.info["n_folds"] == 3
    assert np.isfinite(model.predict(features["s1"]).X).all() and np.isfinite(model.trust)


@pytest.mark.parametrize("method", HOW)
def test_a_slide_with_a_single_cell(made_up: MakeUp, method: str) -> None:
    adata, features = made_up(2, n=60)
    how = HOW[method] | ({} if method == "ridge" else {"epochs": 2})
    model = isost.tl.fit_histology(adata[:61], features, **how)
    assert np.isfinite(model.predict(features["s1"]).X).all() and np.isfinite(model.trust)


def test_features_as_they_are(made_up: MakeUp) -> None:
    """Slides that differ in what they show are told to, if that is asked for."""
    adata, features = made_up(3, n=100)
    dense = adata.X.toarray()
    for number in range(3):
        features[f"s{number}"].X = features[f"s{number}"].X + number
        dense[number * 100 : (number + 1) * 100, 0] *= 1 + 4 * number
    adata.X = dense
    whole = ad.concat(list(features.values()), merge="same", uns_merge="first")
    apart = []
    for standardise in ("slide", "all"):
        model = isost.tl.fit_histology(adata, features, standardise=standardise, **RIDGE)
        assert model.params["standardise"] == standardise
        told = model.predict(whole, slide_key=None) if standardise == "all" else None
        if told is None:
            told = ad.concat([model.predict(part) for part in features.values()], merge="same")
        gene = told.var_names.get_loc("Gene0")
        apart.append(told.X[200:, gene].mean() - told.X[:100, gene].mean())
    assert apart[0] < 0.3 < apart[1], apart


@pytest.mark.parametrize("make", [
    lambda x: x, lambda x: x.tocsc(), lambda x: x.toarray(), lambda x: x.astype(np.int64), lambda x: x.astype(float),
    lambda x: x.toarray().astype(np.uint16), sparse.csr_array,
], ids=["csr", "csc", "dense", "int", "float64", "uint16", "array"])  # fmt: skip
def test_kinds_of_expression(made_up: MakeUp, make: Any) -> None:
    adata, features = made_up()
    wanted = isost.tl.fit_histology(adata, features, **RIDGE).predict(features["s0"])
    adata.X = make(adata.X)
    told = isost.tl.fit_histology(adata, features, **RIDGE).predict(features["s0"])
    assert told.var_names.equals(wanted.var_names)
    np.testing.assert_allclose(told.X, wanted.X, atol=1e-4)


def test_counts_and_what_was_log_normalised_are_the_same(made_up: MakeUp) -> None:
    adata, features = made_up()
    wanted = isost.tl.fit_histology(adata, features, **RIDGE).predict(features["s0"])
    logged = adata.copy()
    logged.X = lognormal(adata, list(adata.var_names)).astype(np.float32)
    logged.layers["counts"] = adata.X
    for layer in (None, "counts"):
        told = isost.tl.fit_histology(logged, features, layer=layer, **RIDGE).predict(features["s0"])
        np.testing.assert_allclose(told.X, wanted.X, atol=1e-4)


def test_a_view_in_another_order(made_up: MakeUp) -> None:
    """Cells are matched by name."""
    adata, features = made_up(n=90)
    order = np.random.default_rng(0).permutation(90)[:60]
    one = isost.tl.fit_histology(adata[np.sort(order)].copy(), features["s0"], **RIDGE)
    two = isost.tl.fit_histology(adata[order], features["s0"][::-1], **RIDGE)
    np.testing.assert_allclose(one.predict(features["s0"]).X.mean(axis=0), two.predict(features["s0"]).X.mean(axis=0),
                               atol=0.02)  # fmt: skip
    assert np.corrcoef(one.predict(features["s0"]).X.ravel(), two.predict(features["s0"]).X.ravel())[0, 1] > 0.98


def test_cells_without_features_are_said(made_up: MakeUp, caplog: pytest.LogCaptureFixture) -> None:
    adata, features = made_up(n=60)
    with caplog.at_level(logging.WARNING, logger="isost"):
        model = isost.tl.fit_histology(adata, features["s0"][:50], **RIDGE)
    assert "10 of 60 cells have no features and are left out" in caplog.text
    assert model.fitted.info["n_cells"] == 50


@pytest.mark.parametrize("method", HOW)
def test_odd_data(made_up: MakeUp, method: str) -> None:
    """Two cells at one place, a gene that no cell expresses, one that all do, a cell without counts."""
    adata, features = made_up()
    dense = adata.X.toarray()
    dense[:, 1], dense[:, 2], dense[3] = 0, dense[:, 2] + 5, 0
    adata.X = sparse.csr_matrix(dense)
    features["s0"].obsm["spatial"][1] = features["s0"].obsm["spatial"][0]
    features["s0"].X[1] = features["s0"].X[0]
    how = HOW[method] | ({} if method == "ridge" else {"epochs": 3})
    model = isost.tl.fit_histology(adata, features, genes=["Gene2", "Gene1", "Gene0"], **how)
    assert model.genes == ["Gene2", "Gene1", "Gene0"]
    assert model.accuracy.loc["Gene1", ["pcc", "r2", "expressed"]].tolist() == [0, 0, 0]
    told = model.predict(features["s0"], interval=0.9)
    for values in (told.X, *told.layers.values()):
        assert np.isfinite(values).all()
    assert told[:, "Gene1"].X.max() < 0.5 and told[:, "Gene1"].layers["expressed"].max() < 0.5


@pytest.mark.parametrize("method", HOW)
@pytest.mark.parametrize(("n_genes", "n_features"), [(1, 6), (2, 1), (150, 3)])
def test_few_genes_and_more_genes_than_cells(made_up: MakeUp, method: str, n_genes: int, n_features: int) -> None:
    adata, features = made_up(n=50, n_genes=n_genes, n_features=n_features)
    if n_genes == 1:  # counts of a single gene are all the same, in 10,000
        adata.X = adata.X.log1p() * 0.9
    how = HOW[method] | ({} if method == "ridge" else {"epochs": 2})
    model = isost.tl.fit_histology(adata, features["s0"], **how)
    told = model.predict(features["s0"])
    assert told.shape == (50, n_genes) and np.isfinite(told.X).all() and np.isfinite(told.layers["level"]).all()
    assert np.isfinite(told.obs["out_of_distribution"]).all()


def test_what_follows_nothing_is_not_trusted(stained_slides: Slides) -> None:
    """Of one slide whose expression was dealt out anew, little is told, and that counts little."""
    measured, features = stained_slides["a"]
    trust = []
    for seed in range(3):
        dealt = measured[np.random.default_rng(seed).permutation(measured.n_obs)].copy()
        dealt.obs_names = measured.obs_names
        model = isost.tl.fit_histology(dealt, features, **RIDGE)
        assert abs(model.accuracy["pcc"].mean()) < 0.05
        trust.append(model.trust)
    assert np.mean(trust) < 0.4 < isost.tl.fit_histology(measured, features, **RIDGE).trust


def test_counts_of_a_single_gene(made_up: MakeUp) -> None:
    adata, features = made_up(n_genes=1)
    adata.X = adata.X.toarray() + 1
    with pytest.raises(ValueError, match="that vary, found none"):
        isost.tl.fit_histology(adata, features["s0"], **RIDGE)


@pytest.mark.parametrize("genes", ["hvg", "markers"])
def test_how_genes_are_chosen(two: tuple[AnnData, dict[str, AnnData]], genes: Any) -> None:
    model = isost.tl.fit_histology(*two, genes=genes, n_genes=12, **RIDGE)
    assert len(model.genes) == len(set(model.genes)) == 12 and model.params["genes"] == genes
    assert set(model.genes) <= set(two[0].var_names)


def test_networks_are_averaged(made_up: MakeUp) -> None:
    adata, features = made_up()
    model = isost.tl.fit_histology(adata, features, n_networks=2, **SHORT)
    assert len(model.fitted.networks) == len(model.fitted.history) == 8
    assert model.params["n_networks"] == 2
    x = model.fitted.scale.scaled(features["s0"].X, np.zeros(60, dtype=int))
    with torch.no_grad():
        found = torch.stack([network.found(torch.from_numpy(x))[0] for network in model.fitted.networks]).mean(dim=0)
    np.testing.assert_allclose(model.predict(features["s0"]).layers["expressed"], found, rtol=1e-4, atol=1e-6)


def interrupted(at: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the training of the network of this number fail; says which were trained."""
    seeds: list[int] = []
    train = room.train_network

    def watched(*parts: Any, seed: int, **how: Any) -> Any:
        if len(seeds) == at:
            raise KeyboardInterrupt
        seeds.append(seed)
        return train(*parts, seed=seed, **how)

    monkeypatch.setattr(room, "train_network", watched)
    return seeds


@pytest.mark.parametrize("method", ["network", "prts"])
def test_an_interrupted_fit_goes_on(
    made_up: MakeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    adata, features = made_up()
    wanted = isost.tl.fit_histology(adata, features, method=method, rng=1, **SHORT)
    kept = tmp_path / "kept"
    with monkeypatch.context() as patch:
        assert len(interrupted(2, patch)) == 0
        with pytest.raises(KeyboardInterrupt):
            isost.tl.fit_histology(adata, features, method=method, rng=1, checkpoint=kept, **SHORT)
    assert kept.is_dir()
    with pytest.raises(FileExistsError, match=r"checkpoint: expected .*, found .*Next: "):
        isost.tl.fit_histology(adata, features, method=method, rng=1, checkpoint=kept, **SHORT)
    state = torch.random.get_rng_state()
    with monkeypatch.context() as patch:
        seeds = interrupted(9, patch)
        model = isost.tl.fit_histology(
            adata, features, method=method, rng=1, checkpoint=str(kept), resume=True, **SHORT
        )
    assert len(seeds) == 2, "two of four were there"
    assert torch.equal(state, torch.random.get_rng_state())
    same(model.predict(features["s0"]), wanted.predict(features["s0"]))
    assert model.fitted.history == wanted.fitted.history and model.trust == wanted.trust
    assert not kept.exists()


@pytest.mark.parametrize("other", ["seed", "epochs", "genes", "places", "counts", "sections"])
def test_the_checkpoint_of_another_fit_is_refused(
    made_up: MakeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    adata, features = made_up(3, n=40)
    given: Any = ad.concat(list(features.values()), merge="same", uns_merge="first")
    how = {"rng": 1, "checkpoint": tmp_path, "section_key": "section", "standardise": "all", **SHORT}
    with monkeypatch.context() as patch:
        interrupted(1, patch)
        with pytest.raises(KeyboardInterrupt):
            isost.tl.fit_histology(adata, given, **how)
    if other == "seed":
        how["rng"] = 2
    elif other == "epochs":
        how["epochs"] = 4
    elif other == "genes":
        how["genes"] = ["Gene0", "Gene1"]
    elif other == "places":
        given.obsm["spatial"] = given.obsm["spatial"] + 1.0
    elif other == "counts":
        adata.X.data[0] += 1
    else:
        adata.obs["section"] = adata.obs["section"].to_numpy()[::-1]
        order = np.random.default_rng(0).permutation(120)
        adata.obs["section"] = adata.obs["section"].to_numpy()[order]
    with pytest.raises(ValueError, match=r"resume: expected the fit that was interrupted, found .*Next: "):
        isost.tl.fit_histology(adata, given, resume=True, **how)


def test_what_else_is_in_the_folder_stays(made_up: MakeUp, tmp_path: Path) -> None:
    adata, features = made_up()
    (tmp_path / "notes.txt").write_text("mine")
    isost.tl.fit_histology(adata, features, checkpoint=tmp_path, **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def no_shared(adata: AnnData, features: Any) -> Any:
    adata.obs_names = [f"other{k}" for k in range(adata.n_obs)]


def bare(adata: AnnData, features: Any) -> Any:
    del features["s0"].uns["histology"]


def unplaced(adata: AnnData, features: Any) -> Any:
    del features["s0"].obsm["spatial"]


def missing_value(adata: AnnData, features: Any) -> Any:
    adata.X = adata.X.toarray()
    adata.X[2, 1] = np.nan


def missing_feature(adata: AnnData, features: Any) -> Any:
    features["s0"].X[3, 1] = np.nan


def negative(adata: AnnData, features: Any) -> Any:
    adata.X = adata.X.toarray() - 1


def names_twice(adata: AnnData, features: Any) -> Any:
    adata.obs_names = ["cell0", *adata.obs_names[1:-1], "cell0"]


def genes_twice(adata: AnnData, features: Any) -> Any:
    adata.var_names = ["Gene0", *adata.var_names[1:-1], "Gene0"]


def features_twice(adata: AnnData, features: Any) -> Any:
    features["s0"].obs_names = ["cell0", *features["s0"].obs_names[1:-1], "cell0"]


def feature_names_twice(adata: AnnData, features: Any) -> Any:
    features["s0"].var_names = ["x", "x", *features["s0"].var_names[2:]]


def sparse_features(adata: AnnData, features: Any) -> Any:
    features["s0"].X = sparse.csr_matrix(features["s0"].X)


def features_nowhere(adata: AnnData, features: Any) -> Any:
    features["s0"].obsm["spatial"][0, 1] = np.nan


def on_both_slides(adata: AnnData, features: Any) -> Any:
    features["s1"].obs_names = features["s0"].obs_names


def other_features(adata: AnnData, features: Any) -> Any:
    features["s1"] = features["s1"][:, :3]


def other_encoder(adata: AnnData, features: Any) -> Any:
    features["s1"].uns["histology"]["encoder"] = "mine"


def few_cells(adata: AnnData, features: Any) -> Any:
    return adata[:39], features


def few_on_a_slide(adata: AnnData, features: Any) -> Any:
    return adata[:70], {"s0": features["s0"], "s1": features["s1"][:10]}


def constant(adata: AnnData, features: Any) -> Any:
    adata.X = np.ones(adata.shape, dtype=np.float32)


def text(adata: AnnData, features: Any) -> Any:
    return adata, "features"


def nothing(adata: AnnData, features: Any) -> Any:
    return adata, []


def table(adata: AnnData, features: Any) -> Any:
    return adata, [features["s0"].to_df()]


def no_adata(adata: AnnData, features: Any) -> Any:
    return adata.to_df(), features


def nan_places(adata: AnnData, features: Any) -> Any:
    adata.obsm["spatial"][0] = np.nan


@pytest.mark.parametrize(("spoil", "error", "message"), [
    (no_shared, ValueError, r"features: expected the features of 40 measured cells or more, found 0 names"),
    (few_cells, ValueError, r"features: expected the features of 40 measured cells or more, found 39 names"),
    (few_on_a_slide, ValueError, r"features: expected 30 cells or more on each slide, .*found fewer on 's1'"),
    (bare, ValueError, r"features: expected what isost.tl.histology_features returned, found .*uns\['histology'\]"),
    (unplaced, ValueError, r"features: expected what isost.tl.histology_features returned, found .*'spatial'"),
    (missing_value, ValueError, r"adata.X: expected finite values, found others in 1 cells"),
    (missing_feature, ValueError, r"features: expected finite values, found NaN or infinity"),
    (negative, ValueError, r"adata.X: expected counts or log-normalised expression, found negative"),
    (names_twice, ValueError, r"adata: expected names of cells and genes that occur once, found some twice"),
    (genes_twice, ValueError, r"adata: expected names of cells and genes that occur once, found some twice"),
    (features_twice, ValueError, r"features: expected cells with names of their own, found some twice"),
    (feature_names_twice, ValueError, r"features: expected features with names of their own, found some twice"),
    (sparse_features, TypeError, r"features: expected values as an array, found a sparse matrix"),
    (features_nowhere, ValueError, r"features: expected finite places in obsm\['spatial'\], found NaN"),
    (on_both_slides, ValueError, r"features: expected cells with names of their own, found some on several slides"),
    (other_features, ValueError, r"features: expected the same features of all slides, found others in 's1'"),
    (other_encoder, ValueError, r"features: expected the same features of all slides, found others in 's1'"),
    (constant, ValueError, r"adata.X: expected genes that vary, found none"),
    (text, TypeError, r"features: expected what isost.tl.histology_features returns, .*found str"),
    (nothing, TypeError, r"features: expected what isost.tl.histology_features returns, .*found list"),
    (table, TypeError, r"features: expected an AnnData, found DataFrame"),
    (no_adata, TypeError, r"adata: expected an AnnData, found DataFrame"),
    (nan_places, ValueError, r"adata.obsm\['spatial'\]: expected finite x, y, .*found others"),
])  # fmt: skip
def test_data_that_cannot_be_fitted(made_up: MakeUp, spoil: Any, error: type[Exception], message: str) -> None:
    given = made_up(2)
    given = spoil(*given) or given
    with pytest.raises(error, match=rf"(?s){message}.*Next: "):
        isost.tl.fit_histology(*given, genes=["Gene0", "Gene1"], **RIDGE)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"method": "forest"}, ValueError, "method: expected .*, found 'forest'"),
    ({"genes": "all"}, ValueError, "genes: expected 'hvg', 'markers' or a list of genes, found 'all'"),
    ({"genes": ["Gene0", "Sox2"]}, ValueError, r"genes: expected names of genes of adata, found 1 .*'Sox2'"),
    ({"genes": []}, ValueError, "genes: expected names of genes of adata, found none"),
    ({"genes": 7}, TypeError, "genes: expected .*, found 7"),
    ({"standardise": "none"}, ValueError, "standardise: expected 'slide' or 'all', found 'none'"),
    ({"section_key": "slide"}, ValueError, r"section_key: expected a column of obs \('section', 'gaps'\), found"),
    ({"section_key": "gaps"}, ValueError, r"obs\['gaps'\]: expected a section for each cell, found 5 without"),
    ({"layer": "counts"}, ValueError, "layer: expected one of the layers .*, found 'counts'"),
    ({"resume": True}, ValueError, "resume: expected the checkpoint of an interrupted fit, found none"),
    ({"n_genes": 0}, ValueError, "n_genes: expected a whole number of 1 or more, found 0"),
    ({"n_components": 0}, ValueError, "n_components: expected a whole number of 1 or more, found 0"),
    ({"n_networks": 1.5}, TypeError, "n_networks: expected a whole number of 1 or more, found 1.5"),
    ({"hidden": ()}, ValueError, r"hidden: expected widths of layers, found \(\)"),
    ({"hidden": 64}, ValueError, "hidden: expected widths of layers, found 64"),
    ({"hidden": 2.5}, ValueError, "hidden: expected widths of layers, found 2.5"),
    ({"hidden": "64"}, ValueError, "hidden: expected widths of layers, found '64'"),
    ({"hidden": (0,)}, ValueError, "hidden: expected a whole number of 1 or more, found 0"),
    ({"hidden": (2.5,)}, TypeError, "hidden: expected a whole number of 1 or more, found 2.5"),
    ({"dropout": 1}, ValueError, "Expected 0 <= dropout < 1, .*found 1"),
    ({"dropout": float("nan")}, ValueError, "Expected 0 <= dropout < 1, .*found nan"),
    ({"dropout": "half"}, TypeError, "dropout: expected one number, found 'half'"),
    ({"learning_rate": 0}, ValueError, "learning_rate > 0 .*found"),
    ({"learning_rate": float("inf")}, ValueError, "learning_rate > 0 .*found"),
    ({"weight_decay": -1}, ValueError, "weight_decay >= 0, found"),
    ({"batch_size": 1}, ValueError, "batch_size: expected a whole number of 2 or more, found 1"),
    ({"epochs": 0}, ValueError, "epochs: expected a whole number of 1 or more, found 0"),
    ({"epochs": True}, TypeError, "epochs: expected a whole number of 1 or more, found True"),
    ({"patience": 0}, ValueError, "patience: expected a whole number of 1 or more, found 0"),
    ({"rng": -1}, ValueError, "rng: expected a seed"),
])  # fmt: skip
def test_options_that_there_are_not(
    made_up: MakeUp, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    adata, features = made_up()
    adata.obs["gaps"] = [None] * 5 + ["s0"] * 55
    with pytest.raises(error, match=rf"{message}.*Next: "):
        isost.tl.fit_histology(adata, features["s0"], **SHORT | options)
