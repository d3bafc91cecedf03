from __future__ import annotations

from typing import Any

import pytest

SIMPLE = {"pcc": 0.5, "nmse": 0.6, "dice": 0.9, "dens": 0.4, "energy": 0.01}


def table(**own: float) -> dict[str, Any]:
    methods = {"isost": SIMPLE | own, "nearest": SIMPLE, "union": SIMPLE | {"pcc": 0.4, "energy": 0.02}}
    return {
        "heart": {
            method: {name: {"mean": value} for name, value in scores.items()} for method, scores in methods.items()
        }
    }


def missed(rows: list[dict[str, Any]]) -> list[str]:
    return [row["what"].split(":")[0] for row in rows if not row["met"]]


@pytest.mark.parametrize(
    ("own", "what"),
    [
        ({"pcc": 0.489}, "heart pcc"),  # 0.98 x 0.5 = 0.49, the best of both methods
        ({"nmse": 0.613}, "heart nmse"),
        ({"dice": 0.881}, "heart dice"),
        ({"dens": 0.379}, "heart dens"),
        ({"energy": 0.0151}, "heart energy"),
        ({"coverage": 0.84}, "heart coverage"),
    ],
)
def test_a_demand_that_is_missed_by_little(own: dict[str, float], what: str) -> None:
    from bar import judge

    good = {"pcc": 0.6, "nmse": 0.5, "coverage": 0.9}
    assert missed(judge(table(**good))) == []
    assert what in missed(judge(table(**good | own)))


def test_better_than_any_one_method_over_all_stacks() -> None:
    from bar import judge

    rows = missed(judge(table(pcc=0.51, nmse=0.5)))
    assert rows == ["geometric mean of pcc over that of nearest"]


def test_the_truth_of_a_moving_phantom() -> None:
    from bar import judge

    stacks = table(pcc=0.6, nmse=0.5, dice=0.94)
    stacks["bending"] = stacks.pop("heart")
    for method, value in (("isost", 0.0141), ("nearest", 0.02), ("union", 0.03)):
        stacks["bending"][method]["truth_nmse"] = {"mean": value}
    assert missed(judge(stacks)) == ["bending truth_nmse", "bending dice"]
