"""What H&E shows without any learned weights: colour, texture, nuclei and the order of fibres, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from isost._histology.stain import Stains, is_tissue, optical_density

PIXEL = 0.5  # µm, that slides are rescaled to
REACH = 64  # pixels that a filter sees about a place, at most
_EDGES = (1.0, 2.0, 4.0)  # µm, of the gradients
_BLOBS = (1.5, 2.2, 3.2, 4.6)  # µm, radius of a blob over the square root of two
_NUCLEAR = (0.3, 0.5, 0.7)  # amounts of haematoxylin
_PROMINENT = 0.15  # response of a blob that counts as a nucleus
_FIBRE, _BUNDLE = 1.5, 8.0  # µm: what is a direction, and over which it is compared


def texture_maps(rgb: np.ndarray, stains: Stains) -> Iterator[tuple[str, np.ndarray]]:
    """Give one map after the other of pixels (2 H, 2 W, 3) uint8 of 0.5 µm, all (H, W) float32, of 1 µm.

    Amounts of both stains and what is neither, optical density, saturation, blue against red; edges of each stain at
    three scales; blobs of haematoxylin of four sizes (Laplacian of Gaussian) and how many of these are nuclei (local
    maxima, in thousands per mm^2); the share that is nuclear at three thresholds, and tissue; and how far fibres run in
    one direction (coherence of the structure tensor).
    """
    amounts, rest = stains.amounts(rgb)
    density = optical_density(rgb)
    light = rgb.astype(np.float32)
    fine = {
        "haematoxylin": amounts[..., 0],
        "eosin": amounts[..., 1],
        "neither": rest,
        "density": density.sum(axis=-1),
        "saturation": 1 - light.min(axis=-1) / np.maximum(light.max(axis=-1), 1),
        "blue": density[..., 0] - density[..., 2],
        "tissue": is_tissue(rgb).astype(np.float32),
    }
    smooth = ndimage.gaussian_filter(fine["haematoxylin"], 1 / PIXEL, truncate=3)
    for level in _NUCLEAR:
        fine[f"nuclear {level:g}"] = (smooth > level).astype(np.float32)
    coarse = {name: _halved(values) for name, values in fine.items()}
    yield from coarse.items()
    for name in ("haematoxylin", "eosin"):
        for scale in _EDGES:
            yield f"{name} edge {scale:g}", scale * ndimage.gaussian_gradient_magnitude(coarse[name], scale, truncate=3)
    for scale in _BLOBS:
        blob = -(scale**2) * ndimage.gaussian_laplace(coarse["haematoxylin"], scale, truncate=4)
        peak = (blob == ndimage.maximum_filter(blob, size=2 * round(scale) + 1)) & (blob > _PROMINENT)
        yield f"blob {scale:g}", np.maximum(blob, 0)
        yield f"nuclei {scale:g}", peak.astype(np.float32) * 1e3
    yield "coherence", _coherence(coarse["density"])


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels."""
    height, width = values.shape[0] // 2, values.shape[1] // 2
    return values.reshape(height, 2, width, 2).mean(axis=(1, 3), dtype=np.float32)


def _coherence(values: np.ndarray) -> np.ndarray:
    """Difference of the eigenvalues of the structure tensor over their sum: 1 where all edges are parallel."""
    dy, dx = np.gradient(ndimage.gaussian_filter(values, _FIBRE, truncate=3))
    yy, xx, xy = (ndimage.gaussian_filter(part, _BUNDLE, truncate=3) for part in (dy * dy, dx * dx, dx * dy))
    return np.asarray(np.sqrt((yy - xx) ** 2 + 4 * xy**2) / (yy + xx + 1e-4), dtype=np.float32)
