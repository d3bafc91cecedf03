"""Carried cells keep their own deviation from the mean expression about them, while the mean changes by the field.

Of the learned change of expression and that of the field a share is taken from each. With the field's mean m, a cell
that is carried from x_k in section k to x(z) has

    g(z) = g_k + (1 - s) int f_g dz + s (m(x(z), z) - m(x_k, z_k) + w r (1 / sqrt(1 - h) - 1)) + int sigma_g dW.

The mean at a cell has taken the share h (its leverage) of the cell's own deviation; r = g_k - m(x_k, z_k) is what is
left, of variance 1 - h, and w grows from 0 at the cell's section to 1 halfway to the next.
With s = 1 the cells of both sections scatter about one mean; with s = 0 a drawn section is a mixture of two, which
predicts a section better where each has an offset of its own. Sections that are left out choose s, and sigma_g is
what drawn cells then lack in variance about their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from isost._core.carry import Cells, sweep, thin
from isost._core.clouds import MOST_CELLS, energy_of, variance_about
from isost._core.gap import GapField
from isost._core.graph import median_spacing
from isost._core.model import SDEModel
from isost._core.stack import Stack

SHARES = 0.0, 1.0
_N_FEATURES = 20
_MOST_LEVERAGE = 0.9
_WIDTH = 5.0  # spacings, the unit of distances
_TIE = 0.002  # of the energy distance: between shares that predict as well the larger is taken


@dataclass(frozen=True, eq=False)
class Settling:
    """How the expression of carried cells changes; as learned where there is no section to leave out.

    Attributes
    ----------
    share
        s, of the field's change.
    diffusion
        ``(P,)`` variance per internal unit of depth that the scaled features of carried cells lack.
    tried
        Mean energy distance of every share.
    """

    share: float
    diffusion: np.ndarray
    tried: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of one section that was left out, for each share: energy distance ``(S,)`` and lacking variance ``(S, P)``."""

    error: np.ndarray
    lacking: np.ndarray


def settle(cells: Cells, gap: GapField, stack: Stack, share: float) -> Cells:
    """Give cells carried into a gap the share s of the field's change from their own places; features change alone."""
    if not share or not len(cells.row):
        return cells
    here = gap.mean(cells.coords)[:, : stack.n_features]
    features = cells.features.astype(np.float64)
    for section, (own, leverage) in gap.own.items():
        carried = cells.section == section
        row = cells.row[carried] - stack.starts[section]
        z, low, high = cells.coords[carried, 2:], *stack.depths[list(gap.own)]
        # from its own section on, the mean lets go of what it took of the cell
        way = np.minimum(2 * np.abs(z - stack.depths[section]) / (high - low), 1.0)
        missing = way * (1 / np.sqrt(1 - np.minimum(leverage, _MOST_LEVERAGE)) - 1)
        deviation = stack.features[cells.row[carried]] - own[row]
        features[carried] += share * (here[carried] - own[row] + missing * deviation)
    return replace(cells, features=features.astype(np.float32))


def evidence(model: SDEModel, rest: Stack, gap: GapField, k: int, coords: np.ndarray, features: np.ndarray) -> Evidence:
    """Predict the cells of the section left out between sections k - 1 and k of the rest, with every share.

    Parameters
    ----------
    model, rest, gap
        What carries cells, the other sections, and the field between the two that are nearest.
    k
        Index that the section had.
    coords, features
        ``(n, 3)`` and ``(n, P)``, of its cells in random order.
    """
    z = float(coords[:, 2].mean())
    carried = sweep(model, rest, np.array([z]))[0]
    chosen = np.random.default_rng(0).permutation(len(carried.row))[: 2 * MOST_CELLS]
    cells = carried.take(np.sort(chosen))
    weight = cells.weight / cells.weight.sum(dtype=np.float64)
    n = min(len(features), MOST_CELLS)
    thinned = thin(carried, torch.Generator().manual_seed(0), n)  # as dense as the measured ones, of which n are taken
    scale = model.feature_scale.cpu().numpy().astype(np.float64)
    unit = _WIDTH * max(median_spacing(coords[:, :2]), 1e-12)
    place, true_place = cells.coords[:, :2] / unit, coords[:MOST_CELLS, :2] / unit
    truth = features[:MOST_CELLS] / scale
    uniform = np.full(len(truth), 1 / len(truth))
    low, high = rest.depths[[k - 1, k]]
    t, span = (z - low) / (high - low), (high - low) / model.config["depth_unit"]
    error, lacking = [], []
    for share in SHARES:
        drawn = settle(_learned(cells, rest, share), gap, rest, share).features / scale
        error.append(
            energy_of(
                np.column_stack([place, drawn[:, :_N_FEATURES]]), weight,
                np.column_stack([true_place, truth[:, :_N_FEATURES]]),
            )
        )  # fmt: skip
        one = settle(_learned(thinned, rest, share), gap, rest, share)
        varied = variance_about(one.coords[:, :2] / unit, one.features / scale, np.full(len(one.row), 1 / len(one.row)))
        lack = variance_about(true_place, truth, uniform) - varied
        # a carried cell diffuses over its way, t or 1 - t of the span, and counts by 1 - t or t
        lacking.append(lack / (2 * t * (1 - t) * span))
    return Evidence(np.array(error), np.stack(lacking))


def _learned(cells: Cells, stack: Stack, share: float) -> Cells:
    """Cells that follow the learned change of expression by the share 1 - s."""
    measured = stack.features[cells.row]
    return replace(cells, features=measured + (1 - share) * (cells.features - measured))


def choose_settling(found: list[Evidence]) -> Settling:
    """Take the largest share that predicts sections left out as well as any, and what cells then lack in variance."""
    error = np.mean([one.error for one in found], axis=0)
    best = int(np.flatnonzero(error <= error.min() + _TIE)[-1])
    diffusion = lower_bound(np.stack([one.lacking[best] for one in found]))
    return Settling(SHARES[best], diffusion, {f"share {s:g}": float(e) for s, e in zip(SHARES, error, strict=True)})


def lower_bound(values: np.ndarray) -> np.ndarray:
    """Mean over sections less one standard error, at least 0; nothing from one section, which has no error to show."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    return np.maximum(values.mean(axis=0) - values.std(axis=0, ddof=1) / np.sqrt(len(values)), 0.0)
