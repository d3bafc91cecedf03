"""Picture of a made slide: fibres and nuclei, their stains, and the light that comes through."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from isost.datasets._slide_tissue import Nuclei, Tissue, direction, physical

#: Optical densities of haematoxylin and eosin (rows) in red, green and blue, each of length one.
COLOURS = np.array([[0.65, 0.70, 0.29], [0.22, 0.84, 0.44]])
COLOURS /= np.linalg.norm(COLOURS, axis=1, keepdims=True)

_REDDER = np.array([-0.25, 0.0, 0.25])  # of optical densities, at a tint of 1
_LAMP = 253.0
_NOISE = 2.0  # of the camera, in grey levels
_ANGLES = 12
_FIBRE = (22.0, 0.9)  # µm along and across, standard deviations
_GRAIN, _LOOSE = 1.2, 0.5  # µm of what has no direction, and its spread over that of fibres
_FINE = 0.6  # µm
_CHROMATIN, _SPECKLE = 0.2, 0.1  # spreads of the log of haematoxylin in nuclei, and of eosin, over so short a length
_CONTRAST = 0.45  # spread of the log of eosin from fibre to fibre, where all run in one direction
_GROUND = 0.04  # haematoxylin outside of nuclei
_CYTOPLASM = (0.35, 4.0)  # haematoxylin about nuclei, and µm that it reaches
_WITHIN = 0.3  # of the eosin around them, in nuclei
_SOFT = 0.35  # µm, of the edge of a nucleus
_EDGE = 1.0  # µm, of the edge of the tissue
_BLOCK = 256  # nuclei drawn at a time


def stain_colours(tint: float) -> np.ndarray:
    """(2, 3) optical densities of haematoxylin and eosin, each of length one; -1 is bluer, 1 is redder."""
    tinted = COLOURS * (1.0 + tint * _REDDER)
    return np.asarray(tinted / np.linalg.norm(tinted, axis=1, keepdims=True))


def render(
    tissue: Tissue, nuclei: Nuclei, pixel_size: float, stain: np.ndarray, colours: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(3, h, h) uint8: what light comes through, by the law of Beer and Lambert.

    Parameters
    ----------
    pixel_size
        µm; the last pixels may reach beyond the square.
    stain
        (2,) strengths of haematoxylin and eosin.
    colours
        (2, 3) optical densities of them.
    """
    n_pixels, step = int(np.ceil(tissue.side / pixel_size - 1e-6)), pixel_size
    at = (np.arange(n_pixels) + 0.5) * step
    inside = _logistic(tissue.margin(at[None], at[:, None]) / _EDGE)
    fields = {name: tissue.fields[name].over(at, at) for name in ("eosin", "fibres", "direction")}
    noise = fft.rfft2(rng.standard_normal((n_pixels, n_pixels), dtype=np.float32))
    texture = _fibres(noise, step, physical("fibres", fields["fibres"]), direction(fields["direction"]))
    fine = _filtered(noise, step, _FINE, _FINE, 0.0)
    eosin = physical("eosin", fields["eosin"]) * np.exp(_CONTRAST * texture + _SPECKLE * fine)
    body, haematoxylin = _drawn(nuclei, n_pixels, step)
    ground = _GROUND + _CYTOPLASM[0] * ndimage.gaussian_filter(body, _CYTOPLASM[1] / step, truncate=3)
    amounts = [ground * inside + haematoxylin * np.exp(_CHROMATIN * fine),
               inside * eosin * (1.0 - (1.0 - _WITHIN) * body)]  # fmt: skip
    rgb = np.empty((3, n_pixels, n_pixels), dtype=np.uint8)
    for plane, share in zip(rgb, (stain[:, None] * colours).T, strict=True):
        light = _LAMP * np.exp(-(share[0] * amounts[0] + share[1] * amounts[1]))
        light += _NOISE * rng.standard_normal(light.shape, dtype=np.float32)
        plane[:] = np.clip(np.round(light), 0, 255)
    return rgb


def _fibres(noise: np.ndarray, step: float, order: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Noise that runs along `angle` as far as there is `order`, both (h, w); of variance 1 where there is all."""
    place = angle / np.pi * _ANGLES
    along, total = np.zeros_like(order), np.zeros_like(order)
    for k in range(_ANGLES):
        off = np.abs((place - k + _ANGLES / 2) % _ANGLES - _ANGLES / 2)
        weight = np.maximum(1.0 - off, 0.0)
        along += weight * _filtered(noise, step, *_FIBRE, k * np.pi / _ANGLES)
        total += weight**2
    loose = _filtered(noise, step, _GRAIN, _GRAIN, 0.0)
    return order * along / np.sqrt(total) + _LOOSE * (1 - order) * loose


def _filtered(noise: np.ndarray, step: float, along: float, across: float, angle: float) -> np.ndarray:
    """Noise, given as its transform, smoothed by a Gaussian of two widths in µm, of variance 1."""
    n = noise.shape[0]
    fy, fx = fft.fftfreq(n, step)[:, None], fft.rfftfreq(n, step)[None]
    u, v = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    kept = np.exp(-2 * np.pi**2 * ((along * u) ** 2 + (across * v) ** 2)).astype(np.float32)
    found = fft.irfft2(noise * kept, s=(n, n))
    return np.asarray(found / max(float(found.std()), 1e-9))


def _drawn(nuclei: Nuclei, n_pixels: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Two maps, float32: how far a pixel is in a nucleus, between 0 and 1, and the haematoxylin of it."""
    body, stained = np.zeros((2, n_pixels * n_pixels), dtype=np.float32)
    amount = physical("darkness", nuclei.values["darkness"])
    half = int(np.ceil((nuclei.axes.max() + 4 * _SOFT) / step)) + 1
    reach = np.arange(-half, half + 1)
    soft = max(_SOFT, step / 2)
    for start in range(0, len(amount), _BLOCK):
        part = slice(start, start + _BLOCK)
        corner = (nuclei.centre[part] / step).astype(int)
        column, row = (corner[:, axis, None] + reach for axis in (0, 1))
        x = ((column + 0.5) * step - nuclei.centre[part, :1])[:, None, :]
        y = ((row + 0.5) * step - nuclei.centre[part, 1:])[:, :, None]
        cos, sin = np.cos(nuclei.angle[part])[:, None, None], np.sin(nuclei.angle[part])[:, None, None]
        long, short = nuclei.axes[part].T[:, :, None, None]
        radius = np.hypot((x * cos + y * sin) / long, (y * cos - x * sin) / short)
        shade = _logistic((1.0 - radius) * np.sqrt(long * short) / soft).astype(np.float32)
        down, across = ((0 <= one) & (one < n_pixels) for one in (row, column))
        seen = down[:, :, None] & across[:, None]
        flat = (row[:, :, None] * n_pixels + column[:, None])[seen]
        rim = 0.85 + 0.3 * np.minimum(radius, 1.0) ** 4  # chromatin lies along the envelope
        np.maximum.at(body, flat, shade[seen])
        np.maximum.at(stained, flat, (shade * rim * amount[part, None, None])[seen].astype(np.float32))
    return body.reshape(n_pixels, n_pixels), stained.reshape(n_pixels, n_pixels)


def _logistic(value: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.tanh(value / 2)).astype(np.float32)
