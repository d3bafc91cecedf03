"""StarDist and Cellpose: a tile in, labels out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from isost._core.fit import choose_device
from isost._core.optional import load_extra

_STARDIST = "2D_versatile_he"
_STARDIST_RANGE = (1.0, 99.8)  # percentiles that are 0 and 1, of the colours together
_STARDIST_TILE = 1024  # pixels that its network sees at once
_CELLPOSE_RANGE = (1.0, 99.0)  # of each colour

#: A tile (h, w, 3) uint8 to labels (h, w), or to these and the probabilities (n,) of labels 1 to n.
Segmenter = Callable[[np.ndarray], Any]
#: Pixels (n, 3) uint8 of the slide, from which the range of its colours is told, to what takes tiles.
Prepared = Callable[[np.ndarray], Segmenter]


def load_stardist(device: str | None) -> Prepared:
    """StarDist with its weights for H&E, on the device of TensorFlow.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    models = load_extra("stardist.models", "stardist")
    rescaled = load_extra("csbdeep.utils", "stardist").normalize_mi_ma
    model = models.StarDist2D.from_pretrained(_STARDIST)

    def prepared(sample: np.ndarray) -> Segmenter:
        low, high = (float(value) for value in np.percentile(sample, _STARDIST_RANGE))

        def segment(rgb: np.ndarray) -> Any:
            n_tiles = (*(-(-side // _STARDIST_TILE) for side in rgb.shape[:2]), 1)
            labels, details = model.predict_instances(
                rescaled(rgb, low, max(high, low + 1)), axes="YXC", n_tiles=n_tiles, show_tile_progress=False
            )
            return labels, details["prob"]

        return segment

    return prepared


def load_cellpose(device: str | None) -> Prepared:
    """Cellpose 4 with the weights that it takes by default; the probability is the mean over the pixels.

    Raises
    ------
    ImportError
        If it is not installed, or too old.
    """
    models = load_extra("cellpose.models", "cellpose")
    version = str(load_extra("cellpose", "cellpose").version)
    if version.split(".")[0].isdecimal() and int(version.split(".")[0]) < 4:
        raise ImportError(
            f"Expected cellpose 4 or newer, found {version}. Next: pip install 'isost[cellpose]', or pass a function."
        )
    where = choose_device(device)
    model = models.CellposeModel(gpu=where.type != "cpu", device=where)

    def prepared(sample: np.ndarray) -> Segmenter:
        low, high = np.percentile(sample, _CELLPOSE_RANGE, axis=0)
        known = np.column_stack([low, np.maximum(high, low + 1)]).tolist()

        def segment(rgb: np.ndarray) -> Any:
            labels, flows = model.eval(rgb, channel_axis=-1, normalize={"lowhigh": known})[:2]
            labels = np.asarray(labels).astype(np.int64)
            inside = 1 / (1 + np.exp(-np.asarray(flows[2], dtype=np.float64)))
            n = int(labels.max(initial=0))
            return labels, ndimage.mean(inside, labels, np.arange(1, n + 1)) if n else np.zeros(0)

        return segment

    return prepared


LOAD = {"stardist": load_stardist, "cellpose": load_cellpose}
