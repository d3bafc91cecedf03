"""Fitted spatial domains: look for them in other sections, save and load them."""

from __future__ import annotations

import os
from inspect import signature
from typing import Any, Literal, Self

import numpy as np
import torch
from anndata import AnnData

from isost._core.checks import show
from isost._core.fit import choose_device
from isost._core.folder import absolute_path
from isost._core.random import Rng, torch_generator
from isost._core.requests import as_number, as_whole
from isost._domains.fit import FitOptions, fit_domains
from isost._domains.model import Domains, Found
from isost._domains.store import load_domains, save_domains
from isost._domains.tissue import Tissue, read_tissue
from isost._domains.train import TrainOptions
from isost._tools.write_domains import check_own, checked_names, write_domains


class SpatialDomains:
    """Spatial domains that were fitted: apply them to other sections, save and load them.

    Make one by `SpatialDomains.fit`; `isost.tl.spatial_domains` fits and writes in one call.

    Attributes
    ----------
    domains
        Networks, mixtures and what of expression they take.
    params
        How they were fitted; JSON-able.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=2, n_cells=150, n_genes=20)
    >>> one, other = (adata[adata.obs["section"] == name].copy() for name in ("s1", "s2"))
    >>> fitted = isost.SpatialDomains.fit(one, n_domains=3, n_networks=2, epochs=10, progress=False)
    >>> fitted
    SpatialDomains: 3 domains, 20 genes, networks kept: 1
    >>> fitted.annotate(other)
    >>> other.obs["spatial_domain"].cat.categories.tolist()
    ['0', '1', '2']
    """

    def __init__(self, domains: Domains, params: dict[str, Any]) -> None:
        self.domains = domains
        self.params = params

    def __repr__(self) -> str:
        return (
            f"SpatialDomains: {self.domains.n_domains} domains, {len(self.domains.genes.names)} genes, networks kept: "
            f"{len(self.domains.members)}"
        )

    @classmethod
    def fit(cls, adata: AnnData, *, n_domains: int | None = None, **options: Any) -> Self:
        """Fit spatial domains, without writing to `adata`.

        Parameters
        ----------
        adata
            Cells, spots or voxels with positions.
        n_domains
            Their number; None for the lowest Bayesian information criterion.
        **options
            Of `isost.tl.spatial_domains`, but those that say what is written.

        Returns
        -------
        SpatialDomains

        Raises
        ------
        TypeError
            If an option is unknown or of another type.
        ValueError
            As `isost.tl.spatial_domains`.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.phantom(n_sections=2, n_cells=150, n_genes=20)
        >>> isost.SpatialDomains.fit(adata, n_domains=2, n_networks=1, epochs=5, progress=False)
        SpatialDomains: 2 domains, 20 genes, networks kept: 1
        """
        known = list(signature(fit_and_find).parameters)[3:]
        for name in options:
            if name not in known:
                raise TypeError(f"{name}: expected an option of a fit ({show(known, len(known))}), found another. "
                                "Next: one of these; key_added and rep_added are options of annotate.")  # fmt: skip
        return fit_and_find(cls, adata, n_domains=n_domains, **options)[0]

    def annotate(
        self, adata: AnnData, *, layer: str | None = None, spatial_key: str = "spatial", batch_key: str | None = None,
        sample_key: str | None = None, n_votes: int | None = None, key_added: str = "spatial_domain",
        rep_added: str = "X_domains", device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        """Write the domains of other cells.

        They need the genes of the fit, measured and normalised alike: counts where the fit took counts. What is
        log-normalised, as reconstructed cells are, is taken as it is. Where it was fitted with batches, each batch of
        `adata` (all of it without `batch_key`) is given the mean and the spread of each gene that the fit had: it has
        to hold the same kinds of cells in shares that are not too different. Domains are moved to each batch then, so
        that those of a cell depend a little on which cells are given along with it.

        Parameters
        ----------
        adata
            Cells with positions in the unit of the fit; results are written to it.
        layer, spatial_key, batch_key, sample_key, n_votes, key_added, rep_added, device
            See `isost.tl.spatial_domains`; `n_votes` as in the fit by default.

        Returns
        -------
        None. Writes what `isost.tl.spatial_domains` writes.

        Raises
        ------
        ValueError
            If genes of the fit are missing, values are of another kind than those of the fit, or as
            `isost.tl.spatial_domains`.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.phantom(n_sections=2, n_cells=150, n_genes=20)
        >>> fitted = isost.SpatialDomains.fit(adata, n_domains=2, n_networks=1, epochs=5, progress=False)
        >>> fitted.annotate(adata, key_added="domain_again")
        >>> adata.obsm["X_domains"].shape[1]
        30
        """
        check_own(adata)
        key_added = checked_names(adata, key_added, rep_added, spatial_key, (batch_key, sample_key))
        tissue = read_tissue(
            adata, layer=layer, spatial_key=spatial_key, batch_key=batch_key, sample_key=sample_key,
            how=self.domains.genes.how, correct=False,
        )  # fmt: skip
        found = self.domains.find(tissue, self.params["n_neighbors"], choose_device(device))
        votes = self.params["n_votes"] if n_votes is None else as_whole("n_votes", n_votes, 0)
        params = self.params | {"n_votes": votes, **_read(layer, spatial_key, batch_key, sample_key)}
        write_domains(adata, found, tissue, params, key_added, rep_added, self.domains)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Save to a folder: JSON, npz and weights, written beside and moved into place.

        Parameters
        ----------
        path
            Folder, which is made.
        overwrite
            Replace one that was saved before.

        Returns
        -------
        None.

        Raises
        ------
        FileExistsError
            If there is something and `overwrite` is False.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.phantom(n_sections=2, n_cells=150, n_genes=20)
        >>> fitted = isost.SpatialDomains.fit(adata, n_domains=2, n_networks=1, epochs=5, progress=False)
        >>> fitted.save("domains")
        """
        save_domains(self.domains, self.params, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote.

        Parameters
        ----------
        path
            The folder.

        Returns
        -------
        SpatialDomains

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is something else, or damaged.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.phantom(n_sections=2, n_cells=150, n_genes=20)
        >>> fitted = isost.SpatialDomains.fit(adata, n_domains=2, n_networks=1, epochs=5, progress=False)
        >>> fitted.save("domains_to_load")
        >>> isost.SpatialDomains.load("domains_to_load")
        SpatialDomains: 2 domains, 20 genes, networks kept: 1
        """
        return cls(*load_domains(path))


def fit_and_find(
    cls: type[SpatialDomains], adata: AnnData, *, n_domains: int | None = None,
    variant: Literal["dual", "spatial"] = "dual", layer: str | None = None, spatial_key: str = "spatial",
    batch_key: str | None = None, sample_key: str | None = None, n_neighbors: int | None = None,
    n_top_genes: int | None = 1000, gene_map: Literal["transport", "random"] = "transport",
    start: Literal["slow", "random"] = "slow", n_networks: int = 8, n_latent: int = 32, epochs: int = 100,
    mask_rate: float = 0.5, temperature: float = 0.5, contrast: float = 1.0,
    project_conflicts: bool = True, n_comps: int = 30, covariance: Literal["tied", "full"] = "tied", n_init: int = 64,
    n_votes: int = 12, device: str | torch.device | None = None, rng: Rng = 0, progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None, resume: bool = False,
) -> tuple[Any, Found, Tissue]:  # fmt: skip
    """Fit, and look at the same cells; see `isost.tl.spatial_domains` for the options."""
    for name, value, known in (("variant", variant, ("dual", "spatial")), ("covariance", covariance, ("tied", "full")),
                               ("gene_map", gene_map, ("transport", "random")),
                               ("start", start, ("slow", "random"))):  # fmt: skip
        if value not in known:
            raise ValueError(f"{name}: expected one of {show(known)}, found {value!r}. Next: {name}={known[0]!r}.")
    if not isinstance(project_conflicts, bool | np.bool_):
        raise TypeError(f"project_conflicts: expected True or False, found {project_conflicts!r}. "
                        "Next: project_conflicts=True.")  # fmt: skip
    _check_shares(mask_rate=mask_rate, temperature=temperature, contrast=contrast)
    train = TrainOptions(
        epochs=as_whole("epochs", epochs, 0), mask_rate=float(mask_rate), temperature=float(temperature),
        contrast=float(contrast), project=bool(project_conflicts),
    )  # fmt: skip
    options = FitOptions(
        variant=variant, n_domains=None if n_domains is None else as_whole("n_domains", n_domains, 1),
        n_networks=as_whole("n_networks", n_networks, 1),
        n_top_genes=None if n_top_genes is None else as_whole("n_top_genes", n_top_genes, 2),
        n_neighbors=None if n_neighbors is None else as_whole("n_neighbors", n_neighbors, 1),
        n_latent=as_whole("n_latent", n_latent, 2), n_comps=as_whole("n_comps", n_comps, 1), covariance=covariance,
        n_init=as_whole("n_init", n_init, 1), n_votes=as_whole("n_votes", n_votes, 0), random_map=gene_map == "random",
        random_start=start == "random", train=train,
    )  # fmt: skip
    generator, where = torch_generator(rng), choose_device(device)
    tissue = read_tissue(adata, layer=layer, spatial_key=spatial_key, batch_key=batch_key, sample_key=sample_key)
    if options.n_domains is not None and options.n_domains > len(tissue):
        raise ValueError(
            f"n_domains: expected at most the {len(tissue)} cells, found {n_domains}. Next: a smaller n_domains, or "
            "look at the subset of the cells."
        )
    if resume and checkpoint is None:
        raise ValueError(
            "resume: expected the checkpoint of an interrupted fit, found none. Next: checkpoint='progress'."
        )
    folder = None if checkpoint is None else absolute_path(checkpoint)
    domains, found = fit_domains(
        tissue, options, generator=generator, device=where, progress=progress, checkpoint=folder, resume=resume
    )
    params = {"variant": variant, "n_domains": domains.n_domains, "n_neighbors": options.n_neighbors,
              "n_votes": options.n_votes, "n_networks": options.n_networks, "n_kept": len(domains.members),
              "epochs": domains.info["epochs"], "interrupted": domains.info["interrupted"],
              "agreement": domains.info["agreement"], "covariance": covariance, "mask_rate": train.mask_rate,
              "temperature": train.temperature, "contrast": train.contrast, "n_comps": options.n_comps,
              "gene_map": gene_map, "start": start, "project_conflicts": train.project,
              "n_top_genes": options.n_top_genes,
              "gene_comps": None if domains.genes.axes is None else domains.genes.axes.shape[1],
              "n_latent": options.n_latent, "n_init": options.n_init, "device": str(where),
              **_read(layer, spatial_key, batch_key, sample_key)}  # fmt: skip
    return cls(domains, params), found, tissue


def _read(layer: str | None, spatial_key: str, batch_key: str | None, sample_key: str | None) -> dict[str, str | None]:
    """Where expression, positions, batches and samples were read."""
    return {"layer": layer, "spatial_key": spatial_key, "batch_key": batch_key, "sample_key": sample_key}


def _check_shares(*, mask_rate: float, temperature: float, contrast: float) -> None:
    if not 0 < as_number("mask_rate", mask_rate) < 1:
        raise ValueError(f"mask_rate: expected a share between 0 and 1, found {mask_rate!r}. Next: leave it out.")
    if not 0 < as_number("temperature", temperature) < float("inf"):
        raise ValueError(f"temperature: expected a number above 0, found {temperature!r}. Next: leave it out.")
    if not 0 <= as_number("contrast", contrast) < float("inf"):
        raise ValueError(f"contrast: expected 0 or a number above it, found {contrast!r}. Next: leave it out.")
