"""The dual-branch network: graph attention over the tissue, convolution over the map of genes (arXiv 2602.12651)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from isost._domains.losses import scaled_cosine_error

_FAINT = 0.1  # of their random first values, what a network that starts from features keeps of the others
_MULTIPLE = 512  # of cells that are convolved together: memory is kept for each number that has been seen
HOPS = 3  # that what is reconstructed of a cell depends on: two layers of the encoder, one of the decoder


class GeneBranch(nn.Module):
    """A cell as an image of its genes (n, p) -> (n, d): two convolutions with batch norm, and a linear head."""

    place: Tensor

    def __init__(self, place: Tensor, side: int, n_channels: int, n_latent: int) -> None:
        super().__init__()
        self.register_buffer("place", place)
        self.side = side
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, n_channels, 3, padding=1),
            nn.BatchNorm2d(n_channels),
            nn.ReLU(),
            nn.Conv2d(n_channels, 2 * n_channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * n_channels),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * n_channels * ((side + 1) // 2) ** 2, n_latent)

    def forward(self, x: Tensor) -> Tensor:
        image = x.new_zeros(len(x), self.side**2)
        image[:, self.place] = x
        return self.head(self.convolutions(image.view(-1, 1, self.side, self.side)))


class DualBranch(nn.Module):
    """Latents of cells: z = W [z_spatial || z_intrinsic], or W z_spatial without the gene branch.

    Parameters
    ----------
    n_genes
        p.
    place, side
        Of the genes on their map of side x side; None for no gene branch.
    n_hidden, n_heads, n_latent
        Width and attention heads of the first layer, d of each branch and of z.
    n_channels
        Of the first convolution; the second has twice as many.
    """

    def __init__(
        self, n_genes: int, *, place: Tensor | None, side: int = 0, n_hidden: int = 64, n_heads: int = 4,
        n_latent: int = 32, n_channels: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config: dict[str, Any] = {
            "n_genes": n_genes, "side": side, "n_hidden": n_hidden, "n_heads": n_heads, "n_latent": n_latent,
            "n_channels": n_channels,
        }  # fmt: skip
        self.first = GATConv(n_genes, n_hidden // n_heads, heads=n_heads)
        self.second = GATConv(n_hidden, n_latent, heads=1, concat=False)
        self.masked_gene = nn.Parameter(torch.zeros(n_genes))
        self.genes = None if place is None else GeneBranch(place, side, n_channels, n_latent)
        self.join = nn.Linear(n_latent * (1 if place is None else 2), n_latent, bias=False)
        self.masked_latent = nn.Parameter(torch.zeros(n_latent))
        self.decoder = GATConv(n_latent, n_genes, heads=1, concat=False)

    def start_from(self, axes: Tensor) -> None:
        """Make z_spatial begin as given features (p, m) of each cell, twice averaged over it and its neighbours.

        z begins as z_spatial, and what its linear map makes of z_intrinsic. Attention begins nearly even.
        """
        m = min(axes.shape[1], self.config["n_latent"], self.config["n_hidden"])
        with torch.no_grad():
            self.first.lin.weight.mul_(_FAINT)
            self.first.lin.weight[:m] = axes.T[:m]
            self.second.lin.weight.zero_()
            self.second.lin.weight[:m, :m] = torch.eye(m)
            for layer in (self.first, self.second):
                layer.att_src.mul_(_FAINT)
                layer.att_dst.mul_(_FAINT)
            self.join.weight[:, : self.config["n_latent"]] = torch.eye(self.config["n_latent"])

    def forward(self, x: Tensor, edges: Tensor, n_asked: int | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """(n, p) and (2, E) -> z_spatial, z_intrinsic (None without the gene branch), z: (n, d) each.

        With `n_asked`, of the first so many cells only; the others are what is around them. Up to 511 of these are
        convolved, too, where there are so many, and count in batch norm while it learns: so few different numbers are.
        """
        spatial = self.second(self.first(x, edges), edges)[:n_asked]
        if self.genes is None:
            return spatial, None, self.join(spatial)
        around = None if n_asked is None else _MULTIPLE * -(-n_asked // _MULTIPLE)
        intrinsic = self.genes(x[:around])[:n_asked]
        return spatial, intrinsic, self.join(torch.cat([spatial, intrinsic], dim=1))

    def masked(self, x: Tensor, edges: Tensor, hidden: Tensor, n_asked: int | None = None) -> tuple[Tensor, Tensor]:
        """Latents where some cells (n,) bool are hidden from both branches, and all cells' expression decoded.

        The decoder does not see the latents of hidden cells either: what it says of them comes from their neighbours.
        With `n_asked`, latents of the first so many cells only, decoded from each other's.
        """
        z = self(torch.where(hidden[:, None], self.masked_gene, x), edges, n_asked)[2]
        if n_asked is not None:
            edges = edges[:, (edges < n_asked).all(dim=0)]
        return z, self.decoder(torch.where(hidden[:n_asked, None], self.masked_latent, z), edges)

    def reconstruction_loss(self, found: Tensor, x: Tensor, counted: Tensor) -> Tensor:
        """Scaled cosine error of the cells (n,) bool that count."""
        return scaled_cosine_error(found[counted], x[counted])
