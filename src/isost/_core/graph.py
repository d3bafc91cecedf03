"""Nearest-neighbour graphs: by k-d tree on the CPU, and on the GPU, of not too many points, by blocked distances."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

_BLOCK = 4096
_PAIRS = 10**10  # beyond so many a tree on the CPU takes less time than all distances on a GPU


def neighbours(points: Tensor, k: int, *, query: Tensor | None = None) -> Tensor:
    """Find the k nearest points.

    Parameters
    ----------
    points
        ``(n, d)`` coordinates.
    k
        Number of neighbours; with fewer points than that, all there are.
    query
        ``(m, d)`` places to ask at. Without it each point is asked about its neighbours other than itself.

    Returns
    -------
    ``(m, k)`` int64, nearest first, on the device of ``points``.

    Raises
    ------
    FloatingPointError
        If a point is not finite, where a tree is made.
    """
    itself = query is None
    asked = points if query is None else query
    count = min(k, len(points) - itself)
    if points.is_cuda and len(points) * len(asked) <= _PAIRS:
        found = _blocked_topk(points.detach(), asked.detach(), count + itself)
    else:
        if not torch.isfinite(points).all():
            raise FloatingPointError("points are not finite")
        tree = cKDTree(points.detach().cpu().numpy())
        near = tree.query(asked.detach().cpu().numpy(), k=np.arange(1, count + itself + 1))[1]
        found = torch.from_numpy(near).long().to(points.device)
    return _without_self(found) if itself else found


def _without_self(found: Tensor) -> Tensor:
    """Drop each row's own index, or its farthest neighbour where coincident points pushed it out of the list."""
    own = found == torch.arange(len(found), device=found.device)[:, None]
    own[:, -1] |= ~own.any(dim=1)
    # a stable sort rather than a mask, whose length a GPU would have to be waited for
    others = own.to(torch.uint8).argsort(dim=1, stable=True)[:, :-1]
    return found.gather(1, others)


def _blocked_topk(points: Tensor, query: Tensor, k: int) -> Tensor:
    rows = max(1, _BLOCK * _BLOCK // max(len(points), 1))
    # by differences: the faster way by products rounds off the short distances that matter here
    exact = "donot_use_mm_for_euclid_dist"
    blocks = [torch.cdist(part, points, compute_mode=exact).topk(k, dim=1, largest=False) for part in query.split(rows)]
    return torch.cat([block.indices for block in blocks])


def edge_index(neighbour: Tensor) -> Tensor:
    """Edges from every neighbour to its cell: ``(n, k)`` indices to ``(2, n k)`` in PyG's source, target order."""
    target = torch.arange(len(neighbour), device=neighbour.device).repeat_interleave(neighbour.shape[1])
    return torch.stack([neighbour.reshape(-1), target])


def median_spacing(coords: np.ndarray) -> float:
    """Median distance to the nearest neighbour in the plane, over places that hold cells; 0 if there is but one."""
    places = np.unique(np.asarray(coords)[:, :2], axis=0)
    if len(places) < 2:
        return 0.0
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))


def along_curve(coords: np.ndarray) -> np.ndarray:
    """Order of the cells along Morton's curve, which fills the plane: what is near in it is mostly near along it."""
    place = np.asarray(coords)[:, :2].astype(np.float64)
    low = place.min(axis=0)
    extent = max(float((place - low).max()), 1e-300)
    x, y = ((place - low) / extent * (2**16 - 1)).astype(np.uint64).T
    return np.argsort(_spread_bits(x) | _spread_bits(y) << np.uint64(1), kind="stable")


def _spread_bits(values: np.ndarray) -> np.ndarray:
    """Put a zero between any two of 16 bits."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values
