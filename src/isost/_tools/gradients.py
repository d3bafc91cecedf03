"""Genes against distance: shells in two volumes of one frame, and the tests of all genes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.stats import false_discovery_control

from isost._tools.blocks import Blocks, compact, cover
from isost._tools.linear import Linear, minus
from isost._tools.shells import Profiles, classify, profiles, spearman
from isost._tools.trend import DEGREE, Sites, p_values, polynomials

MOST_BLOCKS = 256  # time grows with the cube, and what a tissue says of a gradient hardly
_LEAST_PLACES = 30  # in a block, on average, within which a baseline is subtracted


@dataclass(frozen=True, eq=False)
class Shelled:
    """Places (n, 3), their distance (n,), shell (n,) and region (n,), parts of shells; -1 for none."""

    coords: np.ndarray
    distance: np.ndarray
    shell: np.ndarray
    region: np.ndarray

    def only(self, keep: np.ndarray) -> Shelled:
        """Take the others out of all shells."""
        return Shelled(self.coords, np.where(keep, self.distance, np.nan), np.where(keep, self.shell, -1),
                       np.where(keep, self.region, -1))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """Genes of the tissue, and of the baseline where there is one."""

    linear: Linear
    other: Linear | None = None


def in_shells(
    coords: np.ndarray, distances: tuple[np.ndarray, np.ndarray], width: float, segment: float, n_shells: int
) -> Shelled:
    """Sort places into shells and regions by distance and position along the axis, (n,) each; n_shells of them."""
    distance, along = distances
    with np.errstate(invalid="ignore"):
        shell = np.floor(distance / width)
        shell = np.where((shell >= 0) & (shell < n_shells), shell, -1).astype(np.int64)
    along = np.clip(np.floor(along / segment), -(2**20), 2**20).astype(np.int64) + 2**20
    region = np.where(shell < 0, -1, along * n_shells + shell)
    return Shelled(coords, np.where(shell < 0, np.nan, distance), shell, region)


def common_regions(here: Shelled, there: Shelled) -> tuple[Shelled, Shelled]:
    """Give regions of blocks that both have the numbers 0, 1, ..., and take places in others out of all shells.

    Blocks, because a shell of which one tissue lacks a side has another mean without there being a difference.
    """
    inside = np.flatnonzero(here.shell >= 0)
    n = min(len(inside), int((there.shell >= 0).sum()))
    if not n:
        return here.only(np.zeros(len(here.shell), dtype=bool)), there.only(np.zeros(len(there.shell), dtype=bool))
    grid = cover(here.coords[inside], min(MOST_BLOCKS, max(1, n // _LEAST_PLACES)))

    def within(one: Shelled) -> np.ndarray:
        block = _blocks(grid, one)
        return np.where(block < 0, -1, one.region * math.prod(grid.shape) + block)

    regions = within(here), within(there)
    both = np.intersect1d(*regions)
    both = both[both >= 0]

    def numbered(one: Shelled, region: np.ndarray) -> Shelled:
        at = _among(both, region)
        return replace(one.only(at >= 0), region=at)

    return numbered(here, regions[0]), numbered(there, regions[1])


@dataclass(frozen=True, eq=False)
class Grouping:
    """Blocks that both volumes have: the block of each place in either, (n,) and (n',) or None, and the sites."""

    here: np.ndarray
    there: np.ndarray | None
    sites: Sites
    share: float  # of the blocks of this volume that the other has too

    def scores(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Mean scores of the blocks (m, P), of both side by side, and the loadings (G, P) that give the difference."""
        mean = _means(pair.linear, self.here, len(self.sites.places))
        if pair.other is None or self.there is None:
            return mean, pair.linear.loadings
        other = _means(pair.other, self.there, len(self.sites.places))
        return np.hstack([mean, -other]), np.hstack([pair.linear.loadings, pair.other.loadings])


def group(here: Shelled, there: Shelled | None = None) -> Grouping:
    """Cut the tissue into blocks; with another volume, those that hold places of both."""
    inside = np.flatnonzero(here.shell >= 0)
    grid = cover(here.coords[inside], MOST_BLOCKS)
    blocks = _blocks(grid, here)
    used, position = compact(blocks)
    count = np.bincount(position[inside], minlength=len(used))
    weights = count.astype(np.float64)
    other, share = None, 1.0
    if there is not None:
        others = _blocks(grid, there)
        both = np.intersect1d(used, others[others >= 0])
        share = len(both) / len(used)
        position, other = _among(both, blocks), _among(both, others)
        count = np.bincount(position[position >= 0], minlength=len(both))
        n_other = np.bincount(other[other >= 0], minlength=len(both))
        weights = count * n_other / np.maximum(count + n_other, 1)
    rows = np.flatnonzero(position >= 0)
    centre = np.stack([np.bincount(position[rows], here.coords[rows, k], len(count)) for k in range(3)], axis=1)
    distance = np.bincount(position[rows], here.distance[rows], len(count)) / count
    basis = polynomials(distance, DEGREE) if len(count) else np.empty((0, 0))
    return Grouping(position, other, Sites(centre / count[:, None], basis, weights / weights.mean()), share)


def _blocks(grid: Blocks, places: Shelled) -> np.ndarray:
    return np.where(places.shell >= 0, grid.of(places.coords), -1)


def _among(both: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(both, blocks), max(len(both) - 1, 0))
    return np.where(both[at] == blocks, at, -1) if len(both) else np.full(len(blocks), -1)


def _means(linear: Linear, groups: np.ndarray, n: int) -> np.ndarray:
    return linear.sums(groups, n) / np.bincount(groups[groups >= 0], minlength=n)[:, None]


def difference(pair: Pair, here: Shelled, there: Shelled | None) -> Linear:
    """Genes of the places in shells, minus the mean of the baseline in the same region."""
    linear = pair.linear
    if pair.other is not None and there is not None:
        means = _means(pair.other, there.region, int(there.region.max()) + 1)
        linear = minus(linear, pair.other, means, here.region)
    return linear.kept(np.flatnonzero(here.shell >= 0))


def tested(pairs: Iterable[Pair], grouping: Grouping) -> np.ndarray:
    """Test genes, which `pairs` gives some at a time: p-values (G,)."""
    return np.concatenate([p_values(grouping.sites, *grouping.scores(pair)) for pair in pairs])


def measure(
    pairs: Iterable[Pair], here: Shelled, there: Shelled | None, p: np.ndarray, *, centres: np.ndarray, alpha: float
) -> tuple[Profiles, dict[str, np.ndarray]]:
    """Profiles of all genes over shells with these centres (K,), and a column for each number of them.

    `pairs` gives the genes some at a time, in the order of their p-values (G,).
    """
    rows = np.flatnonzero(here.shell >= 0)
    distance, shell = here.distance[rows], here.shell[rows]
    parts, ranks = [], []
    for pair in pairs:
        genes = difference(pair, here, there)
        parts.append(profiles(genes, distance, shell, len(centres)))
        ranks.append(spearman(genes, distance))
    found = _joined(parts)
    columns = {
        "pearson": found.pearson, "spearman": np.where(found.sd > 0, np.concatenate(ranks), np.nan),
        "slope": found.slope, "eta_squared": found.eta_squared, "sd": found.sd,
        "p": np.where(found.sd > 0, p, 1.0),
    }  # fmt: skip
    columns["padj"] = false_discovery_control(columns["p"])
    sorted_by = classify(found, columns["padj"] <= alpha, centres)
    return found, {"class": sorted_by.pop("class"), **sorted_by, **columns}


def _joined(parts: list[Profiles]) -> Profiles:
    values = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Profiles)}
    return Profiles(**{**values, "count": parts[0].count})
