"""What a fitted stack is asked for: places, depths and genes, checked."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from isost._core.checks import show, to_numbers
from isost._core.decoder import gene_names
from isost._core.positions import LARGEST_COORDINATE
from isost._core.stack import Decoder, Stack


def checked_places(stack: Stack, coords: np.ndarray) -> np.ndarray:
    """Places (n, 3) float64, x, y, z in the stack's unit.

    Raises
    ------
    TypeError
        If they are not numbers.
    ValueError
        If the shape is another, a place is NaN, infinite or beyond any tissue, or a depth lies outside the stack.
    """
    places = as_places(coords, "x, y, z")
    places[:, 2] = _inside(stack, places[:, 2])
    return places


def as_places(coords: np.ndarray, columns: str) -> np.ndarray:
    """Make float64 (n, number of the named columns) of places.

    Raises
    ------
    TypeError
        If they are not numbers.
    ValueError
        If the shape is another, or a place is NaN, infinite or beyond any tissue.
    """
    n = columns.count(",") + 1
    try:
        places = to_numbers(coords)
    except ValueError as error:  # rows of different lengths
        raise TypeError(
            f"coords: expected numbers (n, {n}), found {error}. Next: numpy.column_stack([{columns}])."
        ) from error
    if isinstance(places, list):
        raise TypeError(
            f"coords: expected numbers (n, {n}), found {show(places)} in {type(coords).__name__}. "
            f"Next: numpy.column_stack([{columns}])."
        )
    if places.ndim != 2 or places.shape[1] != n:
        raise ValueError(
            f"coords: expected shape (n, {n}), found {places.shape}. Next: numpy.column_stack([{columns}])."
        )
    near = (np.abs(places) <= LARGEST_COORDINATE).all(axis=1)
    if not near.all():
        raise ValueError(
            f"coords: expected places within {LARGEST_COORDINATE:g}, found {(~near).sum()} of {len(places)} with NaN, "
            f"infinity or beyond. Next: coords[(abs(coords) <= {LARGEST_COORDINATE:g}).all(axis=1)]."
        )
    return places


def checked_depth(stack: Stack, z: float) -> float:
    """One depth inside the stack.

    Raises
    ------
    TypeError
        If it is not one number.
    ValueError
        If it lies outside the stack.
    """
    return float(_inside(stack, np.array([as_number("z", z)]))[0])


def as_number(name: str, value: object) -> float:
    """Make a float of one number.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected one number, found {value!r}. Next: pass {name}=25.0, for instance.")
    return float(value)


def as_whole(name: str, value: object, least: int) -> int:
    """Make an int of one whole number.

    Raises
    ------
    TypeError
        If it is anything else.
    ValueError
        If it is below `least`.
    """
    wanted = f"{name}: expected a whole number of {least} or more, found {value!r}. Next: pass {name}={max(least, 1)}."
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(wanted)
    if value < least:
        raise ValueError(wanted)
    return int(value)


def checked_genes(stack: Stack, genes: str | Sequence[str] | None) -> tuple[list[str] | None, np.ndarray | None]:
    """Distinct names of the genes asked for and their positions in the decoder; None, None where none are.

    Raises
    ------
    TypeError
        If they are no names.
    KeyError
        If a gene is unknown.
    ValueError
        If the list is empty, or the representation has no loadings.
    """
    if genes is None:
        return None, None
    asked = list(dict.fromkeys(gene_names(genes)))
    if not asked:
        raise ValueError("genes: expected names, found an empty list. Next: leave genes out.")
    return asked, decoder_of(stack).index(asked)


def check_one_tissue(stack: Stack) -> None:
    """Refuse a volume of stages: their depth is age.

    Raises
    ------
    ValueError
        If the stack is of stages of development.
    """
    if stack.growth is not None:
        raise ValueError(
            "Expected sections of one tissue, of which there is a volume, found stages of development. "
            "Next: fitted.section(age), isost.tl.propagate_labels(fitted, adata, key=...)."
        )


def check_kind(volume: str) -> None:
    """Refuse a kind of volume that there is not.

    Raises
    ------
    ValueError
        If it is neither "field" nor "cells".
    """
    if volume not in ("field", "cells"):
        raise ValueError(f"volume: expected 'field' or 'cells', found {volume!r}. Next: leave it out.")


def decoder_of(stack: Stack) -> Decoder:
    """Get the stack's decoder.

    Raises
    ------
    ValueError
        If there is none.
    """
    if stack.decoder is None:
        raise ValueError(
            f"genes: expected a representation with loadings, found obsm[{stack.use_rep!r}] without any. "
            "Next: leave genes out to have the features, or fit on isost.pp.embed(adata)."
        )
    return stack.decoder


def _inside(stack: Stack, z: np.ndarray) -> np.ndarray:
    """Depths between those of the first and the last section; what their own cells reach beyond counts as inside."""
    low = stack.coords[stack.slice_of(0), 2].min()
    high = stack.coords[stack.slice_of(stack.n_sections - 1), 2].max()
    slack = 1e-9 * (high - low)  # of rounding in the caller's arithmetic
    outside = ~((z >= low - slack) & (z <= high + slack))
    if outside.any():
        what = f"z: expected depths inside the stack, {low:g} to {high:g} {stack.unit}"
        if stack.growth is not None:
            what = f"age: expected one of the stages or between, {low:g} to {high:g}"
        raise ValueError(
            f"{what}, found {', '.join(f'{value:g}' for value in z[outside][:3])}. Next: ask within that range."
        )
    return np.clip(z, stack.depths[0], stack.depths[-1])
