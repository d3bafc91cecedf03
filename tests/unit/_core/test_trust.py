"""Predicted sections take their own scores as far as they are trusted, and what measured ones say for the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from anndata.experimental import read_lazy

import isost
from isost._core import trust
from isost._core.checkpoint import identity_of
from isost._core.stack import Stack, read_stack
from isost._core.store import arrays_of, npz_bytes, stack_arrays, stack_of
from isost._core.trust import describe, follow, measured_part, without

SIZES, DEPTHS, WEIGHTS = (60, 50, 40, 70, 45), (0.0, 10.0, 25.0, 40.0, 70.0), (0.3, 1.0, 0.6, 0.0, 1.0)


def make(weights: tuple[float, ...] | None = WEIGHTS, *, with_genes: bool = True, seed: int = 0) -> AnnData:
    """Five sections, a to e, whose rows are shuffled."""
    draw = np.random.default_rng(seed)
    section = np.repeat(np.arange(5), SIZES)
    place = draw.uniform(0, 100, (len(section), 2))
    wave = np.sin(place[:, :1] / 20 + np.arange(12)) + 0.05 * np.array(DEPTHS)[section, None] * draw.random(12)
    adata = AnnData(np.log1p(np.exp(wave + 0.3 * draw.normal(size=wave.shape))).astype(np.float32))
    adata.obs["section"] = np.array(list("abcde"))[section]
    if weights is not None:
        adata.obs["section_weight"] = np.array(weights, dtype=np.float32)[section]
    adata.obsm["spatial"] = np.column_stack([place, np.array(DEPTHS)[section]])
    adata = adata[draw.permutation(len(section))].copy()
    isost.pp.embed(adata, n_comps=3, log1p=False, rng=0)
    if not with_genes:
        del adata.varm["PCs"]
    return adata


def plain(adata: AnnData) -> Stack:
    """The stack as if all sections were measured, with the directions of genes that measured ones share."""
    bare = adata.copy()
    del bare.obs["section_weight"]
    return read_stack(bare)


def spacing(stack: Stack) -> float:
    nearest = []
    for k in range(stack.n_sections):
        place = stack.coords[stack.slice_of(k), :2]
        apart = np.linalg.norm(place[:, None] - place, axis=2)
        nearest.append(np.median(np.where(apart > 0, apart, np.inf).min(axis=1)))
    return float(np.median(nearest))


def said(stack: Stack, section: int, measured: list[int], scores: np.ndarray) -> np.ndarray:
    """What measured sections say, cell by cell."""
    width, found = 5 * spacing(stack), []
    below, above = [k for k in measured if k < section], [k for k in measured if k > section]
    for x, y, z in stack.coords[stack.slice_of(section)]:
        means = {}
        for k in below[-1:] + above[:1]:
            rows = stack.slice_of(k)
            kernel = np.exp(-((stack.coords[rows, :2] - (x, y)) ** 2).sum(axis=1) / (2 * width**2))
            means[k] = kernel @ scores[rows] / kernel.sum()
        if len(means) == 2:
            (low, one), (high, other) = means.items()
            t = (z - stack.depths[low]) / (stack.depths[high] - stack.depths[low])
            found.append((1 - t) * one + t * other)
        else:
            found.append(next(iter(means.values())))
    return np.array(found)


@pytest.mark.parametrize("with_genes", [True, False])
def test_scores_are_those_of_the_formula(with_genes: bool) -> None:
    adata = make(with_genes=with_genes)
    stack, own = read_stack(adata), plain(adata)
    np.testing.assert_array_equal(stack.weights, np.float64(np.float32(WEIGHTS)))
    assert stack.measured == [1, 4] and stack.names == tuple("abcde")
    features = own.features
    for k, weight in enumerate(stack.weights):
        rows = stack.slice_of(k)
        expected = features[rows] if weight == 1 else weight * features[rows] + (1 - weight) * said(
            own, k, [1, 4], features
        )  # fmt: skip
        np.testing.assert_allclose(stack.features[rows], expected, atol=2e-6)
    np.testing.assert_array_equal(stack.coords, own.coords)
    assert stack.features.dtype == np.float32


def test_the_remainder_is_drawn_alike() -> None:
    draw, adata = np.random.default_rng(1), make()
    pattern = np.sin(adata.obsm["spatial"][:, :1] / 8) * np.eye(12)[5] * 0.3  # too faint for three components
    adata.X = (adata.X + pattern + 0.01 * draw.normal(size=adata.shape)).astype(np.float32)
    adata.X[adata.obs["section"] == "d"] = 0.0
    isost.pp.embed(adata, n_comps=3, log1p=False, rng=0)
    stack = read_stack(adata)
    assert stack.remainder is not None
    k = stack.names.index("d")
    expected = said(stack, k, stack.measured, stack.scores)
    np.testing.assert_allclose(stack.scores_of(stack.slice_of(k)), expected, atol=2e-6)


def test_weights_of_one_change_nothing() -> None:
    weighted, bare = make((1.0,) * 5), make(None)
    one, other = read_stack(weighted), read_stack(bare)
    assert one.weights is None and describe(one) == "" and measured_part(one) is one
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(weighted.obsm["X_pca"], bare.obsm["X_pca"])
    some = read_stack(make())
    own = plain(make())
    for k in some.measured:
        np.testing.assert_array_equal(some.features[some.slice_of(k)], own.features[own.slice_of(k)])


def test_of_a_section_without_weight_only_positions_count() -> None:
    adata, other = make(), make()
    rows = (other.obs["section"] == "d").to_numpy()
    other.X[rows] = 3 * np.random.default_rng(5).random((rows.sum(), 12))
    for one in (adata, other):
        isost.pp.embed(one, n_comps=3, n_top_genes=8, log1p=False, rng=0)
    assert not np.allclose(adata.obsm["X_pca"][rows], other.obsm["X_pca"][rows])
    np.testing.assert_array_equal(adata.varm["PCs"], other.varm["PCs"])
    one, another = read_stack(adata), read_stack(other)
    np.testing.assert_array_equal(one.scores, another.scores)
    np.testing.assert_array_equal(one.decoder.mean, another.decoder.mean)


def test_a_cell_is_placed_between_sections_by_its_own_depth() -> None:
    adata = make()
    adata.obsm["spatial"][:, 2] += np.random.default_rng(0).uniform(-1, 1, adata.n_obs)
    stack, own = read_stack(adata), plain(adata)
    k = stack.names.index("d")
    np.testing.assert_allclose(stack.features[stack.slice_of(k)], said(own, k, [1, 4], own.features), atol=2e-6)


def test_a_measured_section_leaves_with_all_that_was_taken_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_width_of", lambda _: 20.0)  # else the rest would have another spacing
    weights = (1.0, 0.5, 1.0, 0.0, 1.0)
    adata = make(weights, with_genes=False)
    stack = read_stack(adata)
    expected = read_stack(adata[adata.obs["section"] != "c"].copy())
    rest = without(stack, 2)
    assert rest.names == expected.names and rest.measured == [0, 3]
    np.testing.assert_allclose(rest.features, expected.features, atol=5e-6)
    other = adata.copy()
    other.obsm["X_pca"][other.obs["section"] == "c"] += 7.0
    np.testing.assert_allclose(without(read_stack(other), 2).features, rest.features, atol=5e-6)
    assert np.abs(read_stack(other).features[stack.slice_of(1)] - stack.features[stack.slice_of(1)]).max() > 1


def test_predicted_sections_follow_a_correction() -> None:
    stack = read_stack(make((1.0, 0.5, 1.0, 0.0, 1.0), with_genes=False))
    scores = stack.scores.copy()
    scores[stack.slice_of(4)] += 2.0
    changed = follow(stack, stack.with_scores(scores), [4])
    shift = changed.scores - stack.scores
    for k, expected in ((0, 0.0), (1, 0.0), (2, 0.0), (3, 2 * (40 - 25) / (70 - 25)), (4, 2.0)):
        np.testing.assert_allclose(shift[stack.slice_of(k)], expected, atol=1e-5)


def test_weights_go_with_their_sections() -> None:
    stack = read_stack(make())
    np.testing.assert_array_equal(stack.select([4, 1, 2]).weights, stack.weights[[1, 2, 4]])
    assert measured_part(stack).names == ("b", "e")
    assert describe(stack) == "3 of 5 sections are predicted, and count by weights of 0 to 0.6"
    again = stack_of(arrays_of(npz_bytes(stack_arrays(stack))), {"use_rep": "X_pca", "unit": "um"})
    np.testing.assert_array_equal(again.weights, stack.weights)
    np.testing.assert_array_equal(again.scores, stack.scores)
    other = replace(stack, weights=np.where(stack.weights == 0, 0.1, stack.weights))
    assert identity_of(stack, None) != identity_of(other, None)


@pytest.mark.parametrize("lazy", [True, False])
def test_expression_on_disk(tmp_path, lazy: bool) -> None:
    adata = make()
    adata.write_h5ad(tmp_path / "a.h5ad")
    other = read_lazy(tmp_path / "a.h5ad") if lazy else read_h5ad(tmp_path / "a.h5ad", backed="r")
    one, another = read_stack(adata), read_stack(other)
    np.testing.assert_array_equal(one.weights, another.weights)
    np.testing.assert_allclose(one.scores, another.scores, atol=1e-5)
    isost.pp.embed(other, n_comps=3, log1p=False, rng=0)
    np.testing.assert_allclose(other.obsm["X_pca"], adata.obsm["X_pca"], atol=1e-4)
    if other.isbacked:
        other.file.close()


def _first(values: list[float]) -> Callable[[pd.Series], list[float]]:
    return lambda column: [*values, *column.tolist()[len(values) :]]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda column: column * 0.9, "expected a section of weight 1, one that was measured; found weights up to 0.9"),
        (lambda column: column * 2, "expected numbers from 0 to 1; found others in 135 of 265 cells"),
        (lambda column: -column, "expected numbers from 0 to 1; found others in"),
        (_first([np.nan]), r"expected numbers from 0 to 1; found others in 1 of 265 cells \(row 0\)"),
        (_first([np.inf, 0.5]), "expected numbers from 0 to 1; found others in 1 of"),
        (_first([0.123]), "expected one value for each section; found several in '[a-e]'"),
        (lambda column: column.astype(str), "expected numbers from 0 to 1; found '"),
    ],
)
def test_weights_that_cannot_be_read(change: Callable[[pd.Series], object], problem: str) -> None:
    adata = make()
    adata.obs["section_weight"] = change(adata.obs["section_weight"])
    adata.obsm["X_pca"][0] = np.nan  # listed beside it
    with pytest.raises(ValueError, match=r"2 problems") as caught:
        read_stack(adata)
    assert re.search(rf"adata.obs\['section_weight'\]: {problem}", str(caught.value)), caught.value
