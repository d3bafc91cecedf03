from __future__ import annotations

import numpy as np
import pytest

from isost._core.baselines import WIDTHS, Kernel, Nearest, Training, Union, WeightedUnion, blended_kernels, choose_width

RNG = np.random.default_rng(0)


def test_nearest_takes_the_section_before_where_both_are_as_near(training: Training) -> None:
    nearest = Nearest(training)
    assert nearest.cells(5.0, None, RNG) is training.clouds[0]
    assert nearest.cells(5.1, None, RNG) is training.clouds[1]
    assert nearest.field(np.zeros((1, 3)), 5.0) is None


def test_union_is_both_sections(training: Training) -> None:
    assert len(Union(training).cells(5.0, None, RNG)) == 150 + 160
    assert len(Union(training).cells(5.0, 99, RNG)) == 99


def test_weighted_union_has_the_mixture_between(training: Training) -> None:
    weighted = WeightedUnion(training)
    cells = weighted.cells(2.5, None, RNG)
    np.testing.assert_allclose(cells.weight, np.repeat([0.75, 0.25], [150, 160]))
    # Features of the section after lie 1 higher in the first component.
    for n in (40, 152):
        shares = [(weighted.cells(2.5, n, np.random.default_rng(seed)).features[:, 0] > 1).mean() for seed in range(60)]
        assert np.mean(shares) == pytest.approx(0.25 * 160 / (0.75 * 150 + 0.25 * 160), abs=0.02)


def test_weighted_union_on_a_section_is_that_section(training: Training) -> None:
    assert len(WeightedUnion(training).cells(10.0, None, RNG)) == 160


def test_kernel_is_linear_in_depth(training: Training) -> None:
    places = np.array([[0.5, 0.5]])
    before, after = (next(blended_kernels(training.gap(z), places, (0.05,))) for z in (0.0, 9.999999))
    middle = next(blended_kernels(training.gap(5.0), places, (0.05,)))
    np.testing.assert_allclose(middle, (before + after) / 2, rtol=1e-5)


def test_kernel_finds_what_is_linear(training: Training) -> None:
    """Expression is linear in x, y and depth, so that the blend of two symmetric kernels is right inside."""
    places = np.column_stack([np.linspace(0.3, 0.7, 20), np.full(20, 0.5), np.full(20, 14.0)])
    genes = Kernel(training, 0.05).field(places, 14.0)
    features = places[:, :2] + [1.4, 0.0]
    truth = 5 + features @ np.array([[1.0, 0.5, -1.0], [0.0, 1.0, 2.0]])
    np.testing.assert_allclose(genes, truth, atol=0.15)


def test_width_is_narrow_for_sharp_patterns_and_wide_for_noise(training: Training) -> None:
    def with_genes(pattern: np.ndarray | None) -> Training:
        draw = np.random.default_rng(3)
        clouds = []
        for cloud in training.clouds:
            genes = draw.normal(size=(len(cloud), 4)) if pattern is None else np.sin(pattern * cloud.coords[:, :1])
            clouds.append(type(cloud)(cloud.coords, cloud.features, genes))
        return Training(tuple(clouds), training.z, training.width, 1.0)

    assert choose_width(with_genes(None)) == max(WIDTHS) * training.width
    assert choose_width(with_genes(np.array(25.0))) == min(WIDTHS) * training.width


def test_two_sections_have_none_to_leave_out(training: Training) -> None:
    two = Training(training.clouds[:2], training.z[:2], 0.1, 1.0)
    assert choose_width(two) == pytest.approx(0.2)
