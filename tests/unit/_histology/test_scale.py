"""Features of slides on one scale, and cells that are unlike those that were fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from isost._histology.scale import find_known, find_scale


def features(n: int = 300, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def names(d: int) -> list[str]:
    return [f"f{k}" for k in range(d)]


def test_each_slide_has_a_scale_of_its_own() -> None:
    base = features(150)
    values = np.concatenate([base[:100], 3 * base[:100] + 50])
    slide = np.repeat([0, 1], 100)
    scale = find_scale(values, slide, names(8), ["one", "two"])
    scaled = scale.scaled(values, slide)
    assert scaled.dtype == np.float32 and scale.slides == ["one", "two"]
    np.testing.assert_allclose(scaled[:100], scaled[100:], atol=1e-4)
    wanted = (base[:100] - base[:100].mean(axis=0)) / base[:100].std(axis=0)
    np.testing.assert_allclose(scaled[:100], wanted, atol=1e-5)
    only = scale.only("two")
    np.testing.assert_array_equal(only.scaled(values[100:], np.zeros(100, dtype=int)), scaled[100:])


def test_all_slides_alike() -> None:
    values = np.concatenate([features(100), features(100) + 5])
    slide = np.repeat([0, 1], 100)
    scale = find_scale(values, slide, names(8), None)
    assert scale.slides == [] and scale.mean.shape == (1, 8)
    wanted = (values - values.mean(axis=0)) / values.std(axis=0)
    np.testing.assert_allclose(scale.scaled(values, slide), wanted, atol=1e-5)


def test_what_is_far_off_is_clipped_and_what_is_constant_is_nothing() -> None:
    values = features(100)
    values[0, 0], values[:, 1] = 1e6, 12345.678
    scaled = find_scale(values, np.zeros(100, dtype=int), names(8), None).scaled(values, np.zeros(100, dtype=int))
    assert scaled[0, 0] == 4 and np.abs(scaled).max() == 4
    np.testing.assert_allclose(scaled[:, 1], 0, atol=0.01)


@pytest.mark.parametrize("d", [1, 2, 8, 40])
def test_strange_cells(d: int) -> None:
    x, fold = features(300, d), np.repeat([0, 1, 2], 100)
    known = find_known(x, fold, 0)
    assert known.axes.shape == (d, min(d, 20)) and known.usual > 0
    same, away = known.strangeness(features(500, d, seed=1)), known.strangeness(features(500, d, seed=1) + 4)
    assert same.dtype == np.float32 and same.shape == (500,)
    assert (same > 1).mean() < 0.12, "cells of the same kind"
    assert (away > 1).mean() > 0.9 and np.median(away) > np.median(same)


def test_distance_is_to_the_fifth_nearest_of_other_folds() -> None:
    x, fold = features(90, 3), np.repeat([0, 1, 2], 30)
    known = find_known(x, fold, 0)
    covariance = np.cov(x.T)
    values, vectors = np.linalg.eigh(covariance)
    placed = (x - x.mean(axis=0)) @ vectors / np.sqrt(values)
    apart = np.sqrt(((placed[:, None] - placed[None]) ** 2).sum(axis=2))
    fifth = [np.sort(apart[cell, fold != fold[cell]])[4] for cell in range(90)]
    assert known.usual == pytest.approx(np.quantile(fifth, 0.95), rel=1e-3)
    np.testing.assert_allclose(known.strangeness(x), np.sort(apart, axis=1)[:, 4] / known.usual, rtol=1e-3)


def test_few_cells() -> None:
    known = find_known(features(6, 3), np.array([0, 0, 1, 1, 2, 2]), 0)
    assert np.isfinite(known.strangeness(features(2, 3))).all()
