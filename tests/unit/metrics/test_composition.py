from __future__ import annotations

import numpy as np
import pytest

from isost import metrics


def test_composition_of_the_same_and_of_disjoint_types() -> None:
    regions = np.array(["left"] * 3 + ["right"] * 3)
    labels = np.array(list("aabbbc"))
    same = metrics.composition_similarity(labels, labels, regions=regions, measured_regions=regions)
    assert same == pytest.approx({"jensen_shannon": 0.0, "pearson": 1.0})
    other = metrics.composition_similarity(np.full(6, "x"), labels, regions=regions, measured_regions=regions)
    assert other["jensen_shannon"] == pytest.approx(1.0)


def test_composition_in_closed_form() -> None:
    """Shares (1, 0) beside (1/2, 1/2): divergence 1 - (3/4) log2(3) + ... = 0.3113 bits."""
    regions = ["r"] * 2
    score = metrics.composition_similarity(["a", "a"], ["a", "b"], regions=regions, measured_regions=regions)
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert score["jensen_shannon"] == pytest.approx(entropy - 0.5)
    assert np.isnan(score["pearson"])


def test_a_region_without_predicted_cells_counts_as_wrong() -> None:
    score = metrics.composition_similarity(
        ["a", "a"], ["a", "b", "b"], regions=["r", "r"], measured_regions=["s", "s", "s"]
    )
    assert score == {"jensen_shannon": 1.0, "pearson": 0.0}


def test_labels_and_regions_belong_together() -> None:
    with pytest.raises(ValueError, match=r"labels, regions: expected one of each"):
        metrics.composition_similarity(["a"], ["a"], regions=["r", "r"], measured_regions=["r"])
