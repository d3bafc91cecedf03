from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from spatialdata import SpatialData

from isost._core.checks import show
from isost._core.expression import expression_of
from isost._logging import logger
from isost._tools.gradients import Grouping, Pair, Shelled, common_regions, group, in_shells, measure, tested
from isost._tools.shells import CLASSES, Profiles, choose_width
from isost.tl._about import Region, Vector, as_length, distance_from
from isost.tl._places import Places, checked_names, read_places

_MOST_SHELLS = 1000
_SEGMENT = 4  # widths of a shell
_LEAST_COMMON = 0.5


def radial_gradients(
    sdata: SpatialData | AnnData,
    *,
    axis: Literal["centre", "lumen"] | Sequence[Vector] | np.ndarray | None = None,
    point: Vector | None = None,
    direction: Vector | None = None,
    region: Region | None = None,
    width: float | None = None,
    segment: float | None = None,
    genes: str | Sequence[str] | None = None,
    baseline: SpatialData | AnnData | None = None,
    measured: AnnData | tuple[AnnData, AnnData] | None = None,
    alpha: float = 0.05,
    key_added: str = "radial",
    table_key: str | None = None,
) -> None:
    """Relate every gene to the distance from an axis, a point, a lesion or a surface.

    Give one of `axis`, `point` and `region`. Each voxel has a distance, and shells of equal width hold those at about
    the same one. Genes are linear in the features of the volume: their shell means, variances and correlations follow
    exactly from those of the features, and no gene's volume is made.

    p-values are of the hypothesis that a gene's mean is the same at all distances. Voxels are no independent
    observations: neighbours are alike, and a smooth pattern without any relation to an axis differs between shells by
    chance. A gene is therefore averaged over at most 256 blocks and regressed on a cubic in distance, with a residual
    that is a Gaussian random field (Matérn, with noise); what is not known of its range, smoothness and noise is
    averaged over by their restricted likelihood. They are adjusted by Benjamini and Hochberg over the genes tested.
    A pattern as wide as the tissue cannot be told from a gradient by one tissue: the test then says so by a large p.
    It does not know anatomy: a gene of a structure that lies about an axis depends on the distance from it.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` made, in memory or opened from disk; or cells with ``obsm["spatial"]`` (n, 3) and
        log-normalised expression in ``X``.
    axis
        Points (m, 3) of a line, straight or curved, which goes on straight beyond its ends; ``"centre"``, smoothed
        centroids of the tissue along depth; or ``"lumen"``, the emptiest way through the inside of a volume along
        depth, such as a central canal. Shells are cylinders about it.
    point
        (x, y, z); shells are spheres about it.
    direction
        (x, y, z) of a straight line through `point`; shells are cylinders then.
    region
        Shells are about the surface of a region, whose own voxels are left out: a boolean mask (z, y, x) on the grid of
        the volume, or (n,) of cells; a labels element on that grid, or a column of the table's `obs`, with the value
        that is meant, ``("lesion", 1)``; or ``"surface"``, what lies outside the tissue beside and within it (planes
        where the volume ends are no surface), from which only places within the tissue of `sdata` have a distance.
        Distances are to the centre of the nearest voxel.
    width
        Of a shell, in the unit of the volume; None for a twelfth of the range of distances, one voxel at least.
    segment
        Length of the pieces along the axis within which a baseline is subtracted; None for four times `width`.
    genes
        Genes to test; None for all.
    baseline
        Another volume (or cells) in the same frame, such as the uninjured tissue or an earlier time, which is
        subtracted: its mean in the same shell, in the same of at most 256 blocks of the tissue, and in the same segment
        along an axis is taken off each voxel. The test takes the difference block by block, so that what is common to
        both, and the chance in both, are accounted for. Where only one of the two has tissue nothing is compared: those
        places are in no shell. An axis that is traced is traced through `sdata`.
    measured
        The measured cells, with log-normalised expression in ``X`` and the frame of the volume, for p-values of what
        was measured and not of what was decoded: pass them for the stated rate of false discoveries. A volume
        is so smooth that the errors of its loadings are seen: a gene without a gradient follows others by a few
        hundredths of its cells' standard deviation, which a test of the volume calls: ``benchmarks/gradients.py``
        counts how often. With a baseline, a pair: cells of both.
    alpha
        Adjusted p up to which a gene is not flat.
    key_added
        Beginning of the names of what is written.
    table_key
        Table that is written to; None for ``"isost_voxels"``, or ``"isost_cells"`` where there is none.

    Returns
    -------
    None. Writes to the table, or to the AnnData:

    ``uns[f"{key_added}_gradients"]``
        A dict. ``"genes"``, a DataFrame with a row for each gene: ``class`` ("rising", "falling", "peaked", "flat"),
        ``change`` (largest minus smallest shell mean, natural logarithm; negative for falling genes and dips),
        ``extreme`` (distance of the largest shell mean, or of the smallest where `change` is negative), ``pearson`` and
        ``spearman`` with distance over voxels (Spearman over 100,000 of them at most), ``slope`` (per unit of
        distance), ``eta_squared`` (share of the variance between shells, the effect size), ``sd``, ``p`` and
        ``padj``. ``"mean"`` and ``"spread"``, DataFrames (genes, shells) of the means and standard deviations over
        voxels. ``"shells"``, their ``inner``, ``outer``, ``distance`` (middle) and ``n``. ``"params"``.
    ``obs[f"{key_added}_distance"]``, ``obs[f"{key_added}_shell"]``
        float64, NaN for places in no shell, and int32, -1 for those; where the table has a row for each voxel.

    Not flat are genes with ``padj <= alpha``. Of these, peaked are those whose largest or smallest shell mean lies in
    an inner shell and beyond those of both end shells by a third of the profile's range; the others rise or fall
    by the sign of ``pearson``. Shells that hold less than 1 % of the voxels, and less than an eighth of the mean of the
    shells, do not count. `isost.get.radial_gradients` reads it, `isost.pl.radial_gradients` and `isost.pl.shells` plot
    it.

    Raises
    ------
    TypeError
        If `sdata` or `baseline` is neither SpatialData nor AnnData, they are of two kinds, or something is no number.
    KeyError
        If an element, table, gene or column is unknown.
    ValueError
        If none or several of `axis`, `point` and `region` are given, one is impossible, `width` is, a gene is not
        finite, or the baseline lies elsewhere, has other genes or another unit.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.spinal_cord(n_sections=4, n_cells=150, n_genes=16)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=150, epochs=1, progress=False, rng=0)
    >>> isost.tl.radial_gradients(sdata, axis="centre", width=150)
    >>> found = isost.get.radial_gradients(sdata)
    >>> found.columns[:3].tolist()
    ['class', 'change', 'extreme']
    >>> bool(sdata.tables["isost_voxels"].obs["radial_distance"].min() >= 0)
    True
    """
    started = perf_counter()
    places = read_places(sdata, table_key)
    names = checked_names(places, genes)
    if places.table.is_view:
        raise ValueError("sdata: expected data of its own, found a view. Next: adata = adata.copy().")
    about, note = distance_from(sdata, places, axis=axis, point=point, direction=direction, region=region)
    distances = about(places.coords)
    known = distances[0][np.isfinite(distances[0])]
    if not len(known):
        raise ValueError("region: expected places outside it, found none. Next: a smaller region.")
    step = choose_width(known, float(places.size.min())) if width is None else as_length("width", width)
    length = _SEGMENT * step if segment is None else as_length("segment", segment)
    n_shells = int(known.max() / step) + 1
    if n_shells > _MOST_SHELLS:
        raise ValueError(f"width: expected {known.max() / _MOST_SHELLS:g} or more, found {step:g}. Next: leave it out.")
    cut = partial(in_shells, width=step, segment=length, n_shells=n_shells)
    edges = step * np.arange(n_shells + 1)
    centres = (edges[1:] + edges[:-1]) / 2.0

    def shelled(one: Places) -> Shelled:
        return cut(one.coords, about(one.coords))

    other = None if baseline is None else _read_baseline(baseline, places, names)
    here, there = cut(places.coords, distances), None
    if other is not None:
        here, there = common_regions(*_in_both(here, shelled(other), places, other))
        _check_frame(int((here.shell >= 0).sum()) / len(known))
    if measured is None:
        tested_at, tested_against, grouping = places, other, _grouping(here, there)
        if places.voxels is not None:
            logger.warning("radial_gradients: p-values of a decoded volume call genes that have no gradient. "
                           "Next: measured= the measured cells, log-normalised, for the stated rate")  # fmt: skip
    else:
        tested_at, tested_against = _read_measured(measured, places, names, paired=other is not None)
        at, against = shelled(tested_at), None
        if other is not None and tested_against is not None:
            at, against = _in_both(at, shelled(tested_against), places, other)
        grouping = _grouping(at, against)
    p = tested(_pairs(tested_at, tested_against, names), grouping)
    found, columns = measure(_pairs(places, other, names), here, there, p, centres=centres, alpha=float(alpha))
    params = {**note, "width": step, "segment": length, "alpha": float(alpha), "unit": places.unit,
              "n_blocks": len(grouping.sites.places), "baseline": baseline is not None,
              "measured": measured is not None}  # fmt: skip
    _write(places, here, edges, names, found, columns, key_added, params)
    kinds = pd.Series(columns["class"]).value_counts()
    logger.info(
        "radial_gradients: %.1f s, %d genes, %d shells of %g %s: %s; wrote uns[%r]",
        perf_counter() - started, len(names), n_shells, step, places.unit,
        ", ".join(f"{kinds.get(kind, 0)} {kind}" for kind in CLASSES), f"{key_added}_gradients",
    )  # fmt: skip


def _read_baseline(baseline: SpatialData | AnnData, places: Places, names: list[str]) -> Places:
    other = read_places(baseline, None, name="baseline")
    if (other.voxels is None) != (places.voxels is None):
        raise TypeError(
            "baseline: expected the same kind as sdata, found a volume and cells. Next: reconstruct both, or neither."
        )
    if other.unit != places.unit:
        raise ValueError(
            f"baseline: expected positions in {places.unit}, found {other.unit}. Next: rescale one of them."
        )
    missing = set(names) - set(other.genes)
    if missing:
        raise ValueError(
            f"baseline: expected the {len(names)} genes that are tested, found {len(missing)} missing "
            f"({show(sorted(missing))}). Next: genes= those that both have, or reconstruct both with the same."
        )
    return other


def _in_both(here: Shelled, there: Shelled, places: Places, other: Places) -> tuple[Shelled, Shelled]:
    """Take places out of all shells where the other tissue is not: they have nothing to be compared with."""
    return here.only(other.holds(here.coords)), there.only(places.holds(there.coords))


def _grouping(here: Shelled, there: Shelled | None) -> Grouping:
    empty = not all((one.shell >= 0).any() for one in (here, there) if one is not None)
    grouping = None if empty else group(here, there)
    _check_frame(0.0 if grouping is None else grouping.share)
    assert grouping is not None  # or the frame is another
    return grouping


def _check_frame(share: float) -> None:
    if share < _LEAST_COMMON:
        raise ValueError(
            "baseline, measured: expected the same frame as sdata, so that most of the tissue lies in all of them, "
            f"found {share:.0%} of it. Next: align them to one frame before they are reconstructed."
        )


def _read_measured(
    measured: AnnData | tuple[AnnData, AnnData], places: Places, names: list[str], *, paired: bool
) -> tuple[Places, Places | None]:
    """Cells of the tissue, and of the baseline where there is one."""
    given = measured if isinstance(measured, tuple) else (measured,)
    if len(given) != 1 + paired or not all(isinstance(one, AnnData) for one in given):
        expected = "a pair of AnnData, of both volumes" if paired else "an AnnData"
        raise TypeError(f"measured: expected {expected}, found {type(measured).__name__}. Next: leave it out.")
    read = [read_places(one, None, name="measured") for one in given]
    for cells in read:
        missing = set(names) - set(cells.genes)
        if missing or cells.unit != places.unit:
            found = f"{len(missing)} genes missing ({show(sorted(missing))})" if missing else f"places in {cells.unit}"
            raise ValueError(f"measured: expected the genes tested and places in {places.unit}, found {found}. "
                             "Next: the stack that was reconstructed.")  # fmt: skip
        whole = expression_of(cells.table)[:200]
        values = whole.data if sparse.issparse(whole) else np.asarray(whole)
        if values.size and np.all(values == np.floor(values)):
            raise ValueError("measured: expected log-normalised expression in X, found whole numbers. "
                             "Next: sc.pp.normalize_total(adata); sc.pp.log1p(adata), on a copy.")  # fmt: skip
    return read[0], read[1] if paired else None


def _pairs(places: Places, other: Places | None, names: list[str]) -> Iterator[Pair]:
    if other is None:
        yield from map(Pair, places.linear(names))
    else:
        yield from map(Pair, places.linear(names), other.linear(names))


def _write(
    places: Places,
    here: Shelled,
    edges: np.ndarray,
    names: list[str],
    found: Profiles,
    columns: dict[str, np.ndarray],
    key: str,
    params: dict[str, Any],
) -> None:
    centres = [f"{at:g}" for at in (edges[1:] + edges[:-1]) / 2.0]
    index = pd.Index(names, dtype=object)
    table = pd.DataFrame(columns, index=index)
    table["class"] = pd.Categorical(table["class"], CLASSES)
    shells = pd.DataFrame(
        {"inner": edges[:-1], "outer": edges[1:], "distance": (edges[1:] + edges[:-1]) / 2.0, "n": found.count},
        index=centres,
    )
    places.table.uns[f"{key}_gradients"] = {
        "genes": table,
        "mean": pd.DataFrame(found.mean, index, centres),
        "spread": pd.DataFrame(found.spread, index, centres),
        "shells": shells,
        "params": params,
    }
    if places.rows is not None:
        for name, values, missing in (("distance", here.distance, np.nan), ("shell", here.shell.astype(np.int32), -1)):
            column = np.full(places.table.n_obs, missing, dtype=values.dtype)
            column[places.rows] = values
            places.table.obs[f"{key}_{name}"] = column
