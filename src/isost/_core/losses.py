"""What a predicted section is compared with a measured one by (eq 7)."""

from __future__ import annotations

import torch
from geomloss import SamplesLoss
from torch import Tensor

from isost._core.graph import neighbours


def sinkhorn_w2(predicted: Tensor, measured: Tensor, *, blur: float = 0.01) -> Tensor:
    """Debiased Sinkhorn divergence that tends to W2^2 / 2 as ``blur`` tends to 0 (geomloss' convention, p = 2).

    Parameters
    ----------
    predicted, measured
        ``(n, d)`` and ``(m, d)`` positions; memory is n times m, so both are subsets of bounded size.
    blur
        Square root of the entropic regularisation, in the positions' unit.
    """
    return SamplesLoss("sinkhorn", p=2, blur=blur, debias=True, backend="tensorized")(predicted, measured)


def nearest_cell_mse(
    position: Tensor, features: Tensor, measured_position: Tensor, measured_features: Tensor
) -> Tensor:
    """Mean squared error between each predicted cell's g and that of the measured cell nearest to where it landed.

    ``(n, 2)``, ``(n, P)``, ``(m, 2)``, ``(m, P)`` to a scalar. The assignment itself carries no gradient.
    """
    nearest = neighbours(measured_position, 1, query=position)[:, 0]
    return torch.nn.functional.mse_loss(features, measured_features[nearest])
