from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import isost
from isost._core.baselines import Kernel, Nearest
from isost._core.held_out import score_predictor
from isost._core.sections import Sections
from isost.tl import fit
from isost.tl._cross_validate import choose_folds
from isost.tl._held_out import Fit, Representation, split

METHODS = ["isost", "nearest", "union", "kernel", "ceiling"]
QUICK = {"n_comps": 5, "n_draws": 1, "epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def stack() -> AnnData:
    return isost.datasets.phantom("bending", n_sections=5, n_cells=80, n_genes=20, spacing=50.0, extent=400.0, rng=0)


def test_table_of_scores(stack: AnnData) -> None:
    before = stack.copy()
    scores = isost.tl.cross_validate(stack, **QUICK, rng=0)
    assert scores["method"].unique().tolist() == METHODS
    assert scores["section"].unique().tolist() == ["s2", "s4"]
    assert scores["depth"].unique().tolist() == [50.0, 150.0]
    assert scores[["pcc", "nmse"]].notna().all(axis=None)
    with_cells = scores["method"].isin(["isost", "nearest", "union"])
    assert scores.loc[with_cells, ["dice", "dens", "energy"]].notna().all(axis=None)
    assert scores.loc[~with_cells, ["dice", "dens", "energy"]].isna().all(axis=None)
    assert scores["coverage"].notna().tolist() == (scores["method"] == "isost").tolist()
    assert list(stack.obsm) == list(before.obsm)
    np.testing.assert_array_equal(stack.X.toarray(), before.X.toarray())


def test_the_same_seed_gives_the_same_scores(stack: AnnData) -> None:
    first, second = (isost.tl.cross_validate(stack, hold_out=["s3"], **QUICK, rng=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_the_plot_takes_the_table(stack: AnnData) -> None:
    axes = isost.pl.cross_validation(isost.tl.cross_validate(stack, hold_out=["s3"], **QUICK, rng=0))
    assert [label.get_text() for label in axes[0].get_yticklabels()] == METHODS


def test_nothing_of_a_held_out_section_leaks(stack: AnnData) -> None:
    """Whatever is measured in the held-out sections, what is fitted on the others is the same to the last bit."""
    other = stack.copy()
    out = other.obs["section"].isin(["s2", "s4"]).to_numpy()
    dense = other.X.toarray()
    dense[out] = np.random.default_rng(0).poisson(50, dense[out].shape)
    other.X = sparse.csr_matrix(dense.astype(stack.X.dtype))
    other.obsm["spatial"][out, :2] *= 3.0
    (train, one), (again, two) = (split(adata, [1, 3], n_comps=5) for adata in (stack, other))
    assert (one.training.width, one.training.feature_scale) == (two.training.width, two.training.feature_scale)
    assert one.genes == two.genes
    for a, b in zip(one.training.clouds, two.training.clouds, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        np.testing.assert_array_equal(a.genes, b.genes)
    assert not np.allclose(one.held_out[0].cells.features.mean(), two.held_out[0].cells.features.mean())
    fits = [fit(training, progress=False, rng=0) for training in (train, again)]
    states = [fitted.model.state_dict() | fitted.field.state() for fitted in fits]
    for name, value in states[0].items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(states[1][name]), err_msg=name)


def test_held_out_cells_are_projected_as_training_cells_are(stack: AnnData) -> None:
    """A section held out and put back among the training sections has the same expression, up to the components."""
    train, held = split(stack, [2], n_comps=10)
    again = split(train, [1], n_comps=10)[1].training
    np.testing.assert_allclose(again.clouds[0].genes, held.training.clouds[0].genes, rtol=0.2, atol=0.3)
    cells = held.held_out[0].cells
    decoded = cells.features @ train.varm["PCs"].T + train.var["pca_mean"].to_numpy()
    error, spread = ((decoded - cells.genes) ** 2).sum(), ((cells.genes - cells.genes.mean(axis=0)) ** 2).sum()
    assert error < 0.8 * spread


def test_the_embedding_is_made_anew_in_the_same_way(stack: AnnData) -> None:
    adata = stack.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.full(adata.shape, -0.5, dtype=np.float32) + np.random.default_rng(0).random(adata.shape)
    isost.pp.embed(adata, layer="counts", n_top_genes=12, target_sum=1000.0, n_comps=5)
    train, held = split(adata, [2], n_comps=5)
    assert train.var["highly_variable"].sum() == 12
    assert train.uns["isost"]["embed"]["target_sum"] == 1000.0
    kept = adata.obs["section"].astype(str).to_numpy() != "s3"
    np.testing.assert_array_equal(train.X.toarray(), stack.X.toarray()[kept])
    assert held.held_out[0].cells.genes.min() == 0.0
    # a target that nobody asked for is the median of the sections that remain
    isost.pp.embed(adata, layer="counts", n_comps=5)
    train, _ = split(adata, [2], n_comps=5)
    assert train.uns["isost"]["embed"]["target_sum"] == np.median(stack.X.toarray()[kept].sum(axis=1))


def test_intervals_hold_the_truth_where_nothing_was_measured() -> None:
    """The mean of many cells that were drawn at a held-out depth lies in 90 % intervals nine times of ten."""
    adata = isost.datasets.phantom("bending", n_sections=7, n_cells=400, n_genes=30, rng=2)
    train, held = split(adata, [1, 3, 5], n_comps=15)
    predicted = Fit(fit(train, progress=False, rng=0), held.genes)
    truth, coverage = isost.datasets.phantom_truth(adata), []
    for number, section in enumerate(held.held_out):
        drawn = truth.sample_section(section.depth, n=20 * len(section.cells), rng=number)
        cells = Representation.of(train).cloud(drawn, drawn.obsm["spatial"])
        many = replace(section, coords=drawn.obsm["spatial"], cells=cells)
        field, spread = predicted.field_and_spread(many.coords, many.depth)
        coverage.append(many.score_intervals(field, spread)["coverage"])
        narrow = many.score_intervals(field, spread / 4)["coverage"]
        assert narrow < 0.75
    assert 0.84 < np.mean(coverage) < 0.96, coverage


def test_folds() -> None:
    sections = Sections(np.arange(6), np.arange(6.0), tuple("abcdef"))
    assert choose_folds(sections, "alternate") == [[1, 3]]
    assert choose_folds(sections, "each") == [[1], [2], [3], [4]]
    assert choose_folds(sections, 3) == [[1, 4], [2], [3]]
    assert choose_folds(sections, 99) == [[1], [2], [3], [4]]
    assert choose_folds(sections, ["e", "b"]) == [[1, 4]]


@pytest.mark.parametrize(
    ("hold_out", "message"),
    [
        (1, "hold_out: expected a whole number of 2 or more, found 1"),
        (["s1"], r"names of inner sections \(s2, s3, s4\), found \['s1'\]"),
        ("nothing", r"found \['nothing'\]"),
        ([], "found none"),
    ],
)
def test_impossible_choices(stack: AnnData, hold_out: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        isost.tl.cross_validate(stack, hold_out=hold_out)


def test_two_sections_have_none_between(stack: AnnData) -> None:
    two = stack[stack.obs["section"].isin(["s1", "s2"])]
    with pytest.raises(ValueError, match=r"expected three sections or more.*found 2.*Next"):
        isost.tl.cross_validate(two)


def test_an_unknown_option_is_said_before_any_work(stack: AnnData) -> None:
    with pytest.raises(TypeError, match="epoch"):
        isost.tl.cross_validate(stack, epoch=3)


def test_titration(stack: AnnData) -> None:
    scores = isost.tl.section_titration(stack, steps=[2, 3], **QUICK, rng=0)
    assert scores.groupby("step")["spacing"].first().to_dict() == {2: 100.0, 3: 150.0}
    # With every third of five sections the last kept one is the fourth: the fifth is not used.
    assert scores.groupby("step")["section"].unique().map(list).to_dict() == {2: ["s2", "s4"], 3: ["s2", "s3"]}
    assert scores["distance"].unique().tolist() == [50.0]
    assert scores["common"].dtype == bool
    assert (scores["common"] == (scores["section"] == "s2")).all()


def test_titration_with_images(stack: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def watched(*arguments: object, **options: object) -> object:
        given.append(options.get("images"))
        return fit(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sys.modules[choose_folds.__module__], "fit", watched)
    image = isost.datasets.phantom_image(stack, pixel_size=40)
    images = isost.pp.image_features(image, kernel_sizes=(3,))
    scores = isost.tl.section_titration(stack, steps=[2], images=images, **QUICK, rng=0)
    assert scores["method"].unique().tolist() == ["isost", "isost, images", "nearest", "union", "kernel", "ceiling"]
    assert len(given) == 2 and given[0] is None and given[1] is images
    assert scores.loc[scores["method"] == "isost, images", "nmse"].notna().all()
    with pytest.raises(TypeError, match="images: expected what isost.pp.image_features returns"):
        isost.tl.cross_validate(stack, images=image, **QUICK)


def test_titration_needs_sections_to_leave_out(stack: AnnData) -> None:
    with pytest.raises(ValueError, match=r"steps: expected numbers from 2 to 4.*found \[1, 9\]"):
        isost.tl.section_titration(stack, steps=[1, 2, 9])


def test_scores_on_a_real_stack(data_dir: Path) -> None:
    """What simple methods score on the embryo was measured independently, and stands in the design."""
    adata = isost.datasets.fetch("bdtnp_embryo")
    _, held = split(adata, [1, 3, 5, 7, 9])

    def score(predictor: Kernel | Nearest, name: str) -> float:
        scores = score_predictor(predictor, held.held_out, n_draws=1, seed=1)
        return round(float(np.mean([one[name] for one in scores])), 3)

    kernel = Kernel(held.training, 0.5 * held.training.width)
    assert (score(kernel, "pcc"), score(kernel, "nmse")) == pytest.approx((0.683, 0.812), abs=0.002)
    nearest = Nearest(held.training)
    assert score(nearest, "pcc") == pytest.approx(0.634, abs=0.005)
    # bins begin at the outermost cell, so that it matters whether that one is drawn
    assert score(nearest, "dice") == pytest.approx(0.591, abs=0.02)
    assert (score(nearest, "dens"), score(nearest, "energy")) == pytest.approx((0.017, 0.490), abs=0.01)
