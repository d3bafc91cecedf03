"""Features of pixels are those of boxes about them, within the tissue alone, whatever the blocks."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from isost._images import local
from isost._images.local import feature_names, local_features


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(1e4, 3.0, (2, 3, 40, 30)).astype(np.float32)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(3, 40, 30)) > 0.2


@pytest.mark.parametrize("volumetric", [False, True])
@pytest.mark.parametrize("chunk", [512, 16])
def test_boxes_count_the_tissue_alone(
    image: np.ndarray, mask: np.ndarray, chunk: int, volumetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_CHUNK", chunk)
    found = local_features(da.from_array(image), da.from_array(mask), (3, 5), volumetric=volumetric).compute()
    assert found.shape == (10, 3, 40, 30) and found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(~mask, found.shape))
    for z, y, x in [*np.argwhere(mask)[::97].tolist(), [0, 0, 0], [2, 39, 29], [1, 16, 15]]:
        if not mask[z, y, x]:
            continue
        for channel in range(2):
            expected = [image[channel, z, y, x]]
            for reach in (1, 2):
                deep = slice(max(z - reach, 0), z + reach + 1) if volumetric else slice(z, z + 1)
                box = (deep, slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1))
                values = image[channel][box][mask[box]].astype(np.float64)
                expected += [values.mean(), values.std()]
            np.testing.assert_allclose(found[5 * channel : 5 * channel + 5, z, y, x], expected, rtol=1e-6, atol=2e-3)


def test_names_are_in_the_order_of_the_features() -> None:
    assert feature_names(["grey"], (3,)) == ["intensity", "mean_3", "std_3"]
    assert feature_names(["red", "green"], ()) == ["red_intensity", "green_intensity"]
    assert len(feature_names(["grey"], (3, 5, 7, 9))) == 9


def test_a_plane_narrower_than_a_box(mask: np.ndarray) -> None:
    image = np.arange(6.0).reshape(1, 1, 2, 3)
    found = local_features(da.from_array(image), da.ones((1, 2, 3), dtype=bool), (9,), volumetric=True).compute()
    np.testing.assert_allclose(found[1], 2.5)
    np.testing.assert_allclose(found[2], image.std())
