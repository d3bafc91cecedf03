from __future__ import annotations

import os
from typing import Literal

import torch
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.random import Rng
from isost._core.voxels import read_voxels
from isost._tools.labels_element import write_labels
from isost._tools.targets import VOXELS, table_of
from isost._tools.write_domains import check_own, checked_names, write_domains
from isost.pl._palette import palette
from isost.spatial_domains import SpatialDomains, fit_and_find


def spatial_domains(
    data: AnnData | SpatialData,
    *,
    n_domains: int | None = None,
    variant: Literal["dual", "spatial"] = "dual",
    layer: str | None = None,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    sample_key: str | None = None,
    n_neighbors: int | None = None,
    n_top_genes: int | None = 1000,
    gene_map: Literal["transport", "random"] = "transport",
    start: Literal["slow", "random"] = "slow",
    n_networks: int = 8,
    n_latent: int = 32,
    epochs: int = 100,
    mask_rate: float = 0.5,
    temperature: float = 0.5,
    contrast: float = 1.0,
    project_conflicts: bool = True,
    n_comps: int = 30,
    covariance: Literal["tied", "full"] = "tied",
    n_init: int = 64,
    n_votes: int = 12,
    table_key: str = "isost_cells",
    key_added: str = "spatial_domain",
    rep_added: str = "X_domains",
    device: str | torch.device | None = None,
    rng: Rng = 0,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> None:
    """Find spatial domains by networks over tissue space and gene space (CellScape; Yan et al., arXiv 2602.12651).

    A graph attention encoder sees the cells around a cell, a convolutional one its genes on a map on which genes that
    are expressed together lie near each other; z = W [z_spatial || z_intrinsic]. Some cells are hidden from both, and a
    graph attention decoder has to tell their expression from their neighbours' z (scaled cosine error, exponent 3),
    while z of neighbours is drawn together (contrastive loss with all neighbours as positives); gradients of the two
    that conflict are projected. Domains are a mixture of Gaussians on principal components of z.

    Added to the paper: the spatial branch starts from slow features, the combinations of genes that are most alike
    between neighbours (maximum autocorrelation factors; Switzer & Green 1984), averaged over neighbours; there is no
    activation between its layers. Several networks are trained from different seeds, and those kept, and of their
    likeliest mixtures that, whose domains explain expression around cells best; a cell's domain is the one that they
    give it on average, their domains matched with each other, and the nearest cells vote. How well networks agree is in
    ``uns``: below 0.8, doubt the number of domains. In a stack, cells are joined with the nearest above and below,
    where the tissue goes on. Of few cells with many genes, networks see a principal component of expression for every
    ten cells: by all genes they could tell each cell from all others.

    Parameters
    ----------
    data
        Cells, spots or voxels with expression in `X` or a layer and positions in two or three dimensions; or what
        `isost.tl.reconstruct` made.
    n_domains
        Where it is known, give it. None: the number from 1 to 15 with the lowest Bayesian information criterion, in
        which a cell and its neighbours count as one. A few hundred cells are too few for it: it says 1.
    variant
        ``"dual"``, or ``"spatial"`` without the gene branch, which spots of several cells have little use for.
    layer
        Layer of expression; `X` by default. Counts are log-normalised, see `isost.pp.embed`.
    spatial_key
        Key of `obsm` of the positions (n, 2) or (n, 3). The unit does not matter, but z has that of x and y.
    batch_key
        Column of `obs` of what was measured apart: ComBat (through scanpy) takes out what differs between batches, and
        the mixture of domains is moved to each batch, held back by that of all.
    sample_key
        Column of `obs` of what lies apart, such as different animals: no edge of the graph joins two samples. None:
        the batches. For the sections of one stack, name none, or a column that is the same for all of them.
    n_neighbors
        Of the graph: so many nearest cells. None: the places beside it on a lattice; else Delaunay's triangulation,
        without edges that are long for the tissue and for their place, in two dimensions or three; in a stack of
        sections within each section, and to the nearest cell above and below, where by expression the tissue goes on.
    n_top_genes
        Genes with the largest Moran's I that are used; None for all that vary in space. Transport places at most 2,000
        on the map, in time that grows with their cube. Of up to 10,000 cells, networks see no more than one principal
        component of these genes for every ten (ten at the least).
    gene_map
        ``"transport"``: by Gromov-Wasserstein of correlations and places. ``"random"``: for comparison.
    start
        First weights of the spatial branch: ``"slow"`` features, or ``"random"``, for comparison.
    n_networks
        Networks that are trained. Of these the half counts whose domains explain expression around cells best.
    n_latent
        d of each branch and of z.
    epochs
        Of each network, the learning rate (Adam, 0.001) halved after each quarter. Where an epoch has several steps, of
        about 4,096 cells, as many steps in all, but 3 epochs at the least. 0: what the networks start from.
    mask_rate
        Share of the cells that are hidden in a step.
    temperature
        Of the contrastive loss.
    contrast
        Weight of the contrastive loss; 0 leaves it out.
    project_conflicts
        Whether conflicting gradients are projected (PCGrad).
    n_comps
        Principal components of z that the mixture sees; of few cells no more than one for every thirty (five at the
        least), so that its covariance is known.
    covariance
        ``"tied"``: one for all domains, or ``"full"``: one for each.
    n_init
        Starts of the mixture.
    n_votes
        Nearest cells whose shares in the domains are added to a cell's own, which count for a quarter of
        twelve, and for a little less of more; 0 leaves them.
    table_key
        Table of a SpatialData; ``"isost_voxels"`` for the volume.
    key_added, rep_added
        Names to write under.
    device
        ``"cpu"``, ``"cuda"``, or None for a GPU where there is one.
    rng
        Seed or generator. The same seed gives the same domains on the same CPU; a GPU adds numbers in any order.
    progress
        Show a bar. Ctrl-C ends the training: what was learned until then is used.
    checkpoint
        Folder to keep the state of the training in, each quarter of a minute; removed when it is done.
    resume
        Go on from the checkpoint.

    Returns
    -------
    None. Writes, in place:

    `obs[key_added]`
        Categorical ``"0"``, ``"1"``, ... from the largest domain of the fit to the smallest.
    `obsm[f"{rep_added}_spatial"]`, `obsm[f"{rep_added}_intrinsic"]`, `obsm[rep_added]` : (n, <= n_comps) float32
        Principal components of z_spatial, z_intrinsic and z, of all networks side by side.
    `uns[key_added]`
        ``params``, with ``agreement`` of the networks that were kept (mean adjusted Rand index of any two, where there
        are two or more), ``interrupted``, and ``gene_comps``, the principal components of expression that networks
        saw where they did not see all; and ``bic``.
    `uns[f"{key_added}_colors"]`
        Colours.

    And for voxels the labels element ``isost_<key_added>``, as `isost.tl.spatial_clusters`.

    Raises
    ------
    KeyError
        If the table is not found.
    TypeError
        If an argument is of another type.
    ValueError
        If expression, positions or columns are missing or broken (all problems at once), no gene varies, there are
        fewer cells than domains, an option is impossible, or a checkpoint belongs to another fit; nothing is written.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=2, n_cells=200, n_genes=20)
    >>> isost.tl.spatial_domains(adata, n_domains=3, n_networks=2, epochs=20, progress=False)
    >>> adata.obs["spatial_domain"].cat.categories.tolist(), adata.obsm["X_domains"].shape[1]
    (['0', '1', '2'], 30)
    """
    table = table_of(data, table_key)
    check_own(table)
    key_added = checked_names(data, key_added, rep_added, spatial_key, (batch_key, sample_key))
    fitted, found, tissue = fit_and_find(
        SpatialDomains, table, n_domains=n_domains, variant=variant, layer=layer, spatial_key=spatial_key,
        batch_key=batch_key, sample_key=sample_key, n_neighbors=n_neighbors, n_top_genes=n_top_genes,
        gene_map=gene_map, start=start, n_networks=n_networks, n_latent=n_latent, epochs=epochs, mask_rate=mask_rate,
        temperature=temperature, contrast=contrast, project_conflicts=project_conflicts, n_comps=n_comps,
        covariance=covariance, n_init=n_init, n_votes=n_votes, device=device, rng=rng, progress=progress,
        checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    write_domains(table, found, tissue, fitted.params, key_added, rep_added, fitted.domains)
    if isinstance(data, SpatialData) and table_key == VOXELS:
        names = list(table.obs[key_added].cat.categories)
        codes = table.obs[key_added].cat.codes.to_numpy()
        write_labels(data, read_voxels(data), key_added, codes, names, palette(len(names)))
