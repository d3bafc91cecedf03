"""Problems of an input, collected while it is read and reported together."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input: what was expected, what was found, what to run next."""

    subject: str
    expected: str
    found: str
    next: str

    def __str__(self) -> str:
        return f"{self.subject}: expected {self.expected}; found {self.found}.\n   Next: {self.next}"


class Problems:
    """Everything that is wrong with one input, to be raised at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def __len__(self) -> int:
        return len(self.found)

    def add(self, subject: str, *, expected: str, found: str, next: str) -> None:
        """Note a problem and go on reading."""
        self.found.append(Problem(subject, expected, found, next))

    def error(self, what: str) -> ValueError:
        """Make one ValueError that lists all of them, numbered."""
        count = "1 problem" if len(self) == 1 else f"{len(self)} problems"
        return ValueError(f"{what}: {count}.\n" + "\n".join(f"{i}. {one}" for i, one in enumerate(self.found, start=1)))


def show(values: Iterable[object], n: int = 5) -> str:
    """List the first `n` values and how many more there are: "a, b, c and 12 more"."""
    values = list(values)
    shown = ", ".join(repr(str(v)) if isinstance(v, str) else f"{v}" for v in values[:n])
    return f"{shown} and {len(values) - n} more" if len(values) > n else shown or "none"


def show_rows(bad: np.ndarray) -> str:
    """Count the entries of the boolean `bad` (n,) that are set, and name the first: "3 of 10 cells (rows 0, 4, 7)"."""
    rows = np.flatnonzero(bad)
    return f"{len(rows)} of {len(bad)} cells (row{'s' if len(rows) > 1 else ''} {show(rows)})"


def to_numbers(values: pd.Series | pd.DataFrame | np.ndarray) -> np.ndarray | list[object]:
    """Convert to float64, missing ones to NaN; or, where some are not numbers, list the distinct offenders.

    Text is never read as numbers: "10" may be a name, and "1,5" or "0.04 mm" would be read wrongly without a word.
    """
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        categories = to_numbers(values.cat.categories.to_numpy())
        return categories if isinstance(categories, list) else np.append(categories, np.nan)[values.cat.codes]
    if sparse.issparse(values):
        return ["a sparse matrix"]
    raw = values.to_numpy(na_value=np.nan) if isinstance(values, (pd.Series, pd.DataFrame)) else np.asarray(values)
    if raw.dtype.kind == "O":
        missing = pd.isna(raw)
        offenders = [v for v in raw[~missing] if not isinstance(v, numbers.Real) or isinstance(v, (bool, np.bool_))]
        if offenders:
            return list(dict.fromkeys(map(str, offenders)))
        return np.where(missing, np.nan, raw).astype(np.float64)
    if raw.dtype.kind not in "iuf":
        return list(dict.fromkeys(map(str, raw.ravel())))
    return raw.astype(np.float64)


def check_adata(adata: AnnData) -> None:
    """Refuse anything but an AnnData.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"adata: expected an AnnData, found {type(adata).__name__}. "
            "Next: isost.pp.stack_sections(sections, z=depths) makes one AnnData of several."
        )


def check_names(adata: AnnData, problems: Problems) -> None:
    """Look for duplicate names of cells and genes, which could not be told apart in the result."""
    for axis, names in (("obs_names", adata.obs_names), ("var_names", adata.var_names)):
        if not names.is_unique:
            repeated = names[names.duplicated()].unique()
            problems.add(
                f"adata.{axis}",
                expected="unique names",
                found=f"{len(repeated)} names that occur more than once ({show(repeated)})",
                next=f"adata.{axis}_make_unique()",
            )
