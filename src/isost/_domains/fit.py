"""Fit spatial domains: genes, graph, networks, mixtures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from isost._core.checkpoint import Checkpoint, clear
from isost._core.random import numpy_generator
from isost._domains.consensus import agreement, match
from isost._domains.features import Features, autocorrelation, correlations, moments
from isost._domains.gene_map import place_genes
from isost._domains.mixture import choose_number, components, fit_mixture
from isost._domains.model import KINDS, Domains, Found, Genes, Member, beside, tissue_graph, tissue_patches
from isost._domains.network import DualBranch
from isost._domains.tissue import Tissue
from isost._domains.train import Training, TrainOptions, latents, log_interrupted, new_network, progress_bar
from isost._logging import logger

_LEAST = 0.01  # Moran's I, below which a gene counts as one that does not vary in space
_SOME = 20_000  # cells that mixtures are fitted on
_STEPS = 2000  # of a training that many cells get


@dataclass(frozen=True)
class FitOptions:
    """How domains are found.

    Attributes
    ----------
    variant
        ``"dual"``, or ``"spatial"`` without the gene branch.
    n_domains
        None: by the Bayesian information criterion.
    n_networks
        Trained one after the other; domains are what they agree on.
    n_top_genes
        With the largest Moran's I; None for all.
    n_neighbors
        Of the graph; None for lattice or triangulation.
    n_latent
        d of each branch and of z.
    n_comps
        Principal components of z that the mixture sees.
    covariance, n_init
        Of the mixture.
    random_map
        Place genes at random.
    train
        How networks are trained.
    """

    variant: str = "dual"
    n_domains: int | None = None
    n_networks: int = 5
    n_top_genes: int | None = 1000
    n_neighbors: int | None = None
    n_latent: int = 32
    n_comps: int = 30
    covariance: str = "tied"
    n_init: int = 64
    random_map: bool = False
    train: TrainOptions = field(default_factory=TrainOptions)


def fit_domains(
    tissue: Tissue, options: FitOptions, *, generator: torch.Generator, device: torch.device, progress: bool,
    checkpoint: Path | None = None, resume: bool = False,
) -> tuple[Domains, Found, sparse.csr_matrix]:  # fmt: skip
    """Fit, and look at the same cells; also returns their graph.

    Raises
    ------
    ValueError
        If no gene varies, there are fewer cells than domains, or a checkpoint is of another fit.
    """
    graph = tissue_graph(tissue, options.n_neighbors)
    _say_parts(graph, tissue)
    genes = _choose_genes(tissue, graph, options.n_top_genes)
    features = genes.features(tissue)
    patches = tissue_patches(graph, tissue)
    seeds = torch.randint(2**62, (options.n_networks,), generator=generator).tolist()
    rng = numpy_generator(generator)
    networks, history, each = [], [], []
    place, side = _gene_map(features, options, rng)
    epochs = _epochs(options.train.epochs, patches.n_blocks)
    train = TrainOptions(**(asdict(options.train) | {"epochs": epochs}))
    identity = _identity(features, graph, options, seeds)
    with progress_bar(epochs * options.n_networks, show=progress) as bar:
        for number, seed in enumerate(seeds):
            own = torch.Generator().manual_seed(seed)
            network = new_network(own, len(genes.names), place=place, side=side, n_latent=options.n_latent)
            training = Training(network, features, patches, train, own, device)
            folder = None if checkpoint is None else checkpoint / f"network_{number}"
            whole = training.run(Checkpoint(folder, identity, resume=resume), bar)
            networks.append(network.cpu())
            history.append(training.history)
            each.append(latents(network, features, patches, device))
            if not whole:
                log_interrupted(number * epochs + len(training.history["contrast"]), epochs * options.n_networks)
                break
    members, criterion, agreed = _mixtures(networks, each, options, rng)
    together = {
        name: components(side_by_side.astype(np.float64), options.n_comps, rng)
        for k, name in enumerate(KINDS)
        if (side_by_side := beside([parts[k] for parts in each])) is not None
    }
    info = {"options": asdict(options), "epochs": epochs, "criterion": criterion, "agreement": agreed,
            "interrupted": not whole, "n_networks": len(networks)}  # fmt: skip
    order = np.arange(len(members[0].matched))
    first = Domains(genes, members, together, order, history, info).of_latents(each)
    rank = np.argsort(np.argsort(-np.bincount(first.codes, minlength=len(order)), kind="stable"), kind="stable")
    domains = Domains(genes, members, together, rank, history, info)
    if checkpoint is not None and whole:
        for number in range(options.n_networks):
            clear(checkpoint / f"network_{number}")
    return domains, domains.of_latents(each), graph


def _choose_genes(tissue: Tissue, graph: sparse.csr_matrix, n_top: int | None) -> Genes:
    n_samples = int(tissue.sample.max()) + 1
    mean, variance = moments(tissue.matrix, tissue.sample, n_samples)
    moran = autocorrelation(tissue.matrix, graph, tissue.sample, mean, variance)
    whole_mean, whole_variance = moments(tissue.matrix, np.zeros(len(tissue), dtype=np.int64), 1)
    varies = whole_variance[0] > 1e-10
    if not varies.any():
        raise ValueError(
            "adata.X: expected genes that vary, found the same value in all cells for each. "
            "Next: look at adata.X, or name the layer that holds expression."
        )
    if moran.max() < _LEAST:
        logger.warning("spatial_domains: no gene varies in space (largest Moran's I %.3f); domains are those of cells "
                       "alone", moran.max())  # fmt: skip
        moran = varies.astype(np.float64)
    weight = np.sqrt(np.maximum(moran, 0.0)) * varies
    chosen = np.sort(np.argsort(-weight, kind="stable")[: n_top or len(weight)])
    chosen = chosen[weight[chosen] > 0]
    weight = weight[chosen] / np.sqrt((weight[chosen] ** 2).mean())
    logger.info("spatial_domains: %d of %d genes vary in space, the most %s (Moran's I %.2f)", len(chosen),
                len(tissue.genes), tissue.genes[int(moran.argmax())], moran.max())  # fmt: skip
    names = [tissue.genes[column] for column in chosen]
    deviation = np.sqrt(whole_variance[0][chosen])
    return Genes(names, tissue.how, whole_mean[0][chosen], deviation, weight)


def _gene_map(features: Features, options: FitOptions, rng: np.random.Generator) -> tuple[torch.Tensor | None, int]:
    if options.variant == "spatial":
        return None, 0
    place, side = place_genes(correlations(features, rng), rng if options.random_map else None)
    return torch.from_numpy(place), side


def _mixtures(
    networks: list[DualBranch], each: list[Any], options: FitOptions, rng: np.random.Generator
) -> tuple[list[Member], dict[str, float], float]:
    """Fit the mixture of each network, and match them; the criterion by number of domains, and how well they agree."""
    n = len(each[0][2])
    rows = np.sort(rng.choice(n, min(n, _SOME), replace=False))
    own = [components(z[rows].astype(np.float64), options.n_comps, rng) for _, _, z in each]
    scores = [part.scores(z.astype(np.float64)) for part, (_, _, z) in zip(own, each, strict=True)]
    how: dict[str, Any] = {"covariance": options.covariance, "n_init": options.n_init, "rng": rng}
    criterion: dict[str, float] = {}
    number = options.n_domains
    with threadpool_limits(1):  # the matrices are small: threads wait for each other
        if number is None:
            number, found = choose_number([part[rows] for part in scores], **how)
            criterion = {str(k): value for k, value in found.items()}
        mixtures = [fit_mixture(part[rows], number, **how) for part in scores]
        codes = [mixture.predict(part) for mixture, part in zip(mixtures, scores, strict=True)]
    matched = match(codes, number)
    others = agreement(codes)
    pairs = others[np.triu_indices(len(codes), 1)]
    parts = zip(networks, own, mixtures, matched, strict=True)
    return [Member(*part) for part in parts], criterion, float(pairs.mean()) if len(pairs) else 1.0


def _epochs(epochs: int, n_blocks: int) -> int:
    """Fewer epochs where one has many steps: as many steps as `_STEPS` in all, but never more epochs than asked for."""
    return min(epochs, max(10, -(-_STEPS // n_blocks)))


def _say_parts(graph: sparse.csr_matrix, tissue: Tissue) -> None:
    n_parts, _ = sparse.csgraph.connected_components(graph, directed=False)
    n_samples = len(np.unique(tissue.sample))
    alone = int((np.diff(graph.indptr) == 0).sum())
    logger.info("spatial_domains: %d cells, %.1f neighbours each, %d connected parts in %d samples%s", len(tissue),
                graph.nnz / max(len(tissue), 1), n_parts, n_samples,
                f"; {alone} cells without a neighbour" if alone else "")  # fmt: skip


def _identity(features: Features, graph: sparse.csr_matrix, options: FitOptions, seeds: list[int]) -> dict[str, Any]:
    digest = hashlib.sha256()
    matrix = features.matrix
    arrays = [matrix.data, matrix.indices] if sparse.issparse(matrix) else [matrix]
    for values in [*arrays, features.mean, features.scale, graph.indices, graph.indptr]:
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    how = asdict(options)
    # of what the networks do not depend on, a resumed fit may have another
    for later in ("n_domains", "n_comps", "covariance", "n_init", "n_networks"):
        how.pop(later)
    return json.loads(json.dumps({"data": digest.hexdigest(), "options": how, "seed": seeds[0]}))
