"""The layers give what PyG's give with the same weights."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch_geometric.nn import GraphUNet, TransformerConv

from isost._core.graph import edge_index, neighbours
from isost._core.layers import Attention, PooledUNet


def cells(n: int, width: int, *, k: int = 5, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    near = neighbours(torch.rand(n, 2, generator=draw), k)
    return torch.randn(n, width, generator=draw, dtype=dtype).requires_grad_(), near


def compare(ours: torch.nn.Module, theirs: torch.nn.Module, hidden: torch.Tensor, near: torch.Tensor) -> None:
    """Equal values, and equal gradients in the input and in every weight."""
    theirs.load_state_dict(ours.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        value, expected = ours(hidden, near), theirs(hidden, edge_index(near))
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if hidden.dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(value, expected, **tolerance)
    aside = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    gradients = [
        torch.autograd.grad((result * aside).sum(), [hidden, *layer.parameters()])
        for result, layer in ((value, ours), (expected, theirs))
    ]
    for gradient, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, reference, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k"), [(60, 5), (4, 3), (1, 0)])
def test_attention_is_the_transformer_convolution(n: int, k: int, dtype: torch.dtype) -> None:
    hidden, near = cells(n, 7, k=k, dtype=dtype)
    compare(Attention(7, 8).to(dtype), TransformerConv(7, 8).to(dtype), hidden, near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 7, 90])
def test_the_unet_is_the_graph_unet(n: int, depth: int, dtype: torch.dtype) -> None:
    hidden, near = cells(n, 6, dtype=dtype)
    layers = (kind(6, 8, 8, depth=depth, act="tanh").to(dtype) for kind in (PooledUNet, GraphUNet))
    compare(*layers, hidden, near)
