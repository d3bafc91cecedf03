"""What follows an image is found, and believed only where sections left out agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from xarray import DataArray

from isost._core.field import Field
from isost._core.model import SDEModel
from isost._core.stack import Stack
from isost._core.trust import without
from isost._images.basis import Basis
from isost._images.guide import fit_guide, regress
from isost._images.outline import shows_tissue
from isost._images.planes import ImagePlanes

DEPTHS = np.arange(6) * 100.0
NOISE = 0.3


def spots(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A pattern that turns over between two sections: no neighbour tells it."""
    return np.sin(x / 45 + z * 2.1) * np.cos(y / 50 - z * 1.3)


def truth(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A score that follows the pattern, one that follows it in part, and one that does not."""
    smooth = np.sin(x / 120) + np.cos(y / 100)
    return np.stack([1.5 * spots(x, y, z), smooth - spots(x, y, z), smooth], axis=1)


@pytest.fixture(scope="module")
def stack(stack_of: Callable[..., Stack]) -> Stack:
    draw = np.random.default_rng(0)
    cells = [draw.uniform(0, [400, 300], (220, 2)) for _ in DEPTHS]
    features = [
        truth(*xy.T, np.full(len(xy), z)) + NOISE * draw.normal(size=(len(xy), 3))
        for xy, z in zip(cells, DEPTHS, strict=True)
    ]
    return stack_of(cells, features, DEPTHS.tolist())


@pytest.fixture(scope="module")
def still(stack: Stack) -> SDEModel:
    x, y, z = stack.scaling.origin
    return SDEModel(
        3, origin=(x, y, z), plane_scale=stack.scaling.xy, depth_unit=100.0, depth_range=5.0, width=8, moving=False,
        changing=0.0,
    ).eval()  # fmt: skip


def images(values: Callable[..., np.ndarray], depths: np.ndarray) -> ImagePlanes:
    y, x = np.arange(-10.0, 320.0, 5.0), np.arange(-10.0, 420.0, 5.0)
    zz, yy, xx = np.meshgrid(depths, y, x, indexing="ij")
    return ImagePlanes(
        DataArray(values(xx, yy, zz)[None].astype(np.float32), dims=("c", "z", "y", "x"),
                  coords={"c": ["stain"], "z": depths, "y": y, "x": x}, attrs={"affine": np.eye(2, 3).tolist()})
    )  # fmt: skip


def error(field: Field, z: float) -> np.ndarray:
    inside = np.random.default_rng(1).uniform(40, [360, 260], (300, 2))
    at = np.column_stack([inside, np.full(300, z)])
    return ((field.predict(at).mean - truth(*at.T)) ** 2).mean(axis=0)


def test_a_stain_between_the_sections_tells_what_they_do_not(stack: Stack, still: SDEModel) -> None:
    guide = fit_guide(still, stack, images(spots, np.arange(0.0, 501.0, 50.0)))
    assert guide is not None
    assert guide.gain[0] > 0.6 and guide.gain[1] > 0.5 and guide.gain[2] < 0.02
    at = np.column_stack([np.random.default_rng(2).uniform(20, [380, 280], (400, 2)), np.full(400, 150.0)])
    slopes = np.polyfit(spots(*at.T), guide.at(at), 1)[0]
    np.testing.assert_allclose(slopes, [1.5, -1.0, 0.0], atol=0.15)
    plain, guided = Field.fit(still, stack), Field.fit(still, stack, guide=guide)
    for z in (150.0, 350.0):
        before, after = error(plain, z), error(guided, z)
        assert (after[:2] < 0.15 * before[:2]).all() and after[2] < 1.05 * before[2]
    # the cells of a section follow it too
    left = guide.left(stack)
    np.testing.assert_allclose(left.features + guide.at(stack.coords), stack.features, atol=1e-5)
    assert left.features[:, 0].std() < 0.4 * stack.features[:, 0].std()


def test_an_image_of_noise_is_not_believed(stack: Stack, still: SDEModel) -> None:
    def noise(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        return np.random.default_rng(3).normal(size=x.shape)

    guide = fit_guide(still, stack, images(noise, DEPTHS))
    assert guide is None or guide.gain.max() < 0.02
    if guide is not None:
        plain, guided = error(Field.fit(still, stack), 250.0), error(Field.fit(still, stack, guide=guide), 250.0)
        assert (guided < 1.03 * plain).all()


def test_an_image_elsewhere_is_an_error(stack: Stack, still: SDEModel) -> None:
    planes = images(spots, DEPTHS)
    planes.to_image = planes.to_image + np.array([[0.0, 0.0, 1e4], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="images: expected tissue where cells were measured, found none"):
        fit_guide(still, stack, planes)


def test_too_few_sections_say_nothing(stack: Stack, still: SDEModel) -> None:
    guide = fit_guide(still, stack.select([0, 1, 2]), images(spots, DEPTHS))
    assert guide is not None and guide.outline
    assert not guide.weight.any() and not guide.at(stack.coords[:5]).any()
    assert guide.left(stack) is stack


def test_a_regression_is_believed_as_far_as_parts_agree() -> None:
    draw = np.random.default_rng(0)
    d = [draw.normal(size=(200, 3)) for _ in range(5)]
    slopes = np.array([[1.0, 0.0, -0.5], [0.0, 0.0, 0.0]])
    e = [one @ slopes.T + draw.normal(size=(200, 2)) for one in d]
    weight, gain = regress(list(zip(d, e, strict=True)), np.ones(2))
    np.testing.assert_allclose(weight, slopes, atol=0.15)
    assert gain[0] == pytest.approx(1.25 / 2.25, abs=0.08) and gain[1] < 0.01
    # a slope of another sign in every part is no slope
    unlike = [one * sign for one, sign in zip(e, (1, -1, 1, -1, 1), strict=True)]
    assert regress(list(zip(d, unlike, strict=True)), np.ones(2))[1][0] < 0.1


def test_images_of_a_part_make_no_seam(stack: Stack, still: SDEModel) -> None:
    part = images(spots, np.arange(0.0, 301.0, 50.0))
    guide = fit_guide(still, stack, part)
    assert guide is not None and guide.weight.any()
    field = Field.fit(still, stack, guide=guide)
    z = np.arange(280.0, 380.0, 1.0)
    along = field.predict(np.column_stack([np.full((len(z), 2), 150.0), z])).mean[:, 0]
    assert np.abs(np.diff(along)).max() < 0.1


def test_a_basis_is_zero_in_the_mean_and_where_nothing_is_shown() -> None:
    shown = np.random.default_rng(0).gamma(2.0, 3.0, (500, 2))
    basis = Basis.of(shown)
    columns = basis(shown)
    assert columns.shape == (500, 8)
    np.testing.assert_allclose(columns.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_array_equal(basis(np.full((3, 2), np.nan)), 0.0)
    middle = np.median(shown[:, 0])
    slopes = np.diff(
        basis(np.column_stack([[middle - 0.2, middle - 0.1, middle + 0.1, middle + 0.2], np.ones(4)]))[:, 4]
    )
    assert slopes[0] == pytest.approx(0.0, abs=1e-5) and slopes[-1] == pytest.approx(0.1 / basis.scale[0], rel=1e-3)


def test_one_section_elsewhere_is_enough_for_no_outline(stack: Stack, still: SDEModel) -> None:
    planes = images(spots, DEPTHS)
    assert shows_tissue(planes, stack)
    coords = stack.coords.copy()
    coords[stack.slice_of(2), 0] += 200.0
    assert not shows_tissue(planes, replace(stack, coords=coords))
    assert not shows_tissue(planes, stack.select([0]))


def test_predicted_sections_are_not_asked(stack: Stack, still: SDEModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watched(stack: Stack, k: int) -> Stack:
        asked.append(k)
        return without(stack, k)

    monkeypatch.setattr("isost._images.guide.without", watched)
    weighted = replace(stack, weights=np.array([1, 1, 0.5, 1, 1, 1]))
    guide = fit_guide(still, weighted, images(spots, DEPTHS))
    assert guide is not None and guide.gain[0] > 0.1
    assert asked == [1, 3, 4]
