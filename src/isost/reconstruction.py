"""The fitted result: ask it for sections, for expression anywhere, for a volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Self, overload

import numpy as np
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.export import build_spatialdata
from isost._core.field import Field
from isost._core.grid import make_grid
from isost._core.model import SDEModel
from isost._core.random import Rng, draw_seed, torch_generator
from isost._core.requests import (
    as_whole,
    check_kind,
    check_one_tissue,
    checked_depth,
    checked_genes,
    checked_places,
    decoder_of,
)
from isost._core.stack import Stack
from isost._core.store import Parts, load_parts, save_parts
from isost._core.tables import cells_obs, make_table
from isost._core.volume import Request, compute_volume
from isost._core.voxelize import join
from isost._images.guide import Guide


class Reconstruction:
    """A stack of sections as a continuous block: what `isost.tl.fit` returns.

    Attributes
    ----------
    stack
        The measured sections; the expression of those in ``params["corrected_sections"]`` is corrected.
    model
        The two pairs of stochastic differential equations (eqs 3-6 and 8 of Li, Bao et al. 2025).
    field
        The estimate of mean expression over the cells that the model carries.
    history
        Mean loss of each epoch, by phase.
    params
        How it was fitted; JSON-able.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> isost.pp.embed(adata, n_comps=5)
    >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
    >>> fitted
    Reconstruction of 2 sections (400 cells), depths 0 to 100 um
        features: X_pca (5), decoded to 12 genes
        fit: bridge on cpu
    >>> fitted.section(40, rng=0).obsm["spatial"].shape
    (200, 3)
    >>> fitted.expression([[0.0, 500.0, 40.0]]).shape
    (1, 12)
    """

    def __init__(
        self, stack: Stack, model: SDEModel, field: Field, history: dict[str, list[float]], params: dict[str, Any]
    ) -> None:
        self.stack = stack
        self.model = model
        self.field = field
        self.history = history
        self.params = params

    def __repr__(self) -> str:
        stack = self.stack
        genes = "without loadings" if stack.decoder is None else f"decoded to {len(stack.decoder.genes)} genes"
        fit = f"{self.params.get('objective', 'unknown objective')} on {self.params.get('device', 'unknown device')}"
        return (
            f"Reconstruction of {stack.n_sections} sections ({stack.n_cells:,} cells), "
            f"{_span(stack)}\n"
            f"    features: {stack.use_rep} ({stack.n_features}), {genes}\n    fit: {fit}"
        )

    def section(self, z: float, *, n_samples: int = 1, rng: Rng = None) -> AnnData:
        """Draw the cells of a section at any depth inside the stack.

        Cells of the section before are carried forward and cells of the section after backward (eq 9). They are kept
        with probability 1 - t and t, where t is the share of the gap behind z: the density of one section, not of two.
        At the depth of a measured section these are its cells as measured (as corrected, where the fit found it badly
        stained), those of a thick section in one plane.

        Parameters
        ----------
        z
            Depth in the input's unit. Beyond the first or last section, as far as its own cells reach, it is that
            section's.
        n_samples
            Independent draws, one after the other in the result.
        rng
            Seed or generator.

        Returns
        -------
        anndata.AnnData
            ``X`` (m, G) float32, decoded log-normalised genes (none without loadings); ``obsm["spatial"]`` (m, 3)
            float64 in the input's unit; ``obsm[use_rep]`` (m, P) float32; ``obs["section_of_origin"]`` categorical;
            ``obs["cell_of_origin"]``, the measured cell that was carried; ``obs["sample"]`` if `n_samples` > 1. Of
            stages that `isost.pp.align_stages` laid into one frame, ``obsm["spatial_grown"]`` (m, 2) too: x and y about
            the middle at the size of that age, whose logarithm changes linearly between stages.

        Raises
        ------
        TypeError
            If `z` or `n_samples` is no number.
        ValueError
            If `z` lies outside the stack.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.letters(200)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
        >>> cells = fitted.section(40, rng=0)
        >>> cells.shape, cells.obsm["X_pca"].shape
        ((200, 12), (200, 5))
        """
        depth = checked_depth(self.stack, z)
        n_samples = as_whole("n_samples", n_samples, 1)
        generator = torch_generator(rng)
        draws = [self.field.draw(depth, generator) for _ in range(n_samples)]
        cells = join(draws)
        obs = cells_obs(self.stack, cells)
        if n_samples > 1:
            obs["sample"] = pd.Categorical(np.repeat(np.arange(len(draws)), [len(draw.row) for draw in draws]))
        genes = None if self.stack.decoder is None else self.stack.decoder.genes
        table = make_table(self.stack, cells.coords, cells.features, obs, genes)
        if self.stack.growth is not None:
            table.obsm["spatial_grown"] = cells.coords[:, :2] * self.stack.growth_at(depth)
        return table

    @overload
    def expression(
        self, coords: np.ndarray, *, genes: str | Sequence[str] | None = ..., return_std: Literal[False] = ...
    ) -> np.ndarray: ...

    @overload
    def expression(
        self, coords: np.ndarray, *, genes: str | Sequence[str] | None = ..., return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def expression(
        self, coords: np.ndarray, *, genes: str | Sequence[str] | None = None, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Best estimate of mean expression at any places inside the stack.

        Parameters
        ----------
        coords
            (n, 3) x, y, z in the input's unit. Beyond the depth of the first or last section, as far as its own cells
            reach, the estimate is that at its depth.
        genes
            Names of genes; None for all of them, or for the features of a representation without loadings.
        return_std
            Return the standard deviation of the estimate too.

        Returns
        -------
        (n, G) float32 log-normalised expression, or (n, P) features without loadings; with `return_std` a pair.

        Raises
        ------
        TypeError
            If places are not numbers, or genes no names.
        KeyError
            If a gene is unknown.
        ValueError
            If a depth lies outside the stack, or genes are asked of a representation without loadings.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.letters(200)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
        >>> mean, std = fitted.expression([[0.0, 500.0, 40.0]], genes=["gene_1", "gene_2"], return_std=True)
        >>> mean.shape, std.shape
        ((1, 2), (1, 2))
        """
        places = checked_places(self.stack, coords)
        decoder = self.stack.decoder
        index = None if genes is None else decoder_of(self.stack).index(genes)
        value = self.field.predict(places, with_variance=return_std)
        if decoder is None:
            return (value.mean, self.field.std(value)) if return_std else value.mean
        index = np.arange(len(decoder.genes)) if index is None else index
        mean = self.field.genes(value, index)
        return (mean, self.field.gene_std(value, index).astype(np.float32)) if return_std else mean

    def to_spatialdata(
        self,
        voxel_size: float | None = None,
        *,
        genes: str | Sequence[str] | None = None,
        volume: Literal["field", "cells"] = "field",
        max_memory: float | None = None,
        rng: Rng = None,
    ) -> SpatialData:
        """Make the isotropic volume, with the cells that fill it, as a SpatialData.

        Everything lies in coordinate system "global", in the input's unit.

        Parameters
        ----------
        voxel_size
            Edge of a voxel in the input's unit. None: 2.5 times the median distance of neighbouring cells, at most
            the median distance of sections, and coarser where that would not fit into memory.
        genes
            Genes to have as channels of the volume and in ``X`` of the tables. None: the volume holds the features,
            from which `isost.get.gene` decodes any gene lazily.
        volume
            What ``isost_volume`` holds. ``"field"``: the best estimate of mean expression at the centre of each voxel.
            ``"cells"``: the paper's, the mean of one realisation's cells in each voxel (eq 10), NaN without any.
        max_memory
            GiB that the result may take; None for half of the machine's memory.
        rng
            Seed or generator, of the realisation of cells.

        Returns
        -------
        spatialdata.SpatialData
            Images ``isost_volume`` (c, z, y, x; multiscale; NaN outside the tissue), ``isost_uncertainty`` (standard
            deviation of the field, same channels), ``isost_remainder`` (beside features: what they leave of the genes
            and neighbouring cells share, where there is any), ``isost_density`` (cells per unit volume, where each
            plane of voxels holds the cells of one section); labels ``isost_mask`` (1 inside the tissue); points
            ``isost_points`` (cells drawn at each plane, spread over its thickness) with table ``isost_cells``; labels
            ``isost_voxel_ids`` (1, 2, ... inside the tissue) with table ``isost_voxels`` (``obs`` z, y, x, n_cells);
            ``attrs["isost"]``.

        Raises
        ------
        KeyError
            If a gene is unknown.
        ValueError
            If the voxel size is impossible, its volume larger than `max_memory`, or these are stages of development.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.letters(200)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
        >>> sdata = fitted.to_spatialdata(voxel_size=50, rng=0)
        >>> sorted(sdata.tables)
        ['isost_cells', 'isost_voxels']
        """
        check_kind(volume)
        check_one_tissue(self.stack)
        stack = self.stack
        asked, index = checked_genes(stack, genes)
        grid = make_grid(
            stack, voxel_size, n_channels=stack.n_scores if asked is None else len(asked), max_memory=max_memory
        )
        request = Request(asked, index, volume, draw_seed(torch_generator(rng)))
        made = compute_volume(self.field, grid, request)
        return build_spatialdata(stack, grid, made, genes=asked, params={**self.params, "volume": volume})

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write to a new folder: JSON, a state_dict and npz; completely or not at all.

        Parameters
        ----------
        path
            Folder to make.
        overwrite
            Replace a reconstruction that was saved there before.

        Raises
        ------
        FileExistsError
            If `path` exists and is not to be overwritten, or is no saved reconstruction.
        OSError
            If writing fails, for instance because the disk is full; what was there is left as it was.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.letters(200)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> fitted.save(f"{folder}/fitted")
        >>> isost.Reconstruction.load(f"{folder}/fitted").params["objective"]
        'bridge'
        """
        save_parts(Parts(self.stack, self.model, self.field, self.history, self.params), path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; nothing in the folder is run as code.

        Parameters
        ----------
        path
            Folder to read.

        Returns
        -------
        Reconstruction
            On the CPU.

        Raises
        ------
        FileNotFoundError
            If the folder, or a file in it, is missing.
        ValueError
            If it is damaged, is something else, or was written by a newer version.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.letters(200)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> fitted.save(f"{folder}/fitted")
        >>> bool((isost.Reconstruction.load(f"{folder}/fitted").stack.coords == fitted.stack.coords).all())
        True
        """
        parts = load_parts(path, read_guide=Guide.load)
        return cls(parts.stack, parts.model, parts.field, parts.history, parts.params)


def _span(stack: Stack) -> str:
    first, last = stack.depths[0], stack.depths[-1]
    return f"depths {first:g} to {last:g} {stack.unit}" if stack.growth is None else f"ages {first:g} to {last:g}"
