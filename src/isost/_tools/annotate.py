"""Categories in a table, as scanpy and squidpy expect them: obs, probabilities beside, colours in uns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.colors import is_color_like, to_hex

from isost.pl._palette import palette


def annotate(table: AnnData, key: str, labels: np.ndarray, names: Sequence[str], colors: Sequence[str]) -> None:
    """Write labels in place.

    Parameters
    ----------
    labels
        (n,) int, the category of each row, -1 for none; or (n, C) probabilities, which are kept, and whose largest is
        the label.
    """
    codes = labels
    if labels.ndim == 2:
        codes = labels.argmax(axis=1)
        table.obsm[f"{key}_probabilities"] = pd.DataFrame(labels, index=table.obs_names, columns=list(names))
    table.obs[key] = pd.Categorical.from_codes(codes, categories=list(names))
    table.uns[f"{key}_colors"] = list(colors)


def category_colors(adata: AnnData, key: str, n: int) -> tuple[str, ...]:
    """Colours of the `n` categories of a column: its own, or such that stay apart for colour-blind readers."""
    own = adata.uns.get(f"{key}_colors")
    if own is None or len(own) < n or not all(is_color_like(color) for color in own):
        return palette(n)
    return tuple(to_hex(color) for color in own[:n])
