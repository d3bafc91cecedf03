"""p-values of gradients: right under the null whatever the autocorrelation, and small where a gradient is planted."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy.stats import binom

import isost
from isost._tools.blocks import compact, cover
from isost._tools.trend import DEGREE, Sites, p_values, polynomials

N_GENES = 150
BLOCKS = 120


def ball() -> tuple[np.ndarray, np.ndarray]:
    step = np.arange(-1.0, 1.01, 0.1)
    places = np.stack(np.meshgrid(step, step, step), axis=-1).reshape(-1, 3)
    places = places[np.linalg.norm(places, axis=1) <= 1.0]
    return places, np.linalg.norm(places, axis=1)


def cylinder() -> tuple[np.ndarray, np.ndarray]:
    step = np.arange(-1.0, 1.01, 0.1)
    places = np.stack(np.meshgrid(step, step, np.arange(0.0, 2.0, 0.1)), axis=-1).reshape(-1, 3)
    radius = np.hypot(places[:, 0], places[:, 1])
    return places[radius <= 1.0], radius[radius <= 1.0]


def random_fields(places: np.ndarray, smoothness: float, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Stationary Gaussian fields (n, N_GENES) of unit variance with a Matérn covariance, infinitely smooth for inf."""
    fields = np.empty((len(places), N_GENES))
    for gene in range(N_GENES):
        waves = rng.standard_normal((200, 3)) / reach
        if np.isfinite(smoothness):
            waves /= np.sqrt(rng.chisquare(2 * smoothness, (200, 1)) / (2 * smoothness))
        phase = rng.uniform(0, 2 * np.pi, 200)
        fields[:, gene] = np.cos(places @ waves.T + phase) @ rng.standard_normal(200) / 10.0
    return fields


def p_values_of(places: np.ndarray, radius: np.ndarray, values: np.ndarray) -> np.ndarray:
    numbers, position = compact(cover(places, BLOCKS).of(places))
    count = np.bincount(position, minlength=len(numbers))

    def mean(of: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(position, column) for column in of.T], axis=1) / count[:, None]

    basis = polynomials(mean(radius[:, None])[:, 0], DEGREE)
    scores = mean(values)
    return p_values(Sites(mean(places), basis, count / count.mean()), scores, np.eye(scores.shape[1]))


def upper_bound(n: int, rate: float = 0.05) -> float:
    """Share of false positives that a test of this rate exceeds once in a thousand times."""
    return float(binom.isf(1e-3, n, rate)) / n


@pytest.mark.parametrize("tissue", [ball, cylinder])
@pytest.mark.parametrize(("smoothness", "reach"), [(0.5, 0.15), (0.5, 0.6), (1.5, 0.4), (np.inf, 0.3), (np.inf, 1.0)])
def test_fields_without_a_gradient_are_called_at_the_stated_rate(
    tissue: object, smoothness: float, reach: float
) -> None:
    places, radius = tissue()  # type: ignore[operator]
    rng = np.random.default_rng(0)
    fields = random_fields(places, smoothness, reach, rng)
    fields += 0.3 * rng.standard_normal(fields.shape)
    p = p_values_of(places, radius, fields)
    assert (p <= 0.05).mean() <= upper_bound(N_GENES)
    correlation = np.abs(np.corrcoef(radius, fields.T)[0, 1:])
    naive = correlation * np.sqrt(len(places)) > 1.96
    assert naive.mean() > 2 * upper_bound(N_GENES), "what taking voxels for independent would call"


@pytest.mark.parametrize("tissue", [ball, cylinder])
def test_planted_gradients_are_found(tissue: object) -> None:
    places, radius = tissue()  # type: ignore[operator]
    rng = np.random.default_rng(1)
    fields = random_fields(places, 0.5, 0.2, rng)
    shapes = [radius, -(radius**2), -4 * (radius - 0.6) ** 2]
    planted = np.arange(N_GENES) < 60
    for gene in np.flatnonzero(planted):
        shape = shapes[gene % 3]
        fields[:, gene] += 1.5 * (shape - shape.mean()) / shape.std()
    p = p_values_of(places, radius, fields)
    assert (p[planted] <= 0.05).mean() >= 0.95
    assert (p[~planted] <= 0.05).mean() <= upper_bound(int((~planted).sum()))


@pytest.mark.parametrize(
    ("tissue", "about"), [(ball, {"point": (0, 0, 0)}), (cylinder, {"axis": [[0, 0, 0], [0, 0, 2]]})]
)
def test_functions_of_the_radius_have_the_class_and_the_effect_that_they_have(tissue: object, about: dict) -> None:
    places, radius = tissue()  # type: ignore[operator]
    angle = np.arctan2(places[:, 1], places[:, 0])
    functions = {"r": radius, "r2": radius**2, "minus r": -radius, "peak": -((radius - 0.65) ** 2) * 4,
                 "constant": np.ones_like(radius), "angular": np.cos(angle) * (radius > 1e-6)}  # fmt: skip
    noise = 0.05 * np.random.default_rng(0).standard_normal((len(places), len(functions)))
    noise[:, 4] = 0.0
    cells = AnnData((np.stack(list(functions.values()), axis=1) + noise).astype(np.float32), obsm={"spatial": places})
    cells.var_names = list(functions)
    isost.tl.radial_gradients(cells, width=0.1, **about)
    found = isost.get.radial_gradients(cells)
    expected = ["rising", "rising", "falling", "peaked", "flat", "flat"]
    assert found.loc[list(functions), "class"].astype(str).tolist() == expected
    for name in ("r", "r2"):
        assert found.loc[name, "pearson"] == pytest.approx(np.corrcoef(cells[:, name].X[:, 0], radius)[0, 1], abs=1e-4)
    assert found.loc["r", "slope"] == pytest.approx(1.0, abs=0.02)
    assert found.loc["peak", "extreme"] == pytest.approx(0.65, abs=0.06)
    mean = isost.get.radial_gradients(cells, what="mean")
    middle = mean.columns.astype(float)
    inner = middle < 0.9
    np.testing.assert_allclose(mean.loc["r2"][inner], middle[inner] ** 2, atol=0.05)


def cells_of(signal: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> AnnData:
    """Cells whose counts follow a log rate (n, N_GENES) and a library size, log-normalised."""
    library = rng.lognormal(0.0, 0.3, (len(places), 1))
    counts = rng.poisson(2.0 * library * np.exp(signal))
    return AnnData(np.log1p(counts / library).astype(np.float32), obsm={"spatial": places})


@pytest.mark.parametrize(("tissue", "smoothness", "reach"), [(ball, np.inf, 0.3), (cylinder, 0.5, 0.3)])
def test_differences_from_a_baseline_are_called_at_the_stated_rate(
    tissue: object, smoothness: float, reach: float
) -> None:
    """Counts of two tissues with a gradient in common, and fields of their own; a third of the genes has a gradient."""
    grid, _ = tissue()  # type: ignore[operator]
    rng = np.random.default_rng(2)
    some = [grid[rng.random(len(grid)) < 0.6] for _ in range(2)]
    places = np.concatenate(some) + rng.uniform(-0.05, 0.05, (sum(map(len, some)), 3))
    radius = np.linalg.norm(places[:, : 3 if tissue is ball else 2], axis=1)[:, None]
    common = radius + 0.5 * random_fields(places, smoothness, reach, rng)
    n, planted = len(some[0]), np.arange(N_GENES) < N_GENES // 3
    signals = [common[part] + 0.3 * random_fields(places[part], smoothness, reach, rng)
               for part in (slice(n), slice(n, None))]  # fmt: skip
    signals[0] += np.where(planted, 2.0 * radius[:n], 0.0)
    after, before = cells_of(signals[0], places[:n], rng), cells_of(signals[1], places[n:], rng)
    about = {"point": (0, 0, 0)} if tissue is ball else {"axis": [[0, 0, 0], [0, 0, 2]]}
    isost.tl.radial_gradients(after, baseline=before, **about)
    found = isost.get.radial_gradients(after)
    assert after.uns["radial_gradients"]["params"]["n_blocks"] > 128
    assert (found["p"][~planted] <= 0.05).mean() <= upper_bound(int((~planted).sum()))
    called = (found["class"] != "flat").to_numpy()
    assert called[planted].mean() >= 0.9
    assert (called & ~planted).sum() <= binom.isf(1e-3, called.sum(), 0.05)
