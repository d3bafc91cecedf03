from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from xarray import DataArray

from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_whole
from isost._logging import logger
from isost.tl._cross_validate import check_request, score_fold, sort_scores
from isost.tl._held_out import Keys, read_geometry


def section_titration(
    adata: AnnData,
    *,
    steps: Sequence[int] = (2, 3, 4),
    section_key: str | None = "section",
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    n_comps: int = 50,
    n_draws: int = 3,
    images: DataArray | None = None,
    rng: Rng = None,
    **options: Any,
) -> pd.DataFrame:
    """Fit on every 2nd, 3rd, 4th section and score those between, to see how many a tissue needs.

    The further apart sections are, the less they know of what lies between. Where the error hardly grows from one step
    to the next, sections are closer than needed; where it grows as fast as that of the nearest section, they are too
    far apart for any method. Each step scores other sections, some of which are harder than others: compare steps over
    the sections that all of them score (``common``). Fits on fewer sections also see fewer cells.

    Parameters
    ----------
    adata
        Cells of all sections, as for `isost.tl.cross_validate`; not changed.
    steps
        Every how many sections one is kept, starting with the first; 2 or more. Sections after the last one that is
        kept are not used. Predicted sections (`isost.pp.stack_sections` with a weight below 1) are not counted nor
        scored, and always left in.
    section_key, spatial_key, depth_key
        As in `isost.tl.fit`.
    n_comps
        Number of principal components.
    n_draws
        Draws of cells over which their scores are averaged.
    images
        What `isost.pp.image_features` made of images among the sections: the fit is then scored without them and, as
        ``"isost, images"``, with them.
        How many sections the images save is how much further apart those of ``"isost, images"`` are at the same score.
    rng
        Seed or generator, of the fits and the draws.
    **options
        As `isost.tl.cross_validate` takes them.

    Returns
    -------
    pandas.DataFrame
        The columns of `isost.tl.cross_validate`, and ``step``, ``spacing`` (median distance in depth of the sections
        that are kept) and ``distance`` (of the scored section from the nearest of them), in the unit of depth; and
        ``common``, bool: whether the section is scored at every step, as the second always is.
        `isost.pl.section_titration` plots it.

    Raises
    ------
    ValueError
        If the stack cannot be read, or a step leaves fewer than two sections or none between them.
    TypeError
        If an option is unknown, or something is no number or no AnnData.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=5, n_cells=60, n_genes=20)
    >>> scores = isost.tl.section_titration(adata, steps=[2, 4], n_comps=5, epochs=1, progress=False, rng=0)
    >>> scores.groupby("step")["spacing"].first().to_dict()
    {2: 100.0, 4: 200.0}
    >>> scores.loc[scores["common"], "section"].unique().tolist()
    ['s2', 's4']
    """
    started = perf_counter()
    check_request(adata, n_comps, n_draws, options, images)
    keys = Keys(section_key, spatial_key, depth_key)
    coords, sections = read_geometry(adata, keys)
    n_sections = len(sections.measured)
    steps = [as_whole("steps", step, 1) for step in (steps if isinstance(steps, Iterable) else [steps])]
    wrong = [step for step in steps if not 2 <= step <= n_sections - 1]
    if wrong or not steps:
        raise ValueError(
            f"steps: expected numbers from 2 to {n_sections - 1}, so that two sections or more are kept, "
            f"found {wrong or 'none'}. Next: leave them out, or measure more sections."
        )
    generator = numpy_generator(rng)
    tables = []
    for step in steps:
        kept = np.array(sections.measured[::step])
        used = np.isin(sections.index, np.arange(kept[-1] + 1))
        between = [k for k in sections.measured if k < kept[-1] and k not in kept]
        logger.info("section_titration: every %d sections, %d kept, %d scored", step, len(kept), len(between))
        records = score_fold(
            adata[used], between, keys, n_comps=n_comps, n_draws=n_draws, seed=int(generator.integers(2**31)),
            options=options, images=images,
        )  # fmt: skip
        table = sort_scores(pd.DataFrame(records))
        depths = np.array([coords[sections.index == k, 2].mean() for k in kept])
        table["step"], table["spacing"] = step, float(np.median(np.diff(depths)))
        table["distance"] = np.abs(table["depth"].to_numpy()[:, None] - depths).min(axis=1)
        tables.append(table)
    logger.info("section_titration: %d fits in %.1f s", len(tables), perf_counter() - started)
    scores = pd.concat(tables, ignore_index=True)
    n_steps = scores.groupby("section", observed=True)["step"].transform("nunique")
    return scores.assign(common=n_steps == len(set(steps)))
