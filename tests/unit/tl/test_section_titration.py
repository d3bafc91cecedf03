"""Which sections a titration scores, and which of them at every step; fits are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import isost
from isost.tl import _section_titration

N = 9


@pytest.fixture
def unfitted(monkeypatch: pytest.MonkeyPatch) -> AnnData:
    def scored(adata: AnnData, between: list[int], *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [
            {"method": method, "section": f"s{k + 1}", "depth": 50.0 * k, "nmse": 0.5}
            for method in ("isost", "nearest")
            for k in between
        ]

    monkeypatch.setattr(_section_titration, "score_fold", scored)
    return isost.datasets.phantom("still", n_sections=N, n_cells=20, n_genes=10, spacing=50.0, rng=0)


@pytest.mark.parametrize(
    ("steps", "common"),
    [
        ([2], ["s2", "s4", "s6", "s8"]),
        ([2, 2], ["s2", "s4", "s6", "s8"]),
        ([2, 4], ["s2", "s4", "s6", "s8"]),
        ([2, 3], ["s2", "s6"]),
        ([2, 3, 5], ["s2"]),
        ([3, 4, 7], ["s2", "s3", "s6"]),
    ],
)
def test_common_sections_are_scored_at_every_step(unfitted: AnnData, steps: list[int], common: list[str]) -> None:
    scores = isost.tl.section_titration(unfitted, steps=steps)
    assert scores["common"].dtype == bool
    assert scores.loc[scores["common"], "section"].unique().tolist() == common
    at = scores[scores["common"]].groupby("step")["section"].unique().map(list).to_dict()
    assert at == dict.fromkeys(steps, common)
    of = {step: {f"s{k + 1}" for k in range((N - 1) // step * step) if k % step} for step in steps}
    assert set(common) == set.intersection(*of.values())
    assert set(scores["section"]) == set.union(*of.values())


def test_predicted_sections_are_neither_counted_nor_scored(unfitted: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    unfitted.obs["section_weight"] = np.where(unfitted.obs["section"].isin(["s2", "s6", "s9"]), 0.5, 1.0)
    asked = []

    def scored(adata: AnnData, between: list[int], *_: Any, **__: Any) -> list[dict[str, Any]]:
        asked.append(adata.obs["section"].unique().tolist())
        return [{"method": "isost", "section": f"s{k + 1}", "depth": 50.0 * k, "nmse": 0.5} for k in between]

    monkeypatch.setattr(_section_titration, "score_fold", scored)
    scores = isost.tl.section_titration(unfitted, steps=[2, 4])
    assert scores.groupby("step")["section"].apply(list).to_dict() == {2: ["s3", "s5"], 4: ["s3", "s4", "s5"]}
    assert asked == [["s1", "s2", "s3", "s4", "s5", "s6", "s7"], ["s1", "s2", "s3", "s4", "s5", "s6", "s7"]]
    with pytest.raises(ValueError, match="steps: expected numbers from 2 to 5"):
        isost.tl.section_titration(unfitted, steps=[6])
