"""Sections of an AnnData, sorted by numeric depth; what is wrong is noted, not raised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import Problems, show, show_rows
from isost._core.trust import measured_of, read_weights
from isost._logging import logger

SECTION_KEY = "section"

# A cell has five neighbours in the plane beside itself, and the Graph U-Net halves a section twice: 10 -> 5 -> 3.
MIN_CELLS = 10

# Depths closer than this share of the stack's height are one depth: rounding, not distance. A thousand sections are
# still ten times further apart.
SAME_DEPTH = 1e-4

# Share of a section's cells that may lie beyond the next section's median depth; half do where both are at one depth.
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
    weights
        (K,) float64 trust in each section's expression, `obs["section_weight"]`; None where all were measured.
    """

    index: np.ndarray
    depths: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray | None = None

    @property
    def measured(self) -> list[int]:
        """Sections whose expression was measured, not predicted."""
        return measured_of(self.weights, len(self.names))


def read_sections(
    adata: AnnData, section_key: str | None, coords: np.ndarray | None, problems: Problems
) -> Sections | None:
    """Read sections from `obs[section_key]`, or from distinct depths; None where they cannot be told.

    Cells without a section or a finite depth are noted as a problem and left out of what is checked next.
    """
    before = len(problems)
    labels = _read_labels(adata, section_key, coords, problems)
    if labels is None:
        return None
    codes, names = pd.factorize(labels)
    named = section_key is not None and section_key in adata.obs
    where = f"adata.obs[{section_key!r}]" if named else "depths"
    if len(names) < 2:
        problems.add(
            where,
            expected="two sections or more",
            found=f"{len(names)} ({show(names)}) with {adata.n_obs} cells",
            next="isost.pp.stack_sections([first, second], z=[0, 50]) puts sections together",
        )
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    if sizes.min(initial=MIN_CELLS) < MIN_CELLS:
        kept = f"{where}.map({where}.value_counts()) >= {MIN_CELLS}"
        problems.add(
            where,
            expected=f"at least {MIN_CELLS} cells in every section, for five neighbours in the plane and two poolings",
            found="; ".join(f"{names[k]!r} with {sizes[k]}" for k in np.flatnonzero(sizes < MIN_CELLS)[:5]),
            next=f"adata = adata[{kept}].copy()" if named else "leave these depths out, or write adata.obs['section']",
        )
    if coords is None or len(names) < 2:
        return None
    order, depths = _order_by_depth(codes, coords[:, 2], names, problems)
    weights = read_weights(adata, codes, names, problems)
    if len(problems) > before:
        return None
    weights = weights if weights is None else weights[order]
    return Sections(np.argsort(order)[codes], depths, tuple(names[order]), weights)


def _read_labels(
    adata: AnnData, section_key: str | None, coords: np.ndarray | None, problems: Problems
) -> np.ndarray | None:
    if section_key is not None and section_key in adata.obs:
        labels = adata.obs[section_key]
        missing = labels.isna().to_numpy()
        if missing.any():
            problems.add(
                f"adata.obs[{section_key!r}]",
                expected="a section for every cell",
                found=f"none for {show_rows(missing)}",
                next=f"adata = adata[adata.obs[{section_key!r}].notna()].copy()",
            )
        names = labels.astype(str).to_numpy(dtype=object, copy=True)
        names[missing] = None
        return names
    if section_key not in (None, SECTION_KEY):
        problems.add(
            "section_key",
            expected="a column of adata.obs",
            found=f"{section_key!r}, while the columns are {show(adata.obs)}",
            next="name one of these by section_key=..., or pass section_key=None for a section at each distinct depth",
        )
        return None
    if coords is None:
        return None
    finite = np.isfinite(coords[:, 2])
    found = _label_by_depth(coords[finite, 2], problems) if finite.any() else None
    if found is None:
        return None
    labels = np.full(len(coords), None, dtype=object)
    labels[finite] = found
    return labels


def _label_by_depth(z: np.ndarray, problems: Problems) -> np.ndarray | None:
    distinct = np.unique(z)
    same = SAME_DEPTH * np.ptp(z)
    group = np.concatenate([[0], np.cumsum(np.diff(distinct) > same)])
    firsts = np.flatnonzero(np.diff(group, prepend=-1))
    heights = np.maximum.reduceat(distinct, firsts) - distinct[firsts]
    # Depths that run on without a break are one group that is much higher than rounding makes it.
    if len(z) < MIN_CELLS * len(firsts) or heights.max() > 10 * same:
        problems.add(
            "depths",
            expected=f"sections in adata.obs['section'], or depths that at least {MIN_CELLS} cells share",
            found=f"{len(distinct)} distinct depths among {len(z)} cells, from {z.min():g} to {z.max():g}",
            next=f"{BINNING} bins them into 12 slabs",
        )
        return None
    codes = group[np.searchsorted(distinct, z)]
    depths = [float(np.median(z[codes == k])) for k in range(len(firsts))]
    short = [f"z{depth:g}" for depth in depths]
    names = short if len(set(short)) == len(short) else [f"z{depth!r}" for depth in depths]
    logger.info("no column of sections in obs: %d distinct depths (%s)", len(names), show(names))
    return np.array(names, dtype=object)[codes]


def _order_by_depth(
    codes: np.ndarray, z: np.ndarray, names: np.ndarray, problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    by_section = [z[(codes == k) & np.isfinite(z)] for k in range(len(names))]
    medians = np.array([np.median(depths) if len(depths) else np.nan for depths in by_section])
    order = np.argsort(medians, kind="stable")
    height = np.ptp(z[np.isfinite(z)]) if np.isfinite(z).any() else 0.0
    shared, crossing = [], []
    for below, above in zip(order[:-1], order[1:], strict=True):
        pair = f"{names[below]} and {names[above]}"
        if medians[above] - medians[below] <= SAME_DEPTH * height:
            shared.append(f"{pair} at z = {medians[below]:g}")
        elif np.isfinite(medians[above]):
            beyond = max((by_section[below] > medians[above]).mean(), (by_section[above] < medians[below]).mean())
            if beyond > CROSSING_REFUSED:
                crossing.append(f"{pair} ({beyond:.0%} of the cells)")
            elif beyond > CROSSING_WARNED:
                logger.warning("sections %s overlap: %.0f%% of one's cells lie beyond the other", pair, 100 * beyond)
    if shared:
        problems.add(
            "depths",
            expected="every section at a depth of its own",
            found=f"two sections at one depth: {'; '.join(shared[:5])}",
            next="isost.pp.stack_sections(sections, z=depths) gives each its own z; or give both one section's name",
        )
    if crossing:
        problems.add(
            "depths",
            expected="sections that follow one another in depth",
            found=f"sections that run through each other: {'; '.join(crossing[:5])}",
            next=f"check the sections and depths, or bin the cells by depth: {BINNING}",
        )
    return order, medians[order]
