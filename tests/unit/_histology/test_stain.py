"""Planted stains are found, and slides that are stained otherwise are given the same colours."""

from __future__ import annotations

import numpy as np
import pytest

from isost._histology.stain import REFERENCE, Stains, find_stains, is_tissue

N = 6000
PLANTED = {
    "usual": [[0.65, 0.70, 0.29], [0.27, 0.87, 0.41]],
    "blue": [[0.78, 0.58, 0.24], [0.30, 0.80, 0.52]],
    "near": [[0.55, 0.76, 0.35], [0.36, 0.83, 0.42]],
}


def unit(vectors: object) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def tissue(seed: int = 0) -> np.ndarray:
    """(n, 2) amounts of haematoxylin and eosin: a third of the pixels is either alone, a third both."""
    draw = np.random.default_rng(seed)
    amounts = draw.gamma(6.0, 0.15, (N, 2))
    amounts[: N // 3, 1] = amounts[N // 3 : 2 * N // 3, 0] = 0
    return amounts


def rendered(amounts: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return np.round(255 * np.exp(-amounts @ colours)).astype(np.uint8)


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("strength", [0.7, 1.3])
def test_planted_stains_are_found(name: str, strength: float) -> None:
    """To three degrees, haematoxylin first, glass among the pixels or not."""
    colours = unit(PLANTED[name])
    rgb = rendered(strength * tissue(), colours)
    for pixels in (rgb, rgb[::-1], np.concatenate([rgb, np.full((5000, 3), 245, dtype=np.uint8)])):
        found = find_stains(pixels)
        np.testing.assert_allclose(np.linalg.norm(found.colours, axis=1), 1)
        angle = np.rad2deg(np.arccos(np.clip((found.colours * colours).sum(axis=1), -1, 1)))
        assert (angle < 3).all(), angle


@pytest.mark.parametrize("name", PLANTED)
def test_amounts_are_those_that_were_planted(name: str) -> None:
    """Of known stains to the rounding of colours, in units of `full`; nothing is left."""
    colours, amounts = unit(PLANTED[name]), tissue()
    clear = (amounts < 1.5).all(axis=1)  # dark colours are coarse
    found, rest = Stains(colours, np.array([2.0, 0.5])).amounts(rendered(amounts, colours))
    assert found.shape == (N, 2) and rest.shape == (N,)
    assert np.abs(found * [2.0, 0.5] - amounts)[clear].max() < 0.1
    assert np.abs(rest[clear]).max() < 0.05


def test_amounts_of_an_image_are_those_of_its_pixels() -> None:
    colours = unit(PLANTED["usual"])
    rgb, stains = rendered(tissue()[:600], colours), Stains(colours, np.ones(2))
    for of_image, of_pixels in zip(stains.amounts(rgb.reshape(20, 30, 3)), stains.amounts(rgb), strict=True):
        np.testing.assert_allclose(of_image.reshape(of_pixels.shape), of_pixels, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PLANTED)
def test_amounts_of_found_stains_are_linear(name: str) -> None:
    colours, amounts = unit(PLANTED[name]), tissue()
    rgb = rendered(amounts, colours)
    found, _ = find_stains(rgb).amounts(rgb)
    stained = (rgb < 220).all(axis=1)
    for k in range(2):
        assert np.corrcoef(found[stained, k], amounts[stained, k])[0, 1] > 0.99
        slope, at_none = np.polyfit(amounts[:, k], found[:, k], 1)
        assert abs(at_none) < 0.06, "none is found where none is"
        assert slope == pytest.approx(1 / np.percentile(amounts[stained, k], 99), rel=0.12)
        assert np.percentile(found[stained, k], 99) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("other", ["blue", "near"])
def test_slides_of_the_same_tissue_become_the_same(other: str) -> None:
    amounts = tissue()
    one, two = rendered(amounts, unit(PLANTED["usual"])), rendered(amounts * [0.7, 1.2], unit(PLANTED[other]))
    before = np.abs(one.astype(int) - two)
    same = [find_stains(rgb).normalised(rgb) for rgb in (one, two)]
    assert all(rgb.dtype == np.uint8 and rgb.shape == one.shape for rgb in same)
    after = np.abs(same[0].astype(int) - same[1])
    assert before.mean() > 14 and after.mean() < 5 and np.percentile(after, 95) < 14, (before.mean(), after.mean())


def test_stains_of_normalised_pixels_are_the_reference() -> None:
    rgb = rendered(tissue(), unit(PLANTED["blue"]))
    found = find_stains(find_stains(rgb).normalised(rgb)).colours
    assert (np.rad2deg(np.arccos(np.clip((found * unit(REFERENCE)).sum(axis=1), -1, 1))) < 3).all()


def test_glass_stays_white() -> None:
    stains = find_stains(rendered(tissue(), unit(PLANTED["usual"])))
    assert stains.normalised(np.full((4, 5, 3), 255, dtype=np.uint8)).min() >= 253


@pytest.mark.parametrize("value", [255, 240])
def test_nothing_is_stained(value: int) -> None:
    with pytest.raises(ValueError, match=r"image: expected stained tissue, found 0 of 9000 pixels.*Next: "):
        find_stains(np.full((9000, 3), value, dtype=np.uint8))


def test_hardly_anything_is_stained() -> None:
    rgb = np.full((9000, 3), 250, dtype=np.uint8)
    rgb[:499] = (120, 60, 140)
    with pytest.raises(ValueError, match="found 499 of 9000"):
        find_stains(rgb)


@pytest.mark.parametrize("kind", ["grey", "nearly grey", "black"])
def test_an_image_without_colours(kind: str) -> None:
    draw = np.random.default_rng(0)
    rgb = np.repeat(draw.integers(20, 240, (9000, 1)), 3, axis=1)
    if kind == "nearly grey":  # as JPEG gives it back
        rgb += draw.integers(0, 3, rgb.shape)
    if kind == "black":
        rgb[:] = 0
    with pytest.raises(ValueError, match=r"image: expected the colours of .* grey or black.*Next: "):
        find_stains(rgb.astype(np.uint8))


def test_pale_stains_are_no_grey() -> None:
    find_stains(rendered(tissue(), unit([[0.60, 0.66, 0.52], [0.48, 0.70, 0.55]])))


@pytest.mark.parametrize("which", [0, 1])
def test_one_stain_only(which: int) -> None:
    amounts = tissue()[2 * N // 3 :]
    amounts[:, 1 - which] = 0
    rgb = rendered(amounts, unit(PLANTED["usual"]))
    stains = find_stains(rgb)
    assert np.isfinite(stains.colours).all() and (stains.full > 0).all()
    assert np.linalg.norm(np.cross(*stains.colours)) > 0.05
    found, rest = stains.amounts(rgb)
    assert np.isfinite(found).all() and np.isfinite(rest).all()
    assert np.corrcoef(found[:, which], amounts[:, which])[0, 1] > 0.99
    assert np.abs(found[:, 1 - which]).mean() < 0.1, "rounding is not blown up to a stain"


def test_one_colour_only() -> None:
    stains = find_stains(np.full((2000, 3), (150, 80, 160), dtype=np.uint8))
    assert np.isfinite(stains.colours).all() and np.isfinite(stains.full).all() and (stains.full > 0).all()


def test_tissue_is_darker_than_glass() -> None:
    assert not is_tissue(np.array([[255, 255, 255], [240, 240, 240]], dtype=np.uint8)).any()
    assert is_tissue(np.array([[[200, 150, 200]], [[0, 0, 0]]], dtype=np.uint8)).tolist() == [[True], [True]]
