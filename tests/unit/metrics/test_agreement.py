from __future__ import annotations

import numpy as np
import pytest

from isost.metrics import label_agreement, plane_consistency


def test_names_do_not_matter() -> None:
    assert label_agreement([3, 3, 1], ["x", "x", "y"]) == pytest.approx({"nmi": 1, "ari": 1, "homogeneity": 1})


def test_labels_at_random_say_nothing() -> None:
    rng = np.random.default_rng(0)
    scores = label_agreement(rng.integers(0, 4, 5000), rng.integers(0, 4, 5000))
    assert all(abs(value) < 0.01 for value in scores.values())


def test_homogeneity_forgives_division() -> None:
    scores = label_agreement([0, 1, 2, 3], ["a", "a", "b", "b"])
    assert scores["homogeneity"] == pytest.approx(1) and scores["ari"] < 0.9


def test_consistency_of_planes() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 4, (12, 30, 30))
    assert abs(plane_consistency(noise)["kappa"]) < 0.03
    columns = np.tile(noise[:1], (5, 1, 1))
    assert plane_consistency(columns) == {"agreement": 1.0, "kappa": 1.0}
    one = np.ones((3, 4, 4), dtype=int)
    assert plane_consistency(one)["agreement"] == 1 and np.isnan(plane_consistency(one)["kappa"])


def test_outside_does_not_count() -> None:
    labels = np.tile(np.random.default_rng(1).integers(1, 3, (1, 8, 8)), (4, 1, 1))
    labels[1, :4] = labels[2, 5:] = 0
    assert plane_consistency(labels)["agreement"] == 1


def test_by_hand() -> None:
    labels = np.array([[[1, 1, 2, 2]], [[1, 2, 2, 2]]])
    # 3 of 4 agree; by chance 1/2 x 1/4 + 1/2 x 3/4
    assert plane_consistency(labels) == pytest.approx({"agreement": 0.75, "kappa": (0.75 - 0.5) / 0.5})


def test_errors() -> None:
    with pytest.raises(ValueError, match="expected one of each for every place.*Next"):
        label_agreement([1, 2], [1])
    with pytest.raises(ValueError, match=r"labels: expected integers \(z, y, x\).*Next"):
        plane_consistency(np.ones((2, 2)))
    with pytest.raises(ValueError, match="expected two adjacent planes.*found none. Next"):
        plane_consistency(np.zeros((2, 2, 2), dtype=int))
