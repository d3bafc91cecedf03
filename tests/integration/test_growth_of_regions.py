from __future__ import annotations

import numpy as np
import pytest

import isost
from isost.datasets._embryo_sampling import material_grid
from isost.datasets._embryo_truth import EmbryoTruth
from isost.datasets._organs import DENSITY, ORGANS, membership


def _true_growth(truth: EmbryoTruth, low: float, high: float, organ: str) -> float:
    """Ratio of the cells expected of the material that is the organ at the first age."""
    a, b, area = material_grid(truth.body, low)
    before, after = (membership(a, b, np.full(len(a), truth.body.relative(age))) for age in (low, high))
    own = before.argmax(axis=1) == ORGANS.index(organ)
    later = area * truth.body.jacobian(a, b, high) / truth.body.jacobian(a, b, low)
    return float((later * (after @ DENSITY))[own].sum() / (area * (before @ DENSITY))[own].sum())


def test_regions_grow_as_the_truth_does() -> None:
    adata = isost.datasets.embryo(n_cells=400, n_genes=36)
    truth = isost.datasets.embryo_truth(adata)
    adata = adata[adata.obs["age"].isin([11.0, 12.5])].copy()
    isost.pp.embed(adata, n_comps=10, rng=0)
    isost.pp.align_stages(adata)
    stages = {"depth_key": "age", "section_key": "stage", "spatial_key": "spatial_stage"}
    fitted = isost.tl.fit(adata, **stages, epochs=20, progress=False, rng=0)
    found = isost.tl.growth(fitted, adata, key="organ").set_index("label")["growth"]
    for organ, within in (("brain", 0.15), ("trunk", 0.25), ("spinal cord", 0.25)):
        assert found[organ] == pytest.approx(_true_growth(truth, 11.0, 12.5, organ), rel=within)
    assert found["brain"] < found["trunk"]
