"""Where there is tissue in an image, and where it is dense."""

from __future__ import annotations

import dask.array as da
import numpy as np
from scipy.ndimage import uniform_filter

_LOOKED_AT = 2**20  # pixels that a threshold is chosen by
_BINS = 256


def tissue_mask(image: da.Array, threshold: float | str | None, *, dark: bool) -> tuple[da.Array, float | None]:
    """Mask (z, y, x) of the tissue in (c, z, y, x), lazy, and the threshold that it lies above (below, if dark).

    Raises
    ------
    ValueError
        If the threshold is none, or no pixel or every pixel would be tissue by Otsu's.
    """
    mean = image.astype(np.float32).mean(axis=0)
    if threshold is None:
        return da.isfinite(mean), None
    if isinstance(threshold, str):
        if threshold != "otsu":
            raise ValueError(
                f"threshold: expected a number, 'otsu' or None, found {threshold!r}. Next: leave threshold out."
            )
        step = max(1, int(np.ceil((mean.size / _LOOKED_AT) ** 0.5)))
        some = np.asarray(mean[:, ::step, ::step]).ravel()
        threshold = _otsu_of_light(some[np.isfinite(some)], dark=dark)
    beyond = mean < threshold if dark else mean > threshold
    # single pixels are noisy
    mask = da.map_overlap(_majority, beyond, depth=(0, 1, 1), boundary="nearest", dtype=bool)
    return mask, float(threshold)


def _majority(mask: np.ndarray) -> np.ndarray:
    """Of the 3 x 3 pixels of a plane about each."""
    return uniform_filter(mask.astype(np.float32), (1, 3, 3), mode="nearest") > 0.5


def _otsu_of_light(values: np.ndarray, *, dark: bool) -> float:
    """Otsu's threshold of square roots above the background: light is counted, and bright tissue varies the more."""
    if not len(values):
        return otsu(values)
    background = float(np.percentile(values, 99.9 if dark else 0.1))
    sign = -1.0 if dark else 1.0
    return background + sign * otsu(np.sqrt(np.maximum(sign * (values - background), 0.0))) ** 2


def otsu(values: np.ndarray) -> float:
    """Threshold with the largest variance between what lies below and above it (Otsu 1979).

    Raises
    ------
    ValueError
        If all values are the same.
    """
    if not len(values) or values.min() == values.max():
        raise ValueError(
            "image: expected tissue and background, found one intensity everywhere. Next: pass mask=, or "
            "threshold=None if all of the image is tissue."
        )
    count, edges = np.histogram(values, _BINS)
    middle = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(count), count.sum()
    first = np.cumsum(count * middle)
    share = below[:-1] / total
    apart = (first[-1] / total * share - first[:-1] / total) ** 2 / np.maximum(share * (1 - share), 1e-12)
    return float(edges[1 + int(apart.argmax())])
