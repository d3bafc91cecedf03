"""Expression fitted to the features of stained slides: predict that of other cells, save and load."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from isost._core.checks import show
from isost._core.fit import choose_device
from isost._core.requests import as_number
from isost._histology.measured import check_features, read_positions, slides_of
from isost._histology.model import Histology
from isost._histology.scale import FEWEST, FeatureScale, find_scale
from isost._histology.store import load_histology, save_histology
from isost._logging import logger

LAYERS = ("expressed", "level", "sd")
_ROWS = 16_384
_WIDEST = 0.98  # that quantiles of residuals tell
_ALIKE = ("radius", "normalise_stain")  # of features; µm of points, 0 of outlines


class HistologyModel:
    """Expression fitted to the features of stained slides.

    `isost.tl.fit_histology` makes one; `isost.tl.predict_expression` goes from an image to expression in one call.

    Attributes
    ----------
    fitted
        Networks or ridge regression, and what was measured on held-out tissue.
    params
        How it was fitted, and how features were made; JSON-able.

    Examples
    --------
    >>> import isost
    >>> slide = isost.datasets.phantom_slide(n_cells=200, n_genes=10)
    >>> features = isost.tl.histology_features(slide["he_image"], slide["nuclei"], pixel_size=0.5, progress=False)
    >>> model = isost.tl.fit_histology(slide["table"], features, method="ridge", progress=False)
    >>> model
    HistologyModel: 10 genes by ridge from 304 features of 200 cells
    >>> model.predict(features).layers["expressed"].shape
    (200, 10)
    """

    def __init__(self, fitted: Histology, params: dict[str, Any]) -> None:
        self.fitted = fitted
        self.params = params

    def __repr__(self) -> str:
        fitted = self.fitted
        more = "" if fitted.positions is None else " and positions"
        return (
            f"HistologyModel: {len(self.genes)} genes by {self.params['method']} from {len(fitted.scale.names)} "
            f"features{more} of {fitted.info['n_cells']} cells"
        )

    @property
    def genes(self) -> list[str]:
        """Names of the G genes."""
        return list(self.fitted.genes)

    @property
    def accuracy(self) -> pd.DataFrame:
        """What was measured on held-out tissue, gene by gene; of one or two slides, whose blocks touch, it flatters.

        ``pcc``, Pearson's r of log1p expression, mean of slides; ``rmse``, log1p; ``r2``; ``call_accuracy``, balanced
        (0.5 is chance), of whether a gene is expressed, called where its probability is above its share;
        ``expressed``, the share of cells that express it.
        """
        return pd.DataFrame(self.fitted.accuracy, index=pd.Index(self.fitted.genes, name="gene"))

    @property
    def trust(self) -> float | None:
        """Weight beside what neighbouring sections say, 0 to 0.95, as measured on held-out tissue, less its error.

        None where it was fitted with ``use_positions``: what is told then holds what these sections say.
        """
        trust = self.fitted.info["trust"]
        return None if trust is None else float(trust)

    def predict(
        self, features: AnnData, *, positions: str | np.ndarray | None = None, slide_key: str | None = None,
        like: str | None = None, interval: float | None = None, layers: Sequence[str] = LAYERS,
        device: str | torch.device | None = None,
    ) -> AnnData:  # fmt: skip
        """Tell the expression of cells by the features of their slide.

        A slide's features are compared with the mean and standard deviation of its own cells, so that its stains do not
        matter: give all cells of a slide, or say by `like` which of the fitted slides they lie on.

        Parameters
        ----------
        features
            Of `isost.tl.histology_features`, made like those of the fit.
        positions
            (n, 2) µm, or (n, 3) whose depth is not used, in the frame that the slides of the fit share, or their key in
            ``features.obsm``; only where it was fitted with ``use_positions``.
        slide_key
            Column of ``features.obs`` that tells slides apart. None: one slide.
        like
            Name of a slide of the fit that all these cells lie on.
        interval
            Share of measured values, 0.9 for instance and 0.98 at most, that an interval is to hold. None: none.
        layers
            Of ``"expressed"``, ``"level"`` and ``"sd"`` those that are wanted.
        device
            ``"cpu"``, ``"cuda"``, or None for a GPU where there is one.

        Returns
        -------
        anndata.AnnData
            ``X`` (n, G) float32: expected log1p expression, counts in 10,000. ``layers["expressed"]``: probability that
            the gene is found; ``"level"``: expression where it is, X over that probability (of 0.01 at the least);
            ``"sd"``: standard deviation of measured about expected values; ``"lower"``, ``"upper"`` with `interval`.
            ``obs`` as in `features`, and ``out_of_distribution``: distance to the nearest cells of the fit, in units of
            what 95 % of these have among each other, or distance to the nearest position of the fit in units of
            ``params["position_width"]`` where that is larger; above 1, doubt what is told. ``var``: `accuracy`.
            ``obsm`` as in `features`, and ``"positions"`` (n, 2) where these were given. ``uns["histology"]``: as in
            `features`, with ``method``, ``use_positions``, and ``trust`` where there is one.

        Raises
        ------
        TypeError, ValueError
            If `features` were made otherwise, a slide has too few cells to tell its stains by, positions are missing
            or not asked for, or an option is impossible.

        Examples
        --------
        >>> import isost
        >>> slide = isost.datasets.phantom_slide(n_cells=200, n_genes=10)
        >>> features = isost.tl.histology_features(slide["he_image"], slide["nuclei"], pixel_size=0.5, progress=False)
        >>> model = isost.tl.fit_histology(slide["table"], features, method="ridge", progress=False)
        >>> told = model.predict(features, interval=0.9)
        >>> bool((told.layers["lower"] <= told.layers["upper"]).all())
        True
        """
        fitted = self.fitted
        check_features(features)
        x, scale, slide = self._read(features, slide_key, like)
        place = read_positions(positions, features, wanted=fitted.positions is not None)
        several = isinstance(layers, Iterable) and not isinstance(layers, str)
        unknown = [name for name in layers if name not in LAYERS] if several else [layers]
        if unknown:
            raise ValueError(f"layers: expected some of {show(LAYERS)}, found {show(unknown)}. Next: leave it out.")
        if interval is not None and not 0 < as_number("interval", interval) <= _WIDEST:
            raise ValueError(f"interval: expected a share above 0, of {_WIDEST} at most, found {interval!r}. Next: "
                             "interval=0.9.")  # fmt: skip
        names = [*layers, *(("lower", "upper") if interval is not None else ())]
        shape, where = (len(x), len(fitted.genes)), choose_device(device)
        expected, strangeness = np.empty(shape, dtype=np.float32), np.empty(len(x), dtype=np.float32)
        more = {name: np.empty(shape, dtype=np.float32) for name in names}
        for start in range(0, len(x), _ROWS):
            rows = slice(start, start + _ROWS)
            at = None if place is None else place[rows]
            found = fitted.predict(scale.scaled(x[rows], slide[rows]), at, where)
            expected[rows], strangeness[rows] = found.expected, found.strangeness
            parts = {"expressed": found.expressed, "level": found.level}
            if "sd" in names:
                parts["sd"] = fitted.noise.deviation(found.expected)
            if interval is not None:
                parts["lower"], parts["upper"] = fitted.noise.interval(found.expected, float(interval))
            for name in names:
                more[name][rows] = parts[name]
        obs = features.obs.copy()
        obs["out_of_distribution"] = strangeness
        told = AnnData(expected, obs, self.accuracy.rename_axis(None), layers=more)
        for key in features.obsm:
            told.obsm[key] = features.obsm[key].copy()
        how = {"method": self.params["method"], "use_positions": place is not None}
        if self.trust is not None:
            how["trust"] = self.trust
        if place is not None:
            told.obsm["positions"] = place
        told.uns["histology"] = dict(features.uns["histology"]) | how
        strange = int((strangeness > 1).sum())
        logger.info("predict_expression: %d genes of %d cells, of which %d lie beyond what was fitted on",
                    shape[1], shape[0], strange)  # fmt: skip
        return told

    def _read(
        self, features: AnnData, slide_key: str | None, like: str | None
    ) -> tuple[np.ndarray, FeatureScale, np.ndarray]:
        """Features that the fit took, the scale of their slides, and the number of each cell's slide."""
        scale, made = self.fitted.scale, self.params["features"]
        missing = [name for name in scale.names if name not in features.var_names]
        used = str(features.uns["histology"].get("encoder"))
        if missing or used != made["encoder"]:
            found = f"those of {used!r}" + (f", {len(missing)} missing ({show(missing, 2)})" if missing else "")
            raise ValueError(
                f"features: expected the {len(scale.names)} features that the model was fitted on, of encoder "
                f"{made['encoder']!r}, found {found}. Next: isost.tl.histology_features as for the fit, or "
                "isost.tl.predict_expression, which does."
            )
        for name in _ALIKE if used != "texture" else _ALIKE[:1]:
            own, wanted = features.uns["histology"].get(name), made.get(name)
            if own != wanted:
                logger.warning("predict_expression: features with %s %s, where the model was fitted on %s: what is "
                               "told may not hold", name, own, wanted)  # fmt: skip
        columns = features.var_names.get_indexer(scale.names)
        x = np.asarray(features.X, dtype=np.float32)[:, columns]
        names, slide = slides_of(features, slide_key, None, None, "slide_key")
        if like is not None and (like not in scale.slides or len(names) > 1):
            raise ValueError(
                f"like: expected one of the slides of the fit ({show(scale.slides)}) for the cells of one slide, found "
                f"{like!r} for {len(names)}. Next: leave it out."
            )
        few = [name for k, name in enumerate(names) if (slide == k).sum() < FEWEST]
        if scale.slides and like is None and few:
            raise ValueError(
                f"features: expected {FEWEST} cells or more of a slide, by which its stains are told, found fewer "
                f"({'on ' + show(few) if slide_key else len(x)}). Next: give all cells of the slide, or say by like= "
                "which slide of the fit they lie on."
            )
        if not scale.slides:
            return x, scale, np.zeros(len(x), dtype=np.int64)
        return x, scale.only(like) if like is not None else find_scale(x, slide, scale.names, names), slide

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Save to a folder: JSON, npz and weights, written beside and moved into place.

        Parameters
        ----------
        path
            Folder, which is made.
        overwrite
            Replace one that was saved before.

        Returns
        -------
        None.

        Raises
        ------
        FileExistsError
            If there is something and `overwrite` is False.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import isost
        >>> slide = isost.datasets.phantom_slide(n_cells=200, n_genes=10)
        >>> features = isost.tl.histology_features(slide["he_image"], slide["nuclei"], pixel_size=0.5, progress=False)
        >>> isost.tl.fit_histology(slide["table"], features, method="ridge", progress=False).save("histology")
        """
        save_histology(self.fitted, self.params, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote.

        Parameters
        ----------
        path
            The folder.

        Returns
        -------
        HistologyModel

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is something else, or damaged.

        Examples
        --------
        >>> import isost
        >>> slide = isost.datasets.phantom_slide(n_cells=200, n_genes=10)
        >>> features = isost.tl.histology_features(slide["he_image"], slide["nuclei"], pixel_size=0.5, progress=False)
        >>> model = isost.tl.fit_histology(slide["table"], features, method="ridge", progress=False)
        >>> model.save("histology_to_load")
        >>> isost.HistologyModel.load("histology_to_load")
        HistologyModel: 10 genes by ridge from 304 features of 200 cells
        """
        return cls(*load_histology(path))
