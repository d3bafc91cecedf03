"""Positions and sections of an AnnData, in the input's unit; what is wrong is noted, not raised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import LARGEST_COORDINATE, Problem, show, show_rows, to_numbers
from isost._logging import logger

SECTION_KEY = "section"

# A cell has five neighbours in the plane beside itself, and the Graph U-Net halves a section twice: 10 -> 5 -> 3.
MIN_CELLS = 10

# Depths closer than this share of the stack's height are one depth: rounding, not distance. A thousand sections are
# still ten times further apart.
SAME_DEPTH = 1e-4

# Share of a section's cells that may lie beyond the median depth of the next section; half at one depth.
CROSSING_WARNED, CROSSING_REFUSED = 0.05, 0.25

BINNING = "adata.obs['section'] = pandas.cut(adata.obsm['spatial'][:, 2], bins=12).astype(str)"


@dataclass(frozen=True, eq=False)
class Sections:
    """Sections sorted by depth.

    Attributes
    ----------
    index
        (n,) int64, the section of each cell.
    depths
        (K,) float64, median z of each section.
    names
        K names.
    """

    index: np.ndarray
    depths: np.ndarray
    names: tuple[str, ...]


def read_coords(adata: AnnData, spatial_key: str, depth_key: str | None, problems: list[Problem]) -> np.ndarray | None:
    """Read positions (n, 3) float64, or None where they cannot be told; `problems` says why."""
    before = len(problems)
    plane = _read_plane(adata, spatial_key, depth_key, problems)
    depth = None if depth_key is None else _read_depth(adata, depth_key, problems)
    if len(problems) > before or plane is None:
        return None
    coords = plane if depth is None else np.column_stack([plane[:, :2], depth])
    _check_finite(coords, spatial_key, depth_key, problems)
    return coords if len(problems) == before else None


def read_sections(
    adata: AnnData, section_key: str | None, coords: np.ndarray | None, problems: list[Problem]
) -> Sections | None:
    """Read sections from `obs[section_key]`, or from distinct depths; None where they cannot be told."""
    before = len(problems)
    labels = _section_labels(adata, section_key, coords, problems)
    if labels is None:
        return None
    codes, names = pd.factorize(labels)
    sizes = np.bincount(codes, minlength=len(names))
    by_hand = section_key is not None and section_key in adata.obs
    where = f"adata.obs[{section_key!r}]" if by_hand else "depths"
    if len(names) < 2:
        problems.append(
            Problem(
                where,
                "two sections or more",
                f"{len(names)} ({show(names)}) with {len(adata)} cells",
                "isost.pp.stack_sections([first, second], z=[0, 50]) puts sections together",
            )
        )
    small = sizes < MIN_CELLS
    if small.any():
        kept = f"adata.obs[{section_key!r}].map(adata.obs[{section_key!r}].value_counts()) >= {MIN_CELLS}"
        problems.append(
            Problem(
                where,
                f"at least {MIN_CELLS} cells in every section, for five neighbours in the plane and two poolings",
                show(f"{names[k]!s} with {sizes[k]}" for k in np.flatnonzero(small)),
                f"adata = adata[{kept}].copy()" if by_hand else "leave these depths out, or name sections in adata.obs",
            )
        )
    if coords is None or len(names) < 2:
        return None
    order, depths = _order(codes, coords[:, 2], [str(name) for name in names], problems)
    if len(problems) > before:
        return None
    return Sections(np.argsort(order)[codes], depths, tuple(str(names[k]) for k in order))


def _read_plane(adata: AnnData, spatial_key: str, depth_key: str | None, problems: list[Problem]) -> np.ndarray | None:
    where, width = f"adata.obsm[{spatial_key!r}]", "3" if depth_key is None else "2 or 3"
    if spatial_key not in adata.obsm:
        columns = [name for name in adata.obs if str(name).lower() in {"x", "y", "z", "x_um", "y_um", "z_um"}]
        example = ", ".join(map(repr, columns)) if len(columns) > 1 else "'x', 'y', 'z'"
        problems.append(
            Problem(
                where,
                f"coordinates (n_cells, {width})",
                f"obsm keys {show(adata.obsm)}",
                f"adata.obsm[{spatial_key!r}] = adata.obs[[{example}]].to_numpy(), or name the key by spatial_key=...",
            )
        )
        return None
    values = to_numbers(adata.obsm[spatial_key])
    if isinstance(values, list):
        problems.append(
            Problem(where, "numbers", f"values that are none: {show(values)}", f"{where} = {where}.astype(float)")
        )
        return None
    if values.ndim != 2 or not 2 + (depth_key is None) <= values.shape[1] <= 3:
        flat = values.ndim == 2 and values.shape[1] == 2
        problems.append(
            Problem(
                where,
                f"(n_cells, {width}) with x, y{' and the depth z' if depth_key is None else ''}",
                f"shape {values.shape}" + (", that is coordinates without depth" if flat else ""),
                "isost.pp.stack_sections(sections, z=depths), or write each cell's depth to adata.obs['z'] and pass "
                "depth_key='z'",
            )
        )
        return None
    return values


def _read_depth(adata: AnnData, depth_key: str, problems: list[Problem]) -> np.ndarray | None:
    where = f"adata.obs[{depth_key!r}]"
    if depth_key not in adata.obs:
        problems.append(
            Problem(where, "a column of depths", f"the columns {show(adata.obs)}", "name one of these by depth_key=...")
        )
        return None
    values = to_numbers(adata.obs[depth_key])
    if isinstance(values, list):
        problems.append(
            Problem(
                where,
                "depths as numbers, in the unit of x and y",
                f"text: {show(values)}",
                f"{where} = {where}.map({{{values[0]!r}: 0.0, ...}}).astype(float), a number for every name",
            )
        )
        return None
    return values


def _check_finite(coords: np.ndarray, spatial_key: str, depth_key: str | None, problems: list[Problem]) -> None:
    plane = f"adata.obsm[{spatial_key!r}]"
    parts = [(plane, coords)]
    if depth_key is not None:
        parts = [(plane, coords[:, :2]), (f"adata.obs[{depth_key!r}]", coords[:, 2:])]
    for where, values in parts:
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            rows = f"numpy.isfinite({where})" + (".all(axis=1)" if where == plane else "")
            problems.append(
                Problem(
                    where, "finite coordinates", f"NaN or infinity in {show_rows(bad)}", f"adata = adata[{rows}].copy()"
                )
            )
        with np.errstate(invalid="ignore"):
            far = np.isfinite(values).all(axis=1) & (np.abs(values) > LARGEST_COORDINATE).any(axis=1)
        if far.any():
            problems.append(
                Problem(
                    where,
                    f"coordinates within {LARGEST_COORDINATE:g}",
                    f"larger ones in {show_rows(far)}: an overflow or a stand-in for missing values",
                    "adata = adata[rows_with_a_known_position].copy()",
                )
            )
    if np.isfinite(coords).all() and len(coords) and not np.ptp(coords[:, :2], axis=0).any():
        problems.append(
            Problem(
                plane,
                "cells at different places",
                "one (x, y) for all cells",
                f"{plane} = positions, one for each cell",
            )
        )


def _section_labels(
    adata: AnnData, section_key: str | None, coords: np.ndarray | None, problems: list[Problem]
) -> np.ndarray | None:
    if section_key is not None and section_key in adata.obs:
        labels = adata.obs[section_key]
        missing = labels.isna().to_numpy()
        if missing.any():
            problems.append(
                Problem(
                    f"adata.obs[{section_key!r}]",
                    "a section for every cell",
                    f"none for {show_rows(missing)}",
                    f"adata = adata[adata.obs[{section_key!r}].notna()].copy()",
                )
            )
            return None
        return labels.astype(str).to_numpy()
    if section_key not in (None, SECTION_KEY):
        problems.append(
            Problem(
                "section_key",
                "a column of adata.obs",
                f"{section_key!r}, while the columns are {show(adata.obs)}",
                "name one of these by section_key=..., or pass section_key=None: each distinct depth is a section then",
            )
        )
        return None
    return None if coords is None else _labels_by_depth(coords[:, 2], problems)


def _labels_by_depth(z: np.ndarray, problems: list[Problem]) -> np.ndarray | None:
    distinct = np.unique(z)
    same = SAME_DEPTH * np.ptp(z)
    group = np.concatenate([[0], np.cumsum(np.diff(distinct) > same)])
    firsts = np.flatnonzero(np.diff(group, prepend=-1))
    heights = np.maximum.reduceat(distinct, firsts) - distinct[firsts]
    if len(z) < MIN_CELLS * len(firsts) or heights.max() > 10 * same:
        problems.append(
            Problem(
                "depths",
                f"sections in adata.obs['section'], or depths that are shared by at least {MIN_CELLS} cells each",
                f"{len(distinct)} distinct depths among {len(z)} cells, from {z.min():g} to {z.max():g}",
                f"{BINNING} bins them into 12 slabs",
            )
        )
        return None
    codes = group[np.searchsorted(distinct, z)]
    depths = np.array([np.median(z[codes == k]) for k in range(len(firsts))])
    short = [f"z{depth:g}" for depth in depths]
    names = short if len(set(short)) == len(short) else [f"z{depth!r}" for depth in depths.tolist()]
    logger.info("no column of sections: %d distinct depths (%s)", len(names), show(depths.tolist()))
    return np.array(names)[codes]


def _order(
    codes: np.ndarray, z: np.ndarray, names: list[str], problems: list[Problem]
) -> tuple[np.ndarray, np.ndarray]:
    by_section = [z[codes == k] for k in range(len(names))]
    medians = np.array([np.median(depths) for depths in by_section])
    order = np.argsort(medians, kind="stable")
    depths = medians[order]
    shared, crossing = [], []
    for below, above in zip(order[:-1], order[1:], strict=True):
        pair = f"{names[below]} and {names[above]}"
        if medians[above] - medians[below] <= SAME_DEPTH * np.ptp(z):
            shared.append(f"{pair} at {medians[below]:g}")
            continue
        beyond = max((by_section[below] > medians[above]).mean(), (by_section[above] < medians[below]).mean())
        if beyond > CROSSING_REFUSED:
            crossing.append(f"{pair} ({beyond:.0%} of the cells)")
        elif beyond > CROSSING_WARNED:
            logger.warning(
                "sections %s overlap: %.0f%% of the cells lie beyond the other's median depth", pair, 100 * beyond
            )
    if shared:
        problems.append(
            Problem(
                "depths",
                "every section at a depth of its own",
                f"two sections at one depth: {show(shared)}",
                "isost.pp.stack_sections(sections, z=depths) gives each its own z; or give both one section's name",
            )
        )
    if crossing:
        problems.append(
            Problem(
                "depths",
                "sections that follow one another in depth",
                f"sections that run through each other: {show(crossing)}",
                f"check the sections and depths, or bin the cells by depth: {BINNING}",
            )
        )
    return order, depths
