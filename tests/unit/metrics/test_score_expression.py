"""Told beside measured expression, gene by gene."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import balanced_accuracy_score, r2_score

import isost

score = isost.metrics.score_expression


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    measured = np.maximum(draw.normal(0.3, 1, (120, 6)), 0)
    return measured + draw.normal(0, 0.7, measured.shape), measured


def test_columns_are_those_of_scipy_and_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    told, measured = pair
    expressed = 1 / (1 + np.exp(-told))
    found = score(told, measured, expressed=expressed, genes=list("abcdef"))
    on = measured > 0
    for g, name in enumerate("abcdef"):
        row = found.loc[name]
        assert row["pcc"] == pytest.approx(pearsonr(told[:, g], measured[:, g])[0])
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean((told[:, g] - measured[:, g]) ** 2)))
        assert row["r2"] == pytest.approx(r2_score(measured[:, g], told[:, g]))
        assert row["expressed"] == pytest.approx(on[:, g].mean())
        call = expressed[:, g] > on[:, g].mean()
        assert row["call_accuracy"] == pytest.approx(balanced_accuracy_score(on[:, g], call))
    assert found.attrs["mean"]["pcc"] == pytest.approx(found["pcc"].mean())


def test_correlation_is_within_sections(pair: tuple[np.ndarray, np.ndarray]) -> None:
    told, measured = pair
    sample = np.repeat(["a", "b", "c"], 40)
    moved = told + np.repeat([0.0, 5.0, -3.0], 40)[:, None]
    found = score(moved, measured, sample=sample)["pcc"].to_numpy()
    by = [[pearsonr(told[sample == s, g], measured[sample == s, g])[0] for s in "abc"] for g in range(6)]
    np.testing.assert_allclose(found, np.mean(by, axis=1))
    assert (score(moved, measured)["pcc"] < found).all()


def test_a_gene_that_does_not_vary_scores_nothing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    told, measured = (values.copy() for values in pair)
    told[:, 0], measured[:, 1], measured[:, 2] = 1.0, 0.0, 2.0
    found = score(told, measured, expressed=np.full(told.shape, 0.5))
    assert found["pcc"].iloc[:3].tolist() == [0, 0, 0]
    assert found["r2"].iloc[1:3].tolist() == [0, 0]
    assert found["call_accuracy"].isna().tolist() == [False, True, True, False, False, False]


def test_coverage_counts_what_lies_inside(pair: tuple[np.ndarray, np.ndarray]) -> None:
    told, measured = pair
    found = score(told, measured, lower=told - 0.7, upper=told + 0.7)["coverage"]
    assert found.mean() == pytest.approx(0.683, abs=0.05)
    assert score(told, measured, lower=measured, upper=measured)["coverage"].eq(1).all()


def test_structure_tells_told_structure_from_none() -> None:
    draw = np.random.default_rng(1)
    place = draw.random((300, 2))
    hidden = np.column_stack([np.sin(4 * place), draw.normal(size=(300, 2))])
    loadings = draw.normal(size=(4, 12)) * np.repeat([[1.0], [0.2]], 2, axis=0)
    measured = hidden @ loadings + 0.3 * draw.normal(size=(300, 12))
    good = score(hidden @ loadings, measured, coords=place).attrs
    bad = score(draw.normal(size=measured.shape), measured, coords=place).attrs
    assert good["gene_structure"] > 0.9 and abs(bad["gene_structure"]) < 0.4
    assert good["spatial_structure"] > 0.8 and abs(bad["spatial_structure"]) < 0.7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"measured": np.zeros((3, 2))}, "expected one shape"),
        ({"told": np.full((120, 6), np.nan)}, "expected finite"),
        ({"lower": np.zeros((120, 6))}, "both ends"),
        ({"sample": [1, 2]}, "one for each of 120"),
        ({"sample": [None] * 120}, "missing"),
        ({"genes": ["a"]}, "6 names"),
        ({"coords": np.zeros((5, 2))}, "positions"),
        ({"expressed": np.zeros((120, 5))}, "expected one shape"),
    ],
)
def test_bad_input_is_said(pair: tuple[np.ndarray, np.ndarray], change: dict[str, object], said: str) -> None:
    options = {"told": pair[0], "measured": pair[1], **change}
    told, measured = options.pop("told"), options.pop("measured")
    with pytest.raises(ValueError, match=said):
        score(told, measured, **options)  # type: ignore[arg-type]
