from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any, Literal

import pandas as pd
from anndata import AnnData
from xarray import DataArray

from isost._core.baselines import Kernel, Nearest, Predictor, Union
from isost._core.checks import check_adata
from isost._core.expression import expression_of
from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_whole
from isost._core.sections import Sections
from isost._logging import logger
from isost.tl._fit import as_images, checked_options, fit
from isost.tl._held_out import Fit, Keys, read_geometry, split

FIT_ARGUMENTS = ("objective", "preset", "device", "progress")


def cross_validate(
    adata: AnnData,
    *,
    hold_out: Literal["each", "alternate"] | int | Sequence[str] = "alternate",
    section_key: str | None = "section",
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    n_comps: int = 50,
    n_draws: int = 3,
    images: DataArray | None = None,
    rng: Rng = None,
    **options: Any,
) -> pd.DataFrame:
    """Hold sections out, fit on the rest, and score the fit beside methods that need no model.

    Nothing of a held-out section is seen: log-normalisation, principal components, couplings, bandwidths and the
    networks are fitted anew on the sections that remain. The first and the last measured section are never held out.
    Predicted sections (`isost.pp.stack_sections` with a weight below 1) are no truth: they are never held out, and
    always left in for the fit; the other methods see the measured ones alone.

    Parameters
    ----------
    adata
        Cells of all sections; not changed. Counts, or expression that is normalised already, as `isost.pp.embed`
        takes it. An embedding of `isost.pp.embed` that is there is not used, but made anew in the same way: of the
        same layer, with as many highly variable genes, and with the target_sum and log1p that were given.
    hold_out
        ``"alternate"``: every second inner section, all at once, with one fit. ``"each"``: every inner section, one at
        a time, with a fit for each. A number k, 2 or more: every inner section once, every k-th of them at a time,
        with k fits. A list of section names: these, at once.
    section_key, spatial_key, depth_key
        As in `isost.tl.fit`.
    n_comps
        Number of principal components.
    n_draws
        Draws of cells over which their scores are averaged.
    images
        What `isost.pp.image_features` made of images among the sections: the fit is then scored without them and, as
        ``"isost, images"``, with them.
    rng
        Seed or generator, of the fits and the draws.
    **options
        Of `isost.tl.fit`: its objective, preset, device, progress, and what it takes as further options.

    Returns
    -------
    pandas.DataFrame
        A row for each method and held-out section, with ``method``, ``section``, ``depth`` (mean z) and the scores of
        `isost.metrics.score_field` at the positions of the section's cells (``pcc``, ``nmse``) and of
        `isost.metrics.score_cells` for as many cells as were measured (``dice``, ``dens``, ``energy``; NaN for methods
        without cells); and for the fit ``coverage`` and ``width`` (in standard deviations of the gene) of 90 %
        intervals of the means of bins. At most the 500 most variable genes are scored. Methods:

        ``isost``
            The fit.
        ``isost, images``
            The fit with images, where there are some.
        ``nearest``, ``union``
            The cells of the section nearest in depth, and of both neighbours. Their field is a Gaussian kernel over
            them, for each score the best of the widths h / 2, h, 2 h and 4 h with hindsight (h is
            `isost.metrics.bin_side`).
        ``kernel``
            Gaussian kernel regression over each neighbour, blended (1 - t, t), its width chosen on training sections.
        ``ceiling``
            Kernel regression of the section from its own cells in other bins: about the best to be asked for where
            cells are many; where they are few, neighbouring sections can know more.

        Plot it with `isost.pl.cross_validation`.

    Raises
    ------
    ValueError
        If the stack cannot be read, there is no inner section to hold out, or one that is named was predicted.
    TypeError
        If an option is unknown, or something is no number or no AnnData.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=4, n_cells=60, n_genes=20)
    >>> scores = isost.tl.cross_validate(adata, n_comps=5, epochs=1, progress=False, rng=0)
    >>> scores["method"].tolist(), scores["section"].unique().tolist()
    (['isost', 'nearest', 'union', 'kernel', 'ceiling'], ['s2'])
    """
    started = perf_counter()
    check_request(adata, n_comps, n_draws, options, images)
    keys = Keys(section_key, spatial_key, depth_key)
    sections = read_geometry(adata, keys)[1]
    folds = choose_folds(sections, hold_out)
    generator = numpy_generator(rng)
    records = []
    for number, fold in enumerate(folds, start=1):
        names = ", ".join(sections.names[k] for k in fold)
        logger.info("cross_validate: fit %d of %d, without %s", number, len(folds), names)
        seed = int(generator.integers(2**31))
        records += score_fold(
            adata, fold, keys, n_comps=n_comps, n_draws=n_draws, seed=seed, options=options, images=images
        )
    scores = sort_scores(pd.DataFrame(records))
    logger.info("cross_validate: %d sections scored in %.1f s", len({*scores["section"]}), perf_counter() - started)
    return scores


def check_request(
    adata: AnnData, n_comps: int, n_draws: int, options: dict[str, Any], images: DataArray | None
) -> None:
    """Refuse what no fit could be made or scored with.

    Raises
    ------
    TypeError
        If `adata` is no AnnData, a number none, `images` no image features, or an option unknown.
    ValueError
        If a number is below 1, an option is impossible, or there is no expression.
    """
    check_adata(adata)
    expression_of(adata)
    as_whole("n_comps", n_comps, 1)
    as_whole("n_draws", n_draws, 1)
    as_images(images)
    checked_options({name: value for name, value in options.items() if name not in FIT_ARGUMENTS}).check()


def score_fold(
    adata: AnnData, fold: list[int], keys: Keys, *, n_comps: int, n_draws: int, seed: int, options: dict[str, Any],
    images: DataArray | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Fit without the sections of a fold, and score them: a record for each method and section."""
    train, held = split(adata, fold, keys, n_comps=n_comps, rng=seed)
    plain = {name: value for name, value in options.items() if name not in ("beta", "gamma") or images is None}
    fits = {"isost": fit(train, **vars(keys), rng=seed, **plain)}
    if images is not None:
        fits["isost, images"] = fit(train, **vars(keys), images=images, rng=seed, **options)
    known = held.training
    predictors: dict[str, Predictor] = {
        **{name: Fit(fitted, held.genes) for name, fitted in fits.items()},
        "nearest": Nearest(known),
        "union": Union(known),
        "kernel": Kernel(known),
    }
    return held.score(predictors, n_draws=n_draws, seed=seed)


def sort_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Sort by method, as they are documented, and depth."""
    scores = scores.sort_values("depth", kind="stable")
    scores = scores.sort_values("method", kind="stable", key=lambda column: column.map(_ORDER.index))
    return scores.reset_index(drop=True)


_ORDER = ["isost", "isost, images", "nearest", "union", "kernel", "ceiling"]


def choose_folds(sections: Sections, hold_out: Literal["each", "alternate"] | int | Sequence[str]) -> list[list[int]]:
    """Sections to hold out together, by their number in the order of depth; a list for each fit."""
    measured, n_sections = sections.measured, len(sections.names)
    inner = measured[1:-1]
    if not inner:
        kind = "sections" if len(measured) == n_sections else "measured sections"
        raise ValueError(
            f"adata: expected three {kind} or more, so that one lies between others, found {len(measured)}. "
            "Next: score by eye with isost.pl.orthoviews, or measure another section."
        )
    if isinstance(hold_out, str) and hold_out in ("each", "alternate"):
        return [[k] for k in inner] if hold_out == "each" else [inner[::2]]
    if not isinstance(hold_out, Iterable):
        n_fits = as_whole("hold_out", hold_out, 2)
        return [fold for start in range(n_fits) if (fold := inner[start::n_fits])]
    names = [hold_out] if isinstance(hold_out, str) else list(dict.fromkeys(map(str, hold_out)))
    predicted = [name for name in names if name in sections.names and sections.names.index(name) not in measured]
    if predicted:
        raise ValueError(
            f"hold_out: expected sections that were measured, found {', '.join(predicted)}, whose expression was "
            "predicted (obs['section_weight'] below 1) and is no truth. Next: hold_out='alternate', or name some of "
            f"{', '.join(sections.names[k] for k in inner)}."
        )
    unknown = [name for name in names if name not in [sections.names[k] for k in inner]]
    if unknown or not names:
        raise ValueError(
            f"hold_out: expected 'each', 'alternate', a number, or names of inner sections ("
            f"{', '.join(sections.names[k] for k in inner)}), found {unknown or 'none'}. Next: hold_out='alternate'."
        )
    return [sorted(sections.names.index(name) for name in names)]
