from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isost import metrics

DRAW = np.random.default_rng(0)


def test_minmax_mse_of_the_mean_of_a_uniform_gene() -> None:
    measured = np.linspace(2.0, 8.0, 10_001)[:, None]
    assert metrics.minmax_mse(np.full_like(measured, 5.0), measured) == pytest.approx(1 / 12, rel=1e-3)


def test_minmax_mse_does_not_know_units() -> None:
    a, b = DRAW.normal(size=(2, 40, 3))
    assert metrics.minmax_mse(a * 7 + 3, b * 7 + 3) == pytest.approx(metrics.minmax_mse(a, b))


def test_normalised_mse_is_one_minus_r_squared() -> None:
    x = DRAW.normal(size=500)
    y = 2 * x + DRAW.normal(size=500)
    slope, intercept = np.polyfit(x, y, 1)
    assert metrics.normalised_mse(slope * x + intercept, y) == pytest.approx(1 - np.corrcoef(x, y)[0, 1] ** 2)


@pytest.mark.parametrize("score", [metrics.minmax_mse, metrics.normalised_mse])
def test_errors_need_a_gene_that_varies(score: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="expected a gene that varies"):
        score(np.zeros((3, 1)), np.ones((3, 1)))
