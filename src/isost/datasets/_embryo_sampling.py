"""Cells of the embryo phantom: drawn stage by stage, and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from isost.datasets._body import Body
from isost.datasets._organs import DENSITY, KINDS, ORGANS, TYPES, TYPES_OF_ORGAN, Programme, membership, type_of_organ
from isost.datasets._panel import TARGET_SUM
from isost.datasets._sampling import LIBRARY_SPREAD, SectionEffect, blocks, draw_category

if TYPE_CHECKING:
    from isost.datasets._embryo_truth import EmbryoTruth

_SIDE = 400  # material points along the disc, of what is integrated


def material_grid(body: Body, age: float, w: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (a, b) of a grid over the disc of material at relative depth w, and the physical area of each."""
    line = (np.arange(_SIDE) + 0.5) / _SIDE * 2.0 - 1.0
    a, b = (one.ravel() for one in np.meshgrid(line, line))
    inside = a**2 + b**2 < 1.0 - w**2
    a, b = a[inside], b[inside]
    return a, b, body.jacobian(a, b, age) * (2.0 / _SIDE) ** 2


def expected_cells(truth: EmbryoTruth, age: float, w: float = 0.0) -> float:
    """Count the cells to be expected: the density of each organ is the same at all ages."""
    weight = []
    for at, depth in ((truth.body.start, 0.0), (age, w)):
        a, b, area = material_grid(truth.body, at, depth)
        weight.append(area @ membership(a, b, np.full(len(a), truth.body.relative(at)), depth) @ DENSITY)
    return float(truth.n_cells * weight[1] / weight[0])


def draw_stage(
    truth: EmbryoTruth, age: float, n: int | None, rng: np.random.Generator, *, count_noise: bool,
    effect: SectionEffect | None = None, w: float = 0.0,
) -> ad.AnnData:  # fmt: skip
    """Draw `n` cells (or a Poisson number) of one age and relative depth, lying as the truth does, and measure them."""
    n = max(1, int(rng.poisson(expected_cells(truth, age, w)))) if n is None else n
    a, b = _draw_material(truth.body, age, n, rng, w)
    tau = np.full(n, truth.body.relative(age))
    member = membership(a, b, tau, w)
    types = draw_category(member @ type_of_organ(), rng)
    library = truth.library_size * rng.lognormal(-(LIBRARY_SPREAD**2) / 2.0, LIBRARY_SPREAD, n)
    rows: list[np.ndarray | sparse.csr_matrix] = []
    for block in blocks(n, len(truth.genes) * len(TYPES)):
        of_all = truth.programme.rates(a[block], b[block], tau[block], member[block])
        rate = of_all[types[block], np.arange(of_all.shape[1])] / TARGET_SUM
        if effect is not None:
            rate = effect.gain * rate + effect.offset
        if count_noise:
            rows.append(sparse.csr_matrix(rng.poisson(rate * library[block, None]).astype(np.int32)))
        else:
            rows.append(np.log1p(TARGET_SUM * rate).astype(np.float32))
    name = f"E{age:g}"
    obs = pd.DataFrame(
        {
            "stage": pd.Categorical([name] * n, [name], ordered=True),
            "age": np.full(n, float(age)),
            "cell_type": pd.Categorical.from_codes(types, list(TYPES)),
            "organ": pd.Categorical.from_codes(member.argmax(axis=1), list(ORGANS)),
        },
        index=[f"{name}_{k}" for k in range(n)],
    )
    matrix = sparse.vstack(rows, format="csr") if count_noise else np.concatenate(rows)
    adata = ad.AnnData(matrix, obs, gene_table(truth.programme, truth.body))
    adata.obsm["spatial"] = truth.body.to_physical(a, b, age, w)[:, :2]
    adata.obs["z"] = w * float(truth.body.thickness(age))
    adata.obsm["material"] = np.column_stack([a, b]).astype(np.float32)
    adata.uns["spatial_unit"] = "um"
    adata.uns["organ_of_type"] = {one: organ for organ, names in TYPES_OF_ORGAN.items() for one in names}
    return adata


def gene_table(programme: Programme, body: Body) -> pd.DataFrame:
    """Annotate the genes: their kind, its target, and the age of their peak."""
    of = {"marker": ORGANS, "peak": ORGANS, "cell_type": TYPES, "gradient": ("along the body", "across the body")}
    target = [of[kind][at] if kind in of else "" for kind, at in zip(programme.kind, programme.target, strict=True)]
    peak = body.start + programme.peak * (body.stop - body.start)
    kind = pd.Categorical(programme.kind, list(KINDS))
    return pd.DataFrame({"kind": kind, "target": target, "peak": peak}, list(programme.names))


def _draw_material(body: Body, age: float, n: int, rng: np.random.Generator, w: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw material points with the density of cells of their organs per physical area."""
    a, b, _ = material_grid(body, age, w)
    most = 1.05 * body.jacobian(a, b, age).max() * DENSITY.max()
    drawn = np.empty((0, 2))
    while len(drawn) < n:
        points = rng.uniform(-1.0, 1.0, (4 * (n - len(drawn)) + 64, 2))
        points = points[(points**2).sum(axis=1) < 1.0 - w**2]
        a, b = points.T
        member = membership(a, b, np.full(len(a), body.relative(age)), w)
        dense = body.jacobian(a, b, age) * (member @ DENSITY)
        drawn = np.concatenate([drawn, points[rng.random(len(points)) * most < dense]])
    return drawn[:n, 0], drawn[:n, 1]
