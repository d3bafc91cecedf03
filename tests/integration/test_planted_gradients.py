"""Genes of a made spinal cord whose gradients are known, from counts to classes; the benchmark does it with volumes."""

from __future__ import annotations

import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import isost


@pytest.fixture(scope="module")
def cords() -> list[AnnData]:
    """Cells of the uninjured and of the injured cord, log-normalised."""
    made = []
    for lesion in (False, True):
        adata = isost.datasets.spinal_cord(lesion=lesion, n_sections=6, n_cells=300, n_genes=40, rng=1)
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
        made.append(adata)
    return made


def check(found: pd.DataFrame, truth: pd.Series) -> None:
    """All planted genes but one have their class, and one gene without a gradient at most is called."""
    called, truth = found["class"].astype(str), truth.reindex(found.index)
    planted, without = ~truth.isin(["flat", ""]), truth == "flat"
    assert planted.sum() == 12
    assert without.sum() >= 20
    assert (called == truth)[planted].sum() >= 11
    assert (called[without] != "flat").sum() <= 1


def test_genes_about_the_canal(cords: list[AnnData]) -> None:
    cells = cords[0]
    isost.tl.radial_gradients(cells, axis=cells.uns["spinal_cord"]["canal"], measured=cells)
    check(isost.get.radial_gradients(cells), cells.var["canal"])


def test_genes_about_the_lesion_are_those_that_differ_from_the_uninjured_cord(cords: list[AnnData]) -> None:
    healthy, injured = cords
    point = injured.uns["spinal_cord"]["lesion"]
    isost.tl.radial_gradients(injured, point=point, baseline=healthy, measured=(injured, healthy))
    check(isost.get.radial_gradients(injured), injured.var["lesion"])
