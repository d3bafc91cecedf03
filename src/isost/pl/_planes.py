from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import Problems
from isost._core.positions import read_coords
from isost._core.units import read_unit
from isost.pl._style import unit_label

_MANY = 200


@dataclass(frozen=True)
class Planes:
    """Positions in the plane (n, 2) of all cells, the rows of each section, the depths from low to high, their unit.

    Names of the sections are None where depths alone tell them apart.
    """

    xy: np.ndarray
    rows: tuple[np.ndarray, ...]
    depths: np.ndarray
    unit: str
    names: tuple[str, ...] | None


def read_planes(adata: AnnData, *, section_key: str | None, spatial_key: str, depth_key: str | None) -> Planes:
    """Find the sections of an AnnData, in order of numeric depth.

    A plot is how one looks at a stack that cannot be fitted yet: it asks for no embedding and takes a single section,
    small sections and sections at one depth.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"adata: expected an AnnData, found {type(adata).__name__}. Next: for the volume of a SpatialData "
            "isost.pl.orthoviews(sdata, gene), for a fitted stack isost.pl.morph(fitted)."
        )
    if not adata.n_obs:
        raise ValueError("adata: expected cells, found an AnnData without any. Next: look at how it was subset.")
    problems = Problems()
    coords = read_coords(adata, spatial_key, depth_key, problems)
    codes = None if coords is None else _codes(adata, section_key, coords[:, 2], problems)
    if coords is None or codes is None or problems:
        raise problems.error("The sections cannot be plotted")
    rows = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]
    depths = np.array([np.median(coords[of, 2]) for of in rows])
    order = np.argsort(depths, kind="stable")
    names = None
    if section_key in adata.obs:
        names = tuple(str(adata.obs[section_key].iloc[rows[k][0]]) for k in order)
    return Planes(coords[:, :2], tuple(rows[k] for k in order), depths[order], unit_label(read_unit(adata)), names)


def _codes(adata: AnnData, section_key: str | None, depth: np.ndarray, problems: Problems) -> np.ndarray:
    if section_key in adata.obs:
        return pd.factorize(adata.obs[section_key].astype(str))[0]
    codes = np.unique(depth, return_inverse=True)[1]
    if codes.max() >= _MANY:
        problems.add(
            f"adata.obs[{section_key!r}]",
            expected="a column of section names, or few distinct depths",
            found=f"no such column and {codes.max() + 1} distinct depths",
            next="name the column by section_key=...",
        )
    return codes
