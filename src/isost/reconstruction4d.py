"""The fitted result of stages of several sections each: ask it for sections at any depth and age."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Literal, Self, overload

import numpy as np
import pandas as pd
from anndata import AnnData, concat

from isost._core.checks import to_numbers
from isost._core.random import Rng, torch_generator
from isost._core.requests import as_number, as_places, as_whole, decoder_of
from isost._core.tables import cells_obs, make_table
from isost._core.voxelize import join
from isost._time.field import SheetField
from isost._time.store import load_sheet_field, save_sheet_field


class Reconstruction4D:
    """Sections over depth and age as one tissue that grows: what `isost.tl.fit` returns for two depth keys.

    Attributes
    ----------
    sheet
        The measured sections.
    field
        All sections in one frame, the way from it to any depth and age, and the mean expression in it.
    params
        How it was fitted; JSON-able.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.3], n_cells=60, n_genes=24)
    >>> isost.pp.embed(adata, n_comps=5)
    >>> isost.pp.align_stages(adata, z_key="z")
    >>> fitted = isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
    >>> fitted
    Reconstruction4D of 4 sections (854 cells), 2 stages from 9.5 to 11.5
        features: X_pca (5), decoded to 24 genes
    >>> fitted.section(50.0, 10.5, rng=0).obsm["spatial"].shape[1]
    3
    """

    def __init__(self, field: SheetField, params: dict[str, Any]) -> None:
        self.field = field
        self.sheet = field.sheet
        self.params = params

    def __repr__(self) -> str:
        stack, ages = self.sheet.stack, self.sheet.ages
        genes = "without loadings" if stack.decoder is None else f"decoded to {len(stack.decoder.genes)} genes"
        return (
            f"Reconstruction4D of {stack.n_sections} sections ({stack.n_cells:,} cells), {len(ages)} stages from "
            f"{ages[0]:g} to {ages[-1]:g}\n    features: {stack.use_rep} ({stack.n_features}), {genes}"
        )

    def section(self, z: float, age: float, *, n_samples: int = 1, rng: Rng = None) -> AnnData:
        """Draw the cells of a section at any depth and age.

        The cells of the sections about it, two in depth in each of the two stages about the age, are carried to it
        through the common frame; each is kept with its weight, which is linear along depth and along age, and its
        expression changes as the mean does on the way. Where a section was measured these are its cells.

        Parameters
        ----------
        z, age
            Depth, within those of the stages about the age, and age, in the units of the input.
        n_samples
            Independent draws, one after the other in the result.
        rng
            Seed or generator.

        Returns
        -------
        anndata.AnnData
            As of `Reconstruction.section`; ``obsm["spatial"]`` (m, 3) holds x, y, z, and ``obs["age"]`` the age.

        Raises
        ------
        TypeError
            If a number is none.
        ValueError
            If depth or age lie outside what was measured.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.3], n_cells=60, n_genes=24)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> isost.pp.align_stages(adata, z_key="z")
        >>> fitted = isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
        >>> fitted.section(50.0, 10.5, rng=0).n_vars
        24
        """
        at = self._inside(np.array([[as_number("z", z), as_number("age", age)]]))[0]
        generator = torch_generator(rng)
        draws = [
            self.field.draw(float(at[0]), float(at[1]), generator) for _ in range(as_whole("n_samples", n_samples, 1))
        ]
        cells, stack = join(draws), self.sheet.stack
        obs = cells_obs(stack, cells).assign(age=at[1])
        if n_samples > 1:
            obs["sample"] = pd.Categorical(np.repeat(np.arange(len(draws)), [len(draw.row) for draw in draws]))
        table = make_table(
            stack, cells.coords, cells.features, obs, None if stack.decoder is None else stack.decoder.genes
        )
        if stack.growth is not None:
            table.obsm["spatial_grown"] = cells.coords * self._growth(at[1])
        return table

    def stage(self, age: float, *, depths: Sequence[float] | int = 9, rng: Rng = None) -> AnnData:
        """Draw a stack of sections of one age, which plots and tools take as any other.

        Parameters
        ----------
        age
            In the unit of the input.
        depths
            Depths of the sections, or their number, evenly spaced over those of the stages about the age.
        rng
            Seed or generator.

        Returns
        -------
        anndata.AnnData
            Sections one after the other, named in ``obs["section"]``, with ``obsm["spatial"]`` (m, 3).

        Raises
        ------
        TypeError
            If a number is none.
        ValueError
            If a depth or the age lies outside what was measured.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.3], n_cells=60, n_genes=24)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> isost.pp.align_stages(adata, z_key="z")
        >>> fitted = isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
        >>> fitted.stage(10.0, depths=4, rng=0).obs["section"].nunique()
        4
        """
        low, high = self._depths(as_number("age", age))
        wanted: Any = np.asarray(depths)
        if wanted.ndim == 0:
            wanted = np.linspace(low, high, as_whole("depths", depths, 2))
        numbers = to_numbers(wanted)
        if (
            isinstance(numbers, list)
            or numbers.ndim != 1
            or len(np.unique(numbers)) != len(numbers)
            or not len(numbers)
        ):
            raise ValueError(f"depths: expected a number of sections, or distinct depths, found {depths!r}. Next: 9.")
        generator = torch_generator(rng)
        parts = {repr(z): self.section(z, age, rng=generator) for z in numbers.tolist()}
        made = concat(parts, label="section", index_unique="-", merge="same", uns_merge="same")
        made.uns["spatial_unit"] = self.sheet.stack.unit
        return made

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
        """Best estimate of mean expression at any places, depths and ages.

        Parameters
        ----------
        coords
            (n, 4) x, y, depth and age, in the units of the input.
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
            If a depth or an age lies outside what was measured, or genes are asked of features without loadings.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.3], n_cells=60, n_genes=24)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> isost.pp.align_stages(adata, z_key="z")
        >>> fitted = isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
        >>> fitted.expression([[0.0, 0.0, 50.0, 10.5]], genes=["marker_2"]).shape
        (1, 1)
        """
        places = as_places(coords, "x, y, z, age")
        places[:, 2:] = self._inside(places[:, 2:])
        stack = self.sheet.stack
        index = None if genes is None else decoder_of(stack).index(genes)
        mean, variance = self.field.predict(places, with_variance=return_std)
        if stack.decoder is None:
            mean, loadings = mean[:, : stack.n_features], np.eye(stack.n_features)
            decoded = mean
        else:
            index = np.arange(len(stack.decoder.genes)) if index is None else index
            loadings, decoded = stack.loadings_of(index), stack.decode(mean, index)
        if variance is None:
            return decoded
        return decoded, np.sqrt(variance[:, : loadings.shape[1]] @ (loadings**2).T).astype(np.float32)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write to a new folder: JSON and npz; completely or not at all.

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
            If writing fails; what was there is left as it was.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.3], n_cells=60, n_genes=24)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> isost.pp.align_stages(adata, z_key="z")
        >>> fitted = isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> fitted.save(f"{folder}/fitted")
        >>> isost.Reconstruction4D.load(f"{folder}/fitted").params["motion"]
        True
        """
        save_sheet_field(self.field, json.loads(json.dumps(self.params)), path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; nothing in the folder is run as code.

        Parameters
        ----------
        path
            Folder to read.

        Returns
        -------
        Reconstruction4D
            As it was saved.

        Raises
        ------
        FileNotFoundError
            If the folder, or a file in it, is missing.
        ValueError
            If it is damaged, is something else, or was written by a newer version.

        Examples
        --------
        >>> import isost
        >>> adata = isost.datasets.embryo([9.5, 11.5], depths=[-0.3, 0.3], n_cells=60, n_genes=24)
        >>> isost.pp.embed(adata, n_comps=5)
        >>> isost.pp.align_stages(adata, z_key="z")
        >>> fitted = isost.tl.fit(adata, depth_key=["z_stage", "age"], spatial_key="spatial_stage", progress=False)
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> fitted.save(f"{folder}/fitted")
        >>> isost.Reconstruction4D.load(f"{folder}/fitted").sheet.at.shape
        (4, 2)
        """
        return cls(*load_sheet_field(path))

    def _growth(self, age: float) -> float:
        stack = self.sheet.stack
        assert stack.growth is not None
        return float(np.exp(np.interp(age, self.sheet.at[:, 1], np.log(stack.growth))))

    def _depths(self, age: float) -> tuple[float, float]:
        """Depths that were measured at the stages about an age, between which they change linearly."""
        ages = self.sheet.ages
        if not ages[0] - 1e-9 <= age <= ages[-1] + 1e-9:
            raise ValueError(f"age: expected one from {ages[0]:g} to {ages[-1]:g}, found {age:g}. Next: one of these.")
        ends = np.array([self.sheet.at[self.sheet.stage(one), 0][[0, -1]] for one in ages.tolist()])
        return float(np.interp(age, ages, ends[:, 0])), float(np.interp(age, ages, ends[:, 1]))

    def _inside(self, at: np.ndarray) -> np.ndarray:
        """Depths and ages (n, 2) within what was measured."""
        unique, member = np.unique(at, axis=0, return_inverse=True)
        for z, age in unique.tolist():
            low, high = self._depths(age)
            slack = 1e-6 * max(high - low, 1e-300)
            if not low - slack <= z <= high + slack:
                raise ValueError(
                    f"z: expected a depth from {low:g} to {high:g}, which stages about age {age:g} reach, found {z:g}. "
                    "Next: one of these."
                )
        return unique[member.ravel()]
