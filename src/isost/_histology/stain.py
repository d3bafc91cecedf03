"""Haematoxylin and eosin, told apart by their colours (Macenko et al. 2009), and one colour for all slides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST = 0.15  # optical density, in each colour, of what is stained
_TISSUE = 0.25  # sum of optical densities, of what is no glass
_EXTREME = 1.0  # per cent of the angles beyond the stains' own
_FULL = 99.0  # percentile of a stain that counts as one
_ABSENT = 0.1  # of the other stain's amount: what is less is rounding
_FEWEST = 500  # stained pixels
_GREY = 3  # of 255, that the colours of half of these differ by, at the most, where the image has none
# optical densities of haematoxylin and eosin (rows), and the 99th percentile of their amounts, of a slide like many
REFERENCE = np.array([[0.65, 0.70, 0.29], [0.27, 0.87, 0.41]])
REFERENCE_FULL = np.array([1.9, 1.0])


@dataclass(frozen=True, eq=False)
class Stains:
    """The two stains of a slide.

    Attributes
    ----------
    colours
        (2, 3) optical densities of haematoxylin and eosin, each of length one.
    full
        (2,) amounts that count as one.
    """

    colours: np.ndarray
    full: np.ndarray

    def amounts(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split pixels (..., 3) uint8: amounts (..., 2) of the stains and what of optical density is neither (...)."""
        density = optical_density(rgb)
        third = np.cross(*self.colours)
        back = np.linalg.inv(np.vstack([self.colours, third / np.linalg.norm(third)])).astype(np.float32)
        found = density @ back
        return found[..., :2] / self.full.astype(np.float32), found[..., 2]

    def normalised(self, rgb: np.ndarray) -> np.ndarray:
        """Give pixels (..., 3) uint8 the stains of the reference."""
        amounts, _ = self.amounts(rgb)
        reference = REFERENCE / np.linalg.norm(REFERENCE, axis=1, keepdims=True)
        density = np.clip(amounts, 0, None) @ (reference * REFERENCE_FULL[:, None]).astype(np.float32)
        return np.clip(np.round(255 * np.exp(-density)), 0, 255).astype(np.uint8)


def optical_density(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) float32: -log of the light that comes through; at most 5.5."""
    return -np.log((rgb.astype(np.float32) + 1) / 256)


def is_tissue(rgb: np.ndarray) -> np.ndarray:
    """(...) bool: darker than glass."""
    return np.asarray(optical_density(rgb).sum(axis=-1) > _TISSUE)


def find_stains(rgb: np.ndarray) -> Stains:
    """Find the stains of some pixels (n, 3) uint8 of a slide.

    Optical densities of stained pixels lie near a plane; the stains are the extreme directions in it (Macenko et al.
    2009, ISBI).

    Raises
    ------
    ValueError
        If hardly any pixel is stained, or they are grey or black.
    """
    density = optical_density(rgb).astype(np.float64)
    is_stained = (density > _LEAST).all(axis=1)
    stained = density[is_stained]
    if len(stained) < _FEWEST:
        raise ValueError(
            f"image: expected stained tissue, found {len(stained)} of {len(rgb)} pixels that are stained. Next: look "
            "at the image; white is the lamp, and its value has to be that of the data type (255, 65535 or 1)."
        )
    if np.median(np.ptp(rgb[is_stained].astype(np.int64), axis=1)) <= _GREY:
        raise ValueError(
            "image: expected the colours of haematoxylin and eosin, found pixels that are grey or black: red, green "
            "and blue are the same. Next: give the image as it was scanned, in colour."
        )
    plane = np.linalg.eigh(np.cov(stained.T))[1][:, [2, 1]]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    angle = np.arctan2(*(stained @ plane).T[::-1])
    ends = np.percentile(angle, [_EXTREME, 100 - _EXTREME])
    found = np.clip(np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T, 1e-3, None)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    colours = found[np.argsort(-found[:, 0])]  # haematoxylin takes the red
    if np.linalg.norm(np.cross(*colours)) < 0.05:  # one stain only
        colours = REFERENCE / np.linalg.norm(REFERENCE, axis=1, keepdims=True)
    amounts = Stains(colours, np.ones(2)).amounts(rgb[is_stained])[0]
    full = np.percentile(amounts, _FULL, axis=0)
    return Stains(colours, np.maximum(full, _ABSENT * full.max()))
