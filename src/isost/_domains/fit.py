"""Fit spatial domains: genes, graph, networks, mixtures."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from isost._core.checkpoint import Checkpoint, clear
from isost._core.random import numpy_generator
from isost._domains.components import components
from isost._domains.consensus import agreement, match
from isost._domains.features import Features, autocorrelation, correlations, leading_axes, moments
from isost._domains.gene_map import place_genes
from isost._domains.mixture import ENOUGH, choose_number, evidence, fit_mixtures
from isost._domains.model import (
    KINDS,
    Domains,
    Found,
    Genes,
    Member,
    beside,
    followed,
    refined,
    tissue_graph,
    tissue_patches,
)
from isost._domains.network import DualBranch
from isost._domains.slow import slow_axes, surroundings
from isost._domains.tissue import Tissue
from isost._domains.train import (
    Training,
    TrainOptions,
    latents,
    log_interrupted,
    new_network,
    progress_bar,
    settle_norms,
)
from isost._logging import logger

_LEAST = 0.01  # Moran's I, below which a gene counts as one that does not vary in space
_PLACED = 2_000  # genes on a map at the most: time grows with the cube
_FEWEST = 3  # epochs, where there are many cells
_CELLS_EACH, _FEWEST_COMPS = 30, 5  # cells for each component that a mixture sees, and components at the least


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
        Trained one after the other; domains are what the better half agrees on.
    n_top_genes
        With the largest Moran's I; None for all.
    n_neighbors
        Of the graph; None for lattice or triangulation.
    n_latent
        d of each branch and of z.
    n_comps
        Principal components of z that the mixture sees; of few cells one for every thirty, five at the least.
    covariance, n_init
        Of the mixture.
    n_votes
        Nearest cells that have a say in a cell's domain; here for the order of the domains, by their size.
    random_map
        Place genes at random.
    random_start
        Leave the first weights of the spatial branch as they were drawn; else it starts from slow features.
    train
        How networks are trained.
    """

    variant: str = "dual"
    n_domains: int | None = None
    n_networks: int = 8
    n_top_genes: int | None = 1000
    n_neighbors: int | None = None
    n_latent: int = 32
    n_comps: int = 30
    covariance: str = "tied"
    n_init: int = 64
    n_votes: int = 12
    random_map: bool = False
    random_start: bool = False
    train: TrainOptions = field(default_factory=TrainOptions)


def fit_domains(
    tissue: Tissue, options: FitOptions, *, generator: torch.Generator, device: torch.device, progress: bool,
    checkpoint: Path | None = None, resume: bool = False,
) -> tuple[Domains, Found]:  # fmt: skip
    """Fit, and look at the same cells.

    Raises
    ------
    ValueError
        If no gene varies, or a checkpoint is of another fit.
    """
    graph = tissue_graph(tissue, options.n_neighbors)
    genes = _choose_genes(tissue, graph, options.n_top_genes)
    features = genes.features(tissue)
    genes = replace(genes, axes=leading_axes(features))
    features = replace(features, axes=genes.axes)
    _say_axes(genes)
    graph = followed(graph, features, tissue, options.n_neighbors)
    _say_parts(graph, tissue)
    patches = tissue_patches(graph, tissue)
    rng = numpy_generator(generator)
    seeds = torch.randint(2**62, (options.n_networks,), generator=generator).tolist()
    networks, history, each = [], [], []
    place, side = _gene_map(features, options, rng)
    slow = None if options.random_start else torch.from_numpy(slow_axes(features, graph, options.n_latent, rng)).float()
    epochs = _epochs(options.train.epochs, patches.n_blocks)
    train = TrainOptions(**(asdict(options.train) | {"epochs": epochs}))
    identity = _identity(features, graph, options, seeds)
    with progress_bar(epochs * options.n_networks, show=progress) as bar:
        for number, seed in enumerate(seeds):
            own = torch.Generator().manual_seed(seed)
            network = new_network(own, len(genes.names), place=place, side=side, n_latent=options.n_latent)
            if slow is not None:
                network.start_from(slow)
            training = Training(network, features, patches, train, own, device)
            folder = None if checkpoint is None else checkpoint / f"network_{number}"
            whole = training.run(Checkpoint(folder, identity, resume=resume), bar)
            settle_norms(network, features, patches, device)
            networks.append(network.cpu())
            history.append(training.history)
            each.append(latents(network, features, patches, device))
            if not whole:
                log_interrupted(number * epochs + len(training.history["contrast"]), epochs * options.n_networks)
                break
    around = surroundings(features, graph, rng)
    members, kept, found = _members(networks, each, around, _shared(graph), options, rng)
    each, history = [each[k] for k in kept], [history[k] for k in kept]
    together = {
        name: components(side_by_side.astype(np.float64), options.n_comps, rng)
        for k, name in enumerate(KINDS)
        if (side_by_side := beside([parts[k] for parts in each])) is not None
    }
    batches = bool(tissue.batch.any())
    info = found | {"options": asdict(options), "epochs": epochs, "interrupted": not whole, "batches": batches}
    first = Domains(genes, members, together, np.arange(len(members[0].matched)), history, info)
    there = first.of_latents(each, tissue.batch if batches else None)
    size = np.bincount(refined(there.shares, tissue, options.n_votes), minlength=first.n_domains)
    by_size = np.argsort(-size, kind="stable")
    domains = replace(first, order=np.argsort(by_size))
    if checkpoint is not None and whole:
        for number in range(options.n_networks):
            clear(checkpoint / f"network_{number}")
        with suppress(OSError):  # something else is in it
            checkpoint.rmdir()
    return domains, replace(there, shares=there.shares[:, by_size])


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
    moran = np.where(varies, moran, 0.0)
    chosen = np.sort(np.argsort(-moran, kind="stable")[: n_top or len(moran)])
    chosen = chosen[moran[chosen] > 0]
    logger.info("spatial_domains: %d of %d genes are used, the one that varies most %s (Moran's I %.2f)", len(chosen),
                len(tissue.genes), tissue.genes[int(moran.argmax())], moran.max())  # fmt: skip
    names = [tissue.genes[column] for column in chosen]
    return Genes(names, tissue.how, whole_mean[0][chosen], np.sqrt(whole_variance[0][chosen]))


def _gene_map(features: Features, options: FitOptions, rng: np.random.Generator) -> tuple[torch.Tensor | None, int]:
    if options.variant == "spatial":
        return None, 0
    n_genes = features.matrix.shape[1]
    if n_genes > _PLACED and not options.random_map:
        raise ValueError(
            f"n_top_genes: expected at most {_PLACED:,} genes to be placed on a map by transport, found {n_genes:,} "
            "that vary in space. Next: n_top_genes=1000, variant='spatial', or gene_map='random'."
        )
    place, side = place_genes(correlations(features, rng), rng if options.random_map else None)
    return torch.from_numpy(place), side


def _members(
    networks: list[DualBranch],
    each: list[Any],
    around: np.ndarray,
    shared: float,
    options: FitOptions,
    rng: np.random.Generator,
) -> tuple[list[Member], list[int], dict[str, Any]]:
    """Fit the domains of each network, and keep the networks whose domains explain expression around cells best.

    Of a network, too, that mixture is taken, of the likeliest from many starts, whose domains explain it best: latents
    of neighbours are alike everywhere, so that their likelihood alone hardly tells one division of the tissue from
    another.
    """
    n = len(each[0][2])
    rows = np.sort(rng.choice(n, min(n, ENOUGH), replace=False))
    n_comps = min(options.n_comps, max(_FEWEST_COMPS, n // _CELLS_EACH))
    own = [components(z[rows].astype(np.float64), n_comps, rng) for _, _, z in each]
    scores = [part.scores(z.astype(np.float64)) for part, (_, _, z) in zip(own, each, strict=True)]
    how: dict[str, Any] = {"covariance": options.covariance, "n_init": options.n_init, "rng": rng}
    criterion: dict[int, float] = {}
    number = options.n_domains
    with threadpool_limits(1):  # the matrices are small: threads wait for each other
        if number is None:
            number, criterion = choose_number([part[rows] for part in scores], n_apart=n / shared, **how)
            if number == max(criterion) > 1:
                logger.warning("spatial_domains: the criterion is lowest at the largest number that was tried, %d; it "
                               "does not tell the number here. Next: n_domains", number)  # fmt: skip
        best = []
        for part in scores:
            tried = fit_mixtures(part[rows], number, **how)
            explained = [evidence(around[rows], mixture.predict(part[rows])) for mixture in tried]
            best.append((max(explained), tried[int(np.argmax(explained))]))
    order = sorted(range(len(best)), key=lambda k: -best[k][0])
    kept = order[: max(1, -(-len(order) // 2))]
    codes = [best[k][1].predict(scores[k]) for k in kept]
    members = [Member(networks[k], own[k], best[k][1], to) for k, to in zip(kept, match(codes, number), strict=True)]
    pairs = agreement(codes)[np.triu_indices(len(codes), 1)]
    found = {"criterion": {str(k): value for k, value in criterion.items()},
             "evidence": [best[k][0] for k in order],
             "agreement": float(pairs.mean()) if len(pairs) else None}  # fmt: skip
    return members, kept, found


def _shared(graph: sparse.csr_matrix) -> float:
    """Mean number of a cell and its neighbours."""
    return 1 + graph.nnz / graph.shape[0]


def _epochs(epochs: int, n_blocks: int) -> int:
    """Fewer epochs where one has several steps: as many steps in all as there would be epochs of one step."""
    return min(epochs, max(_FEWEST, -(-epochs // n_blocks)))


def _say_parts(graph: sparse.csr_matrix, tissue: Tissue) -> None:
    n_parts, _ = sparse.csgraph.connected_components(graph, directed=False)
    n_samples = len(np.unique(tissue.sample))
    alone = int((np.diff(graph.indptr) == 0).sum())
    logger.info("spatial_domains: %d cells, %.1f neighbours each, %d connected parts in %d samples%s", len(tissue),
                graph.nnz / max(len(tissue), 1), n_parts, n_samples,
                f"; {alone} cells without a neighbour" if alone else "")  # fmt: skip


def _say_axes(genes: Genes) -> None:
    if genes.axes is not None:
        logger.info("spatial_domains: cells are few for %d genes; %d principal components are kept", *genes.axes.shape)


def _identity(features: Features, graph: sparse.csr_matrix, options: FitOptions, seeds: list[int]) -> dict[str, Any]:
    digest = hashlib.sha256()
    matrix = features.matrix
    arrays = [matrix.data, matrix.indices, matrix.indptr] if sparse.issparse(matrix) else [matrix]
    for values in [*arrays, features.mean, features.scale, graph.indices, graph.indptr]:
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    how = asdict(options)
    # of what the networks do not depend on, a resumed fit may have another
    for later in ("n_domains", "n_comps", "covariance", "n_init", "n_networks", "n_votes"):
        how.pop(later)
    n_comps = None if features.axes is None else features.axes.shape[1]
    return json.loads(json.dumps({"data": digest.hexdigest(), "options": how, "seed": seeds[0], "components": n_comps}))
