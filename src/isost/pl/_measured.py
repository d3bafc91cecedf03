"""Measured sections beside the reconstruction at their depths: cell by cell, and on bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.expression import expression_of
from isost._core.normalise import lognormal, recorded_normalisation
from isost.metrics._bins import bin_of
from isost.metrics._field import gene_correlation
from isost.pl._color import coloring
from isost.pl._planes import Planes
from isost.pl._quantity import Volume

_MOST = 4  # sections that are drawn where none are named


@dataclass(frozen=True, eq=False)
class Section:
    """Cells (n, 2) of a measured section, their values (n,), its name and depth, and whether it was fitted."""

    name: str
    depth: float
    xy: np.ndarray
    values: np.ndarray
    fitted: bool


@dataclass(frozen=True, eq=False)
class Bins:
    """Means of both over square bins.

    Attributes
    ----------
    corner, side
        Lower corner (2,) of the first bin, and the side of a bin.
    index
        (b, 2) int, x and y of the bins that hold cells of both.
    measured, reconstructed
        (b,) means.
    """

    corner: np.ndarray
    side: float
    index: np.ndarray
    measured: np.ndarray
    reconstructed: np.ndarray

    @property
    def correlation(self) -> float:
        """Pearson's; NaN where the measured means do not vary."""
        if len(self.measured) < 3 or np.ptp(self.measured) == 0:
            return float("nan")
        return gene_correlation(self.reconstructed[:, None], self.measured[:, None])

    @property
    def image(self) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """Measured means (y, x), NaN where no cell is, and left, right, bottom, top."""
        columns, rows = self.index.max(axis=0) + 1
        image = np.full((rows, columns), np.nan)
        image[self.index[:, 1], self.index[:, 0]] = self.measured
        left, bottom = self.corner
        return image, (left, left + columns * self.side, bottom, bottom + rows * self.side)


def measured_sections(
    adata: AnnData, color: str, planes: Planes, volume: Volume, wanted: Sequence[str] | None, section_key: str
) -> list[Section]:
    """Look up sections by name, in order of depth, and their log-normalised expression or component."""
    names = [str(adata.obs[section_key].iloc[rows[0]]) if section_key in adata.obs else f"{depth:g}"
             for rows, depth in zip(planes.rows, planes.depths, strict=True)]  # fmt: skip
    low, high = volume.edges(2)
    inside = (planes.depths >= low) & (planes.depths <= high)
    fitted = np.array([np.isclose(volume.sections, depth, atol=1e-6).any() for depth in planes.depths])
    chosen = _chosen(names, inside, fitted, wanted, (low, high, volume.unit))
    read = _reader(adata, color)
    return [
        Section(names[k], float(planes.depths[k]), planes.xy[planes.rows[k]], read(planes.rows[k]), bool(fitted[k]))
        for k in chosen
    ]


def compared(section: Section, side: float, xy: np.ndarray, values: np.ndarray) -> Bins:
    """Average a section, and values at places (m, 2), over the bins that hold some of both."""
    here = np.isfinite(values)
    corner = section.xy.min(axis=0)
    means = [_means(places, side, corner, given)
             for places, given in ((section.xy, section.values), (xy[here], values[here]))]  # fmt: skip
    joined = pd.concat(means, axis=1, join="inner")
    index = np.array(joined.index.to_list(), dtype=np.int64).reshape(-1, 2)
    return Bins(corner, side, index, joined.iloc[:, 0].to_numpy(), joined.iloc[:, 1].to_numpy())


def _means(xy: np.ndarray, side: float, corner: np.ndarray, values: np.ndarray) -> pd.Series:
    x, y = bin_of(xy, side, corner).T
    return pd.Series(values).groupby([x, y]).mean()


def _chosen(
    names: list[str],
    inside: np.ndarray,
    fitted: np.ndarray,
    wanted: Sequence[str] | None,
    extent: tuple[float, float, str],
) -> list[int]:
    if wanted is None:
        usable = np.flatnonzero(inside & ~fitted) if (inside & ~fitted).any() else np.flatnonzero(inside)
        if not usable.size:
            raise ValueError(
                f"adata: expected a section between {extent[0]:g} and {extent[1]:g} {extent[2]}, where the volume "
                "lies, found none. Next: give the stack that the volume was made of, in the same frame and unit."
            )
        return usable[np.unique(np.linspace(0, len(usable) - 1, min(_MOST, len(usable))).round().astype(int))].tolist()
    asked = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    unknown = [name for name in asked if name not in names]
    outside = [name for name in asked if name in names and not inside[names.index(name)]]
    if unknown or outside or not asked:
        raise ValueError(
            f"sections: expected names among {', '.join(names[:20])}, of sections between {extent[0]:g} and "
            f"{extent[1]:g} {extent[2]}, found {', '.join(unknown + outside) or 'none'}. Next: leave sections out."
        )
    return sorted(names.index(name) for name in set(asked))


def _reader(adata: AnnData, color: str) -> Callable[[np.ndarray], np.ndarray]:
    """Make what reads a gene, log-normalised as for the fit, or a component, of cells given by their rows."""
    if color not in adata.var_names:
        scores = coloring(adata, color, layer=None, use_rep="X_pca").values
        return lambda rows: scores[rows]
    column, how = int(np.flatnonzero(adata.var_names == color)[0]), recorded_normalisation(adata)
    matrix = expression_of(adata, how.layer)

    def read(rows: np.ndarray) -> np.ndarray:
        part = matrix[rows]
        values = lognormal(part.compute() if hasattr(part, "compute") else part, how)
        found = values[:, column] if isinstance(values, np.ndarray) else values[:, [column]].toarray()
        return found.astype(np.float64).ravel()

    return read
