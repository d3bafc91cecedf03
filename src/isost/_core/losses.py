"""What a predicted section is compared with a measured one by (eq 7)."""

from __future__ import annotations

import torch
from geomloss import SamplesLoss
from torch import Tensor

from isost._core.graph import neighbours


def sinkhorn_w2(
    predicted: Tensor,
    measured: Tensor,
    *,
    blur: float = 0.01,
    max_points: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Debiased Sinkhorn divergence that tends to W2^2 / 2 as ``blur`` tends to 0 (geomloss' convention, p = 2).

    Parameters
    ----------
    predicted, measured
        ``(n, d)`` and ``(m, d)`` positions.
    blur
        Square root of the entropic regularisation, in the positions' unit.
    max_points
        Compare random subsets of at most this many points, so that cost and memory stay bounded.
    generator
        Draws the subsets.
    """
    if max_points is not None:
        predicted = predicted[_subset(len(predicted), max_points, generator).to(predicted.device)]
        measured = measured[_subset(len(measured), max_points, generator).to(measured.device)]
    return SamplesLoss("sinkhorn", p=2, blur=blur, debias=True, backend="tensorized")(predicted, measured)


def nearest_cell_mse(
    position: Tensor, features: Tensor, measured_position: Tensor, measured_features: Tensor
) -> Tensor:
    """Mean squared error between each predicted cell's g and that of the measured cell nearest to where it landed.

    ``(n, 2)``, ``(n, P)``, ``(m, 2)``, ``(m, P)`` to a scalar. The assignment itself carries no gradient.
    """
    nearest = neighbours(measured_position, 1, query=position)[:, 0]
    return torch.nn.functional.mse_loss(features, measured_features[nearest])


def _subset(n: int, at_most: int, generator: torch.Generator | None) -> Tensor:
    return torch.randperm(n, generator=generator)[:at_most]
