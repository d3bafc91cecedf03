from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest

from isost._core.downsample import block_mean, factors_within, halved


def test_blocks_are_averaged() -> None:
    values = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)
    means = block_mean(da.from_array(values, chunks=(1, 3, 5, 3)), (2, 3, 4))
    expected = values.reshape(2, 2, 2, 2, 3, 2, 4).mean(axis=(2, 4, 6))
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, expected, rtol=1e-5)


def test_what_is_outside_does_not_count() -> None:
    values = np.array([[[1.0, np.nan, np.nan, np.nan], [3.0, np.nan, np.nan, 5.0]]], dtype=np.float32)
    # half of the first block is tissue, a quarter of the second
    np.testing.assert_array_equal(block_mean(da.from_array(values), (1, 2, 2)), [[[2.0, np.nan]]])


def test_a_block_at_the_end_reaches_beyond_the_volume() -> None:
    values = np.arange(5.0, dtype=np.float32)[None, None]
    means = np.asarray(block_mean(da.from_array(values, chunks=2), (1, 1, 3)))
    np.testing.assert_array_equal(means, [[[1.0, 3.5]]])
    assert np.isnan(np.asarray(block_mean(da.from_array(values), (1, 1, 4)))[0, 0, 1]), "one voxel of four"


@pytest.mark.parametrize(("shape", "most"), [((4, 6, 8), 192), ((4, 6, 8), 191), ((1, 100, 100), 500), ((7, 9, 3), 1)])
def test_the_smallest_blocks_within_a_budget(shape: tuple[int, ...], most: int) -> None:
    factors = factors_within(shape, most)

    def left(by: tuple[int, ...]) -> int:
        return math.prod(-(-length // of) for length, of in zip(shape, by, strict=True))

    assert left(factors) <= most
    assert all(1 <= by <= length for by, length in zip(factors, shape, strict=True))
    smaller = tuple(min(max(factors) - 1, length) for length in shape)
    assert max(factors) == 1 or left(smaller) > most


def test_a_pyramid_ends_at_a_size() -> None:
    assert halved((5, 200, 130), least=60) == [(2, 2, 2), (2, 2, 2)]
    assert halved((1, 100, 100), least=60) == [(1, 2, 2)]
    assert halved((10, 10, 10), least=60) == []
