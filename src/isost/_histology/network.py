"""The dual-output network: is a gene expressed, and how much (PRTS; Wen et al. 2025), and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_SHARE = 0.02  # of cells that express a gene, or do not, to which weights of classes are held
_FLOOR = 1e-3  # standard deviation of a target
_ROWS = 8192  # of a prediction


@dataclass(frozen=True)
class NetworkOptions:
    """How a network is built and trained.

    Attributes
    ----------
    hidden, dropout
        Widths of the layers and the share of units that a step leaves out.
    learning_rate, weight_decay, batch_size, epochs, patience
        Of AdamW; of epochs without a better loss on held-out tissue until the best one is taken.
    components
        Whether it learns components of expression, or genes.
    """

    hidden: tuple[int, ...]
    dropout: float
    learning_rate: float
    weight_decay: float = 0.05
    batch_size: int = 256
    epochs: int = 100
    patience: int = 10
    components: bool = True


#: Ours, and as published.
NETWORKS = {
    "network": NetworkOptions((256, 256), 0.5, 1e-3, epochs=200, patience=20),
    "prts": NetworkOptions((512, 512, 1024, 1024), 0.1, 1e-2, components=False),
}


class DualOutput(nn.Module):
    """Layers with batch norm, LeakyReLU and dropout, and two linear heads on the last."""

    centre: Tensor
    spread: Tensor
    odds: Tensor

    def __init__(self, n_features: int, n_genes: int, n_levels: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.config = {"n_features": n_features, "n_genes": n_genes, "n_levels": n_levels, "hidden": list(hidden),
                       "dropout": dropout}  # fmt: skip
        layers: list[nn.Module] = []
        width = n_features
        for size in hidden:
            layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.LeakyReLU(), nn.Dropout(dropout)]
            width = size
        self.body = nn.Sequential(*layers)
        self.gate = nn.Linear(width, n_genes)
        self.level = nn.Linear(width, n_levels)
        self.register_buffer("centre", torch.zeros(n_levels))
        self.register_buffer("spread", torch.ones(n_levels))
        self.register_buffer("odds", torch.zeros(n_genes))  # of the weights of classes, log

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted logits of being expressed (B, G), and levels (B, L) in units of their spread about their centre."""
        body = self.body(x)
        return self.gate(body), self.level(body)

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of being expressed (B, G), with the weights of classes undone, and levels (B, L)."""
        gate, level = self(x)
        return torch.sigmoid(gate - self.odds), level * self.spread + self.centre


def train_network(
    x: Tensor, on: Tensor, level: Tensor, seen: np.ndarray, held: np.ndarray, options: NetworkOptions, *,
    seed: int, device: torch.device, told: Callable[[], Any],
) -> tuple[DualOutput, dict[str, list[float]]]:  # fmt: skip
    """Train on some rows until the loss on others, which are held out, gets no better; the best weights are kept.

    The loss is cross-entropy of being expressed (n, G), the rarer class weighted up to the other, and the squared error
    of levels (n, L): of components in units of their variance together, of genes each in units of its own, of the cells
    that express it, so that probability x level is what is expected.

    Raises
    ------
    ValueError
        If the loss is no number from the first epoch on.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = DualOutput(x.shape[1], on.shape[1], level.shape[1], options.hidden, options.dropout)
        inside = torch.from_numpy(seen)
        share = on[inside].float().mean(dim=0).clamp(_SHARE, 1 - _SHARE)
        network.odds.copy_(torch.log((1 - share) / share))
        centre, spread = _moments(level[inside], None if options.components else on[inside])
        network.spread.copy_(spread.clamp_min(_FLOOR))
        if not options.components:
            network.centre.copy_(centre)
        network.to(device)
        optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        history: dict[str, list[float]] = {"trained": [], "held_out": []}
        best, kept, since = np.inf, _copy(network), 0
        n_steps = max(1, min(round(len(seen) / options.batch_size), len(seen) // 2))  # batch norm asks for two rows
        for _ in range(options.epochs):
            network.train()
            losses = []
            for rows in np.array_split(seen[torch.randperm(len(seen), generator=generator).numpy()], n_steps):
                batch = x[rows].to(device), on[rows].to(device), level[rows].to(device)
                gate, wrong = _losses(network, *batch, options.components)
                loss = gate + wrong
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                losses.append(float(loss.detach()))
            history["trained"].append(float(np.mean(losses)))
            history["held_out"].append(_held_out_loss(network, x, on, level, held, options, device))
            told()
            if history["held_out"][-1] < best:
                best, kept, since = history["held_out"][-1], _copy(network), 0
            elif (since := since + 1) >= options.patience:
                break
    if not np.isfinite(best):
        raise ValueError(f"learning_rate: expected a training whose loss is finite, found {history['held_out'][0]}. "
                         f"Next: a rate below {options.learning_rate:g}.")  # fmt: skip
    network.load_state_dict(kept)
    return network.cpu().eval(), history


def _moments(level: Tensor, on: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (L,), of those that are on where that counts."""
    if on is None:
        return level.mean(dim=0), level.std(dim=0)
    count = on.sum(dim=0).clamp_min(1)
    mean = (level * on).sum(dim=0) / count
    return mean, (((level - mean) ** 2 * on).sum(dim=0) / count).sqrt()


def _losses(network: DualOutput, x: Tensor, on: Tensor, level: Tensor, components: bool) -> tuple[Tensor, Tensor]:
    logits, found = network(x)
    on = on.to(logits.dtype)
    weight = torch.where(on > 0, network.odds.exp(), 1.0)
    weight = weight / (2 * torch.sigmoid(network.odds))  # its mean over what is trained on
    gate = functional.binary_cross_entropy_with_logits(logits, on, weight=weight)
    wrong = found - (level - network.centre) / network.spread
    if components:
        variance = network.spread**2
        return gate, (wrong**2 @ (variance / variance.sum())).mean()
    return gate, (on * wrong**2).sum() / on.sum().clamp_min(1)


def _held_out_loss(
    network: DualOutput, x: Tensor, on: Tensor, level: Tensor, rows: np.ndarray, options: NetworkOptions,
    device: torch.device,
) -> float:  # fmt: skip
    network.eval()
    total = 0.0
    with torch.no_grad():
        for part in np.array_split(rows, -(-len(rows) // _ROWS)):
            batch = x[part].to(device), on[part].to(device), level[part].to(device)
            gate, wrong = _losses(network, *batch, options.components)
            total += len(part) * float(wrong if options.components else gate + wrong)
    return total / len(rows)


def network_found(network: DualOutput, x: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, G) and levels (n, L) float32, some rows at a time."""
    network = network.to(device).eval()
    found = []
    with torch.no_grad():
        for part in np.array_split(x, max(1, -(-len(x) // _ROWS))):
            found.append([each.cpu().numpy() for each in network.found(torch.from_numpy(part).to(device))])
    network.cpu()
    gate, level = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return gate, level


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
