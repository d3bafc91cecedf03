"""Several processes or GPUs that share the steps of a training, through Lightning Fabric."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PATIENCE = 20.0  # seconds for an epoch's best weights to arrive


class Ranks:
    """Processes that a step is shared among; this one alone without a Fabric.

    Parameters
    ----------
    fabric
        A launched ``lightning_fabric.Fabric``.
    """

    def __init__(self, fabric: Any = None) -> None:
        self._fabric = fabric
        self.rank = 0 if fabric is None else int(fabric.global_rank)
        self.size = 1 if fabric is None else int(fabric.world_size)

    def add(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sum of each tensor over the processes."""
        if self.size == 1:
            return list(tensors)
        flat = self._fabric.all_reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), reduce_op="sum")
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def launch(training: Any, devices: int, *, show: bool) -> None:
    """Run a training on several devices of this machine, and take over its outcome.

    Raises
    ------
    ImportError
        Without Lightning Fabric.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise ImportError(
            "devices: expected Lightning Fabric for more than one, found it not installed. "
            "Next: pip install 'isost[devices]'"
        ) from error
    kind = training.model.device.type
    fabric = Fabric(accelerator="gpu" if kind == "cuda" else "cpu", devices=devices, strategy="ddp_spawn")
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome"
        # as bytes, because tensors would be put into shared memory, which takes none that are empty; and back in a
        # file, because the launcher waits for its processes before it reads what they send, and a pipe is short
        device = training.model.device
        training.move(torch.device("cpu"))  # or every process would first take a copy on this one's GPU
        pickled = pickle.dumps(training)
        training.move(device)
        try:
            fabric.launch(_train, pickled, outcome, show)  # type: ignore[arg-type]
        except KeyboardInterrupt:  # of the others too, which end with their best weights
            _wait_for(outcome)
        training.take(pickle.loads(outcome.read_bytes()))


def _train(fabric: Any, pickled: bytes, outcome: Path, show: bool) -> None:
    training = pickle.loads(pickled)
    training.share(Ranks(fabric), fabric.device)
    training.run(show=show and fabric.global_rank == 0)
    if fabric.global_rank == 0:
        fresh = outcome.with_name("fresh")
        fresh.write_bytes(pickle.dumps(training.outcome()))
        fresh.rename(outcome)


def _wait_for(outcome: Path) -> None:
    """Wait for what interrupted processes leave.

    Raises
    ------
    KeyboardInterrupt
        If nothing comes.
    """
    deadline = time.monotonic() + _PATIENCE
    while not outcome.exists():
        if time.monotonic() > deadline:
            raise KeyboardInterrupt
        time.sleep(0.1)
