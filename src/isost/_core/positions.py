"""Positions of the cells of an AnnData, in the input's unit; what is wrong is noted, not raised."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, show, show_rows, to_numbers

# A coordinate beyond this (a kilometre in µm) is an overflow or stands for "missing", not a place in a tissue.
LARGEST_COORDINATE = 1e9

_TO_A_STACK = (
    "isost.pp.stack_sections(sections, z=depths), or write each cell's depth to adata.obs['z'] and pass depth_key='z'"
)


def read_coords(adata: AnnData, spatial_key: str, depth_key: str | None, problems: Problems) -> np.ndarray | None:
    """Read positions (n, 3) float64, or None where there are none; missing values stay in as NaN, and are noted."""
    plane = _read_numbers(adata, spatial_key, 3 if depth_key is None else 2, _TO_A_STACK, problems)
    where = f"adata.obsm[{spatial_key!r}]"
    if depth_key is None:
        if plane is not None and _check_values(plane, where, problems):
            _check_apart(plane, where, problems)
        return plane
    depth = _read_depth(adata, depth_key, problems)
    if plane is not None and _check_values(plane[:, :2], where, problems):
        _check_apart(plane, where, problems)
    if depth is not None:
        _check_values(depth, f"adata.obs[{depth_key!r}]", problems)
    return None if plane is None or depth is None else np.column_stack([plane[:, :2], depth])


def read_positions(adata: AnnData, spatial_key: str, problems: Problems) -> np.ndarray | None:
    """Read positions (n, 2) of a section or (n, 3) of a stack, float64; else as `read_coords`.

    They may be all the same.
    """
    where = f"adata.obsm[{spatial_key!r}]"
    columns = ", ".join(map(repr, _columns(adata, 2)))
    make = f"{where} = adata.obs[[{columns}]].to_numpy(), for instance"
    places = _read_numbers(adata, spatial_key, 2, make, problems)
    if places is not None:
        _check_values(places, where, problems)
    return places


def _read_numbers(adata: AnnData, spatial_key: str, least: int, do: str, problems: Problems) -> np.ndarray | None:
    """Read (n, 2) or (n, 3), of `least` columns or more; `do` is what to do where there are others."""
    if not isinstance(spatial_key, str):
        problems.add("spatial_key", expected=f"the name of a key of adata.obsm ({show(adata.obsm)})",
                     found=repr(spatial_key), next="name one of these")  # fmt: skip
        return None
    where, width = f"adata.obsm[{spatial_key!r}]", "3" if least == 3 else "2 or 3"
    if spatial_key not in adata.obsm:
        example = ", ".join(map(repr, _columns(adata, least)))
        problems.add(
            where,
            expected=f"coordinates (n_cells, {width})",
            found=f"obsm keys {show(adata.obsm)}",
            next=f"{where} = adata.obs[[{example}]].to_numpy(), or name the key by spatial_key=...",
        )
        return None
    values = to_numbers(adata.obsm[spatial_key])
    if isinstance(values, list):
        found = f"values that are none: {show(values)}"
        make = "toarray()" if sparse.issparse(adata.obsm[spatial_key]) else "astype(float), where it is numbers as text"
        problems.add(where, expected="numbers", found=found, next=f"{where} = {where}.{make}")
        return None
    if values.ndim != 2 or not least <= values.shape[1] <= 3:
        flat = values.ndim == 2 and values.shape[1] == 2
        problems.add(
            where,
            expected=f"(n_cells, {width}) with x, y{' and the depth z' if least == 3 else ''}",
            found=f"shape {values.shape}" + (", that is coordinates without depth" if flat else ""),
            next=do,
        )
        return None
    return values


def _columns(adata: AnnData, dims: int) -> list[str]:
    """Name the columns of obs that may hold positions: those of one kind, or x, y, z."""
    known = {str(name).lower(): str(name) for name in adata.obs}
    for ending in ("", "_um"):
        found = [known[axis + ending] for axis in "xyz" if axis + ending in known]
        if len(found) > 1:
            return found
    return ["x", "y", "z"][:dims]


def _read_depth(adata: AnnData, depth_key: str, problems: Problems) -> np.ndarray | None:
    if not isinstance(depth_key, str):
        problems.add(
            "depth_key",
            expected="the name of one column of adata.obs",
            found=f"{depth_key!r}",
            next="name one; two, of depth and age, are for isost.tl.fit alone",
        )
        return None
    where = f"adata.obs[{depth_key!r}]"
    if depth_key not in adata.obs:
        columns = f"the columns {show(adata.obs)}"
        problems.add(where, expected="a column of depths", found=columns, next="name one of these by depth_key=...")
        return None
    values = to_numbers(adata.obs[depth_key])
    if isinstance(values, list):
        problems.add(
            where,
            expected="depths as numbers, in the unit of x and y",
            found=f"text: {show(values)}",
            next=f"{where} = {where}.map({{{values[0]!r}: 0.0, ...}}).astype(float), with a number for each of them",
        )
        return None
    return values


def _check_values(values: np.ndarray, where: str, problems: Problems) -> bool:
    """Note values that are not finite, or too large; say whether all are finite."""
    table = values if values.ndim == 2 else values[:, None]
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        rows = f"numpy.isfinite({where})" + (".all(axis=1)" if values.ndim == 2 else "")
        problems.add(
            where,
            expected="finite coordinates",
            found=f"NaN or infinity in {show_rows(bad)}",
            next=f"adata = adata[{rows}].copy()  # without these cells",
        )
    far = np.any(np.isfinite(table) & (np.abs(table) > LARGEST_COORDINATE), axis=1)
    if far.any():
        rows = f"(abs({where}) < {LARGEST_COORDINATE:g})" + (".all(axis=1)" if values.ndim == 2 else "")
        problems.add(
            where,
            expected=f"coordinates within {LARGEST_COORDINATE:g}",
            found=f"larger ones in {show_rows(far)}: an overflow, or a stand-in for missing values",
            next=f"adata = adata[{rows}].copy()  # without these cells",
        )
    return not bad.any()


def _check_apart(values: np.ndarray, where: str, problems: Problems) -> None:
    if len(values) > 1 and not np.ptp(values[:, :2], axis=0).any():
        problems.add(
            where,
            expected="cells at different places",
            found="the same x and y for all cells",
            next=f"{where} = positions (n_cells, 3)",
        )
