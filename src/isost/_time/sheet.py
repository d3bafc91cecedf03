"""Sections spread over depth and age, as a stack in the order of their ages and depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._core.checks import Problems, check_adata, show, to_numbers
from isost._core.lazy import opened
from isost._core.paths import gap_shares
from isost._core.sections import SECTION_KEY
from isost._core.stack import Stack, read_stack
from isost._core.stages import merged, read_growth
from isost._core.trust import WEIGHT_KEY

_ORDER = "_isost_order"
_ACROSS = 1.5  # median gaps: so far from a section that of a neighbouring stage may lie to be its neighbour
_NEAR = 2  # sections on either side of a depth, that a place is predicted from


@dataclass(frozen=True, eq=False)
class Sheet:
    """Sections over depth and age.

    Attributes
    ----------
    stack
        Sections by age, then by depth; the third coordinate of its cells is their section's number.
    at
        (K, 2) depth and age of each section.
    scale
        (2,) median distance of neighbouring sections along depth, and of stages along age.
    """

    stack: Stack
    at: np.ndarray
    scale: np.ndarray

    @property
    def ages(self) -> np.ndarray:
        """(S,) ages of the stages, rising."""
        return np.unique(self.at[:, 1])

    def stage(self, age: float) -> np.ndarray:
        """Numbers of the sections of one age, by depth."""
        return np.flatnonzero(self.at[:, 1] == age)

    def without(self, section: int) -> Sheet:
        """Leave a section out."""
        kept = [k for k in range(len(self.at)) if k != section]
        return replace(self, stack=self.stack.select(kept), at=self.at[kept])

    def scaled(self, at: np.ndarray) -> np.ndarray:
        """Depths and ages (n, 2) in median distances."""
        return np.asarray(at, dtype=np.float64) / self.scale

    def edges(self) -> list[tuple[int, int]]:
        """Pairs of neighbouring sections: along depth in a stage, and the nearest in depth of the next stage."""
        found = set()
        for age in self.ages.tolist():
            own = self.stage(age)
            found |= set(zip(own[:-1].tolist(), own[1:].tolist(), strict=True))
        for low, high in zip(self.ages[:-1].tolist(), self.ages[1:].tolist(), strict=True):
            first, second = self.stage(low), self.stage(high)
            apart = np.abs(self.at[first, 0][:, None] - self.at[second, 0])
            pairs = {(i, int(apart[i].argmin())) for i in range(len(first))}
            pairs |= {(int(apart[:, j].argmin()), j) for j in range(len(second))}
            found |= {(int(first[i]), int(second[j])) for i, j in pairs
                      if apart[i, j] <= _ACROSS * self.scale[0] or apart[i, j] == apart.min()}  # fmt: skip
        return sorted(found)

    def about(self, z: float, age: float) -> dict[int, float]:
        """Sections about a place and their weights, linear along depth within the two stages and between these."""
        weights: dict[int, float] = {}
        for one, share in _between(self.ages, age):
            own = self.stage(float(self.ages[one]))
            for k, part in _between(self.at[own, 0], z):
                weights[int(own[k])] = weights.get(int(own[k]), 0.0) + share * part
        return {k: weight for k, weight in weights.items() if weight > 0}

    def patches(self, at: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
        """Find sets of sections that places at depths and ages (m, 2) are predicted from, each with its share (m,).

        A set is of the stages before and after, and in each of two sections on either side in depth; near a section
        places are predicted from both sets beside it, so that there is no seam.
        """
        found: dict[tuple[int, ...], np.ndarray] = {}
        for low, share in enumerate(gap_shares(self.ages, at[:, 1]).T):
            rows = np.flatnonzero(share > 0)
            if not len(rows):
                continue
            stages = [self.stage(age) for age in self.ages[low : low + 2].tolist()]
            knots = self._knots(np.concatenate([self.at[own, 0] for own in stages]))
            parts = gap_shares(knots, at[rows, 0]).T if len(knots) > 1 else np.ones((1, len(rows)))
            for interval, part in enumerate(parts):
                if part.any():
                    middle = float(knots[interval : interval + 2].mean())
                    sections = tuple(k for own in stages for k in self._around(own, middle))
                    found.setdefault(sections, np.zeros(len(at)))[rows] += share[rows] * part
        return found

    def _knots(self, depths: np.ndarray) -> np.ndarray:
        """Depths of the sections of two stages, one for those that are nearer than half of the usual distance."""
        depths = np.unique(depths)
        member = np.concatenate([[0], np.cumsum(np.diff(depths) > self.scale[0] / 2)])
        return np.bincount(member, depths) / np.bincount(member)

    def _around(self, own: np.ndarray, z: float) -> list[int]:
        above = int(np.clip(np.searchsorted(self.at[own, 0], z), 1, max(len(own) - 1, 1)))
        return own[max(above - _NEAR, 0) : above + _NEAR].tolist()


def _between(known: np.ndarray, asked: float) -> list[tuple[int, float]]:
    """Find the two that a place lies between, with linear weights; the last one alone beyond the ends."""
    if asked <= known[0] or len(known) == 1:
        return [(0, 1.0)]
    if asked >= known[-1]:
        return [(len(known) - 1, 1.0)]
    low = int(np.searchsorted(known, asked, side="right")) - 1
    t = float((asked - known[low]) / (known[low + 1] - known[low]))
    return [(low, 1 - t), (low + 1, t)]


def read_sheet(
    adata: AnnData, *, section_key: str | None, spatial_key: str, depth_key: Sequence[str], use_rep: str
) -> Sheet:
    """Read sections over depth and age from an AnnData, which is left as it is.

    Raises
    ------
    TypeError
        If `adata` is no AnnData.
    ValueError
        If they cannot be read; every problem is listed.
    """
    check_adata(adata)
    keys = list(depth_key)
    if len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            f"depth_key: expected one column of obs, or two, of depth and of age, found {depth_key!r}. "
            "Next: depth_key=['z', 'age']."
        )
    adata = opened(adata, obsm=(spatial_key, use_rep))
    problems = Problems()
    columns = [_numbers(adata, key, problems) for key in keys]
    if WEIGHT_KEY in adata.obs and (adata.obs[WEIGHT_KEY] != 1).any():
        problems.add(f"adata.obs[{WEIGHT_KEY!r}]", expected="measured sections alone, over depth and age",
                     found=f"{(adata.obs[WEIGHT_KEY] != 1).sum()} cells of predicted ones",
                     next=f"adata = adata[adata.obs[{WEIGHT_KEY!r}] == 1].copy()")  # fmt: skip
    if problems:
        raise problems.error("The sections cannot be read")
    places = np.column_stack([merged(column) for column in columns if column is not None])
    names = _names(adata, section_key, keys, places, problems)
    if problems:
        raise problems.error("The sections cannot be read")
    frame = pd.DataFrame(places, columns=["depth", "age"]).groupby(names, sort=False)
    middle = frame.median().sort_values(["age", "depth"])
    _check_sections(middle, keys, problems)
    if problems:
        raise problems.error("The sections cannot be read")
    at = middle.to_numpy()
    order = middle.index.get_indexer_for(names)
    obs = pd.DataFrame({_ORDER: order.astype(np.float64), "section": names}, index=adata.obs_names)
    thin = AnnData(
        X=adata.X, obs=obs, var=adata.var, uns=dict(adata.uns), varm=dict(adata.varm), layers=dict(adata.layers),
        obsm={key: adata.obsm[key] for key in (spatial_key, use_rep) if key in adata.obsm},
    )  # fmt: skip
    thin.uns.pop(spatial_key, None)  # its stages are others than sections
    stack = read_stack(thin, section_key="section", spatial_key=spatial_key, depth_key=_ORDER, use_rep=use_rep)
    growth = read_growth(adata, spatial_key, at[:, 1])
    gaps = np.concatenate([np.diff(at[at[:, 1] == age, 0]) for age in np.unique(at[:, 1])])
    scale = np.array([np.median(gaps) if len(gaps) else 1.0, np.median(np.diff(np.unique(at[:, 1])))])
    return Sheet(replace(stack, growth=growth), at, scale)


def _numbers(adata: AnnData, key: str, problems: Problems) -> np.ndarray | None:
    if key not in adata.obs:
        problems.add("depth_key", expected="columns of adata.obs", found=f"{key!r}, while the columns are "
                     f"{show(adata.obs)}", next="name one of these")  # fmt: skip
        return None
    values = to_numbers(adata.obs[key])
    if isinstance(values, list) or not np.isfinite(values).all():
        found = show(values) if isinstance(values, list) else "NaN or infinity"
        problems.add(f"adata.obs[{key!r}]", expected="finite numbers", found=found, next="leave these cells out")
        return None
    return values


def _names(
    adata: AnnData, section_key: str | None, keys: list[str], places: np.ndarray, problems: Problems
) -> np.ndarray:
    """Name (n,) the section of each cell: by a column within its stage, or by its depth and age."""
    if section_key is None or (section_key == SECTION_KEY and section_key not in adata.obs):
        return np.array([f"{keys[1]} {age!r}, {keys[0]} {z!r}" for z, age in places.tolist()])
    if section_key not in adata.obs:
        problems.add("section_key", expected="a column of adata.obs", found=f"{section_key!r}, while the columns are "
                     f"{show(adata.obs)}", next="name one of these, or section_key=None")  # fmt: skip
        return np.zeros(adata.n_obs, dtype=str)
    column = adata.obs[section_key]
    if column.isna().any():
        problems.add(f"adata.obs[{section_key!r}]", expected="the section of every cell",
                     found=f"{column.isna().sum()} cells without one", next="leave these cells out")  # fmt: skip
    return np.array([f"{keys[1]} {age!r}, {name}" for age, name in zip(places[:, 1].tolist(), column, strict=True)])


def _check_sections(middle: pd.DataFrame, keys: list[str], problems: Problems) -> None:
    """Note sections at one place, or that do not spread over both depth and age."""
    same = middle.duplicated(keep=False)
    if same.any():
        problems.add("section_key", expected=f"one section at each {keys[0]} and {keys[1]}",
                     found=f"{show(middle.index[same])} at the same", next="section_key=None")  # fmt: skip
    per_stage = middle["age"].value_counts()
    if len(per_stage) < 2 or per_stage.max() < 2:
        problems.add(
            "depth_key",
            expected=f"two stages or more along {keys[1]!r}, with sections at several {keys[0]!r}",
            found=f"{len(per_stage)} stages, of {per_stage.max()} sections at most",
            next=f"depth_key={keys[1] if per_stage.max() < 2 else keys[0]!r}",
        )
