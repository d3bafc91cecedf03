from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from isost.datasets._organs import (
    KINDS,
    ORGANS,
    TYPES,
    TYPES_OF_ORGAN,
    Programme,
    membership,
    type_of_organ,
)
from isost.datasets._panel import TARGET_SUM

LINE = np.linspace(-1.0, 1.0, 201)
A, B = np.meshgrid(LINE, LINE)
INSIDE = A**2 + B**2 < 1.0


def _map(tau: float) -> np.ndarray:
    """Index of the organ on a square around the disc of material; -1 outside."""
    member = membership(A.ravel(), B.ravel(), np.full(A.size, tau))
    return np.where(INSIDE, member.argmax(axis=1).reshape(A.shape), -1)


def _pieces(tau: float, organ: str) -> int:
    return int(ndimage.label(_map(tau) == ORGANS.index(organ))[1])


def _middle(tau: float, organ: str) -> np.ndarray:
    own = _map(tau) == ORGANS.index(organ)
    return np.array([A[own].mean(), B[own].mean()])


@pytest.mark.parametrize("tau", [0.0, 0.31, 0.75, 1.0])
def test_shares_of_a_place_are_shares(tau: float) -> None:
    member = membership(A[INSIDE], B[INSIDE], np.full(INSIDE.sum(), tau))
    assert member.min() >= 0
    np.testing.assert_allclose(member.sum(axis=1), 1.0)


def test_types_of_an_organ_are_its_own_first() -> None:
    share = type_of_organ()
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    for row, organ in zip(share, ORGANS, strict=True):
        assert [TYPES[at] for at in np.argsort(-row)[:2]] == list(TYPES_OF_ORGAN[organ])


def test_a_kidney_appears_and_splits_in_two() -> None:
    assert [_pieces(tau, "kidney") for tau in (0.0, 0.4, 1.0)] == [0, 1, 2]


@pytest.mark.parametrize("organ", [organ for organ in ORGANS if organ not in ("kidney", "trunk")])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_every_other_organ_is_always_there_in_one_piece(organ: str, tau: float) -> None:
    assert _pieces(tau, organ) == 1


def test_the_heart_goes_from_head_to_trunk_and_the_liver_grows() -> None:
    heart = np.array([_middle(tau, "heart") for tau in (0.0, 0.5, 1.0)])
    assert (np.diff(heart[:, 0]) < -0.15).all()
    liver = [(_map(tau) == ORGANS.index("liver")).sum() for tau in (0.0, 0.5, 1.0)]
    assert liver[2] > 1.8 * liver[1] > 3.6 * liver[0]


@pytest.fixture(scope="module")
def programme() -> Programme:
    return Programme.draw(36, np.random.default_rng(3))


def _log_rates(programme: Programme, a: float, b: float, tau: np.ndarray) -> np.ndarray:
    a, b = np.full(len(tau), a), np.full(len(tau), b)
    return programme.log_rate(a, b, tau, membership(a, b, tau))


def test_the_panel_holds_all_kinds_in_turn(programme: Programme) -> None:
    assert programme.kind[:12].tolist() == [*KINDS, *KINDS]
    assert len(set(programme.names)) == 36 and programme.names[6] == "marker_2"
    changing = np.isin(programme.kind, ("peak", "cyclic"))
    assert np.isfinite(programme.peak[changing]).all() and np.isnan(programme.peak[~changing]).all()


def test_a_gene_peaks_at_its_age_in_the_middle_of_its_organ(programme: Programme) -> None:
    tau = np.linspace(0.0, 1.0, 1001)
    j = programme.names.index("peak_2")
    assert ORGANS[programme.target[j]] == "brain"
    inside = _log_rates(programme, 0.9, 0.0, tau)[:, j]
    assert tau[inside.argmax()] == pytest.approx(programme.peak[j], abs=1e-3)
    top, width = programme.peak[j], programme.width[j]
    height = inside - programme.base[j]
    assert np.interp(top + width, tau, height) / height.max() == pytest.approx(np.exp(-0.5), abs=1e-3)
    assert np.ptp(_log_rates(programme, -0.9, 0.0, tau)[:, j]) < 1e-3


def test_cyclic_genes_change_alike_everywhere(programme: Programme) -> None:
    tau = np.linspace(0.0, 1.0, 101)
    own = programme.kind == "cyclic"
    one, other = (_log_rates(programme, a, 0.0, tau)[:, own] for a in (-0.7, 0.8))
    np.testing.assert_allclose(one, other)
    np.testing.assert_allclose(one.max(axis=0), (programme.base + programme.amplitude)[own], atol=1e-2)


def test_genes_that_are_constant_in_log_rate_are_so_everywhere(programme: Programme) -> None:
    own = programme.kind == "constant"
    found = _log_rates(programme, 0.3, -0.2, np.linspace(0.0, 1.0, 5))[:, own]
    np.testing.assert_array_equal(found, np.tile(programme.base[own], (5, 1)))


def test_every_cell_holds_as_many_transcripts(programme: Programme) -> None:
    tau = np.linspace(0.0, 1.0, 40)
    a, b = np.linspace(-0.9, 0.9, 40), np.zeros(40)
    rates = programme.rates(a, b, tau, membership(a, b, tau))
    assert rates.shape == (len(TYPES), 40, 36)
    np.testing.assert_allclose(rates.sum(axis=2), TARGET_SUM)


def test_a_gene_of_a_type_is_highest_in_it(programme: Programme) -> None:
    a, b, tau = np.zeros(1), np.zeros(1), np.full(1, 0.5)
    rates = programme.rates(a, b, tau, membership(a, b, tau))[:, 0]
    for j in np.flatnonzero(programme.kind == "cell_type"):
        assert rates[:, j].argmax() == programme.target[j]
