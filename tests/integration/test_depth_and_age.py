"""The truth of the embryo phantom, at a depth and an age that were not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost._time.field import SheetField

AGE, DEPTH = 11.0, 0.25  # halfway between stages, and halfway between sections


@pytest.fixture(scope="module")
def adata() -> AnnData:
    cells = isost.datasets.embryo([9.5, 12.5, 15.5], depths=[-0.5, 0.0, 0.5], n_cells=120, n_genes=24, oriented=True)
    isost.pp.embed(cells, n_comps=5, target_sum=1e4)
    isost.pp.align_stages(cells, z_key="z", use_rep=None)  # as they lie in the truth
    return cells


@pytest.fixture(scope="module")
def fitted(adata: AnnData) -> isost.Reconstruction4D:
    """With a coarse estimate of covariances, which takes the longest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("isost._time.field.MAX_GROUPS", 200)
        return isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)


@pytest.fixture(scope="module")
def unseen(adata: AnnData) -> dict[str, Any]:
    """Cells that were not measured: where they lie in the common frame, and what is true there."""
    truth, said = isost.datasets.embryo_truth(adata), adata.uns["spatial_stage"]
    cells = truth.sample_stage(AGE, depth=DEPTH, n=400, rng=5)
    known = truth.expression(np.column_stack([cells.obsm["spatial"], cells.obs[["z", "age"]]]))
    size = np.exp(np.interp(AGE, said["ages"], np.log(said["size"])))
    centre = np.stack([np.interp(AGE, said["ages"], one) for one in said["centre"].T])
    scale = said["size_common"] / size
    placed = (cells.obsm["spatial"] - centre) * scale
    depth = np.full(len(placed), cells.obs["z"].iloc[0] * scale)
    return {"coords": np.column_stack([placed, depth, np.full(len(placed), AGE)]), "known": known}


def error(found: np.ndarray, unseen: dict[str, Any]) -> float:
    """Mean squared error of varying genes in units of their variance."""
    known = unseen["known"]
    varying = known.std(axis=0) > 0.2
    assert varying.sum() > 8
    return float((((found - known) ** 2).mean(axis=0) / known.var(axis=0))[varying].mean())


def test_the_truth_between_depths_and_ages(
    adata: AnnData, fitted: isost.Reconstruction4D, unseen: dict[str, Any]
) -> None:
    """It is predicted better than with cells that stay where they lie, and than by the nearest section."""
    found = error(fitted.expression(unseen["coords"]), unseen)
    stay = SheetField(fitted.sheet, np.zeros_like(fitted.field.shift), fitted.field.kernel)
    still = error(isost.Reconstruction4D(stay, {}).expression(unseen["coords"]), unseen)
    at = fitted.sheet.at
    nearest = np.abs((at - unseen["coords"][0, 2:]) / fitted.sheet.scale).sum(axis=1).argmin()
    moved = unseen["coords"].copy()
    moved[:, 2:] = at[nearest]
    near = error(fitted.expression(moved), unseen)
    assert fitted.params["motion"] is True
    assert found < 0.95 * still
    assert found < 0.7 * near


def test_deviations_are_larger_between_sections(fitted: isost.Reconstruction4D, unseen: dict[str, Any]) -> None:
    measured = unseen["coords"].copy()
    measured[:, 2:] = fitted.sheet.at[4]
    between, at = (fitted.expression(one, return_std=True)[1].mean() for one in (unseen["coords"], measured))
    assert between > 1.1 * at
