from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost import Reconstruction
from isost.datasets._organs import ORGANS
from isost.tl import growth


@pytest.fixture(scope="module")
def table(_stages: AnnData, fitted_stages: Reconstruction) -> pd.DataFrame:
    return growth(fitted_stages, _stages, key="organ")


def test_every_cell_is_counted_once(table: pd.DataFrame, stages: AnnData) -> None:
    size = stages.obs.groupby("age")["stage"].size()
    for low, gap in table.groupby("from_age"):
        high = gap["to_age"].iloc[0]
        assert gap["cells"].sum() == size[low] and gap["cells_after"].sum() == size[high]
        appearing = (gap["appearing"] * gap["cells_after"]).sum()
        assert gap["descendants"].sum() == pytest.approx(size[high] - appearing)


def test_growth_and_rate_are_those_of_the_counts(table: pd.DataFrame) -> None:
    there = table[table["cells"] > 0]
    np.testing.assert_allclose(there["growth"], there["descendants"] / there["cells"])
    np.testing.assert_allclose(np.exp(there["rate"] * (there["to_age"] - there["from_age"])), there["growth"])
    np.testing.assert_allclose(there["to_age"] - there["from_age"], 1.5)


def test_what_is_not_there_yet_has_no_growth(table: pd.DataFrame) -> None:
    new = table[table["cells"] == 0]
    assert "kidney" in set(new["label"])
    assert new[["growth", "rate", "dying"]].isna().all(axis=None) and (new["descendants"] == 0).all()


def test_tissue_that_is_lost_dies_and_tissue_that_is_new_appears(
    fitted_stages: Reconstruction, stages: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of a region that is carried far away have no descendants, and those that are measured there appear."""
    stack = fitted_stages.stack
    organ = stages.obs.loc[stack.obs_names, "organ"].astype(str).to_numpy()

    def carried(section: int, z: float) -> np.ndarray:
        places = stack.coords[stack.slice_of(section), :2].copy()
        places[organ[stack.slice_of(section)] == "brain"] += 1e5
        return places

    monkeypatch.setattr(fitted_stages.field.paths, "at", carried)
    brain = growth(fitted_stages, stages, key="organ").query("label == 'brain'")
    assert (brain["dying"] == 1.0).all() and (brain["descendants"] == 0).all() and (brain["rate"] == -np.inf).all()
    assert (brain["appearing"] > 0.2).all()


def test_cells_without_a_region_are_left_out(fitted_stages: Reconstruction, stages: AnnData) -> None:
    stages.obs["organ"] = stages.obs["organ"].where(stages.obs["organ"] != "liver").cat.remove_unused_categories()
    found = growth(fitted_stages, stages, key="organ")
    assert "liver" not in set(found["label"])


def test_a_mapping_says_what_regions_are(fitted_stages: Reconstruction, stages: AnnData) -> None:
    halves = {organ: "head" if organ == "brain" else "body" for organ in ORGANS}
    found = growth(fitted_stages, stages, key="organ", mapping=halves)
    assert found["label"].tolist() == ["body", "head"] * 4
    with pytest.raises(ValueError, match="mapping: expected what each value.*found nothing for.*Next"):
        growth(fitted_stages, stages, key="organ", mapping={"brain": "head"})


def test_order_of_cells_does_not_matter(table: pd.DataFrame, fitted_stages: Reconstruction, stages: AnnData) -> None:
    pd.testing.assert_frame_equal(growth(fitted_stages, stages[::-1].copy(), key="organ"), table)


def test_bad_requests(fitted_stages: Reconstruction, stages: AnnData) -> None:
    with pytest.raises(
        TypeError, match="fitted: expected what isost.tl.fit returns for one depth_key, found AnnData.*Next"
    ):
        growth(stages, stages, key="organ")
    with pytest.raises(KeyError, match="key: expected a column of obs.*'nope'.*Next"):
        growth(fitted_stages, stages, key="nope")
    with pytest.raises(ValueError, match="adata: expected the cells that were fitted on.*Next"):
        growth(fitted_stages, stages[:100], key="organ")
