"""What a GPU needs that a CPU does not: room, and data on their way while it works."""

from __future__ import annotations

import torch
from torch import Tensor

_SHARE = 0.25  # of the free memory, for what lies there all the time


def has_room(device: torch.device, n_bytes: int) -> bool:
    """Say whether so much may lie on a device all the time: on a GPU less than a quarter of what is free."""
    return device.type != "cuda" or n_bytes < _SHARE * torch.cuda.mem_get_info(device)[0]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Send a tensor to a device; to a GPU from pinned memory, so that nobody waits for what it is at."""
    if device.type == "cuda" and not values.is_cuda:
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
