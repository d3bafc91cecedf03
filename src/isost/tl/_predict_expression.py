from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from anndata import AnnData

from isost._core.checks import show
from isost._core.random import Rng
from isost._histology.tiles import Encoder
from isost.histology_model import LAYERS, HistologyModel
from isost.tl._histology_features import histology_features


def predict_expression(
    image: Any,
    cells: Any,
    model: HistologyModel,
    *,
    pixel_size: float | None = None,
    encoder: str | Path | Encoder | None = None,
    spatial_key: str = "spatial",
    unit: Literal["pixel", "um"] = "pixel",
    radius: float | None = None,
    positions: str | np.ndarray | None = None,
    like: str | None = None,
    interval: float | None = None,
    layers: Sequence[str] = LAYERS,
    batch_size: int = 64,
    cache: str | Path | None = None,
    device: str | None = None,
    rng: Rng = 0,
    progress: bool = True,
) -> AnnData:
    """Tell the expression of the cells of a stained slide, by a model that was fitted to others, or to a part of it.

    `isost.tl.histology_features`, made as for the fit, and `isost.HistologyModel.predict`.

    Parameters
    ----------
    image, cells
        See `isost.tl.histology_features`. Cells may lie where nothing was measured.
    model
        Of `isost.tl.fit_histology`.
    pixel_size
        µm of a pixel of the image at full resolution. None: as the file says.
    encoder
        Where the model was fitted on the features of a function, that function; else as in the fit.
    spatial_key, unit
        See `isost.tl.histology_features`.
    radius
        µm of points. None: as in the fit.
    positions
        (n, 2) µm of the cells, or (n, 3) whose depth is not used, in the frame that the slides of the fit share, or,
        where `cells` is an AnnData, their key in its ``obsm``; only where it was fitted with ``use_positions``.
    like, interval, layers
        See `isost.HistologyModel.predict`.
    batch_size, cache
        See `isost.tl.histology_features`.
    device
        ``"cpu"``, ``"cuda"``, or None for a GPU where there is one.
    rng
        Of the tiles that the stains are found in.
    progress
        Show a bar.

    Returns
    -------
    anndata.AnnData
        As of `isost.HistologyModel.predict`: ``X`` (n, G) float32 log1p; ``layers`` ``expressed``, ``level``, ``sd``;
        ``obs`` ``tissue``, ``out_of_distribution``, and ``nucleus_area`` of outlines; ``obsm["spatial"]`` (n, 2) µm
        from the corner of the image; it can be written as h5ad, and stacked by `isost.pp.stack_sections`, which takes
        ``uns["histology"]["trust"]`` for the weight of the section.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, ImportError
        As the two.

    Examples
    --------
    >>> import isost
    >>> slide = isost.datasets.phantom_slide(n_cells=200, n_genes=10)
    >>> features = isost.tl.histology_features(slide["he_image"], slide["nuclei"], pixel_size=0.5, progress=False)
    >>> model = isost.tl.fit_histology(slide["table"], features, method="ridge", progress=False)
    >>> other = isost.datasets.phantom_slide(n_cells=100, n_genes=10, rng=1)
    >>> told = isost.tl.predict_expression(other["he_image"], other["nuclei"], model, pixel_size=0.5, progress=False)
    >>> told.shape, list(told.layers)
    ((100, 10), ['expressed', 'level', 'sd'])
    """
    if not isinstance(model, HistologyModel):
        raise TypeError(
            f"model: expected an isost.HistologyModel, found {type(model).__name__}. Next: isost.tl.fit_histology, or "
            "isost.HistologyModel.load(path)."
        )
    made = model.params["features"]
    if encoder is None and made.get("function"):
        raise ValueError(
            f"encoder: expected the function {made['encoder']!r} that the features of the fit are of, found None. "
            "Next: encoder=, that function."
        )
    if radius is None and made.get("radius", 0) > 0:
        radius = float(made["radius"])
    if isinstance(positions, str):
        if not isinstance(cells, AnnData) or positions not in cells.obsm:
            found = show(cells.obsm) if isinstance(cells, AnnData) else type(cells).__name__
            raise ValueError(f"positions: expected a key of cells.obsm, found {positions!r} and {found}. Next: give "
                             "positions (n, 2).")  # fmt: skip
        positions = cells.obsm[positions]
    features = histology_features(
        image, cells, pixel_size=pixel_size, encoder=made["encoder"] if encoder is None else encoder,
        spatial_key=spatial_key, unit=unit, radius=radius, normalise_stain=bool(made["normalise_stain"]),
        batch_size=batch_size, cache=cache, device=device, rng=rng, progress=progress,
    )  # fmt: skip
    return model.predict(features, positions=positions, like=like, interval=interval, layers=layers, device=device)
