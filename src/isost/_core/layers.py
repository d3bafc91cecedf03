"""PyG's graph layers, with its weights and results, made fast for cells that all have equally many neighbours."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.nn import GraphUNet, TransformerConv

from isost._core.graph import edge_index

_AT_ONCE = 4096


class Attention(TransformerConv):
    """PyG's TransformerConv with one head, on ``(n, k)`` neighbours: nothing is scattered by edges."""

    def forward(self, hidden: Tensor, neighbour: Tensor) -> Tensor:
        query, key, value = self.lin_query(hidden), self.lin_key(hidden), self.lin_value(hidden)
        if hidden.is_cuda or torch.is_grad_enabled() or not neighbour.shape[1]:
            attended = self._attend(query, key, value, neighbour)
        else:
            # some cells at a time, as what is gathered is k times as large as they are
            parts = zip(query.split(_AT_ONCE), neighbour.split(_AT_ONCE), strict=True)
            attended = torch.cat([self._look_up(part, key, value, near) for part, near in parts])
        return attended + self.lin_skip(hidden)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, neighbour: Tensor) -> Tensor:
        def gathered(values: Tensor) -> Tensor:
            # index_select, as the gradient of indexing by a matrix is several times slower
            return values.index_select(0, neighbour.reshape(-1)).view(*neighbour.shape, self.out_channels)

        score = (query[:, None] * gathered(key)).sum(dim=-1) / math.sqrt(self.out_channels)
        # products summed, as the gradient of a batch of small matrix products is slower too
        return (score.softmax(dim=-1)[..., None] * gathered(value)).sum(dim=1)

    def _look_up(self, query: Tensor, key: Tensor, value: Tensor, neighbour: Tensor) -> Tensor:
        """Do the same without gradients, in half the time."""
        keys = key.index_select(0, neighbour.reshape(-1)).view(*neighbour.shape, self.out_channels)
        score = torch.bmm(keys, query[..., None])[..., 0] / math.sqrt(self.out_channels)
        # torch's softmax takes four times as long over so few
        share = (score - score.amax(dim=-1, keepdim=True)).exp_()
        share /= share.sum(dim=-1, keepdim=True)
        return embedding_bag(neighbour, value, mode="sum", per_sample_weights=share)


class PooledUNet(GraphUNet):
    """PyG's GraphUNet on ``(n, k)`` neighbours; on the CPU its graphs, which carry no gradient, are made by scipy."""

    def forward(self, hidden: Tensor, neighbour: Tensor) -> Tensor:
        if hidden.is_cuda:
            with warnings.catch_warnings():
                # torch announces once a process that its sparse layouts, which the pooling uses, are young
                warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
                return super().forward(hidden, edge_index(neighbour))
        graphs = [_first_graph(neighbour, hidden)]
        hidden = self.act(_convolve(self.down_convs[0], hidden, graphs[0]))
        levels, chosen = [hidden], []
        for pool, ratio, convolution in zip(self.pools, self.pool_ratios, self.down_convs[1:], strict=True):
            weight = pool.select.weight
            score = torch.tanh((hidden * weight).sum(dim=-1) / weight.norm())
            kept = score.argsort(descending=True)[: math.ceil(ratio * len(hidden))]
            hidden = hidden.index_select(0, kept) * score.index_select(0, kept)[:, None]
            graphs.append(_graph(_pooled(graphs[-1].looped, kept.numpy())))
            hidden = self.act(_convolve(convolution, hidden, graphs[-1]))
            levels.append(hidden)
            chosen.append(kept)
        for level, convolution in zip(reversed(range(self.depth)), self.up_convs, strict=True):
            hidden = levels[level].index_add(0, chosen[level], hidden)
            hidden = _convolve(convolution, hidden, graphs[level])
            hidden = self.act(hidden) if level else hidden
        return hidden


class _Graph(NamedTuple):
    looped: sparse.csr_matrix  # (n, n) number of ways from column to row, with ones on the diagonal
    scale: np.ndarray  # (n, 1) inverse square root of the degree, with a loop of two at each cell


def _graph(looped: sparse.csr_matrix) -> _Graph:
    return _Graph(looped, 1 / np.sqrt(np.asarray(looped.sum(axis=1)) + 1))


def _first_graph(neighbour: Tensor, hidden: Tensor) -> _Graph:
    n, k = len(neighbour), neighbour.shape[1] + 1
    # 32 bits, as scipy looks through longer indices at each use
    columns = torch.cat([torch.arange(n)[:, None], neighbour], dim=1).int().numpy().ravel()
    starts = k * np.arange(n + 1, dtype=np.int32)
    return _graph(sparse.csr_matrix((torch.ones(n * k, dtype=hidden.dtype).numpy(), columns, starts), shape=(n, n)))


def _pooled(looped: sparse.csr_matrix, kept: np.ndarray) -> sparse.csr_matrix:
    """Ways of two steps between the cells that are kept; those that end where they began count as one."""
    ways = looped[kept] @ looped[:, kept]
    row = np.repeat(np.arange(len(kept)), np.diff(ways.indptr))
    ways.data[ways.indices == row] = 1.0
    return ways


def _convolve(convolution: Any, hidden: Tensor, graph: _Graph) -> Tensor:
    return _Spread.apply(convolution.lin(hidden), graph) + convolution.bias


class _Spread(torch.autograd.Function):
    """D^-1/2 (A + 2 I) D^-1/2 x, the improved graph convolution (Gao & Ji 2019, eq 2)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, graph: _Graph) -> Tensor:
        ctx.graph = graph
        return _spread(graph.looped, graph.scale, hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _spread(ctx.graph.looped.T, ctx.graph.scale, gradient), None


def _spread(looped: sparse.spmatrix, scale: np.ndarray, values: Tensor) -> Tensor:
    scaled = scale * values.detach().numpy()
    result = looped @ scaled
    result += scaled
    result *= scale
    return torch.from_numpy(result)
