"""The door of a fit: features and measured expression of the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from isost._core.checks import check_adata, show, to_numbers
from isost._core.expression import expression_of, summarise
from isost._core.normalise import Normalisation, choose_normalisation, lognormal
from isost._histology.fit import Measured
from isost._histology.genes import choose_genes
from isost._histology.positions import find_positions
from isost._histology.scale import FEWEST, FeatureScale, find_scale
from isost._logging import logger

TOTAL = 1e4  # counts of a cell, before the logarithm
_LEAST = 40  # cells


def joined(features: Any) -> tuple[AnnData, list[str] | None, np.ndarray | None]:
    """Put the features of several slides together: their names and (n,) the number of each, None where it is one.

    Raises
    ------
    TypeError, ValueError
        If they are not what `isost.tl.histology_features` returns.
    """
    if isinstance(features, AnnData):
        check_features(features)
        return features, None, None
    if not isinstance(features, (Mapping, Sequence)) or isinstance(features, str) or not len(features):
        raise TypeError(
            f"features: expected what isost.tl.histology_features returns, or several of them, found "
            f"{type(features).__name__}. Next: isost.tl.histology_features(image, cells)."
        )
    parts = dict(features) if isinstance(features, Mapping) else {str(k): part for k, part in enumerate(features)}
    for part in parts.values():
        check_features(part)
    first = next(iter(parts.values()))
    used = first.uns["histology"].get("encoder")
    for name, part in parts.items():
        if not part.var_names.equals(first.var_names) or part.uns["histology"].get("encoder") != used:
            raise ValueError(
                f"features: expected the same features of all slides, found others in {name!r}. Next: use one encoder "
                "for all."
            )
    cells = pd.Index(np.concatenate([part.obs_names for part in parts.values()]))
    if not cells.is_unique:
        twice = cells[cells.duplicated()].unique()
        raise ValueError("features: expected cells with names of their own, found some on several slides "
                         f"({show(twice)}). Next: give each slide's cells a prefix.")  # fmt: skip
    whole = ad.concat(list(parts.values()), merge="same", uns_merge="first")
    number = np.repeat(np.arange(len(parts)), [part.n_obs for part in parts.values()])
    return whole, [str(name) for name in parts], number


def check_features(features: Any) -> None:
    if not isinstance(features, AnnData):
        raise TypeError(f"features: expected an AnnData, found {type(features).__name__}. Next: pass what "
                        "isost.tl.histology_features returned.")  # fmt: skip
    if "histology" not in features.uns or "spatial" not in features.obsm:
        raise ValueError(
            "features: expected what isost.tl.histology_features returned, found an AnnData without "
            "uns['histology'] or obsm['spatial']. Next: isost.tl.histology_features(image, cells)."
        )
    if not features.obs_names.is_unique:
        raise ValueError("features: expected cells with names of their own, found some twice. Next: "
                         "features.obs_names_make_unique(), and the same in adata.")  # fmt: skip
    if not features.var_names.is_unique:
        raise ValueError("features: expected features with names of their own, found some twice. Next: "
                         "features.var_names_make_unique().")  # fmt: skip
    if features.X is None or sparse.issparse(features.X):
        found = "none" if features.X is None else "a sparse matrix"
        raise TypeError(f"features: expected values as an array, found {found}. Next: pass what "
                        "isost.tl.histology_features returned.")  # fmt: skip
    if not np.isfinite(np.asarray(features.obsm["spatial"], dtype=np.float64)).all():
        raise ValueError("features: expected finite places in obsm['spatial'], found NaN or infinity. Next: leave such "
                         "cells out.")  # fmt: skip
    if features.n_obs == 0 or not np.isfinite(np.asarray(features.X)).all():
        found = "no cells" if features.n_obs == 0 else "NaN or infinity"
        raise ValueError(f"features: expected finite values, found {found}. Next: leave such cells out.")


def slides_of(
    adata: AnnData, key: str | None, names: list[str] | None, number: np.ndarray | None,
    argument: str = "section_key",
) -> tuple[list[str], np.ndarray]:  # fmt: skip
    """Names of slides and (n,) the number of each cell: by a column of `obs`, else as the features came.

    Raises
    ------
    ValueError
        If there is no such column, or it leaves cells out.
    """
    if key is None:
        return (["0"], np.zeros(adata.n_obs, dtype=np.int64)) if names is None or number is None else (names, number)
    if key not in adata.obs:
        raise ValueError(f"{argument}: expected a column of obs ({show(adata.obs.columns)}), found {key!r}. Next: "
                         "name the column of sections, or give the features of each slide by itself.")  # fmt: skip
    column = adata.obs[key]
    if column.isna().any():
        raise ValueError(f"obs[{key!r}]: expected a section for each cell, found {int(column.isna().sum())} without. "
                         "Next: leave these cells out.")  # fmt: skip
    column = column.cat.remove_unused_categories() if isinstance(column.dtype, pd.CategoricalDtype) else column
    category = column.astype("category").cat
    return [str(name) for name in category.categories], np.asarray(category.codes, dtype=np.int64)


def read_measured(
    adata: AnnData, features: Any, *, genes: str | Sequence[str], n_genes: int, section_key: str | None,
    spatial_key: str, layer: str | None, by_slide: bool, seed: int, use_positions: bool = False,
    position_width: float | None = None,
) -> tuple[Measured, Normalisation]:  # fmt: skip
    """Match cells by name; log-normalise, counts to 10,000; scale features by all cells of a slide.

    Raises
    ------
    TypeError, ValueError
        If either is something else, they share too few cells, or expression cannot be read.
    """
    check_adata(adata)
    described, names, number = joined(features)
    if not adata.obs_names.is_unique or not adata.var_names.is_unique:
        raise ValueError("adata: expected names of cells and genes that occur once, found some twice. Next: "
                         "adata.obs_names_make_unique(); adata.var_names_make_unique().")  # fmt: skip
    row = pd.Index(described.obs_names).get_indexer(adata.obs_names)
    rows = np.flatnonzero(row >= 0)
    if len(rows) < _LEAST:
        raise ValueError(
            f"features: expected the features of {_LEAST} measured cells or more, found {len(rows)} names that both "
            f"share (adata: {show(adata.obs_names, 2)}; features: {show(described.obs_names, 2)}). Next: give the "
            "cells of histology_features the names of adata.obs_names."
        )
    if len(rows) < adata.n_obs:
        logger.warning("fit_histology: %d of %d cells have no features and are left out", adata.n_obs - len(rows),
                       adata.n_obs)  # fmt: skip
    slides, slide = slides_of(adata[rows], section_key, names, None if number is None else number[row[rows]])
    values = np.asarray(described.X, dtype=np.float32)
    scale = _scale_of(values, row[rows], slide, slides, names, number, described, by_slide=by_slide)
    x = scale.scaled(values[row[rows]], slide)
    slide = np.unique(slide, return_inverse=True)[1]  # of those where cells were measured
    logged, how = _lognormalised(adata, rows, layer)
    chosen = choose_genes(logged, adata.var_names, genes, n_genes, slide, seed)
    columns = adata.var_names.get_indexer(chosen)
    expression = logged[:, columns]
    expression = np.asarray(expression.toarray() if sparse.issparse(expression) else expression, dtype=np.float32)
    if not (expression.std(axis=0) > 0).any():
        raise ValueError("adata.X: expected genes that vary, found none among those chosen. Next: look at adata.X.")
    coords = np.asarray(described.obsm["spatial"], dtype=np.float64)[row[rows]]
    if use_positions and (spatial_key not in adata.obsm or int(slide.max()) == 0):
        found = "one slide" if spatial_key in adata.obsm else f"no adata.obsm[{spatial_key!r}]"
        raise ValueError(
            f"use_positions: expected positions in adata.obsm[{spatial_key!r}], in the frame that two slides or more "
            f"share, found {found}. Next: name them by spatial_key=, slides by section_key=, or leave it out."
        )
    place, depth = _places(adata[rows], spatial_key, coords, slide)
    positions = find_positions(place, position_width) if use_positions else None
    return Measured(scale, x, coords, slide, place, depth, logged, chosen, expression, positions), how


def _scale_of(
    values: np.ndarray, rows: np.ndarray, slide: np.ndarray, slides: list[str], names: list[str] | None,
    number: np.ndarray | None, described: AnnData, *, by_slide: bool,
) -> FeatureScale:  # fmt: skip
    """Scale by all cells of a slide, measured or not, where it is known which slide those lie on."""
    feature_names = described.var_names.tolist()
    if not by_slide:
        return find_scale(values[rows], slide, feature_names, None)
    few = [name for k, name in enumerate(slides) if (slide == k).sum() < FEWEST]
    if number is not None and names is not None and set(names) == set(slides):
        where = np.array([slides.index(name) for name in names])[number]
        few = [name for k, name in enumerate(slides) if (where == k).sum() < FEWEST]
    elif len(slides) == 1:
        where, few = np.zeros(len(values), dtype=np.int64), few if len(values) < FEWEST else []
    else:
        values, where = values[rows], slide
    if few:
        raise ValueError(f"features: expected {FEWEST} cells or more on each slide, by which its stains are told, "
                         f"found fewer on {show(few)}. Next: leave these out, or standardise='all'.")  # fmt: skip
    return find_scale(values, where, feature_names, slides)


def _lognormalised(adata: AnnData, rows: np.ndarray, layer: str | None) -> tuple[Any, Normalisation]:
    summary = summarise(expression_of(adata, layer))
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if summary.nonfinite.any():
        raise ValueError(f"{where}: expected finite values, found others in {int(summary.nonfinite.sum())} cells. "
                         "Next: leave these cells out.")  # fmt: skip
    if summary.negative.any():
        raise ValueError(f"{where}: expected counts or log-normalised expression, found negative values. Next: "
                         "name the layer of counts by layer=.")  # fmt: skip
    how = choose_normalisation(summary, target_sum=TOTAL if summary.integer else None, layer=layer)
    return lognormal(expression_of(adata, layer)[rows], how), how


def _places(
    adata: AnnData, spatial_key: str, coords: np.ndarray, slide: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Places in the frame of the stack, and depths of sections; on the slides where there are none."""
    if spatial_key not in adata.obsm:
        return coords, None
    values = to_numbers(adata.obsm[spatial_key])
    if isinstance(values, list) or values.ndim != 2 or values.shape[1] not in (2, 3) or not np.isfinite(values).all():
        raise ValueError(f"adata.obsm[{spatial_key!r}]: expected finite x, y, or x, y, z, found others. Next: name "
                         "another by spatial_key=.")  # fmt: skip
    depth = None
    if values.shape[1] == 3:
        depth = np.array([np.median(values[slide == k, 2]) for k in range(int(slide.max()) + 1)])
        depth = depth if len(np.unique(depth)) == len(depth) else None
    return values[:, :2], depth


def read_positions(positions: Any, features: AnnData, *, wanted: bool) -> np.ndarray | None:
    """(n, 2) positions in the frame of the fit: given, or by their key in ``features.obsm``; None where none count.

    Raises
    ------
    ValueError
        If they are missing, not wanted, or not finite (n, 2) or (n, 3).
    """
    if not wanted:
        if positions is not None:
            raise ValueError("positions: expected none, as the model was fitted without them, found some. Next: leave "
                             "them out, or isost.tl.fit_histology(..., use_positions=True).")  # fmt: skip
        return None
    shape = f"({features.n_obs}, 2) finite µm in the frame that the slides of the fit share"
    if positions is None or (isinstance(positions, str) and positions not in features.obsm):
        found = "none" if positions is None else f"{positions!r}, and in features.obsm {show(features.obsm)}"
        raise ValueError(f"positions: expected {shape}, or their key, found {found}. Next: positions=, those of "
                         "aligned cells.")  # fmt: skip
    given = features.obsm[positions] if isinstance(positions, str) else positions
    if isinstance(given, pd.DataFrame):
        if sorted(given.index) != sorted(features.obs_names):
            raise ValueError(f"positions: expected a row for each of features.obs_names, found other names "
                             f"({show(given.index, 2)}). Next: give them these names, or an array.")  # fmt: skip
        given = given.loc[features.obs_names]
    found, values = f"{type(given).__name__}", None
    if isinstance(given, (np.ndarray, pd.DataFrame, list, tuple)):
        with suppress(ValueError):  # of lists of different lengths
            values = to_numbers(given if isinstance(given, pd.DataFrame) else np.asarray(given))
    if isinstance(values, np.ndarray):
        found = f"{'others' if np.isfinite(values).all() else 'NaN or infinity'}, of shape {values.shape}"
        if values.shape in ((features.n_obs, 2), (features.n_obs, 3)) and np.isfinite(values).all():
            return values[:, :2]
    raise ValueError(f"positions: expected {shape}, found {found}. Next: give each cell of features its x and y.")
