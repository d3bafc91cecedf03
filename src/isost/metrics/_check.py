"""What every score asks of its arrays."""

from __future__ import annotations

import numpy as np


def check_matrix(name: str, values: np.ndarray) -> np.ndarray:
    """Return finite float64 (n, d), n at least 1; a vector becomes a column."""
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"{name}: expected rows and columns, found shape {np.shape(values)}. Next: pass an (n, d) array."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name}: expected finite values, found NaN or infinity. Next: leave such rows out of every argument."
        )
    return array


def check_same_shape(
    name: str, values: np.ndarray, other_name: str, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return two finite float64 arrays of one shape."""
    first, second = check_matrix(name, values), check_matrix(other_name, other)
    if first.shape != second.shape:
        raise ValueError(
            f"{name}, {other_name}: expected one shape, found {first.shape} and {second.shape}. "
            "Next: ask both for the same cells and genes."
        )
    return first, second


def check_plane(name: str, coords: np.ndarray, n: int | None = None) -> np.ndarray:
    """Return the x and y of finite positions, (n, 2) float64."""
    array = check_matrix(name, coords)
    if array.shape[1] < 2 or (n is not None and len(array) != n):
        rows = "n" if n is None else n
        raise ValueError(
            f"{name}: expected positions ({rows}, 2 or more), found shape {array.shape}. Next: pass obsm['spatial']."
        )
    return array[:, :2]
