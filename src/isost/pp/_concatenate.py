"""Concatenation of sections that keeps what they agree on and says what it leaves out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api.types import is_numeric_dtype
from scipy import sparse

from isost._core.checks import show
from isost._logging import logger

SECTION_UNS = "section_uns"


def concatenate(sections: dict[str, AnnData], *, spatial_key: str, join: str) -> AnnData:
    """Concatenate named sections along cells, without `obsm[spatial_key]`; what is left out is logged."""
    sections = {name: one.to_memory() if one.isbacked else one for name, one in sections.items()}
    listed = list(sections.values())
    same_pca = _share_loadings(listed)
    obs = [column for column in listed[0].obs if _is_shared(column, [one.obs for one in listed])]
    obsm = [key for key in listed[0].obsm if key != spatial_key and _has_one_width(key, listed)]
    obsm = [key for key in obsm if same_pca or key != "X_pca"]
    layers = [key for key in listed[0].layers if all(key in one.layers for one in listed)]
    parts = []
    for one, names in zip(listed, _unique_names(sections), strict=True):
        part = AnnData(one.X, obs=one.obs[obs].set_axis(names), var=one.var, varm=dict(one.varm))
        for key in obsm:
            part.obsm[key] = one.obsm[key]
        for key in layers:
            part.layers[key] = one.layers[key]
        parts.append(part)
    # A gene that a section did not measure becomes zero, also in dense matrices, where the default would be NaN.
    stacked = ad.concat(parts, join=join, merge="same", fill_value=0)
    apart: tuple[str, ...] = ()
    if not same_pca and any("X_pca" in one.obsm for one in listed):
        stacked.varm.pop("PCs", None)
        apart = ("pca", "isost")
    stacked.uns.update(_merge_uns({name: one.uns for name, one in sections.items()}, apart))
    _log_losses(listed, stacked, spatial_key)
    return stacked


def _unique_names(sections: dict[str, AnnData]) -> list[pd.Index]:
    names = [one.obs_names.astype(str) for one in sections.values()]
    if names[0].append(names[1:]).is_unique:
        return names
    logger.info("stack_sections: names of cells occur more than once, so each gets its section's name appended")
    return [ad.utils.make_index_unique(own + f"-{name}") for own, name in zip(names, sections, strict=True)]


def _is_shared(column: str, tables: list[pd.DataFrame]) -> bool:
    # Numbers in one section and text in another make a column that no file can hold.
    return all(column in table for table in tables) and len({is_numeric_dtype(table[column]) for table in tables}) == 1


def _has_one_width(key: str, sections: list[AnnData]) -> bool:
    return all(key in one.obsm for one in sections) and len({one.obsm[key].shape[1:] for one in sections}) == 1


def _share_loadings(sections: list[AnnData]) -> bool:
    # Scores of sections that were decomposed one by one lie on different axes, whatever their number.
    first = sections[0]
    return all(
        "PCs" in one.varm
        and one.var_names.equals(first.var_names)
        and np.array_equal(one.varm["PCs"], first.varm["PCs"])
        for one in sections
    )


def _merge_uns(by_section: dict[str, Mapping[str, Any]], apart: tuple[str, ...] = ()) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(key for uns in by_section.values() for key in uns):
        values = {name: uns[key] for name, uns in by_section.items() if key in uns}
        first = next(iter(values.values()))
        if key not in apart and all(_is_same(value, first) for value in values.values()):
            merged[key] = copy.deepcopy(first)
        elif key not in apart and all(isinstance(value, Mapping) for value in values.values()):
            merged[key] = _merge_uns(values)
        else:
            for name, value in values.items():
                # Files separate the levels of uns by "/", so no key may hold one.
                own.setdefault(name.replace("/", "|"), {})[key] = copy.deepcopy(value)
    if own:
        logger.info("stack_sections: uns keys that differ are in uns[...][%r]: %s", SECTION_UNS, show(_keys(own)))
        merged[SECTION_UNS] = own
    return merged


def _keys(own: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for entries in own.values() for key in entries))


def _is_same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_is_same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, (pd.DataFrame, pd.Series)):
        return bool(a.equals(b))
    if sparse.issparse(a):
        return a.shape == b.shape and (a != b).nnz == 0
    return bool(np.all(a == b))


def _log_losses(sections: list[AnnData], stacked: AnnData, spatial_key: str) -> None:
    lost = []
    for part in ("obs", "var", "obsm", "varm", "layers", "obsp", "varp"):
        before = dict.fromkeys(key for one in sections for key in getattr(one, part))
        gone = [str(key) for key in before if key not in getattr(stacked, part) and key != spatial_key]
        if gone:
            lost.append(f"{part} {show(gone)}")
    if any(one.raw is not None for one in sections):
        lost.append("raw")
    if lost:
        logger.info("stack_sections: left out, as the sections do not share it: %s", "; ".join(lost))
    genes = {gene for one in sections for gene in one.var_names}
    if stacked.n_vars < len(genes):
        logger.info("stack_sections: %d of %d genes are in all sections and kept", stacked.n_vars, len(genes))
    missing = [one.n_vars < stacked.n_vars for one in sections]
    if any(missing):
        logger.warning("stack_sections: %d sections lack genes of others; these are zero there", sum(missing))
