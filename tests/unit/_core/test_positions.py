"""Positions of a section or a stack: what is read, and what is said of what cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from isost._core.checks import Problems
from isost._core.positions import read_coords, read_positions


def table(places: object) -> AnnData:
    adata = AnnData(np.ones((3, 2), dtype=np.float32))
    adata.obsm["spatial"] = places
    return adata


@pytest.mark.parametrize("dims", [2, 3])
def test_sections_and_stacks_are_read_as_they_are(dims: int) -> None:
    places, problems = np.arange(3 * dims).reshape(3, dims), Problems()
    found = read_positions(table(places), "spatial", problems)
    assert found is not None and found.dtype == np.float64 and len(problems) == 0
    np.testing.assert_array_equal(found, places)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_stack_needs_cells_apart_and_a_section_does_not(n: int) -> None:
    cells, problems = table(np.ones((3, 3)))[:n], Problems()
    found = read_positions(cells, "spatial", problems)
    assert found is not None and found.shape == (n, 3) and len(problems) == 0
    assert read_coords(cells, "spatial", None, problems) is not None
    assert len(problems) == (n > 1)
    if n > 1:
        with pytest.raises(ValueError, match="different places; found the same x and y for all cells"):
            raise problems.error("here")


def test_columns_that_are_named_are_of_one_kind() -> None:
    adata, problems = table(np.ones((3, 2))), Problems()
    adata.obs[["X_um", "Y_um", "x"]] = 0.0
    read_positions(adata, "nope", problems)
    read_coords(adata, "nope", None, problems)
    for one in problems.found:
        assert "adata.obs[['X_um', 'Y_um']].to_numpy()" in one.next


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (np.zeros((3, 1)), r"\(n_cells, 2 or 3\) with x, y; found shape \(3, 1\).\n.*obs\[\['x', 'y'\]\]"),
        (np.zeros((3, 4)), r"\(n_cells, 2 or 3\) with x, y; found shape \(3, 4\)"),
        (csr_matrix(np.eye(3)), r"numbers; found values that are none: 'a sparse matrix'.\n.*toarray\(\)"),
        (np.full((3, 2), "here"), r"numbers; found values that are none: 'here'.\n.*astype\(float\)"),
        (pd.DataFrame({"x": [0, 1, np.nan], "y": 0.0}, index=list("012")), r"finite.*NaN or infinity in 1 of 3.*row 2"),
        (np.array([[0, 1e12], [0, 1], [1, 2]]), "within 1e\\+09; found larger ones in 1 of 3"),
    ],
)
def test_what_is_no_position_is_said(places: object, said: str) -> None:
    problems = Problems()
    read_positions(table(places), "spatial", problems)
    with pytest.raises(ValueError, match=said):
        raise problems.error("here")


def test_positions_that_are_missing() -> None:
    problems = Problems()
    adata = AnnData(np.ones((3, 2), dtype=np.float32), obs=pd.DataFrame({"x": 0.0, "y": 1.0}, index=list("abc")))
    assert read_positions(adata, "spatial", problems) is None
    with pytest.raises(ValueError, match=r"obsm keys none.\n.*adata.obs\[\['x', 'y'\]\]"):
        raise problems.error("here")
