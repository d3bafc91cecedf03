"""What isost has to reach: no worse than the best simple method of each score, and better than any one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

SIMPLE = (
    "nearest", "union", "weighted union", "kernel 0.5h", "kernel 1h", "kernel 2h", "kernel 4h", "displacement"
)  # fmt: skip
MOVING = ("bending", "branching")
Table = dict[str, dict[str, dict[str, dict[str, float]]]]


def judge(table: Table, method: str = "isost") -> list[dict[str, Any]]:
    """List each demand, whether it is met, and the numbers."""
    rows = []
    for stack, methods in table.items():
        if method not in methods:
            continue
        own = {name: score["mean"] for name, score in methods[method].items()}
        for name, best, bound, met in _each_score(methods, own):
            what = f"{stack} {name}: the best simple method has {best:.4f}, so {bound:.4f}"
            rows.append({"what": what, "found": round(own[name], 4), "met": bool(met)})
        if stack in MOVING and "truth_nmse" in own:
            best = min(_simple(methods, "truth_nmse").values(), default=np.nan)
            what = f"{stack} truth_nmse: the best simple method has {best:.4f}, so {0.7 * best:.4f}"
            rows.append({"what": what, "found": round(own["truth_nmse"], 4), "met": own["truth_nmse"] <= 0.7 * best})
            rows.append({"what": f"{stack} dice: 0.95", "found": round(own["dice"], 4), "met": own["dice"] >= 0.95})
        for name, low, high in (("truth_coverage", 0.88, 0.92), ("coverage", 0.85, 0.95)):
            if name in own and (name == "truth_coverage" or "truth_coverage" not in own):
                met = low <= own[name] <= high
                rows.append({"what": f"{stack} {name}: {low} to {high}", "found": round(own[name], 4), "met": met})
    return rows + _over_all(table, method)


def _simple(methods: dict[str, dict[str, dict[str, float]]], name: str) -> dict[str, float]:
    return {one: methods[one][name]["mean"] for one in SIMPLE if one in methods and name in methods[one]}


def _each_score(methods: dict[str, Any], own: dict[str, float]) -> list[tuple[str, float, float, bool]]:
    found = []
    for name, sign, factor, slack in (
        ("pcc", 1, 0.98, 0.0),
        ("nmse", -1, 1.02, 0.0),
        ("dice", 1, 0.98, 0.0),
        ("dens", 1, 1.0, -0.02),
        ("energy", -1, 1.0, 0.005),
    ):
        values = _simple(methods, name).values()
        if values and name in own:
            best = max(values) if sign > 0 else min(values)
            bound = factor * best + slack
            found.append((name, best, bound, sign * own[name] >= sign * bound))
    return found


def _over_all(table: Table, method: str) -> list[dict[str, Any]]:
    """Geometric mean over stacks of the ratio to each simple method."""
    rows = []
    for simple in SIMPLE:
        both = [methods for methods in table.values() if method in methods and simple in methods]
        if not both:
            continue
        for name, bound, sign in (("pcc", 1.05, 1), ("nmse", 0.95, -1)):
            ratio = np.exp(np.mean([np.log(m[method][name]["mean"] / m[simple][name]["mean"]) for m in both]))
            what = f"geometric mean of {name} over that of {simple}: {bound}"
            rows.append({"what": what, "found": round(float(ratio), 4), "met": bool(sign * ratio >= sign * bound)})
    return rows
