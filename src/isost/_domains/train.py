"""Train a dual-branch network; latents of all cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from isost._core.checkpoint import Checkpoint
from isost._core.gpu import sent
from isost._domains.features import Features
from isost._domains.losses import contrastive_loss, project_conflicts
from isost._domains.network import HOPS, DualBranch
from isost._domains.patches import Block, Patches
from isost._logging import logger

_QUARTERS = 4  # the rate is halved after each


@dataclass(frozen=True)
class TrainOptions:
    """How the network is trained; the paper's values where it gives them.

    Attributes
    ----------
    epochs
        Over all cells; the learning rate is halved after each quarter of the steps.
    learning_rate, weight_decay
        Of Adam.
    mask_rate
        Share of the cells that are hidden in a step.
    temperature
        Of the contrastive loss.
    contrast
        Weight of the contrastive loss; 0 leaves it out.
    project
        Whether conflicting gradients of the two losses are projected (PCGrad); else they are added.
    """

    epochs: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    mask_rate: float = 0.5
    temperature: float = 0.5
    contrast: float = 1.0
    project: bool = True


@dataclass
class Training:
    """One network under training, resumable between epochs.

    Attributes
    ----------
    history
        Mean reconstruction and contrastive loss of each epoch.
    """

    network: DualBranch
    features: Features
    patches: Patches
    options: TrainOptions
    generator: torch.Generator
    device: torch.device
    history: dict[str, list[float]] = field(default_factory=lambda: {"reconstruction": [], "contrast": []})

    def run(self, checkpoint: Checkpoint, bar: Any) -> bool:
        """Train to the end, or until Ctrl-C, which keeps the weights of the last whole epoch; say whether it ended."""
        options, network = self.options, self.network.to(self.device)
        optimiser = torch.optim.Adam(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        steps = options.epochs * self.patches.n_blocks
        quarters = [-(-steps * k // _QUARTERS) for k in range(1, _QUARTERS)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, quarters, gamma=0.5)
        parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
        self._restore(checkpoint.state(), parts)
        done = len(self.history["contrast"])
        bar.update(done)
        kept = _copy(network)
        try:
            for _ in range(done, options.epochs):
                each = []
                for block in self._blocks():
                    each.append(self._step(block, optimiser))
                    schedule.step()
                losses = np.mean(each, axis=0)
                _check_losses(losses, len(self.history["contrast"]) + 1)
                self.history["reconstruction"].append(float(losses[0]))
                self.history["contrast"].append(float(losses[1]))
                kept = _copy(network)
                checkpoint.keep(lambda: self._state(parts))
                bar.update(1)
                bar.set_postfix_str(f"loss {losses[0]:.3f}, {losses[1]:.3f}")
        except KeyboardInterrupt:
            network.load_state_dict(kept)
            return False
        finally:
            network.eval()
        checkpoint.keep(lambda: self._state(parts), now=True)
        return True

    def _blocks(self) -> list[Block]:
        return self.patches.draw(self.generator, HOPS)

    def _step(self, block: Block, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        options, network = self.options, self.network.train()
        x = sent(torch.from_numpy(self.features.rows(block.rows)), self.device)
        edges = sent(block.edges, self.device)
        hidden = torch.rand(len(x), generator=self.generator) < options.mask_rate
        hidden[int(torch.randint(block.n_core, (), generator=self.generator))] = True  # one at the least
        counted = hidden[: block.n_core].to(self.device)
        z, found = network.masked(x, edges, hidden.to(self.device), block.n_near)
        reconstruction = network.reconstruction_loss(found[: block.n_core], x[: block.n_core], counted)
        optimiser.zero_grad(set_to_none=True)
        if options.contrast == 0:
            reconstruction.backward()
            optimiser.step()
            return float(reconstruction.detach()), 0.0
        core = edges[:, (edges < block.n_core).all(dim=0)]
        contrast = contrastive_loss(z[: block.n_core], core, options.temperature)
        weighed = options.contrast * contrast
        if options.project:
            self._project(reconstruction, weighed)
        else:
            (reconstruction + weighed).backward()
        optimiser.step()
        return float(reconstruction.detach()), float(contrast.detach())

    def _project(self, first: Tensor, second: Tensor) -> None:
        parameters = list(self.network.parameters())
        found = [
            [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
            for grads in (
                torch.autograd.grad(first, parameters, retain_graph=True, allow_unused=True),
                torch.autograd.grad(second, parameters, allow_unused=True),
            )
        ]
        for parameter, grad in zip(parameters, project_conflicts(*found), strict=True):
            parameter.grad = grad

    def _state(self, parts: dict[str, Any]) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in parts.items()}
        return states | {"history": self.history, "generator": self.generator.get_state()}

    def _restore(self, state: dict[str, Any] | None, parts: dict[str, Any]) -> None:
        if state is None:
            return
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.history = state["history"]
        self.generator.set_state(state["generator"])


def _check_losses(losses: np.ndarray, epoch: int) -> None:
    """Refuse losses that are no numbers any more.

    Raises
    ------
    ValueError
        If one is infinite or NaN.
    """
    if not np.isfinite(losses).all():
        raise ValueError(f"spatial_domains: expected finite losses, found {losses[0]:g} and {losses[1]:g} in epoch "
                         f"{epoch}. Next: a smaller contrast, or a larger temperature.")  # fmt: skip


def settle_norms(network: DualBranch, features: Features, patches: Patches, device: torch.device) -> None:
    """Give batch norm the statistics of whole cells: those of the training are of cells half of which are hidden.

    Cells are taken from anywhere in the tissue: within a patch they vary less than all do.
    """
    if network.genes is None:
        return
    network.to(device).eval()
    for layer in (part for part in network.genes.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        layer.reset_running_stats()
        layer.train().momentum = None  # the mean over blocks
    turn = np.random.default_rng(0).permutation(len(features))
    with torch.no_grad():
        for rows in np.array_split(turn, patches.n_blocks):
            network.genes(torch.from_numpy(features.rows(np.sort(rows))).to(device))
    network.eval()


def latents(
    network: DualBranch, features: Features, patches: Patches, device: torch.device
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """(n, d) float32 of all cells: z_spatial, z_intrinsic or None, z; a block at a time."""
    network = network.to(device).eval()
    n, d = len(features), network.config["n_latent"]
    found = [np.empty((n, d), dtype=np.float32) for _ in range(3)]
    with torch.no_grad():
        for block in patches.in_order(HOPS - 1):
            x = torch.from_numpy(features.rows(block.rows)).to(device)
            for kept, values in zip(found, network(x, block.edges.to(device), block.n_core), strict=True):
                if values is not None:
                    kept[block.rows[: block.n_core]] = values.cpu().numpy()
    return found[0], None if network.genes is None else found[1], found[2]


def progress_bar(total: int, *, show: bool) -> tqdm:
    """One bar over the epochs of all networks."""
    return tqdm(total=total, desc="spatial_domains", unit="epoch", disable=not show)


def new_network(generator: torch.Generator, *args: Any, **options: Any) -> DualBranch:
    """Make a network whose first weights come from a generator; the global one stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return DualBranch(*args, **options)


def _copy(network: DualBranch) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def log_interrupted(done: int, of: int) -> None:
    """Say what an interruption leaves."""
    logger.warning("spatial_domains: interrupted after %d of %d epochs; the weights so far are kept and used", done, of)
