"""Fitted spatial domains: networks, their mixtures, and what of expression they take; arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from isost._core.checks import show
from isost._core.normalise import Normalisation
from isost._domains.adapt import adapted
from isost._domains.balance import balanced
from isost._domains.components import Components
from isost._domains.consensus import joint_shares
from isost._domains.features import Features, moments
from isost._domains.follow import tissue_shift
from isost._domains.graph import spatial_graph
from isost._domains.mixture import ENOUGH
from isost._domains.network import DualBranch
from isost._domains.patches import Patches
from isost._domains.tissue import Tissue
from isost._domains.train import latents

_CELLS = 4096  # of a step
_SMALLEST = 1e-6  # standard deviation of a gene that counts


@dataclass(frozen=True, eq=False)
class Genes:
    """What the networks take of expression.

    Attributes
    ----------
    names
        Of the p genes.
    how
        Normalisation.
    mean, deviation
        (p,) over the cells of the fit, corrected where there were batches.
    axes
        (p, r) float32, of the principal components that are kept; None for all.
    """

    names: list[str]
    how: Normalisation
    mean: np.ndarray
    deviation: np.ndarray
    axes: np.ndarray | None = None

    def features(self, tissue: Tissue) -> Features:
        """Take the genes out of a tissue.

        Raises
        ------
        ValueError
            If some are missing.
        """
        at = {name: column for column, name in enumerate(tissue.genes)}
        missing = [name for name in self.names if name not in at]
        if missing:
            raise ValueError(
                f"adata: expected the {len(self.names)} genes that the domains were fitted on, found {len(missing)} of "
                f"them missing ({show(missing)}). Next: fit on the genes that all sections share."
            )
        columns = [at[name] for name in self.names]
        scale = np.divide(1.0, self.deviation, out=np.zeros_like(self.deviation), where=self.deviation > _SMALLEST)
        return Features(tissue.matrix[:, columns], self.mean, scale, self.axes)

    def aligned(self, tissue: Tissue) -> Features:
        """Take the genes out of a tissue that was not fitted on; each batch gets their mean and deviation."""
        features = self.features(tissue)
        n_batches = int(tissue.batch.max()) + 1
        mean, variance = moments(features.matrix, tissue.batch, n_batches)
        own = np.sqrt(variance)
        ratio = np.divide(self.deviation, own, out=np.ones_like(own), where=own > _SMALLEST)
        moved = features.matrix.toarray() if sparse.issparse(features.matrix) else np.array(features.matrix)
        for number in range(n_batches):
            rows = tissue.batch == number
            moved[rows] = (moved[rows] - mean[number]) * ratio[number] + self.mean
        return replace(features, matrix=moved.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Member:
    """One network with the components of its latents, the mixture of its domains and which common ones they are."""

    network: DualBranch
    components: Components
    mixture: GaussianMixture
    matched: np.ndarray

    def shares(self, z: np.ndarray, batch: np.ndarray | None = None) -> np.ndarray:
        """(n, K) of each cell in the domains of this network, as they are in its batch where there are any."""
        scores = self.components.scores(z.astype(np.float64))
        if batch is None:
            return self.mixture.predict_proba(scores)
        found = np.empty((len(z), len(self.matched)))
        for rows in (np.flatnonzero(batch == number) for number in np.unique(batch)):
            some = rows[np.linspace(0, len(rows) - 1, min(len(rows), ENOUGH)).astype(int)]
            found[rows] = adapted(self.mixture, scores[some]).predict_proba(scores[rows])
        return found


@dataclass(frozen=True, eq=False)
class Found:
    """Latents of all networks, brought together (n, q) float32, and each cell's shares (n, K) in the domains."""

    spatial: np.ndarray
    intrinsic: np.ndarray | None
    joint: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True, eq=False)
class Domains:
    """Everything that a fit learned.

    Attributes
    ----------
    together
        Components of the latents of all networks side by side: spatial, intrinsic where there are any, and joint.
    order
        (K,) number of each common domain, by size.
    history, info
        JSON-able: losses of each network, and how it was fitted.
    """

    genes: Genes
    members: list[Member]
    together: dict[str, Components]
    order: np.ndarray
    history: list[dict[str, list[float]]] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def n_domains(self) -> int:
        return len(self.order)

    def find(self, tissue: Tissue, n_neighbors: int | None, device: torch.device) -> Found:
        """Look for the domains in a tissue that was not fitted on."""
        features = self.genes.features(tissue) if not self.info["batches"] else self.genes.aligned(tissue)
        patches = tissue_patches(followed(tissue_graph(tissue, n_neighbors), features, tissue, n_neighbors), tissue)
        each = [latents(member.network, features, patches, device) for member in self.members]
        return self.of_latents(each, tissue.batch if self.info["batches"] else None)

    def of_latents(
        self, each: Sequence[tuple[np.ndarray, np.ndarray | None, np.ndarray]], batch: np.ndarray | None
    ) -> Found:
        """Look for the domains where the latents of each network are known, and the batch of each cell (n,)."""
        kinds = {name: beside([parts[k] for parts in each]) for k, name in enumerate(KINDS)}
        scores = {
            name: self.together[name].scores(values.astype(np.float64)).astype(np.float32)
            for name, values in kinds.items()
            if values is not None
        }
        with threadpool_limits(1):  # the matrices are small: threads wait for each other
            own = [member.shares(parts[2], batch) for member, parts in zip(self.members, each, strict=True)]
        shares = joint_shares(own, np.array([member.matched for member in self.members]))
        return Found(scores["spatial"], scores.get("intrinsic"), scores["joint"], shares[:, np.argsort(self.order)])


KINDS = ("spatial", "intrinsic", "joint")


def beside(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Latents of all networks (n, N d), side by side; None where there are none."""
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis=1) if known else None


def tissue_patches(graph: sparse.csr_matrix, tissue: Tissue) -> Patches:
    """Divide the cells of a graph for the steps of a training, one sample after the other, near ones together."""
    parts = [np.flatnonzero(tissue.sample == number) for number in np.unique(tissue.sample)]
    order = np.concatenate([rows[cKDTree(tissue.coords[rows]).indices] for rows in parts])
    return Patches(graph, order, _CELLS)


def tissue_graph(tissue: Tissue, n_neighbors: int | None) -> sparse.csr_matrix:
    """Connect the neighbours of a tissue; of a stack, with those straight above and below."""
    return spatial_graph(tissue.coords, tissue.sample, n_neighbors)


def followed(
    graph: sparse.csr_matrix, features: Features, tissue: Tissue, n_neighbors: int | None
) -> sparse.csr_matrix:
    """Connect with those above and below where the tissue goes on, as far as expression tells; else as it was."""
    shift = tissue_shift(features, graph, tissue.coords, tissue.sample)
    return graph if shift is None else spatial_graph(tissue.coords, tissue.sample, n_neighbors, shift)


def refined(shares: np.ndarray, tissue: Tissue, n_votes: int) -> np.ndarray:
    """(n,) the domain with the largest sum of shares (n, K) among a cell and its `n_votes` nearest in its sample.

    Weights are such that the cells that vote are centred on the cell, whose own shares count for a quarter of the votes
    beside its own vote.
    """
    if n_votes == 0:
        return shares.argmax(axis=1)
    total = np.empty_like(shares)
    for number in np.unique(tissue.sample):
        rows = np.flatnonzero(tissue.sample == number)
        votes = balanced(_nearest(tissue.coords[rows], n_votes), tissue.coords[rows])
        total[rows] = votes @ shares[rows] + n_votes / (4 * (n_votes + 1)) * shares[rows]
    return total.argmax(axis=1)


def _nearest(place: np.ndarray, k: int) -> sparse.csr_matrix:
    """(n, n) bool, each place and its k nearest."""
    n, k = len(place), min(k + 1, len(place))
    found = cKDTree(place).query(place, k=np.arange(1, k + 1))[1]
    return sparse.csr_matrix((np.ones(n * k, dtype=bool), found.ravel(), np.arange(n + 1) * k), shape=(n, n))
