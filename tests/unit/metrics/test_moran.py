from __future__ import annotations

import numpy as np
import pytest

from isost import metrics

DRAW = np.random.default_rng(0)


def _grid(n: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)


def test_morans_i_of_noise_and_of_a_checkerboard() -> None:
    coords = _grid(30) + DRAW.normal(scale=1e-3, size=(900, 2))
    noise = metrics.morans_i(DRAW.normal(size=(900, 200)), coords)
    assert noise.mean() == pytest.approx(-1 / 899, abs=0.005)
    checkerboard = (np.round(coords).sum(axis=1) % 2).astype(float)
    # On the edge the fourth neighbour is another one, of the same colour or a diagonal.
    assert metrics.morans_i(checkerboard, coords, neighbours=4)[0] < -0.8


def test_morans_i_against_its_definition() -> None:
    coords, x = DRAW.random((40, 2)), DRAW.normal(size=40)
    k = 5
    distance = np.linalg.norm(coords[:, None] - coords, axis=2)
    np.fill_diagonal(distance, np.inf)
    weight = np.zeros((40, 40))
    np.put_along_axis(weight, np.argsort(distance, axis=1)[:, :k], 1.0, axis=1)
    y = x - x.mean()
    expected = 40 / weight.sum() * (y @ weight @ y) / (y @ y)
    assert metrics.morans_i(x, coords, neighbours=k)[0] == pytest.approx(expected)


def test_a_cell_is_no_neighbour_of_itself_where_cells_share_places() -> None:
    # pairs of opposite values: the one neighbour of each cell is the other one, whichever the tree names first
    coords = np.repeat(_grid(10), 2, axis=0)
    value = np.tile([1.0, -1.0], 100)
    assert metrics.morans_i(value, coords, neighbours=1)[0] == pytest.approx(-1.0)
    assert metrics.morans_i(value, np.zeros((200, 2)), neighbours=3)[0] < 1.0


def test_morans_i_of_a_constant_gene_is_undefined() -> None:
    assert np.isnan(metrics.morans_i(np.ones((20, 1)), DRAW.random((20, 2)))[0])


def test_agreement_notices_smoothing() -> None:
    coords = _grid(20)
    strength = np.linspace(0.0, 3.0, 12)
    truth = np.sin(coords[:, :1] / 3) * strength
    measured = truth + DRAW.normal(size=(400, 12))
    predicted = truth + 0.3 * DRAW.normal(size=(400, 12))
    score = metrics.morans_i_agreement(predicted, coords, measured=measured, measured_coords=coords)
    assert score["difference"] > 0.1
    assert score["pearson"] > 0.7
