from __future__ import annotations

import numpy as np
import pytest

from isost._core.baselines import LowRank, Regression, Training, fit_mlp, fit_sparse_vfc
from isost._core.baselines.low_rank import LinearDecoder


def test_decoder_inverts_a_linear_map(training: Training) -> None:
    decoder = LinearDecoder.fit(training)
    for cloud in training.clouds:
        np.testing.assert_allclose(decoder.decode(cloud.features), cloud.genes, atol=1e-8)


def test_decoder_puts_left_out_components_at_their_mean(training: Training) -> None:
    decoder = LinearDecoder.fit(training)
    features = training.clouds[0].features.copy()
    features[:, 1] = decoder.centre[1]
    np.testing.assert_allclose(decoder.decode(features[:, :1]), decoder.decode(features))


def test_low_rank_drops_a_component_of_noise(training: Training) -> None:
    draw = np.random.default_rng(0)
    clouds = []
    for cloud in training.clouds:
        noise = draw.normal(size=(len(cloud), 8)) * 0.5
        genes = np.concatenate([cloud.genes, noise], axis=1)
        clouds.append(type(cloud)(cloud.coords, np.concatenate([cloud.features, noise], axis=1), genes))
    noisy = Training(tuple(clouds), training.z, training.width, 1.0)
    assert LowRank(noisy).rank < 10
    places = np.column_stack([np.linspace(0.3, 0.7, 5), np.full(5, 0.5), np.full(5, 15.0)])
    assert LowRank(noisy).field(places, 15.0).shape == (5, 11)


@pytest.mark.parametrize("fit", [fit_mlp, fit_sparse_vfc])
def test_regressions_learn_what_is_linear(training: Training, fit) -> None:
    regression = Regression(training, fit, np.random.default_rng(0))
    places = np.column_stack([np.linspace(0.2, 0.8, 20), np.full(20, 0.5), np.full(20, 15.0)])
    truth = 5 + (places[:, :2] + [1.5, 0.0]) @ np.array([[1.0, 0.5, -1.0], [0.0, 1.0, 2.0]])
    predicted = regression.field(places, 15.0)
    assert np.sqrt(((predicted - truth) ** 2).mean()) < 0.4
    assert regression.cells(15.0, 10, np.random.default_rng(0)) is None


def test_sparse_vfc_fits_a_smooth_field_and_rejects_outliers() -> None:
    draw = np.random.default_rng(0)
    places = draw.uniform(-1, 1, size=(400, 2))
    truth = np.column_stack([np.sin(2 * places[:, 0]), places[:, 0] * places[:, 1]])
    values = truth + 0.02 * draw.normal(size=truth.shape)
    values[:60] = draw.uniform(-2, 2, size=(60, 2))
    predict = fit_sparse_vfc(places, values, np.random.default_rng(1))
    error = np.sqrt(((predict(places) - truth) ** 2).mean())
    assert error < 0.05
    # Least squares on the same basis has no way to tell outliers.
    assert error < 0.5 * np.sqrt(((_least_squares(places, values) - truth) ** 2).mean())


def _least_squares(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    control = places[:100]
    design = np.exp(-10 * ((places[:, None] - control) ** 2).sum(axis=2))
    return design @ np.linalg.lstsq(design, values, rcond=None)[0]
