"""Sections are joined where the tissue goes on: planted shifts are found, and none is invented."""

from __future__ import annotations

import numpy as np
import pytest

from isost._domains.features import Features
from isost._domains.follow import tissue_shift
from isost._domains.graph import spatial_graph

N, EXTENT, N_GENES = 900, 600.0, 24


def waves(place: np.ndarray) -> np.ndarray:
    """(n, 24) patterns that do not repeat within the tissue."""
    draw = np.random.default_rng(7)
    waves = draw.normal(0, 4 * np.pi / EXTENT, (2, N_GENES))
    return np.cos(place @ waves + draw.uniform(0, 2 * np.pi, N_GENES))


def bent(place: np.ndarray) -> np.ndarray:
    """Where material of the first section lies in the next: shifted, turned and bowed, tens of micrometres."""
    turn = np.deg2rad(5)
    turned = (place - EXTENT / 2) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    bow = np.column_stack([np.zeros(len(place)), 60 * ((place[:, 0] / EXTENT - 0.5) ** 2 - 1 / 12)])
    return turned + EXTENT / 2 + [30.0, -12.0] + bow


def stack(seed: int = 0, *, moved: bool, offset: float = 0.0, constant: bool = False, n: int = N):
    """Two sections of cells, the second of material that was moved, or not: features, positions."""
    draw = np.random.default_rng(seed)
    material = [draw.uniform(0, EXTENT, (n, 2)) for _ in range(2)]
    place = [material[0], bent(material[1]) if moved else material[1]]
    patterns = np.concatenate([waves(one) for one in material]) * (not constant)
    x = patterns + 0.7 * draw.standard_normal(patterns.shape)
    x[n:] += offset * draw.standard_normal(N_GENES)
    coords = np.column_stack([np.concatenate(place), np.repeat([0.0, 50.0], n)])
    return Features(x.astype(np.float32), x.mean(axis=0), 1 / x.std(axis=0)), coords


def shift_of(features: Features, coords: np.ndarray, sample: np.ndarray | None = None) -> np.ndarray | None:
    sample = np.zeros(len(coords), dtype=np.int64) if sample is None else sample
    return tissue_shift(features, spatial_graph(coords, sample), coords, sample)


@pytest.mark.parametrize("offset", [0.0, 0.5], ids=["alike", "stained unevenly"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_bent_tissue_is_followed(seed: int, offset: float) -> None:
    """To a quarter of the shift, in the middle of the section, where the other one has the same material around."""
    features, coords = stack(seed, moved=True, offset=offset)
    shift = shift_of(features, coords)
    assert shift is not None
    first = coords[:N, :2]
    inside = (np.abs(first - EXTENT / 2) < 0.4 * EXTENT).all(axis=1)
    true = bent(first) - first
    error = np.linalg.norm(shift[:N, 1] - true, axis=1)[inside]
    assert np.median(error) < 0.25 * np.median(np.linalg.norm(true, axis=1)[inside])
    assert not shift[:N, 0].any() and not shift[N:, 1].any(), "nothing lies below the first, nor above the last"
    assert np.abs(shift[N:, 0].mean(axis=0) + true.mean(axis=0)).max() < 0.3 * np.abs(true.mean(axis=0)).max()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("constant", [False, True], ids=["still", "nothing but noise"])
def test_no_shift_is_invented(seed: int, constant: bool) -> None:
    assert shift_of(*stack(seed, moved=False, constant=constant)) is None


def test_the_graph_is_that_of_the_shifted_places() -> None:
    """Joined with other cells than those straight above, and the same within the sections."""
    features, coords = stack(moved=True)
    sample = np.zeros(len(coords), dtype=np.int64)
    straight, shift = spatial_graph(coords, sample), shift_of(features, coords)
    found = spatial_graph(coords, sample, None, shift)
    assert (found[:N, :N] != straight[:N, :N]).nnz == 0 and (found[N:, N:] != straight[N:, N:]).nnz == 0
    assert (found != found.T).nnz == 0
    edges = found[:N, N:].tocoo()
    x = features.matrix
    others = straight[:N, N:].tocoo()
    mean = [np.square(x[e.row] - x[N + e.col]).mean() for e in (edges, others)]
    assert mean[0] < 0.9 * mean[1]


def test_samples_have_shifts_of_their_own() -> None:
    """One that is bent, and one that is not and a plane that cannot be."""
    (one, at), (other, there) = stack(0, moved=True), stack(1, moved=False)
    plane = there[:N] + [0, 0, 10.0]
    x = np.concatenate([one.matrix, other.matrix, other.matrix[:N]])
    features = Features(x, x.mean(axis=0), 1 / x.std(axis=0))
    sample = np.repeat([0, 1, 2], [2 * N, 2 * N, N])
    shift = shift_of(features, np.concatenate([at, there, plane]), sample)
    assert shift is not None and shift[: 2 * N].any() and not shift[2 * N :].any()


def test_few_cells_and_planes_do_not_shift() -> None:
    features, coords = stack(moved=True, n=60)
    assert shift_of(features, coords) is None
    features, coords = stack(moved=True)
    assert shift_of(Features(features.matrix[:N], features.mean, features.scale), coords[:N]) is None
    assert shift_of(Features(features.matrix[:N], features.mean, features.scale), coords[:N, :2]) is None
