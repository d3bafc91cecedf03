"""Cells of a phantom: drawn section by section, measured, and put together as an AnnData."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from isost.datasets._panel import (
    CELL_TYPES,
    DOMAINS,
    NOISE_SHAPE,
    TARGET_SUM,
    GenePanel,
    domain_membership,
    softmax,
    type_of_domain,
)
from isost.datasets._shapes import ROUNDNESS, round_jacobian

if TYPE_CHECKING:
    from isost.datasets._truth import PhantomTruth

#: Cells per unit of evenly spread material grow from 1 - SLOPE at a = -1 to 1 + SLOPE at a = 1.
SLOPE = 0.4
#: Spread of the log library size from cell to cell.
LIBRARY_SPREAD = 0.3

_BLOCK = 1_000_000  # numbers of one dense block of rates, so that memory does not grow with genes times cells


@dataclass(frozen=True)
class SectionEffect:
    """Technical effect of one section: a rate p becomes ``gain * p + offset``, gene by gene, both (G,)."""

    gain: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class DrawnCells:
    """Cells of one section before they become an AnnData; the expression in blocks of rows."""

    rows: list[np.ndarray | sparse.csr_matrix]
    coords: np.ndarray  # (n, 3)
    material: np.ndarray  # (n, 2)
    domain: np.ndarray  # (n,) index into DOMAINS
    cell_type: np.ndarray  # (n,) index into CELL_TYPES


def draw_section(
    truth: PhantomTruth,
    z: float,
    n: int | None,
    rng: np.random.Generator,
    *,
    count_noise: bool,
    effect: SectionEffect | None = None,
    hole: float = 0.0,
) -> DrawnCells:
    """Draw `n` cells (or a Poisson number) at one depth; the share `hole` of them around a random one is lost."""
    n = max(1, int(rng.poisson(truth.n_cells))) if n is None else n
    a, b = _draw_material(n, rng)
    coords = truth.geometry.to_physical(a, b, z)
    if hole > 0.0:
        keep = _outside_hole(coords[:, :2], hole, rng)
        a, b, coords = a[keep], b[keep], coords[keep]
    domain, cell_type = np.empty((2, len(a)), dtype=np.int8)
    rows: list[np.ndarray | sparse.csr_matrix] = []
    for block in blocks(len(a), len(truth.genes)):
        membership = domain_membership(a[block], b[block])
        domain[block] = membership.argmax(axis=1)
        cell_type[block] = draw_category(membership @ type_of_domain(), rng)
        log_rate = truth.panel.log_rate(a[block], b[block], coords[block, 2] / truth.geometry.depth, membership)
        rate = softmax(log_rate + truth.panel.type_effect()[cell_type[block]])
        if effect is not None:
            rate = effect.gain * rate + effect.offset
        if count_noise:
            rows.append(_count(rate, truth.panel, truth.library_size, rng))
        else:
            rows.append(np.log1p(TARGET_SUM * rate).astype(np.float32))
    return DrawnCells(rows, coords, np.column_stack([a, b]).astype(np.float32), domain, cell_type)


def assemble(
    sections: Sequence[DrawnCells], names: Sequence[str], panel: GenePanel, *, count_noise: bool
) -> ad.AnnData:
    """Put drawn sections together into one AnnData."""
    rows = [block for section in sections for block in section.rows]
    sizes = [len(section.coords) for section in sections]
    obs = pd.DataFrame(
        {
            "section": pd.Categorical.from_codes(np.repeat(np.arange(len(names)), sizes), list(names), ordered=True),
            "domain": pd.Categorical.from_codes(np.concatenate([s.domain for s in sections]), DOMAINS),
            "cell_type": pd.Categorical.from_codes(np.concatenate([s.cell_type for s in sections]), CELL_TYPES),
        },
        index=pd.RangeIndex(sum(sizes)).astype(str),
    )
    target = [
        DOMAINS[i] if kind == "marker" else CELL_TYPES[i] if kind == "cell_type" else ""
        for kind, i in zip(panel.kind, panel.target, strict=True)
    ]
    var = pd.DataFrame({"kind": pd.Categorical(panel.kind), "target": target}, index=list(panel.names))
    adata = ad.AnnData(sparse.vstack(rows, format="csr") if count_noise else np.concatenate(rows), obs, var)
    adata.obsm["spatial"] = np.concatenate([section.coords for section in sections])
    adata.obsm["material"] = np.concatenate([section.material for section in sections])
    adata.uns["X_note"] = (
        "raw integer counts" if count_noise else "log1p of rates in 1e4, without count noise; not counts"
    )
    adata.uns["spatial_unit"] = "um"
    return adata


def blocks(n: int, n_genes: int) -> Iterator[slice]:
    """Cut `n` rows of `n_genes` columns into blocks of bounded memory."""
    size = max(1, _BLOCK // n_genes)
    return (slice(start, start + size) for start in range(0, n, size))


def _count(rate: np.ndarray, panel: GenePanel, library_size: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Poisson counts of shares `rate` (n, G) in libraries of lognormal size with mean `library_size`."""
    noise = np.flatnonzero(panel.kind == "noise")
    rate[:, noise] *= rng.gamma(NOISE_SHAPE, 1.0 / NOISE_SHAPE, (len(rate), len(noise)))
    library = library_size * rng.lognormal(-(LIBRARY_SPREAD**2) / 2.0, LIBRARY_SPREAD, (len(rate), 1))
    return sparse.csr_matrix(rng.poisson(rate * library).astype(np.int32))


def _draw_material(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw material points with density proportional to (1 + SLOPE a) times the area that rounding leaves them."""
    drawn = np.empty((0, 2))
    while len(drawn) < n:
        m = int(1.3 * (n - len(drawn))) + 16
        # Inverse of the distribution function of (1 + SLOPE a) / 2 on [-1, 1].
        a = (np.sqrt(1.0 - SLOPE * (2.0 - SLOPE - 4.0 * rng.random(m))) - 1.0) / SLOPE
        b = rng.uniform(-1.0, 1.0, m)
        kept = rng.random(m) < round_jacobian(a, b, ROUNDNESS)
        drawn = np.concatenate([drawn, np.column_stack([a, b])[kept]])
    return drawn[:n, 0], drawn[:n, 1]


def _outside_hole(xy: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Mask of the cells that stay when the `share` of them nearest to a random one is lost."""
    distance = np.hypot(*(xy - xy[rng.integers(len(xy))]).T)
    lost = min(int(round(share * len(xy))), len(xy) - 1)
    return distance >= np.partition(distance, lost)[lost]


def draw_category(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one column index per row of probabilities."""
    below = np.cumsum(probability, axis=1) < rng.random((len(probability), 1))
    return np.minimum(below.sum(axis=1), probability.shape[1] - 1)
