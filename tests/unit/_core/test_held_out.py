from __future__ import annotations

import numpy as np
import pytest

from isost._core.baselines import Cloud
from isost._core.held_out import HeldOut, Split, score_ceiling, score_predictor
from isost._core.kernel import kernel_fields


class Known:
    """Knows the section: its cells, and, where asked, its expression with errors of a known size."""

    def __init__(self, held: HeldOut, *, with_field: bool, error: float = 0.0) -> None:
        self._held, self._with_field, self._error = held, with_field, error

    def field(self, coords: np.ndarray, depth: float) -> np.ndarray | None:
        return self._held.cells.genes + self._error if self._with_field else None

    def cells(self, depth: float, n: int | None, rng: np.random.Generator) -> Cloud:
        return self._held.cells if n is None else self._held.cells.take(rng.permutation(len(self._held.cells))[:n])


class Sure(Known):
    def field_and_spread(self, coords: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
        genes = self._held.cells.genes
        return genes + self._error, np.full(genes.shape, self._error)


@pytest.fixture
def held() -> HeldOut:
    draw = np.random.default_rng(0)
    coords = np.column_stack([draw.random((800, 2)), np.full(800, 7.0)])
    smooth = np.column_stack([np.sin(4 * coords[:, 0]), coords[:, 1], coords[:, 0] * coords[:, 1]])
    genes = smooth + 0.3 * draw.normal(size=smooth.shape)
    return HeldOut("s", 7.0, coords, Cloud(coords[:, :2], genes, genes), side=0.08, feature_scale=1.0)


def test_knowing_everything(held: HeldOut) -> None:
    (score,) = score_predictor(Known(held, with_field=True), [held], n_draws=2)
    assert {"pcc": 1.0, "nmse": 0.0, "dice": 1.0, "dens": 1.0}.items() <= {
        name: round(value, 6) for name, value in score.items()
    }.items()
    assert np.isnan(score["coverage"])


def test_a_method_of_cells_gets_the_best_kernel_over_them(held: HeldOut) -> None:
    """For each score the best of its own."""
    (score,) = score_predictor(Known(held, with_field=False), [held], n_draws=1)
    widths = [width * held.side for width in (0.5, 1.0, 2.0, 4.0)]
    fields = kernel_fields(held.coords[:, :2], held.cells.coords, held.cells.genes, widths)
    tried = [held.score_field(field) for field in fields]
    assert score["pcc"] == pytest.approx(max(one["pcc"] for one in tried))
    assert score["nmse"] == pytest.approx(min(one["nmse"] for one in tried))


def test_ceiling_is_below_perfect_and_above_nothing(held: HeldOut) -> None:
    (score,) = score_ceiling([held])
    assert 0.3 < score["pcc"] < 0.98
    assert np.isnan(score["dice"])


def test_intervals_cover_what_they_promise(held: HeldOut) -> None:
    """Errors of the field of a known size, one for each bin, on top of the sampling of the cells."""
    draw = np.random.default_rng(1)
    corners = np.floor((held.coords[:, :2] - held.coords[:, :2].min(axis=0)) / held.side)
    bins = np.unique(corners, axis=0, return_inverse=True)[1]
    smooth = np.column_stack([np.sin(4 * held.coords[:, 0]), held.coords[:, 1], held.coords[:, 0] * held.coords[:, 1]])
    predicted = smooth + 0.5 * draw.normal(size=(bins.max() + 1, 3))[bins.ravel()]
    honest = held.score_intervals(predicted, np.full_like(smooth, 0.5))
    boastful = held.score_intervals(predicted, np.full_like(smooth, 0.1))
    assert honest["coverage"] == pytest.approx(0.9, abs=0.04)
    assert boastful["coverage"] < 0.8
    assert boastful["width"] < honest["width"]


def test_only_who_says_how_sure_has_coverage(held: HeldOut) -> None:
    (score,) = score_predictor(Sure(held, with_field=True, error=0.1), [held], n_draws=0)
    assert 0 < score["coverage"] <= 1
    assert np.isnan(score["dice"])


def test_records_hold_every_method_and_section(held: HeldOut) -> None:
    records = Split(None, [held, held], ("a", "b", "c")).score({"known": Known(held, with_field=True)}, n_draws=1)
    assert [(record["method"], record["section"]) for record in records] == [
        ("known", "s"), ("known", "s"), ("ceiling", "s"), ("ceiling", "s")
    ]  # fmt: skip
