"""Badly stained sections are found, and only they; what is smooth along depth is left alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._core.correct import _Sections, correct_sections
from isost._core.stack import Stack, read_stack

BAD = 4


class Stained(NamedTuple):
    """A stack with one bad section, and what was done to its genes."""

    adata: AnnData
    stack: Stack
    gain: np.ndarray
    offset: np.ndarray


def lognormal(adata: AnnData) -> AnnData:
    values = adata.X.toarray().astype(np.float64)
    adata.X = np.log1p(values / values.sum(axis=1, keepdims=True) * 1000).astype(np.float32)
    return adata


def embedded(adata: AnnData) -> AnnData:
    isost.pp.embed(adata, n_comps=20, log1p=False, rng=0)
    return adata


def rows_of(adata: AnnData, section: int) -> np.ndarray:
    return (adata.obs["section"] == f"s{section + 1}").to_numpy()


def stain(adata: AnnData, section: int = BAD, *, share: float = 1.0, alike: bool = False, rng: int = 0) -> Stained:
    """Scale a section's log-normalised genes by 0.5 to 1.5 and shift them by half their spread times a normal."""
    draw = np.random.default_rng(rng)
    hit = draw.random(adata.n_vars) < share
    gain = np.where(hit, draw.uniform(0.5, 1.5, adata.n_vars), 1.0)
    offset = np.where(hit, 0.5 * adata.X.std(axis=0) * draw.standard_normal(adata.n_vars), 0.0)
    if alike:
        gain, offset = np.full(adata.n_vars, 0.6), np.zeros(adata.n_vars)
    changed = adata.copy()
    changed.X[rows_of(adata, section)] = adata.X[rows_of(adata, section)] * gain + offset
    return Stained(changed, read_stack(embedded(changed)), gain, offset)


@pytest.fixture(scope="module", params=["still", "bending"])
def clean(request: pytest.FixtureRequest) -> AnnData:
    return lognormal(isost.datasets.phantom(request.param, n_cells=600, n_genes=40, rng=1))


@pytest.fixture(scope="module")
def still() -> AnnData:
    return lognormal(isost.datasets.phantom("still", n_cells=600, n_genes=40, rng=1))


def bins(coords: np.ndarray, values: np.ndarray, n: int = 5) -> np.ndarray:
    """Means (bins, G) over n x n squares that hold many cells."""
    low, high = coords[:, :2].min(axis=0), coords[:, :2].max(axis=0)
    place = np.minimum(((coords[:, :2] - low) / (high - low) * n).astype(int), n - 1) @ [n, 1]
    return np.stack([values[place == one].mean(axis=0) for one in range(n * n) if (place == one).sum() > 8])


def section_bins(stack: Stack, section: int = BAD) -> np.ndarray:
    rows = stack.slice_of(section)
    return bins(stack.coords[rows], stack.decode(stack.scores[rows], np.arange(len(stack.decoder.genes))))


@pytest.mark.parametrize("how", [{}, {"share": 0.3}, {"alike": True}], ids=["all genes", "some genes", "all alike"])
def test_the_bad_section_and_only_it_is_found_and_undone(clean: AnnData, how: dict) -> None:
    stained = stain(clean, **how)
    corrected, found = correct_sections(stained.stack)
    assert list(found) == [f"s{BAD + 1}"]
    assert found["s5"]["error_without"] < 0.25 * found["s5"]["error"]
    rows = rows_of(clean, BAD)
    truth = bins(clean.obsm["spatial"][rows], clean.X[rows].astype(np.float64))
    spread = clean.X.std(axis=0)
    before, after = ((section_bins(stack) - truth) / spread for stack in (stained.stack, corrected))
    # offset: 90 % of what was done to the means is undone
    assert np.abs(after.mean(axis=0)).mean() < 0.1 * np.abs(before.mean(axis=0)).mean() + 0.03
    # gain: within 20 % in genes that have a pattern to tell it by
    follows = truth.std(axis=0) > 0.3 * spread
    assert follows.sum() >= 5
    slope = [np.polyfit(truth[:, g], section_bins(corrected)[:, g], 1)[0] for g in np.flatnonzero(follows)]
    assert np.median(np.abs(np.array(slope) - 1)) < 0.2
    assert (after**2).mean() < 0.35 * (before**2).mean()
    # the components, by which cells are compared, vary as elsewhere
    varies = [corrected.features[stained.stack.slice_of(section)].std(axis=0) for section in (BAD, BAD + 1)]
    np.testing.assert_allclose(varies[0], varies[1], rtol=0.4)


def test_other_sections_keep_their_scores(still: AnnData) -> None:
    stack = stain(still).stack
    before = stack.scores.copy()
    corrected, _ = correct_sections(stack)
    others = stack.section_index != BAD
    np.testing.assert_array_equal(corrected.scores[others], before[others])
    np.testing.assert_array_equal(stack.scores, before)
    assert corrected.features.dtype == np.float32 and corrected.coords is stack.coords


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shape", ["still", "bending", "branching"])
def test_a_clean_stack_comes_back_itself(shape: str, seed: int) -> None:
    adata = lognormal(isost.datasets.phantom(shape, n_cells=300, n_genes=30, rng=seed))
    stack = read_stack(embedded(adata))
    assert correct_sections(stack) == (stack, {})


@pytest.mark.parametrize("course", ["line", "sigmoid", "step", "bump"])
def test_what_the_tissue_does_along_depth_stays(still: AnnData, course: str) -> None:
    z = np.arange(9.0)
    along = {
        "line": 0.3 * z, "sigmoid": 2 / (1 + np.exp(-1.5 * (z - 4))), "step": 2.0 * (z > 3),
        "bump": 2 * np.exp(-0.5 * ((z - 4) / 1.5) ** 2),
    }[course]  # fmt: skip
    changed = still.copy()
    draw = np.random.default_rng(0)
    size = draw.standard_normal(still.n_vars) * still.X.std(axis=0)
    changed.X = changed.X + (along[still.obs["section"].cat.codes.to_numpy()][:, None] * size).astype(np.float32)
    stack = read_stack(embedded(changed))
    assert correct_sections(stack)[0] is stack


@pytest.mark.parametrize("size", [0.5, 8.0])
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_leaving_out_a_section_beside_a_sharp_step_hardly_helps_its_neighbours(
    still: AnnData, cut: int, size: float
) -> None:
    """At equal spacing 2 (1 / 3)^2 of the step squared is left of (1 / 2)^2: 8 / 9, far above what finds a section."""
    changed = still.copy()
    step = size * np.random.default_rng(0).standard_normal(still.n_vars) * still.X.std(axis=0)
    after = still.obs["section"].cat.codes.to_numpy() >= cut
    changed.X = changed.X + (after[:, None] * step).astype(np.float32)
    stack = read_stack(embedded(changed))
    assert correct_sections(stack) == (stack, {})
    sections, everyone = _Sections.of(stack), list(range(9))
    for k in (cut - 1, cut):
        others = [j for j in everyone if j != k]
        measured, without = (sum(sections.error(j, good) for j in (k - 1, k + 1)) for good in (everyone, others))
        assert without / measured == pytest.approx(8 / 9, abs=0.15 if size < 1 else 0.04)


def test_two_bad_sections(still: AnnData) -> None:
    once = stain(still, 2).adata
    both = stain(once, 6, rng=1)
    assert list(correct_sections(both.stack)[1]) == ["s3", "s7"]


@pytest.mark.parametrize("section", [0, 8])
def test_an_end_that_differs_may_be_biology(still: AnnData, section: int) -> None:
    stack = stain(still, section).stack
    assert correct_sections(stack)[0] is stack


def test_four_sections_say_nothing_five_do(still: AnnData) -> None:
    stack = stain(still).stack
    few, enough = stack.select(range(3, 7)), stack.select(range(2, 7))
    assert correct_sections(few)[0] is few
    assert list(correct_sections(enough)[1]) == ["s5"]


def test_sections_that_share_no_tissue_are_left_alone(still: AnnData) -> None:
    stack = stain(still).stack
    apart = stack.coords + np.outer(stack.section_index, [5000.0, 0.0, 0.0])
    stack = replace(stack, coords=apart)
    assert correct_sections(stack)[0] is stack


def test_a_representation_without_loadings(stack_of: Callable[..., Stack]) -> None:
    draw = np.random.default_rng(0)
    places = [draw.uniform(0, 1000, (400, 2)) for _ in range(7)]
    features = [np.column_stack([np.sin(xy[:, 0] / 200), xy[:, 1] / 500]) for xy in places]
    features = [f + 0.02 * k + draw.normal(0, 0.2, f.shape) for k, f in enumerate(features)]
    clean = features[3].copy()
    features[3] = features[3] * [0.6, 1.4] + [0.5, -0.3]
    stack = stack_of(places, features, np.arange(7.0) * 50)
    corrected, found = correct_sections(stack)
    assert list(found) == ["s4"] and corrected.decoder is None
    left = corrected.features[stack.slice_of(3)] - clean
    np.testing.assert_allclose(left.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(corrected.features[stack.slice_of(3)].std(axis=0), clean.std(axis=0), rtol=0.1)


def test_the_field_beside_the_bad_section_is_nearer_to_the_truth(caplog: pytest.LogCaptureFixture) -> None:
    clean = lognormal(isost.datasets.phantom("still", n_sections=7, n_cells=120, n_genes=30, rng=1))
    adata = stain(clean).adata
    drawn = lognormal(isost.datasets.phantom_truth(clean).sample_section(225.0, n=1500, rng=0))
    at = drawn.obsm["spatial"]
    error = {}
    for on in (True, False):
        with caplog.at_level(logging.INFO):
            fitted = isost.tl.fit(adata, epochs=1, progress=False, rng=0, correct_sections=on)
        found = fitted.params["corrected_sections"]
        assert list(found) == (["s5"] if on else []) and len(json.dumps(found)) < 300
        assert fitted.params["settings"]["correct_sections"] is on
        predicted = fitted.expression(at, genes=list(clean.var_names))
        error[on] = (((bins(at, predicted) - bins(at, drawn.X)) / clean.X.std(axis=0)) ** 2).mean()
    assert sum("s5 stand" in line for line in caplog.messages) == 1
    assert error[True] < 0.05 * error[False]


def test_it_is_saved_with_the_corrected_cells(tmp_path: Path) -> None:
    still = lognormal(isost.datasets.phantom("still", n_sections=7, n_cells=150, n_genes=30, rng=1))
    stained = stain(still)
    before = stained.adata.obsm["X_pca"].copy()
    fitted = isost.tl.fit(stained.adata, epochs=1, progress=False, rng=0)
    np.testing.assert_array_equal(stained.adata.obsm["X_pca"], before)
    assert not np.array_equal(fitted.stack.features, stained.stack.features)
    fitted.save(tmp_path / "fit")
    loaded = isost.Reconstruction.load(tmp_path / "fit")
    assert loaded.params["corrected_sections"] == fitted.params["corrected_sections"]
    np.testing.assert_array_equal(loaded.stack.scores, fitted.stack.scores)
    at = still.obsm["spatial"][::200]
    np.testing.assert_allclose(loaded.expression(at), fitted.expression(at), rtol=1e-5, atol=1e-6)
    drawn = loaded.section(fitted.stack.depths[BAD], rng=0)
    np.testing.assert_array_equal(drawn.obsm["X_pca"], fitted.stack.features[fitted.stack.slice_of(BAD)])


def test_predicted_sections_are_not_asked_and_follow(still: AnnData) -> None:
    """A bad section is found beside a predicted one, which takes the corrected one's part; none is itself corrected."""
    stained = stain(still).adata
    stained.obs["section_weight"] = np.where(rows_of(stained, BAD + 1), 0.5, 1.0)
    stack = read_stack(embedded(stained))
    corrected, found = correct_sections(stack)
    assert list(found) == [f"s{BAD + 1}"]
    change = np.abs(corrected.scores - stack.scores).max(axis=1)
    assert set(stack.section_index[change > 0]) == {BAD, BAD + 1}
    again = stain(still).adata
    again.obs["section_weight"] = np.where(rows_of(again, BAD), 0.9, 1.0)
    stack = read_stack(embedded(again))
    assert correct_sections(stack) == (stack, {})
