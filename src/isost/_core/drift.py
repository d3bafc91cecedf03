"""The drift networks of the two stochastic differential equations (Li, Bao et al. 2025, eqs 1-4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isost._core.layers import Attention, PooledUNet


class ShapeDrift(nn.Module):
    """f_s(s, z, N): three graph-transformer layers, tanh, residual; ``(n, 3)`` position and depth to ``(n, 2)``.

    N is given as ``(n, k)`` indices of each cell's neighbours.

    The last layer starts at zero: an untrained drift moves nothing.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.enter = Attention(3, width)
        self.layers = nn.ModuleList([Attention(width, width) for _ in range(2)])
        self.leave = _zero_linear(width, 2)

    def forward(self, position: Tensor, depth: Tensor, neighbour: Tensor) -> Tensor:
        hidden = torch.tanh(self.enter(torch.cat([position, depth], dim=1), neighbour))
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden, neighbour))
        return self.leave(hidden)


class ExpressionDrift(nn.Module):
    """f_g(s, g, z, N): a Graph U-Net on (s, z, g); ``(n, 3 + P)`` to ``(n, P)``.

    The scale of its output starts at zero: an untrained drift changes nothing.
    """

    def __init__(self, n_features: int, *, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.net = PooledUNet(3 + n_features, width, width, depth=depth, act="tanh")
        self.leave = _zero_linear(width, n_features)

    def forward(self, position: Tensor, features: Tensor, depth: Tensor, neighbour: Tensor) -> Tensor:
        hidden = self.net(torch.cat([position, depth, features], dim=1), neighbour)
        return self.leave(torch.tanh(hidden))


class DriftPair(nn.Module):
    """Shape and expression drift of one direction, forward (f_s, f_g) or backward (h_s, h_g)."""

    def __init__(self, n_features: int, *, width: int = 64, unet_depth: int = 2) -> None:
        super().__init__()
        self.shape = ShapeDrift(width)
        self.expression = ExpressionDrift(n_features, width=width, depth=unet_depth) if n_features else None


def _zero_linear(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
