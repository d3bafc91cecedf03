"""What the networks are trained by, and how two losses share one step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GAMMA = 3.0


def scaled_cosine_error(found: Tensor, truth: Tensor, gamma: float = GAMMA) -> Tensor:
    """Mean of (1 - cos(found, truth))^gamma over rows (n, p) (Hou et al. 2022, GraphMAE, eq 2)."""
    return (1 - torch.nn.functional.cosine_similarity(found, truth, dim=-1)).pow(gamma).mean()


def contrastive_loss(z: Tensor, edges: Tensor, temperature: float) -> Tensor:
    """Draw neighbours together and all others apart, with as many positives as a cell has neighbours.

    Mean over cells i with neighbours N(i) of -log(sum_{j in N(i)} e^{s_ij / t} / sum_{k != i} e^{s_ik / t}), s the
    cosine similarity (Miech et al. 2020, MIL-NCE).

    Parameters
    ----------
    z
        (n, d).
    edges
        (2, E) int64, source and target, both ways.
    temperature
        t.
    """
    z = torch.nn.functional.normalize(z, dim=1)
    similarity = z @ z.T / temperature
    similarity.diagonal().fill_(-torch.inf)
    among_all = torch.logsumexp(similarity, dim=1)
    close = (z[edges[0]] * z[edges[1]]).sum(dim=1) / temperature
    # the sum over a cell's edges, from the largest of them: no exponent overflows, nor do all vanish
    top = close.new_full((len(z),), -torch.inf).scatter_reduce(0, edges[1], close.detach(), "amax")
    close = (close - top[edges[1]]).exp()
    positive = torch.zeros(len(z), device=z.device, dtype=close.dtype).index_add(0, edges[1], close)
    has = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    has[edges[1]] = True
    if not has.any():
        return z.sum() * 0.0
    return (among_all[has] - positive[has].log() - top[has]).mean()


def project_conflicts(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Add two gradients, each without its part against the other where they conflict (Yu et al. 2020, PCGrad).

    With g.h < 0: g - (g.h / |h|^2) h + h - (g.h / |g|^2) g, over all parameters at once; else g + h.
    """
    dot = sum((g * h).sum() for g, h in zip(first, second, strict=True))
    assert isinstance(dot, Tensor)
    square = [torch.stack([(g * g).sum() for g in grads]).sum().clamp_min(1e-30) for grads in (first, second)]
    against = dot.clamp_max(0.0)
    return [g * (1 - against / square[0]) + h * (1 - against / square[1]) for g, h in zip(first, second, strict=True)]
