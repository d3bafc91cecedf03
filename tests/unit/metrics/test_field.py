from __future__ import annotations

import numpy as np
import pytest

from isost import metrics


@pytest.fixture
def measured() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    coords = draw.random((2000, 2))
    return coords, np.column_stack([coords[:, 0], np.sin(6 * coords[:, 1]), draw.normal(size=2000)])


def test_a_perfect_field(measured: tuple[np.ndarray, np.ndarray]) -> None:
    coords, values = measured
    assert metrics.score_field(values, values, coords, side=0.1) == pytest.approx({"pcc": 1.0, "nmse": 0.0})


def test_a_scaled_field_correlates_and_has_error(measured: tuple[np.ndarray, np.ndarray]) -> None:
    coords, values = measured
    score = metrics.score_field(values + values.std(axis=0), values, coords, side=0.1)
    assert score == pytest.approx({"pcc": 1.0, "nmse": 1.0})


def test_the_mean_of_each_gene_scores_its_variance_between_bins() -> None:
    """Of white noise and c cells a bin, 1 / c of a cell's variance lies between bins."""
    draw = np.random.default_rng(1)
    bins, cells = 100, 20
    index = np.repeat(np.arange(bins), cells)
    coords, noise = np.column_stack([index % 10, index // 10]), draw.normal(size=(bins * cells, 50))
    score = metrics.score_field(np.tile(noise.mean(axis=0), (len(noise), 1)), noise, coords, side=1.0)
    assert score["pcc"] == 0.0
    assert score["nmse"] == pytest.approx(1 / cells, rel=0.1)


def test_units_of_length_and_expression_do_not_count(measured: tuple[np.ndarray, np.ndarray]) -> None:
    coords, values = measured
    guess = values + np.random.default_rng(2).normal(size=values.shape)
    score = metrics.score_field(guess, values, coords, side=0.125)
    rescaled = metrics.score_field(guess * [1, 10, 100], values * [1, 10, 100], coords * 1024, side=128)
    assert score == pytest.approx(rescaled)


def test_order_of_cells_does_not_count(measured: tuple[np.ndarray, np.ndarray]) -> None:
    coords, values = measured
    guess = values[:, ::-1]
    rows = np.random.default_rng(3).permutation(len(coords))
    score = metrics.score_field(guess, values, coords, side=0.1)
    assert score == pytest.approx(metrics.score_field(guess[rows], values[rows], coords[rows], side=0.1))


def test_constant_genes() -> None:
    coords = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    measured = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    assert metrics.score_field(measured, measured, coords, side=1.0)["pcc"] == pytest.approx(1.0)
    predicted = np.full((3, 2), 0.1)
    assert metrics.score_field(predicted, measured, coords, side=1.0)["pcc"] == 0.0


def test_gene_correlation_against_numpy() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 30, 4))
    expected = np.mean([np.corrcoef(a[:, g], b[:, g])[0, 1] for g in range(4)])
    assert metrics.gene_correlation(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "measured", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), "one shape"),
        (np.full((3, 1), np.nan), np.zeros((3, 1)), "finite"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "a gene that varies"),
    ],
)
def test_bad_input(predicted: np.ndarray, measured: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}.*found.*Next"):
        metrics.score_field(predicted, measured, np.arange(6.0).reshape(3, 2), side=1.0)


def test_positions_have_to_belong_to_cells() -> None:
    with pytest.raises(ValueError, match=r"coords: expected positions \(3, 2 or more\)"):
        metrics.score_field(np.zeros((3, 1)), np.arange(3.0)[:, None], np.zeros((4, 2)), side=1.0)
