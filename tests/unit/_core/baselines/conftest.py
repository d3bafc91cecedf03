from __future__ import annotations

import numpy as np
import pytest

from isost._core.baselines import Cloud, Training

LOADINGS = np.array([[1.0, 0.5, -1.0], [0.0, 1.0, 2.0]])


def make_cloud(n: int, seed: int, offset: float = 0.0) -> Cloud:
    """Cells whose two features are x + offset and y, and whose three genes are linear in them."""
    coords = np.random.default_rng(seed).random((n, 2))
    features = coords + [offset, 0.0]
    return Cloud(coords, features, 5 + features @ LOADINGS)


@pytest.fixture
def training() -> Training:
    """Four sections at depths 0, 10, 20, 40; the first feature grows by 1 in 10 of depth."""
    depths = (0.0, 10.0, 20.0, 40.0)
    clouds = tuple(make_cloud(150 + 10 * k, k, z / 10) for k, z in enumerate(depths))
    z = tuple(np.full(len(cloud), depth) for cloud, depth in zip(clouds, depths, strict=True))
    return Training(clouds, z, width=0.1, feature_scale=1.0)
