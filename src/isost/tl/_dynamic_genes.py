from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import false_discovery_control, ttest_ind_from_stats

from isost._core.checks import check_adata, show, to_numbers
from isost._core.normalise import recorded_normalisation
from isost._core.requests import as_number, as_whole
from isost._core.stages import merged
from isost._logging import logger
from isost._tools.course import Peaks, differ, follow
from isost._tools.moments_by_stage import Moments, moments_by_stage
from isost._tools.organs import Labels, labels_of

_FEWEST_STAGES = 3


def dynamic_genes(
    adata: AnnData,
    *,
    key: str,
    mapping: Mapping[str, str] | pd.Series | pd.DataFrame | None = None,
    depth_key: str = "age",
    step: float = 0.1,
    relative: bool = False,
    alpha: float = 0.05,
    min_difference: float = 0.25,
    min_cells: int = 10,
) -> pd.DataFrame:
    """Find genes that mark an organ at all stages, and genes that peak in it at a certain age.

    Log-normalised expression, as `isost.pp.embed` left it described, of measured cells is compared:

    - **Enriched** in an organ are genes that are higher in it than in the rest of the body at every stage that has the
      organ (Welch's t-test, one-sided; false discovery rate after Benjamini and Hochberg over the genes of a stage).
    - **Dynamic** are genes whose mean over the organ differs between stages (F test with the variance of cells within
      stages; Benjamini and Hochberg over genes and organs). Their course between
      stages is that of a smooth Gaussian process through the means, averaged over its lengths by their likelihood: a
      peak can lie between stages, but one that is narrower than the distance of stages can pass between them unseen.

    Expression is relative to the total of a cell: where many genes rise, others fall. Cells count as replicates, and
    stages do not: what a stage differs by for technical reasons counts as change, unless
    it is alike in the whole body and `relative` is set.

    Parameters
    ----------
    adata
        Cells of all stages, with counts or expression; not changed.
    key
        Column of `obs` of organs; cells without one are left out.
    mapping
        What each value of that column belongs to, as in `isost.tl.propagate_labels`.
    depth_key
        Column of `obs` of the age of each cell's stage.
    step
        Distance of the ages at which the course is looked at, or somewhat less, such that it divides those of an organ;
        peaks are told finer, by a parabola.
    relative
        Take the course of the difference between the organ and the rest of the body.
    alpha
        False discovery rate.
    min_difference
        In log-normalised units: by how much an enriched gene has to be higher in the organ at each stage, and how far
        the course of a dynamic one has to rise above its lowest.
    min_cells
        Of an organ, and of the rest, for a stage to count.

    Returns
    -------
    pandas.DataFrame
        A row for each organ and gene, by organ, the largest `height` first: ``label``, ``gene``; ``mean`` over its
        stages; ``stages`` that have the organ, ``stages_enriched``, ``difference`` from the rest (mean over stages),
        ``pval_enriched`` (the largest of the stages, adjusted), ``enriched``; ``peak`` (age), ``at_edge`` (whether that
        is the first or last age), ``window_start``, ``window_end`` (ages between which the course is above half its
        height), ``height``, ``pval``, ``padj``, ``dynamic``. Organs at fewer than three stages have NaN for a peak.

    Raises
    ------
    KeyError
        If a column is not found.
    TypeError
        If an argument is of another type.
    ValueError
        If ages are no numbers, there are fewer than three, no organ has `min_cells` cells at three, or the mapping
        lacks a value.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=200, n_genes=36)
    >>> genes = isost.tl.dynamic_genes(adata, key="organ")
    >>> brain = genes[(genes["label"] == "brain") & genes["enriched"]]
    >>> "marker_2" in set(brain["gene"])
    True
    """
    started = perf_counter()
    check_adata(adata)
    ages = _ages(adata, depth_key)
    known, stage = np.unique(ages, return_inverse=True)
    if not 0 < as_number("step", step) <= np.ptp(known):
        raise ValueError(f"step: expected above 0 and at most {np.ptp(known):g}, found {step!r}. Next: leave it out.")
    if not 0 < as_number("alpha", alpha) < 1:
        raise ValueError(f"alpha: expected above 0 and below 1, found {alpha!r}. Next: leave it out.")
    min_cells, least = as_whole("min_cells", min_cells, 2), as_number("min_difference", min_difference)
    if not 0 <= least < np.inf:
        raise ValueError(f"min_difference: expected 0 or more, found {min_difference!r}. Next: leave it out.")
    how = recorded_normalisation(adata)
    if how.found.startswith("scaled"):
        raise ValueError(
            "adata: expected counts or log-normalised expression, found scaled values. Next: put counts into X, or "
            "isost.pp.embed(adata, layer=...) with the layer of counts."
        )
    labels = labels_of(adata, key, mapping)
    moments = moments_by_stage(adata, stage, labels.code, len(known), len(labels.names))
    parts = [_organ(adata, moments, number, labels, known, step, relative, alpha, least, min_cells)
             for number in range(len(labels.names))]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    tested = table["pval"].notna()
    if not tested.any():
        raise ValueError(
            f"adata: expected an organ with {min_cells} cells or more at {_FEWEST_STAGES} stages, found none. "
            "Next: pass a smaller min_cells, or a coarser mapping."
        )
    table["padj"] = np.nan
    table.loc[tested, "padj"] = false_discovery_control(table.loc[tested, "pval"])
    table["dynamic"] = (table["padj"] <= alpha) & (table["height"] >= least)
    table = table.sort_values(["label", "height"], ascending=[True, False], kind="stable", ignore_index=True)
    logger.info("dynamic_genes: %d organs; of pairs with genes %d enriched, %d dynamic; %.1f s", len(labels.names),
                table["enriched"].sum(), table["dynamic"].sum(), perf_counter() - started)  # fmt: skip
    return table


def _ages(adata: AnnData, depth_key: str) -> np.ndarray:
    if depth_key not in adata.obs:
        raise KeyError(f"depth_key: expected a column of obs ({show(adata.obs)}), found {depth_key!r}. Next: name one.")
    ages = to_numbers(adata.obs[depth_key])
    if isinstance(ages, list) or not np.isfinite(ages).all():
        found = show(ages) if isinstance(ages, list) else "NaN"
        raise ValueError(
            f"adata.obs[{depth_key!r}]: expected ages as numbers, found {found}. "
            f"Next: adata.obs[{depth_key!r}].map({{...}}).astype(float)."
        )
    n_stages = len(np.unique(merged(ages)))
    if n_stages < _FEWEST_STAGES:
        raise ValueError(
            f"adata.obs[{depth_key!r}]: expected {_FEWEST_STAGES} stages or more, found {n_stages}. "
            "Next: more stages; scanpy.tl.rank_genes_groups compares two."
        )
    return merged(ages)


def _organ(
    adata: AnnData, moments: Moments, number: int, labels: Labels, ages: np.ndarray, step: float, relative: bool,
    alpha: float, least: float, min_cells: int,
) -> pd.DataFrame:  # fmt: skip
    """Both tests of all genes in one organ."""
    (n, mean, variance), (n_rest, mean_rest, variance_rest) = moments.of(number), moments.of_rest(number)
    there = np.flatnonzero((n >= min_cells) & (n_rest >= min_cells))
    table = pd.DataFrame({"label": labels.names[number], "gene": adata.var_names.astype(str)})
    n, mean, variance = n[there], mean[there], variance[there]
    n_rest, mean_rest, variance_rest = n_rest[there], mean_rest[there], variance_rest[there]
    with np.errstate(invalid="ignore", divide="ignore"):
        _, pval = ttest_ind_from_stats(
            mean, np.sqrt(variance), n[:, None], mean_rest, np.sqrt(variance_rest), n_rest[:, None],
            equal_var=False, alternative="greater",
        )  # fmt: skip
    padj = [false_discovery_control(np.nan_to_num(one, nan=1.0)) for one in pval]
    adjusted = np.array(padj).reshape(len(there), adata.n_vars)
    higher = (adjusted <= alpha) & (mean - mean_rest >= least)
    table["mean"] = mean.mean(axis=0) if len(there) else np.nan
    table["stages"], table["stages_enriched"] = len(there), higher.sum(axis=0)
    table["difference"] = (mean - mean_rest).mean(axis=0) if len(there) else np.nan
    table["pval_enriched"] = adjusted.max(axis=0) if len(there) else np.nan
    table["enriched"] = higher.all(axis=0) & (len(there) > 0)
    peak = ["peak", "window_start", "window_end", "height", "pval"]
    if len(there) < _FEWEST_STAGES:
        return table.assign(**dict.fromkeys(peak, np.nan), at_edge=False)
    course, spread = mean, _pooled(variance, n)
    error, count = spread / n[:, None], n.astype(np.float64)
    if relative:
        course, error = mean - mean_rest, error + _pooled(variance_rest, n_rest) / n_rest[:, None]
        count = 1 / (1 / n + 1 / n_rest)
    first, last = float(ages[there[0]]), float(ages[there[-1]])
    asked = np.linspace(first, last, max(round((last - first) / step), 2) + 1)
    found = Peaks.of(asked, follow(ages[there], course, count, spread, asked))
    pval = differ(course, error, float(n.sum()))
    values = (found.age, found.start, found.stop, found.height, np.where(spread > 0, pval, 1.0))
    return table.assign(**dict(zip(peak, values, strict=True)), at_edge=found.at_edge)


def _pooled(variance: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Variance (G,) of cells within stages."""
    return (variance * (n - 1)[:, None]).sum(axis=0) / (n - 1).sum()
