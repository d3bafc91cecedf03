"""Noise-free positions of cells on their way through the gaps, marched once for all who ask."""

from __future__ import annotations

import numpy as np

from isost._core.follow import carried_to, positions_at
from isost._core.model import SDEModel
from isost._core.stack import Stack

OVERLAP = 0.25  # of a gap: so far into the next ones a gap's field is asked
_KEPT = 10


class Paths:
    """Where the cells of each section are at the depths of Euler steps, and at those that fields are made at.

    Parameters
    ----------
    model, stack
        What carries the cells, and the cells.
    only
        The one gap that fields are made of; by default all.
    """

    def __init__(self, model: SDEModel, stack: Stack, *, only: int | None = None) -> None:
        self.model, self.stack = model, stack
        self._gaps = range(stack.n_sections - 1) if only is None else range(only, only + 1)
        self._marched: dict[tuple[int, bool], dict[float, np.ndarray]] = {}

    def levels(self, gap: int) -> np.ndarray:
        """Depths of the Euler steps of a gap, both ends included, in the input's unit."""
        low, high = self.stack.depths[gap : gap + 2]
        steps = self.model.n_steps((high - low) / self.model.config["depth_unit"])
        return np.append(low + (high - low) * np.arange(steps) / steps, high)

    def middle(self, gap: int) -> float:
        return float(self.stack.depths[gap : gap + 2].mean())

    def beyond(self, gap: int) -> tuple[np.ndarray, np.ndarray]:
        """Depths to which a gap is asked before it and after it; none where the stack ends."""
        depths = self.stack.depths
        before, after = depths[: gap + 1][-2:-1], depths[gap + 2 :][:1]
        return (before * OVERLAP + depths[gap] * (1 - OVERLAP), after * OVERLAP + depths[gap + 1] * (1 - OVERLAP))

    def at(self, section: int, z: float) -> np.ndarray:
        """Positions ``(n, 2)`` float64 of a section's cells carried to the depth z, across others if need be."""
        depth = self.stack.depths[section]
        if z == depth or not self.model.config["moving"]:
            return self.stack.coords[self.stack.slice_of(section), :2]
        ahead = bool(z > depth)
        marched = self._marched.pop((section, ahead), None)
        if marched is None:
            stops, passed = self._stops(section, ahead=ahead)
            marched = positions_at(self.model, self.stack, section, stops, passed) if stops.size else {}
        self._marched[section, ahead] = marched  # the last that is forgotten
        while len(self._marched) > _KEPT:
            self._marched.pop(next(iter(self._marched)))
        return marched[z] if z in marched else carried_to(self.model, self.stack, section, z)

    def clouds(self, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells of the two sections about a depth: positions ``(m, 2)``, rows of the stack, and weights (1 - t, t)."""
        depths = self.stack.depths
        gap = int(np.clip(np.searchsorted(depths, z, side="right") - 1, 0, len(depths) - 2))
        t = (z - depths[gap]) / (depths[gap + 1] - depths[gap])
        sides = [(section, weight) for section, weight in ((gap, 1 - t), (gap + 1, t)) if weight > 0]
        rows = [np.arange(self.stack.starts[k], self.stack.starts[k + 1]) for k, _ in sides]
        weight = [np.full(len(own), w) for own, (_, w) in zip(rows, sides, strict=True)]
        place = [self.at(k, z) for k, _ in sides]
        return np.concatenate(place), np.concatenate(rows), np.concatenate(weight)

    def _stops(self, section: int, *, ahead: bool) -> tuple[np.ndarray, np.ndarray]:
        """Depths that a section's cells are marched to, in the order of their way, and others that they pass."""
        near, far = (section, section + 1) if ahead else (section - 1, section - 2)
        stops, passed = [np.zeros(0)], [np.zeros(0)]
        if near in self._gaps:
            stops.append(self.stack.depths[near : near + 2])
            passed += [self.levels(near), np.array([self.middle(near)])]
            passed += [part for gap in (near - 1, near + 1) if gap in self._gaps for part in self.beyond(gap)]
        if far in self._gaps:
            stops.append(np.array([self.middle(far)]))
        last = self.stack.depths[min(max(far + ahead, 0), self.stack.n_sections - 1)]
        own = self.stack.depths[section]

        def on_the_way(parts: list[np.ndarray]) -> np.ndarray:
            depths = np.unique(np.concatenate(parts))
            return (
                depths[(depths > own) & (depths <= last)] if ahead else depths[(depths < own) & (depths >= last)][::-1]
            )

        marched = on_the_way(stops)
        return marched, np.setdiff1d(on_the_way(passed), marched)


def gap_shares(depths: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Share ``(n, K - 1)`` of each gap at ``(n,)`` depths: near a section those of both its gaps, without a seam."""
    inner = depths[1:-1]
    before, after = OVERLAP * np.diff(depths)[:-1], OVERLAP * np.diff(depths)[1:]
    passed = np.where(z[:, None] < inner, (z[:, None] - inner) / before, (z[:, None] - inner) / after)
    passed = np.clip(0.5 + 0.5 * passed, 0.0, 1.0)
    ones = np.ones((len(z), 1))
    return np.concatenate([ones, passed], axis=1) - np.concatenate([passed, 0 * ones], axis=1)
