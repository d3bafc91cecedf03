"""Blocks of the graph that a step is taken on: patches of the tissue with what their cells depend on around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

_PATCHES = 4  # of a block, from anywhere in the tissue


@dataclass(frozen=True, eq=False)
class Block:
    """Some cells, the first `n_core` of which count, and the first `n_near` of which these and their neighbours are.

    Edges (2, E) among them are by their number in `rows`.
    """

    rows: np.ndarray
    n_core: int
    n_near: int
    edges: Tensor


class Patches:
    """The cells of a graph in patches, drawn together at random.

    Parameters
    ----------
    graph
        (n, n) symmetric.
    order
        (n,) cells along a curve that keeps near what is near; a patch is a stretch of it.
    n_cells
        Of a block that count, about: four patches from anywhere in the tissue. With fewer cells than that there is
        one block of all.
    """

    def __init__(self, graph: sparse.csr_matrix, order: np.ndarray, n_cells: int) -> None:
        self._graph, self._n_cells = graph, n_cells
        self._whole = len(order) <= n_cells
        self.n_blocks = 1 if self._whole else -(-len(order) // n_cells)
        self._pieces = np.array_split(order, _PATCHES * self.n_blocks)

    def draw(self, generator: torch.Generator, hops: int) -> list[Block]:
        """Divide all cells into blocks, for one epoch, each with the cells up to `hops` edges away."""
        if self._whole:
            return [self._everything()]
        turn = torch.randperm(len(self._pieces), generator=generator).numpy()
        return [self._block([self._pieces[k] for k in part], hops) for part in np.array_split(turn, self.n_blocks)]

    def in_order(self, hops: int) -> list[Block]:
        """Divide all cells into blocks of neighbouring patches."""
        if self._whole:
            return [self._everything()]
        parts = np.array_split(np.arange(len(self._pieces)), self.n_blocks)
        return [self._block([self._pieces[k] for k in part], hops) for part in parts]

    def _everything(self) -> Block:
        n = self._graph.shape[0]
        return Block(np.arange(n), n, n, _edges(self._graph))

    def _block(self, pieces: list[np.ndarray], hops: int) -> Block:
        core = np.concatenate(pieces)
        inside = np.zeros(self._graph.shape[0], dtype=bool)
        inside[core] = True
        rows, rim = [core], core
        for _ in range(hops):
            rim = np.unique(self._graph[rim].indices)
            rim = rim[~inside[rim]]
            inside[rim] = True
            rows.append(rim)
        every = np.concatenate(rows)
        n_near = sum(len(part) for part in rows[:2])
        return Block(every, len(core), n_near, _edges(self._graph[every][:, every]))


def _edges(graph: sparse.csr_matrix) -> Tensor:
    found = graph.tocoo()
    return torch.from_numpy(np.stack([found.col, found.row]).astype(np.int64))
